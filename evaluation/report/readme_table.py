"""The table in little, for the README. Measures nothing."""

import re
from pathlib import Path

from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.report.markdown import ABSENT, markdown_table, percent
from evaluation.report.published import published_rows
from evaluation.report.wording import SHORT_METRICS, in_millions
from evaluation.results import Table

__all__ = ["short_form", "write_readme_table"]

_MARKS = re.compile(r"(<!-- begin table -->\n).*?(<!-- end table -->)", re.DOTALL)


def short_form(table: Table) -> str:
    """Write the shipped models' scores on all sets but dev, and what papers printed."""
    columns = _columns(table)
    header = ["", *(f"{name}: {metric}" for name, metric in columns), "parameters", "ms a photo"]
    rows = []
    for model, row in table.shipped().items():
        scores = [percent(row.value(name, metric)) for name, metric in columns]
        milliseconds = row.encoder_milliseconds + row.decoder_milliseconds
        rows.append([f"`{model}`", *scores, in_millions(row.parameters), f"{milliseconds:.0f}"])
    for published in published_rows():
        scores = [
            percent(published.scores.get(metric) if name == table.test else None)
            for name, metric in columns
        ]
        if set(scores) != {ABSENT}:
            title = f"*published:* {published.model}"
            rows.append([title, *scores, ABSENT, ABSENT])
    return markdown_table(header, rows)


def write_readme_table(table: Table, readme: Path) -> list[Path]:
    """Put the table between the README's marks.

    Gives the file if it was written, and nothing where it is absent or has no marks.
    """
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if not _MARKS.search(text):
        return []
    written = _MARKS.sub(lambda found: f"{found[1]}{short_form(table)}\n{found[2]}", text)
    readme.write_text(written, encoding="utf-8")
    return [readme]


def _columns(table: Table) -> list[tuple[str, str]]:
    """Give the set and the metric of each column."""
    columns = []
    for name in table.sets:
        if name == table.test:
            columns += [(name, metric) for metric in SHORT_METRICS]
        elif not name.endswith(" dev"):
            columns += [(name, "CIDEr-D"), (name, MAIN_OBJECT)]
    return columns
