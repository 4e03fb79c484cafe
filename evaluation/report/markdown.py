"""Tables and numbers in Markdown, as the results page writes them. Knows no results."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["ABSENT", "markdown_table", "percent", "plain", "with_interval"]

ABSENT = "–"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table; the first column is text, the others are numbers."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|---" + "|--:" * (len(header) - 1) + "|", *lines[1:]])


def percent(value: float | None) -> str:
    """Give a value times 100."""
    return ABSENT if value is None else f"{100 * value:.1f}"


def plain(value: float | None) -> str:
    """Give a value as it is."""
    return ABSENT if value is None else f"{value:.2f}"


def with_interval(
    score: Mapping[str, Any] | None, told: Callable[[float | None], str] = percent
) -> str:
    """Give a score's value, and below it in small its interval, low to high."""
    if score is None:
        return ABSENT
    return f"{told(score['value'])}<br><sub>{told(score['low'])} to {told(score['high'])}</sub>"
