"""The scores on the test set, beside those that papers printed. Measures nothing."""

from evaluation.measures.comparison import COMPARED
from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.report.markdown import ABSENT, markdown_table, percent, with_interval
from evaluation.report.published import published_rows
from evaluation.report.wording import METRICS, in_millions, model_title, sentence
from evaluation.results import ModelResult, Results, Table

__all__ = ["section", "why_not_shipped"]

_LANDMARKS = (
    "Below each of our scores: its 95 % interval. The published rows are as printed, with other "
    "training photos, vocabularies, beams and code, and in part other splits (Xu et al. 2015 give "
    "BLEU without a brevity penalty): landmarks, not rivals in the same race."
)


def section(results: Results) -> str:
    """Write what made the table, the table, and what is to be known of it."""
    table = results.table
    if table is None:
        return ""
    return "\n\n".join(
        [
            f"Scores, times and captions were made by `{table.command}` on {table.date}; all of "
            "them but the published rows were measured in that run. All scores are times 100.",
            f"## {sentence(table.test)}, {table.sets[table.test].images:,} photos",
            _table(table),
            _LANDMARKS,
            *(why_not_shipped(table, name) for name in table.not_shipped),
        ]
    )


def why_not_shipped(table: Table, name: str) -> str:
    """Say how far a model trails that is not shipped, and what its encoder began with."""
    metric = COMPARED[0]
    shipped = [row.value(table.test, metric) for row in table.shipped().values()]
    lowest = min((score for score in shipped if score is not None), default=None)
    own = table.models[name].value(table.test, metric)
    lineage = table.lineage.get(name)
    text = f"`{name}` is not shipped."
    if own is not None and lowest is not None and own < lowest:
        text += f" Its {metric} is {percent(lowest - own)} below that of the lowest shipped model."
    if lineage is not None and lineage.encoder_share == 0:
        text += " Its encoder began with random weights, "
        text += "and learned from the captioned photos alone."
    return text


def _table(table: Table) -> str:
    header = [
        "",
        *METRICS,
        MAIN_OBJECT,
        "parameters",
        "encoder, ms a photo",
        "decoder, ms a photo",
    ]
    rows = [_row(table, name, row) for name, row in table.models.items()]
    for published in published_rows():
        printed = [percent(published.scores.get(metric)) for metric in METRICS]
        rows.append([published.title, *printed, ABSENT, ABSENT, ABSENT, ABSENT])
    return markdown_table(header, rows)


def _row(table: Table, name: str, row: ModelResult) -> list[str]:
    scores = row.scores[table.test]
    whole = in_millions(row.parameters)
    decoder = in_millions(row.decoder_parameters)
    return [
        model_title(table, name),
        *(with_interval(scores.get(metric)) for metric in (*METRICS, MAIN_OBJECT)),
        f"{whole}<br><sub>decoder {decoder}</sub>",
        f"{row.encoder_milliseconds:.1f}",
        f"{row.decoder_milliseconds:.1f}",
    ]
