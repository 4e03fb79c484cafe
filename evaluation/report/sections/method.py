"""How the table was measured. Measures nothing."""

from evaluation.report.wording import describe_search
from evaluation.results import ModelResult, Results, Table

__all__ = ["section"]


def section(results: Results) -> str:
    """Write a list: code, tokenizer, split, search, precision, intervals, times."""
    table = results.table
    if table is None:
        return ""
    bootstrap = table.bootstrap
    lines = [
        _metric_code(table),
        "Tokenizer: Penn Treebank, as coco-caption does.",
        f"Split: {table.test} as its publishers split it, {table.sets[table.test].images:,} photos "
        f"with {table.sets[table.test].references:,} references.",
        f"Search: {_searches(table)}: each bundle's own, as it is served.",
        f"Precision: encoder {table.machine.precision}, decoder float32, as it is served on this "
        "machine.",
        f"Intervals: percentile bootstrap over photos, {bootstrap.resamples:,} resamples, seed "
        f"{bootstrap.seed}. BLEU and METEOR are computed anew from the resampled photos' counts; "
        "CIDEr-D and ROUGE-L are means over them, with document frequencies of the whole set. They "
        "tell the chance of the photos, not that of training.",
        _times(table),
    ]
    return "## How it was measured\n\n" + "\n".join(f"* {line}" for line in lines)


def _metric_code(table: Table) -> str:
    with_meteor = any(_has_meteor(row) for row in table.models.values())
    rest = "." if with_meteor else ", and was left out here: it needs Java."
    return (
        "Metric code: ours (`evaluation/metrics/`), tested to equal pycocoevalcap; METEOR 1.5 is "
        f"the reference program{rest}"
    )


def _has_meteor(row: ModelResult) -> bool:
    return any("METEOR" in scores for scores in row.scores.values())


def _searches(table: Table) -> str:
    """Give the search that most models have, and those of the others."""
    searches = {name: describe_search(row.decoding) for name, row in table.models.items()}
    common = max(searches.values(), key=list(searches.values()).count)
    others = [f"; `{name}` {search}" for name, search in searches.items() if search != common]
    return common + "".join(others)


def _times(table: Table) -> str:
    machine = table.machine
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    runtimes = " and ".join(machine.runtimes) or f"PyTorch {machine.torch}"
    return (
        f"Milliseconds: median over {table.timing.images} photos one at a time, after "
        f"{table.timing.warm_up} to warm up; {machine.processor}, {threads}, "
        f"{runtimes}. Decoding the file is not in it."
    )
