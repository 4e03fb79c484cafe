"""Captions of the same images by all models, side by side. Measures nothing."""

from collections.abc import Mapping
from pathlib import Path

from evaluation.report.markdown import text_table
from evaluation.report.wording import model_title
from evaluation.results import Results, Table

__all__ = ["section"]


def section(results: Results) -> str:
    """Write the captions of the chosen test images and of the examples; "" where there are none."""
    table = results.table
    if table is None or not (table.side_by_side.images or table.examples):
        return ""
    parts = [
        "## Side by side",
        f"Photos of {table.test}, chosen by their place in its list before anyone looked: "
        f"{table.side_by_side.rule}. By the photos' license they are not shown here but named by "
        "their files.",
    ]
    for row in table.side_by_side.images:
        captions = _captions(table, row.captions, human=row.human)
        parts.append(f"**{row.position}: `{row.file}`**\n\n{captions}")
    if table.examples:
        parts.append("And photos of scikit-image:")
    for example in table.examples:
        image = f'<img src="images/{example.file}" width="240" alt="{Path(example.file).stem}">'
        parts.append(f"{image}\n\n{_captions(table, example.captions)}")
    return "\n\n".join(parts)


def _captions(table: Table, captions: Mapping[str, str], human: str | None = None) -> str:
    rows = [["a person", human]] if human is not None else []
    for model, text in captions.items():
        rows.append([model_title(table, model), text])
    return text_table(["", "caption"], rows)
