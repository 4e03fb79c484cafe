"""Whether a caption names what the image shows: its main object. Knows no models.

The main object of an image is the category of COCO (`evaluation.metrics.coco_categories`) that most
of its references name, if at least four fifths of them do, and no fewer than two. Where several
categories are named equally often, each is a main object. A caption names the main object if it
names one of those. Images without one do not count. With a share below four fifths, captions would
be asked for what people themselves leave out: `human_agreement` measures how often a person's own
caption passes.
"""

from collections import Counter
from collections.abc import Sequence

from evaluation.metrics.coco_categories import categories_of
from evaluation.metrics.score import Score, mean_score
from models.tokenizer import tokenize

__all__ = ["MAIN_OBJECT", "human_agreement", "main_object_named", "main_objects"]

MAIN_OBJECT = "main object named"

# So many references must agree, and this share of them.
_FEWEST = 2
_SHARE = 0.8


def main_objects(references: Sequence[str]) -> frozenset[str]:
    """Find an image's main object by its references: one category, several that tie, or none."""
    counts: Counter[str] = Counter()
    for reference in references:
        counts.update(_categories(reference))
    most = max(counts.values(), default=0)
    if most < max(_FEWEST, _SHARE * len(references)):
        return frozenset()
    return frozenset(category for category, count in counts.items() if count == most)


def main_object_named(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> Score:
    """Score the share of captions that name the main object, over the images that have one.

    nan where no image has one.
    """
    return mean_score(MAIN_OBJECT, map(_names_it, references, hypotheses))


def human_agreement(references: Sequence[Sequence[str]]) -> Score:
    """Score people by the same measure: each caption of an image against the image's others."""
    others: list[list[str]] = []
    captions: list[str] = []
    for texts in map(list, references):
        for number, text in enumerate(texts):
            others.append(texts[:number] + texts[number + 1 :])
            captions.append(text)
    return main_object_named(others, captions)


def _names_it(references: Sequence[str], hypothesis: str) -> float | None:
    wanted = main_objects(references)
    return float(bool(wanted & _categories(hypothesis))) if wanted else None


def _categories(caption: str) -> set[str]:
    return {category for _, category in categories_of(tokenize(caption))}
