"""Captions chosen among a captioner's best by how well they fit, mixed with their probability.

Knows no model: log-probabilities and logits come in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.cider import cider_d
from training.data.datasets import CaptionedImage

__all__ = ["MIXTURES", "Choices", "best_mixture", "choose"]

MIXTURES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of a caption's logit of fitting, beside the score by which the search ranked it."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The captions of one photo that can be chosen among.

    scores: by which the search ranked them. fits: logits of each fitting the photo.
    """

    texts: Sequence[str]
    scores: Sequence[float]
    fits: Sequence[float]


def choose(choices: Sequence[Choices], mixture: float) -> list[str]:
    """Give the best caption of each photo by score + mixture x logit; 0 leaves the search's own."""
    chosen = []
    for each in choices:
        mixed = np.asarray(each.scores) + mixture * np.asarray(each.fits)
        chosen.append(each.texts[int(np.argmax(mixed))])
    return chosen


def best_mixture(choices: Sequence[Choices], images: Sequence[CaptionedImage]) -> float:
    """Choose the mixture of `MIXTURES` with the highest CIDEr-D; the least of equal ones."""
    references = [image.captions for image in images]
    values = [cider_d(references, choose(choices, mixture)).value for mixture in MIXTURES]
    return MIXTURES[int(np.argmax(values))]
