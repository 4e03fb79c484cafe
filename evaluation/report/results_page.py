"""The results page: from what was measured to what people read, in Markdown.

A section is a function from the results to Markdown, or to "" where it has nothing to say;
`SECTIONS` is the page. Every figure and every claim is made of the numbers. Measures nothing.
"""

from collections.abc import Callable
from pathlib import Path

from evaluation.report.readme_table import write_readme_table
from evaluation.report.sections import (
    differences,
    echoes,
    lineage,
    main_object,
    maps,
    method,
    other_sets,
    scores,
    side_by_side,
)
from evaluation.results import Results

__all__ = ["SECTIONS", "Section", "page", "write_results"]

Section = Callable[[Results], str]

SECTIONS: tuple[Section, ...] = (
    scores.section,
    other_sets.section,
    differences.section,
    main_object.section,
    echoes.section,
    method.section,
    lineage.section,
    maps.section,
    side_by_side.section,
)
"""The page, in order."""


def page(results: Results) -> str:
    """Write the results page."""
    parts = ["# Results"]
    if results.limit is not None:
        parts.append(f"**A quick look at the first {results.limit} photos of each set.**")
    sections = [section(results) for section in SECTIONS]
    parts += [text for text in sections if text]
    return "\n\n".join(parts) + "\n"


def write_results(results: Results, output: Path, readme: Path | None) -> list[Path]:
    """Write the page, results.json beside it, and the README's table where there is a place for it.

    Gives the files that were written.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page(results), encoding="utf-8")
    document = output.with_suffix(".json")
    document.write_text(results.dump(), encoding="utf-8")
    written = [output, document]
    if readme is not None and results.table is not None:
        written += write_readme_table(results.table, readme)
    return written
