"""How often models and people say a noun phrase twice. Measures nothing."""

from evaluation.metrics.echoes import ECHOES
from evaluation.report.markdown import markdown_table, percent
from evaluation.report.wording import model_title
from evaluation.results import Results

__all__ = ["section"]

_TEXT = (
    'The share of captions, in percent, in which a noun phrase comes a second time behind "and" or '
    'a preposition: "a brown dog and a brown dog", "a man in a hat next to a man" '
    "(`models/echoes.py`). People do it too, of two who look alike."
)


def section(results: Results) -> str:
    """Write the share of each model on each set, and people's; "" where it was not measured."""
    table = results.table
    if table is None or all(each.human_echoes is None for each in table.sets.values()):
        return ""
    rows = [
        [model_title(table, name), *(percent(row.value(each, ECHOES)) for each in table.sets)]
        for name, row in table.models.items()
    ]
    people = ["people", *(percent(each.human_echoes) for each in table.sets.values())]
    return f"## Echoes\n\n{_TEXT}\n\n{markdown_table(['', *table.sets], [*rows, people])}"
