"""From what was measured to what people read: the results page and the README's short form, in
Markdown.

A section is a function from the results (`evaluation.measures.comparison.Table.results`, and under
"maps" the rows of `evaluation.results`) to Markdown, or to "" where it has nothing to say.
`SECTIONS` is the page: each is left out where the results lack the key beside it. Every figure and
every claim is made of the numbers. Measures nothing.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.measures.comparison import COMPARED
from evaluation.measures.lineage import origins_section
from evaluation.metrics.main_object import MAIN_OBJECT
from evaluation.report.markdown import ABSENT, markdown_table, percent, with_interval
from evaluation.report.published import PUBLISHED
from evaluation.report.sections.maps import maps_section

__all__ = ["SECTIONS", "Results", "Section", "page", "short_form", "write_results"]

Results = Mapping[str, Any]
Section = Callable[[Results], str]

_METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D")
_SHORT = ("BLEU-4", "METEOR", "CIDEr-D")
_BASELINES = ("soft-attention", "nic")  # every other model is held against these first
_README = re.compile(r"(<!-- begin table -->\n).*?(<!-- end table -->)", re.DOTALL)


def page(results: Results) -> str:
    """Write the results page."""
    quick = (
        [f"**A quick look at the first {results['limit']} photos of each set.**"]
        if "limit" in results
        else []
    )
    sections = [
        text for part, section in SECTIONS if part in results and (text := section(results))
    ]
    return "\n\n".join(["# Results", *quick, *sections]) + "\n"


def write_results(results: Results, output: Path, readme: Path | None) -> list[Path]:
    """Write the page, results.json beside it, and the short form where the README has a place
    for it: which files."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page(results), encoding="utf-8")
    document = output.with_suffix(".json")
    document.write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    text = readme.read_text(encoding="utf-8") if readme is not None and readme.is_file() else ""
    if readme is None or not _README.search(text):
        return [output, document]
    readme.write_text(
        _README.sub(lambda found: f"{found[1]}{short_form(results)}\n{found[2]}", text),
        encoding="utf-8",
    )
    return [output, document, readme]


def short_form(results: Results) -> str:
    """The table in little: for the README."""
    test, others = results["test"], [name for name in results["sets"] if not name.endswith(" dev")]
    shown = [
        (name, metric)
        for name in others
        for metric in (_SHORT if name == test else ("CIDEr-D", MAIN_OBJECT))
    ]
    header = ["", *(f"{name}: {metric}" for name, metric in shown), "parameters", "ms a photo"]
    rows = []
    shipped = {
        name: row
        for name, row in results["models"].items()
        if name not in results.get("not_shipped", ())
    }
    for model, row in shipped.items():
        milliseconds = row["encoder_milliseconds"] + row["decoder_milliseconds"]
        scores = [percent(_value(row, name, metric)) for name, metric in shown]
        rows.append([f"`{model}`", *scores, _millions(row["parameters"]), f"{milliseconds:.0f}"])
    for published in PUBLISHED:
        scores = [
            percent(published.scores.get(metric) if name == test else None)
            for name, metric in shown
        ]
        if set(scores) != {ABSENT}:
            rows.append([f"*published:* {published.model}", *scores, ABSENT, ABSENT])
    return markdown_table(header, rows)


def _scores(results: Results) -> str:
    test = results["test"]
    header = [
        "",
        *_METRICS,
        MAIN_OBJECT,
        "parameters",
        "encoder, ms a photo",
        "decoder, ms a photo",
    ]
    rows = [
        [
            _named(results, model),
            *(
                with_interval(row["scores"][test].get(metric))
                for metric in (*_METRICS, MAIN_OBJECT)
            ),
            f"{_millions(row['parameters'])}<br><sub>decoder "
            f"{_millions(row['decoder_parameters'])}</sub>",
            f"{row['encoder_milliseconds']:.1f}",
            f"{row['decoder_milliseconds']:.1f}",
        ]
        for model, row in results["models"].items()
    ]
    for each in PUBLISHED:
        printed = [percent(each.scores.get(metric)) for metric in _METRICS]
        rows.append([f"*published:* {each.model}, {each.source}", *printed, *[ABSENT] * 4])
    return "\n\n".join(
        [
            f"Scores, times and captions were made by `{results['command']}` on {results['date']}; "
            "all of them but the "
            "published rows were measured in that run. All scores are times 100.",
            f"## {_title(test)}, {results['sets'][test]['photos']:,} photos",
            markdown_table(header, rows),
            "Below each of our scores: its 95 % interval. The published rows are as printed, with "
            "other training "
            "photos, vocabularies, beams and code, and in part other splits (Xu et al. 2015 give "
            "BLEU without a "
            "brevity penalty): landmarks, not rivals in the same race.",
            *(_why_not_shipped(results, model) for model in results.get("not_shipped", ())),
        ]
    )


