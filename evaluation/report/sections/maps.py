"""Where the models look: the section of the results page about the measures of maps, in Markdown.
Measures nothing.

`results["maps"]` are the rows of `evaluation.results`, by model.
"""

from collections.abc import Mapping
from typing import Any

from evaluation.report.markdown import markdown_table, percent, plain, with_interval

__all__ = ["maps_section"]

Rows = Mapping[str, Mapping[str, Any]]

_COLUMNS = {
    ("model", "mass"): "mass inside",
    ("uniform", "mass"): "an even map's",
    ("gaussian", "mass"): "a Gaussian's",
    ("model", "peak"): "peak inside",
    ("uniform", "peak"): "an even map's",
    ("gaussian", "peak"): "a Gaussian's",
}
_FALLS = {
    "highest": "highest cells",
    "random": "random cells",
    "centre": "cells at the centre",
    "highest_less_random": "highest less random",
    "highest_less_centre": "highest less centre",
}
_CORRECTNESS = (
    "Of each noun phrase of a person's caption that has boxes (Flickr30k Entities), the caption "
    "being read as it "
    "stands: how much of the map lies inside the boxes (mass), and how often the centre of its "
    "highest cell does "
    "(peak); each is the mean over the phrase's words. Beside them, on the same phrases: a map "
    "that is even, and one "
    "that always looks at the middle (a Gaussian about the picture's centre, its standard "
    "deviation a quarter of width "
    "and height; {peak}). Liu et al. 2017 (Attention Correctness in Neural Image Captioning) "
    "measure otherwise: on "
    "Flickr30k, the phrases of each model's own captions that a person used word for word, each by "
    "its best word. Here "
    "every model is measured on the same phrases of Flickr8k, and the figures cannot be held "
    "against theirs."
)
_POINTING = (
    "The same for each word of a model's own caption that names one of COCO's 80 categories "
    "(`evaluation/metrics/coco_categories.py`) of "
    "which the photo has boxes: inside the union of all boxes of that category. Each model has "
    "words of its own "
    "here, so the even map and the Gaussian, on those words, differ as well. Words for what has no "
    "box on the photo do "
    "not count."
)


def maps_section(results: Mapping[str, Any]) -> str:
    """Write the section: a table for each of the three measures, and what each is."""
    rows: Rows = results["maps"]
    runs = dict.fromkeys(f"`{row['command']}` on {row['date']}" for row in rows.values())
    return "\n\n".join(
        [
            "## Where the models look",
            f"Made by {', '.join(runs)}. A word's map, alpha, gives each cell of the picture a "
            "share of 1; it is that "
            f"from which the word was predicted. {' '.join(_notes(rows))}",
            "Shares and rates are times 100. Below each figure: its 95 % interval (percentile "
            "bootstrap over photos). "
            "Sheets of maps, chosen by a written rule, are on [a page of their own](maps.md).",
            f"### Correctness: the words of people, {_sets(rows, 'correctness')}",
            _CORRECTNESS.format(peak=_gaussian_peak(rows)),
            _grounding_table(rows, "correctness", "phrases"),
            f"### Pointing: the models' own words, {_sets(rows, 'pointing')}",
            _POINTING + _left_out(rows),
            _grounding_table(rows, "pointing", "words"),
            f"### Deletion: whether the words hang on it, {_sets(rows, 'deletion')}",
            _deletion_text(rows),
            _deletion_table(rows),
        ]
    )


def _sets(rows: Rows, measure: str) -> str:
    """Name the set; more than one where rows were measured on several."""
    return ", ".join(dict.fromkeys(row[measure]["set"] for row in rows.values()))


def _notes(rows: Rows) -> list[str]:
    """Say what the maps of some models are."""
    hard = [f"`{name}`" for name, row in rows.items() if row["attention"] == "hard"]
    heads = [f"`{name}`" for name, row in rows.items() if row["decoder"] == "transformer"]
    notes = [
        "Models that see the picture as one vector (`nic`, `lrcn-...`) have even maps, and are "
        "left out."
    ]
    if hard:
        notes.append(f"A map of {' and '.join(hard)} is one cell, the most probable one.")
    if heads:
        notes.append(
            f"A map of {' and '.join(heads)} is the cross-attention of the last layer, averaged "
            "over heads."
        )
    if "glimpse" in rows:
        notes.append(
            "`glimpse` was taught where to look, on the boxes of Flickr8k's training photos."
        )
    return notes


def _gaussian_peak(rows: Rows) -> str:
    """Say where the Gaussian's peak is taken, and what the rule for maps would make of it."""
    text = "its peak is the picture's exact centre, where cells meet and none has its own"
    measured = next(iter(rows.values()))["correctness"]["gaussian"]
    if "cells_peak" not in measured:
        return text
    exact, cells = (percent(measured[name]["value"]) for name in ("peak", "cells_peak"))
    return (
        f"{text}: it is inside in {exact} % of looks, and the centres of the cells around it "
        f"would be in {cells} %"
    )


def _left_out(rows: Rows) -> str:
    """Say how many photos were left out as the models had learnt from them."""
    counts = dict.fromkeys(str(row["pointing"].get("left_out", 0)) for row in rows.values())
    return f" Photos of the set left out, because they are in a training set: {', '.join(counts)}."


def _drawn(rows: Rows) -> str:
    """Say which photos and words were taken."""
    drawn = dict.fromkeys(
        f" Of the set's photos, every {_ordinal(each['every'])} was taken, from the first on; of a "
        "caption at most "
        f"{each['words_a_photo']} content words, drawn where there are more."
        for each in (row["deletion"] for row in rows.values())
        if "every" in each
    )
    return "".join(drawn)


def _ordinal(number: int) -> str:
    names = ("", "one", "second", "third", "fourth", "fifth")
    return names[number] if number < len(names) else f"{number}th"


def _grounding_table(rows: Rows, measure: str, unit: str) -> str:
    return markdown_table(
        ["", *_COLUMNS.values(), "peak, times the Gaussian's", unit, "photos"],
        [
            [
                f"`{name}`",
                *(with_interval(row[measure][whose][part]) for whose, part in _COLUMNS),
                with_interval(row[measure]["peak_over_gaussian"], plain),
                f"{row[measure]['looks']:,}",
                f"{row[measure]['photos']:,}",
            ]
            for name, row in rows.items()
        ],
    )


def _deletion_text(rows: Rows) -> str:
    cells = dict.fromkeys(
        f"{row['deletion']['cells']} of {row['deletion']['locations']}" for row in rows.values()
    )
    text = (
        f"The model captions a photo; {', '.join(cells)} cells are grayed out, and the same "
        "caption is read again. "
        "How far does a word's log-probability fall, in nats, without the cells with the highest "
        "alpha of that word, "
        "without as many at random, without as many about the centre? If the map shows what the "
        "word hangs on, the "
        f"first drops are the greatest.{_drawn(rows)} After Petsiuk et al. 2018 (RISE), with one "
        "step."
    )
    hard = any(row["attention"] == "hard" for row in rows.values())
    return text + (
        " Of hard attention that one cell is grayed, and random ones with it." if hard else ""
    )


def _deletion_table(rows: Rows) -> str:
    return markdown_table(
        ["drops without", *_FALLS.values(), "words", "photos"],
        [
            [
                f"`{name}`",
                *(with_interval(row["deletion"][kind], plain) for kind in _FALLS),
                f"{row['deletion']['words']:,}",
                f"{row['deletion']['photos']:,}",
            ]
            for name, row in rows.items()
        ],
    )
