"""Tables and numbers in Markdown, as the pages write them. Knows no models."""

from collections.abc import Callable, Sequence

from evaluation.records import Estimate

__all__ = ["ABSENT", "markdown_table", "percent", "plain", "text_table", "with_interval"]

ABSENT = "–"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table; the first column is text, the others are numbers."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|---" + "|--:" * (len(header) - 1) + "|", *lines[1:]])


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table; all columns are text."""
    return markdown_table(header, rows).replace("--:", "---")


def percent(value: float | None) -> str:
    """Give a value times 100."""
    return ABSENT if value is None else f"{100 * value:.1f}"


def plain(value: float | None) -> str:
    """Give a value as it is."""
    return ABSENT if value is None else f"{value:.2f}"


def with_interval(
    estimate: Estimate | None, layout: Callable[[float | None], str] = percent
) -> str:
    """Give a value, and below it in small its interval, low to high."""
    if estimate is None:
        return ABSENT
    low = layout(estimate.low)
    high = layout(estimate.high)
    return f"{layout(estimate.value)}<br><sub>{low} to {high}</sub>"
