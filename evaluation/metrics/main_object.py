"""Whether a caption names what the photo is of: its main object by those who described it. Knows no
models.

A photo's main object is the category of COCO (`evaluation.metrics.coco_categories`) that most of
its references name, if at least four fifths of them do, and no fewer than two; where several are
named as often, each is. A caption names it if it names one of those. Photos without such an object
do not count. Fewer than four fifths would ask for what people themselves leave unsaid:
`human_agreement` tells how often a person's own caption passes.
"""

from collections import Counter
from collections.abc import Sequence

from evaluation.metrics.coco_categories import categories_of
from evaluation.metrics.score import Score, mean_score
from models.tokenizer import tokenize

__all__ = ["MAIN_OBJECT", "human_agreement", "main_object_named", "main_objects"]

MAIN_OBJECT = "main object named"
_FEWEST = 2  # references that must agree, and
_SHARE = 0.8  # of all


def main_objects(references: Sequence[str]) -> frozenset[str]:
    """Find the main object of a photo by its references: one category, several that tie, or
    none."""
    named = Counter(category for reference in references for category in _named(reference))
    most = max(named.values(), default=0)
    if most < max(_FEWEST, _SHARE * len(references)):
        return frozenset()
    return frozenset(category for category, count in named.items() if count == most)


def main_object_named(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> Score:
    """Score the share of captions that name the main object, of the photos that have one; nan
    where none has."""
    return mean_score(MAIN_OBJECT, map(_names_it, references, hypotheses))


def human_agreement(references: Sequence[Sequence[str]]) -> Score:
    """Score people by the same measure: each caption of a photo against the photo's others,
    caption by caption."""
    alone = [
        (texts[:i] + texts[i + 1 :], texts[i])
        for texts in map(list, references)
        for i in range(len(texts))
    ]
    return main_object_named([others for others, _ in alone], [text for _, text in alone])


def _names_it(references: Sequence[str], hypothesis: str) -> float | None:
    wanted = main_objects(references)
    return float(bool(wanted & _named(hypothesis))) if wanted else None


def _named(caption: str) -> set[str]:
    return {category for _, category in categories_of(tokenize(caption))}
