"""Where the models look: the measures of maps. Measures nothing."""

from collections.abc import Iterable, Mapping

from evaluation.map_results import GroundingResult, MapsResult
from evaluation.report.catalog import read_catalog
from evaluation.report.markdown import markdown_table, percent, plain, with_interval
from evaluation.results import Results

__all__ = ["section"]

Rows = Mapping[str, MapsResult]

_CORRECTNESS = (
    "Of each noun phrase of a person's caption that has boxes (Flickr30k Entities), the caption "
    "being read as it stands: how much of the map lies inside the boxes (mass), and how often the "
    "center of its highest cell does (peak); each is the mean over the phrase's words. Beside "
    "them, on the same phrases: a map that is even, and one that always looks at the middle (a "
    "Gaussian about the picture's center, its standard deviation a quarter of width and height; "
    "its peak is the picture's exact center, where cells meet and none has its own: it is inside "
    "in {exact} % of phrases, and the centers of the cells around it would be in {cells} %). Liu "
    "et al. 2017 (Attention Correctness in Neural Image Captioning) measure otherwise: on "
    "Flickr30k, the phrases of each model's own captions that a person used word for word, each by "
    "its best word. Here every model is measured on the same phrases of Flickr8k, and the figures "
    "cannot be compared with theirs."
)
_POINTING = (
    "The same for each word of a model's own caption that names one of COCO's 80 categories "
    "(`evaluation/metrics/coco_categories.py`) of which the photo has boxes: inside the union of "
    "all boxes of that category. Each model has words of its own here, so the even map and the "
    "Gaussian, on those words, differ as well. Words for what has no box on the photo do not "
    "count. Photos of the set left out, because they are in a training set: {left_out}."
)
_DELETION = (
    "The model captions a photo; {cells} cells are grayed out, and the same caption is read again. "
    "How far does a word's log-probability drop, in nats, without the cells with the highest alpha "
    "of that word, without as many at random, without as many about the center? If the map shows "
    "what the word hangs on, the first drops are the greatest.{drawn} After Petsiuk et al. 2018 "
    "(RISE), with one step."
)
_ORDINALS = ("", "one", "second", "third", "fourth", "fifth")


def section(results: Results) -> str:
    """Write what the maps are, and a table for each of the three measures."""
    rows = results.maps
    if not rows:
        return ""
    runs = _distinct(f"`{row.command}` on {row.date}" for row in rows.values())
    correctness = {name: row.correctness for name, row in rows.items()}
    pointing = {name: row.pointing for name, row in rows.items()}
    deletion_sets = _distinct(row.deletion.set_name for row in rows.values())
    return "\n\n".join(
        [
            "## Where the models look",
            f"Made by {runs}. A word's map, alpha, gives each cell of the picture a share of 1; it "
            f"is that from which the word was predicted. {' '.join(_remarks(rows))}",
            "Shares and rates are times 100. Below each figure: its 95 % interval (percentile "
            "bootstrap over photos). Sheets of maps, chosen by a written rule, are on [a page of "
            "their own](maps.md).",
            f"### Correctness: the words of people, {_sets(correctness)}",
            _correctness_text(rows),
            _grounding_table(correctness, "phrases"),
            f"### Pointing: the models' own words, {_sets(pointing)}",
            _pointing_text(pointing),
            _grounding_table(pointing, "words"),
            f"### Deletion: whether the words hang on it, {deletion_sets}",
            _deletion_text(rows),
            _deletion_table(rows),
        ]
    )


def _remarks(rows: Rows) -> list[str]:
    """Say what the maps of some models are."""
    catalog = read_catalog()
    remarks = [catalog.project.without_maps]
    hard = [f"`{name}`" for name, row in rows.items() if row.attention == "hard"]
    if hard:
        remarks.append(f"A map of {' and '.join(hard)} is one cell, the most probable one.")
    transformers = [f"`{name}`" for name, row in rows.items() if row.decoder == "transformer"]
    if transformers:
        remarks.append(
            f"A map of {' and '.join(transformers)} is the cross-attention of the last layer, "
            "averaged over heads."
        )
    for name in rows:
        remark = catalog.words_of(name).maps
        if remark is not None:
            remarks.append(remark)
    return remarks


def _correctness_text(rows: Rows) -> str:
    gaussian = next(iter(rows.values())).correctness.gaussian
    return _CORRECTNESS.format(
        exact=percent(gaussian.peak.value), cells=percent(gaussian.cells_peak.value)
    )


def _pointing_text(rows: Mapping[str, GroundingResult]) -> str:
    return _POINTING.format(left_out=_distinct(str(row.left_out or 0) for row in rows.values()))


def _grounding_table(rows: Mapping[str, GroundingResult], unit: str) -> str:
    header = [
        "",
        "mass inside",
        "an even map's",
        "a Gaussian's",
        "peak inside",
        "an even map's",
        "a Gaussian's",
        "peak, times the Gaussian's",
        unit,
        "photos",
    ]
    return markdown_table(header, [_grounding_row(name, row) for name, row in rows.items()])


def _grounding_row(name: str, row: GroundingResult) -> list[str]:
    return [
        f"`{name}`",
        with_interval(row.model.mass),
        with_interval(row.uniform.mass),
        with_interval(row.gaussian.mass),
        with_interval(row.model.peak),
        with_interval(row.uniform.peak),
        with_interval(row.gaussian.peak),
        with_interval(row.peak_over_gaussian, plain),
        f"{row.phrases:,}",
        f"{row.images:,}",
    ]


def _deletion_text(rows: Rows) -> str:
    deletions = [row.deletion for row in rows.values()]
    drawn = dict.fromkeys(
        f" Of the set's photos, every {_ordinal(each.every)} was taken, from the first on; of a "
        f"caption at most {each.words_per_image} content words, drawn where there are more."
        for each in deletions
    )
    text = _DELETION.format(
        cells=_distinct(f"{each.cells} of {each.locations}" for each in deletions),
        drawn="".join(drawn),
    )
    if any(row.attention == "hard" for row in rows.values()):
        text += " Of hard attention that one cell is grayed, and random ones with it."
    return text


def _deletion_table(rows: Rows) -> str:
    header = [
        "drops without",
        "highest cells",
        "random cells",
        "cells at the center",
        "highest less random",
        "highest less center",
        "words",
        "photos",
    ]
    table = []
    for name, row in rows.items():
        deletion = row.deletion
        drops = [
            deletion.highest,
            deletion.random,
            deletion.center,
            deletion.highest_less_random,
            deletion.highest_less_center,
        ]
        cells = [with_interval(drop, plain) for drop in drops]
        table.append([f"`{name}`", *cells, f"{deletion.words:,}", f"{deletion.images:,}"])
    return markdown_table(header, table)


def _sets(rows: Mapping[str, GroundingResult]) -> str:
    """Name the set; more than one where rows were measured on several."""
    return _distinct(row.set_name for row in rows.values())


def _distinct(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _ordinal(number: int) -> str:
    return _ORDINALS[number] if number < len(_ORDINALS) else f"{number}th"
