"""Which differences between models are real, in words and as a table. Measures nothing."""

from collections.abc import Sequence

from evaluation.measures.comparison import COMPARED
from evaluation.report.catalog import read_catalog
from evaluation.report.markdown import markdown_table
from evaluation.results import Difference, Results, Table

__all__ = ["section"]


def section(results: Results) -> str:
    """Write the differences from the baselines, and all pairs; "" of one model alone."""
    table = results.table
    if table is None or not table.differences:
        return ""
    return "\n\n".join(
        [
            "## Which differences are real",
            f"Paired bootstrap over the photos of {table.test}: the same resamples for all. A "
            "difference is called real where its 95 % interval excludes zero. If no difference "
            "were real, one comparison in twenty would still be called so. Each model was trained "
            "once: what is real of these weights need not be of the method.",
            *_from_baselines(table),
            '<details markdown="1"><summary>All pairs; what is real is bold</summary>\n\n'
            f"{_all_pairs(table)}\n\n</details>",
        ]
    )


def _from_baselines(table: Table) -> list[str]:
    """Write a title and a list for each baseline that was measured beside other models."""
    parts = []
    for baseline in read_catalog().project.baselines:
        others = [model for model in table.models if model != baseline]
        if baseline in table.models and others:
            lines = [f"* `{model}`: {_sentences(table, model, baseline)}." for model in others]
            parts += [f"Against `{baseline}`:", "\n".join(lines)]
    return parts


def _sentences(table: Table, model: str, baseline: str) -> str:
    found = [_between(table.differences, metric, model, baseline) for metric in COMPARED]
    return "; ".join(map(_sentence, found))


def _all_pairs(table: Table) -> str:
    pairs = dict.fromkeys((each.first, each.second) for each in table.differences)
    rows = []
    for first, second in pairs:
        found = [_between(table.differences, metric, first, second) for metric in COMPARED]
        rows.append([f"`{first}` - `{second}`", *map(_cell, found)])
    return markdown_table(["", *COMPARED], rows)


def _between(found: Sequence[Difference], metric: str, first: str, second: str) -> Difference:
    """Find the difference of two models, turned where it is kept the other way."""
    for each in found:
        if each.metric == metric and (each.first, each.second) == (first, second):
            return each
        if each.metric == metric and (each.first, each.second) == (second, first):
            return each.turned()
    raise KeyError(f"{metric} of {first} and {second}")


def _sentence(difference: Difference) -> str:
    if difference.is_real:
        direction = "higher" if difference.value > 0 else "lower"
        return f"{difference.metric} really {direction}, {_numbers(difference)}"
    return (
        f"{difference.metric} not told apart, {_numbers(difference)}, "
        f"{100 * difference.other_sign:.0f} % of resamples against it"
    )


def _cell(difference: Difference) -> str:
    numbers = _numbers(difference)
    return f"**{numbers}**" if difference.is_real else numbers


def _numbers(difference: Difference) -> str:
    value = _signed(difference.value)
    return f"{value} ({_signed(difference.low)} to {_signed(difference.high)})"


def _signed(value: float) -> str:
    """Give a value times 100 with its sign; zero is never negative."""
    return f"{round(100 * value, 1) + 0.0:+.1f}"
