"""The scores on the sets that weights were chosen by. Measures nothing."""

from itertools import product

from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.report.markdown import markdown_table, percent
from evaluation.report.wording import SHORT_METRICS, model_title
from evaluation.results import Results

__all__ = ["section"]


def section(results: Results) -> str:
    """Write a table of all sets but the test set; "" where there are none."""
    table = results.table
    if table is None:
        return ""
    names = [name for name in table.sets if name != table.test]
    if not names:
        return ""
    columns = list(product(names, (*SHORT_METRICS, MAIN_OBJECT)))
    header = ["", *(f"{name}: {metric}" for name, metric in columns)]
    rows = [
        [model_title(table, model), *(percent(row.value(*column)) for column in columns)]
        for model, row in table.models.items()
    ]
    sizes = ", ".join(f"{name} ({table.sets[name].images:,} photos)" for name in names)
    return f"## The sets that weights were chosen by\n\n{sizes}.\n\n{markdown_table(header, rows)}"
