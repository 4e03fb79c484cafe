"""What the comparison does not hold equal: what each model began with. Measures nothing."""

from evaluation.measures.lineage import STAGES
from evaluation.report.markdown import ABSENT, percent, text_table
from evaluation.results import Lineage, Results, Table

__all__ = ["section"]

_HEADER = [
    "",
    "encoder",
    "words",
    "its decoder's other parameters that began as the source's, %",
    "new parts",
    "learned",
]


def section(results: Results) -> str:
    """Write what models have in common, and a row for each; "" where no model has an experiment."""
    table = results.table
    if table is None or not table.lineage:
        return ""
    sources = dict.fromkeys(
        each.source
        for each in table.lineage.values()
        if each.source is not None and each.decoder_share is not None
    )
    confounds = [_confound(table, source) for source in sources]
    rows = [
        [f"`{name}`", *_inherited(lineage), "; ".join(lineage.stages)]
        for name, lineage in table.lineage.items()
    ]
    return "\n\n".join(["### What is not held equal", *confounds, text_table(_HEADER, rows)])


def _confound(table: Table, source: str) -> str:
    """Say in which way the models that go back to a source were not compared on equal terms."""
    sharers = [
        f"`{name}`"
        for name, each in table.lineage.items()
        if each.source == source and each.same_encoder and each.same_words
    ]
    if not sharers:
        return f"The source of what is shared is `{source}`."
    return (
        f"The encoder of `{source}`{_tuning(table, source)}, and its words serve "
        f"{', '.join(sharers)} as well, both unchanged. The annotations were not made for those "
        "decoders, which neither began alike nor learned for as long: the scores tell how good "
        "these models are, not which method is better on equal terms."
    )


def _tuning(table: Table, source: str) -> str:
    """Say under which decoder the source's encoder was fine-tuned, if it was."""
    lineage = table.lineage.get(source)
    stages = () if lineage is None else lineage.stages
    if not any(stage.startswith(STAGES["finetune"]) for stage in stages):
        return ""
    row = table.models.get(source)
    if row is None or row.decoder != "attention":
        return ", fine-tuned under its decoder"
    return f", fine-tuned under its decoder ({row.attention} attention)"


def _inherited(lineage: Lineage) -> list[str]:
    """Give the cells of a row between its model and its stages."""
    if lineage.decoder_share is None:
        return [ABSENT] * 4
    encoder = f"that of `{lineage.source}`" if lineage.same_encoder else "its own"
    words = f"that of `{lineage.source}`" if lineage.same_words else "its own"
    if lineage.same_encoder and lineage.has_second_encoder:
        encoder += ", and one more"
    new_parts = ", ".join(lineage.new_parts or ()) or "none"
    return [encoder, words, percent(lineage.decoder_share), new_parts]
