"""Turns the name of a function into its code as the site is built: a page quotes by symbol.

A fence holds the file and the symbol, then parts of lines to be marked:

    ```source
    models/decoders/attention.py AdditiveAttention.energy
    torch.tanh(
    ```

So a page shows what the code is now, and names what does not exist only until the next build.
"""

import ast
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymdownx.highlight import Highlight
from pymdownx.superfences import SuperFencesException

__all__ = ["Excerpt", "ExcerptError", "excerpt", "source_fence"]

ROOT = Path(__file__).resolve().parent.parent


class ExcerptError(ValueError):
    """A fence names what does not exist."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A definition without its docstring. marked: its lines that compute what is told, from 1."""

    title: str
    code: str
    first_line: int
    marked: tuple[int, ...]


def excerpt(text: str) -> Excerpt:
    """Read what the text of a fence names.

    Raises ExcerptError where the file or the symbol does not exist, or a part is not on exactly
    one line of it.
    """
    heading, *parts = text.strip().splitlines()
    name, _, symbol = heading.partition(" ")
    path = ROOT / name
    if not path.is_file():
        raise ExcerptError(f"There is no file {name}.")
    source = path.read_text(encoding="utf-8")
    node = _find(ast.parse(source), symbol.strip())
    if node is None:
        raise ExcerptError(f"{name} has no {symbol}.")
    lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
    lines = _without_docstring(node, lines)
    marked = tuple(_only_line(lines, part.strip(), heading) for part in parts)
    code = textwrap.dedent("\n".join(lines))
    return Excerpt(f"{name}: {symbol.strip()}", code, node.lineno, marked)


def _find(tree: ast.Module, symbol: str) -> ast.stmt | None:
    """Find a function or a class by its qualified name."""
    body: list[ast.stmt] = tree.body
    found: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | None = None
    for name in symbol.split("."):
        definitions = (
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        )
        found = next((node for node in definitions if node.name == name), None)
        if found is None:
            return None
        body = found.body
    return found


def _without_docstring(node: ast.stmt, lines: list[str]) -> list[str]:
    """Leave out the docstring, which says what the page says."""
    body = node.body if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
    if not body or not isinstance(body[0], ast.Expr) or len(body) == 1:
        return lines
    first, last = body[0].lineno - node.lineno, (body[0].end_lineno or 0) - node.lineno
    return lines[:first] + lines[last + 1 :]


def _only_line(lines: list[str], part: str, heading: str) -> int:
    """Find the one line that has a part, from 1."""
    found = [number for number, line in enumerate(lines, 1) if part in line]
    if len(found) != 1:
        raise ExcerptError(f"{heading}: {part!r} is on {len(found)} lines, not on one.")
    return found[0]


def source_fence(
    source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **_: Any
) -> str:
    """Format the fence `source`: the code that it names, with its lines marked."""
    del language, css_class, options
    try:
        quoted = excerpt(source)
        highlighted: str = Highlight(md).highlight(
            quoted.code, "python", hl_lines=list(quoted.marked), title=quoted.title
        )
    except Exception as error:
        raise SuperFencesException(f"No excerpt: {error}") from error
    return highlighted