def _why_not_shipped(results: Results, model: str) -> str:
    """Say of a model that is not shipped how far it trails, and of an encoder of its own what it
    began with."""
    metric, left_out = COMPARED[0], results["not_shipped"]
    scores = {name: _value(row, results["test"], metric) for name, row in results["models"].items()}
    lowest = min(
        (score for name, score in scores.items() if name not in left_out and score is not None),
        default=None,
    )
    own, origin, text = (
        scores[model],
        results.get("origins", {}).get(model, {}),
        f"`{model}` is not shipped.",
    )
    if own is not None and lowest is not None and own < lowest:
        text += f" Its {metric} is {percent(lowest - own)} below that of the lowest shipped model."
    if origin.get("encoder_begun") == 0:
        text += (
            " Its encoder began with random weights, and learnt from the captioned photos alone."
        )
    return text


def _other_sets(results: Results) -> str:
    names = [name for name in results["sets"] if name != results["test"]]
    metrics = (*_SHORT, MAIN_OBJECT)
    header = ["", *(f"{name}: {metric}" for name in names for metric in metrics)]
    rows = [
        [
            _named(results, model),
            *(percent(_value(row, name, metric)) for name in names for metric in metrics),
        ]
        for model, row in results["models"].items()
    ]
    sizes = ", ".join(f"{name} ({results['sets'][name]['photos']:,} photos)" for name in names)
    return (
        f"## The sets that weights were chosen by\n\n{sizes}.\n\n{markdown_table(header, rows)}"
        if names
        else ""
    )


def _method(results: Results) -> str:
    machine, timing, bootstrap = results["machine"], results["timing"], results["bootstrap"]
    options = {model: _decoding(row["decoding"]) for model, row in results["models"].items()}
    common = max(options.values(), key=list(options.values()).count)
    others = [f"`{model}` {option}" for model, option in options.items() if option != common]
    with_meteor = any(
        "METEOR" in scores
        for row in results["models"].values()
        for scores in row["scores"].values()
    )
    lines = [
        "Metric code: ours (`evaluation/metrics/score.py`), tested to equal pycocoevalcap; METEOR "
        "1.5 is the reference "
        "program" + ("." if with_meteor else ", and was left out here: it needs Java."),
        "Tokeniser: Penn Treebank, as coco-caption does.",
        f"Split: {results['test']} as its publishers split it, "
        f"{results['sets'][results['test']]['photos']:,} photos "
        f"with {results['sets'][results['test']]['references']:,} references.",
        f"Search: {common}{''.join(f'; {each}' for each in others)}: each bundle's own, as it is "
        "served.",
        f"Precision: encoder {machine['precision']}, decoder float32, as it is served on this "
        "machine.",
        f"Intervals: percentile bootstrap over photos, {bootstrap['resamples']:,} resamples, seed "
        f"{bootstrap['seed']}. "
        "BLEU and METEOR are computed anew from the resampled photos' counts; CIDEr-D and ROUGE-L "
        "are means over them, "
        "with document frequencies of the whole set. They tell the chance of the photos, not that "
        "of training.",
        f"Milliseconds: median over {timing['photos']} photos one at a time, after "
        f"{timing['warm_up']} to warm up; "
        f"{machine['processor']}, {machine['threads']} thread{'s' * (machine['threads'] > 1)}, "
        f"PyTorch {machine['torch']}. Decoding the file is not in it.",
    ]
    return "## How it was measured\n\n" + "\n".join(f"* {line}" for line in lines)


def _differences(results: Results) -> str:
    found = results["differences"]
    if not found:
        return ""
    pairs = dict.fromkeys((each["first"], each["second"]) for each in found)
    rows = [
        [
            f"`{first}` - `{second}`",
            *(_marked(_between(found, metric, first, second)) for metric in COMPARED),
        ]
        for first, second in pairs
    ]
    parts = [
        "## Which differences are real",
        f"Paired bootstrap over the photos of {results['test']}: the same resamples for all. A "
        "difference is called "
        "real where its 95 % interval leaves nought out. Were there none at all, one comparison in "
        "twenty would be "
        "called so. Each model was trained once: what is real of these weights need not be of the "
        "method.",
    ]
    for baseline in _BASELINES:
        sentences = [
            f"* `{model}`: "
            + "; ".join(_sentence(_between(found, metric, model, baseline)) for metric in COMPARED)
            for model in results["models"]
            if model != baseline and baseline in results["models"]
        ]
        parts += [f"Against `{baseline}`:", ".\n".join(sentences) + "."] if sentences else []
    table = markdown_table(["", *COMPARED], rows)
    return "\n\n".join(
        [
            *parts,
            f"<details><summary>All pairs; what is real is bold</summary>\n\n{table}\n\n</details>",
        ]
    )


