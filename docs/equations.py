"""Turns a fence of TeX into MathML as the site is built, so that a reader needs no script for it.

Knows no page. A formula that cannot be read stops a strict build.
"""

from typing import Any

from latex2mathml.converter import convert
from pymdownx.superfences import SuperFencesException

__all__ = ["math_fence"]


def math_fence(
    source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **_: Any
) -> str:
    """Format the fence `math`: a formula of its own, on a line of its own."""
    del language, options, md
    try:
        formula = convert(source.strip(), display="block")
    except Exception as error:
        raise SuperFencesException(f"No formula: {source!r}: {error}") from error
    if "\\" in formula:
        raise SuperFencesException(f"A command of TeX that is not known: {source!r}")
    return f'<div class="{css_class}">{formula}</div>'