def _between(
    found: Sequence[Mapping[str, Any]], metric: str, first: str, second: str
) -> dict[str, Any]:
    """Find a difference, turned round where it is kept the other way."""
    for each in found:
        if each["metric"] == metric and {each["first"], each["second"]} == {first, second}:
            turned = {"value": -each["value"], "low": -each["high"], "high": -each["low"]}
            return {**each, **(turned if each["first"] == second else {})}
    raise KeyError(f"{metric} of {first} and {second}")


def _sentence(difference: Mapping[str, Any]) -> str:
    metric, told = difference["metric"], _told(difference)
    if difference["is_real"]:
        return f"{metric} really {'higher' if difference['value'] > 0 else 'lower'}, {told}"
    return (
        f"{metric} not told apart, {told}, {100 * difference['other_sign']:.0f} % of resamples "
        "against it"
    )


def _told(difference: Mapping[str, Any]) -> str:
    value, low, high = (
        f"{round(100 * difference[key], 1) + 0.0:+.1f}" for key in ("value", "low", "high")
    )
    return f"{value} ({low} to {high})"


def _marked(difference: Mapping[str, Any]) -> str:
    return f"**{_told(difference)}**" if difference["is_real"] else _told(difference)


def _main_object(results: Results) -> str:
    rows = [
        [
            name,
            f"{next(iter(results['models'].values()))['scores'][name][MAIN_OBJECT]['photos']} of "
            f"{each['photos']}",
            percent(each["human_main_object_named"]),
            f"{each['human_main_object_captions']:,}",
        ]
        for name, each in results["sets"].items()
        if MAIN_OBJECT in next(iter(results["models"].values()))["scores"][name]
    ]
    if not rows:
        return ""
    return (
        "## Main object named\n\nA photo's main object is the category of COCO, in people's words "
        "(`evaluation/metrics/coco_categories.py`), that most of its references name, if at least "
        "four fifths of them "
        "do; where several "
        "are named as often, each is. A caption names it if it names one of those. Photos without "
        "one do not count. "
        "People by the same measure: each caption against the others of its photo; of four others, "
        "four fifths are "
        "all four.\n\n" + markdown_table(["", "photos that count", "people", "of captions"], rows)
    )


def _side_by_side(results: Results) -> str:
    shown = results["side_by_side"]["photos"]
    if not shown and not results["examples"]:
        return ""
    parts = [
        "## Side by side",
        f"Photos of {results['test']}, chosen by their place in its list before anyone looked: "
        f"{results['side_by_side']['rule']}. By the photos' license they are not shown here but "
        "named by their files.",
        *(
            f"**{row['position']}: `{row['file']}`**\n\n" + _said(results, row, row["human"])
            for row in shown
        ),
    ]
    if results["examples"]:
        parts.append("And photos of scikit-image:")
    for row in results["examples"]:
        parts.append(
            f'<img src="images/{row["file"]}" width="240" '
            f'alt="{Path(row["file"]).stem}">\n\n{_said(results, row)}'
        )
    return "\n\n".join(parts)


def _said(results: Results, row: Mapping[str, Any], human: str | None = None) -> str:
    captions = [[_named(results, model), text] for model, text in row["captions"].items()]
    people = [["a person", human]] if human is not None else []
    return markdown_table(["", "caption"], [*people, *captions]).replace("--:", "---")


def _named(results: Results, model: str) -> str:
    return f"`{model}`{' (not shipped)' * (model in results.get('not_shipped', ()))}"


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]


def _value(row: Mapping[str, Any], name: str, metric: str) -> float | None:
    value: float | None = row["scores"][name].get(metric, {}).get("value")
    return value


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M"


def _decoding(options: Mapping[str, Any]) -> str:
    return f"beam size {options['beam_size']}, length penalty {options['length_penalty']:g}"


SECTIONS: tuple[tuple[str, Section], ...] = (
    ("models", _scores),
    ("models", _other_sets),
    ("models", _differences),
    ("models", _main_object),
    ("models", _method),
    ("origins", origins_section),
    ("maps", maps_section),
    ("models", _side_by_side),
)
