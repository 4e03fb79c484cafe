"""Confidences: the probability that a person uses a word, from the model's own (docs/adr/0006).

Knows no network, no image and no file, nor how its numbers are fitted.
"""

import math
from collections.abc import Iterable
from typing import Annotated, Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

__all__ = [
    "FUNCTION_WORDS",
    "CalibrationConfig",
    "PhotoProbe",
    "caption_confidence",
    "logit",
    "word_confidence",
]

_Fraction = Annotated[float, Field(ge=0, le=1)]
# A probability is kept this far from 0 and 1, where the logit has no value.
_SMALLEST = 1e-6

# Articles and demonstratives; prepositions; conjunctions; pronouns and possessives; forms of "be".
_FUNCTION_WORDS = """
a an the this that these those each other another
about above across against along among around as at behind below beneath beside between by down
during for from in inside into near of off on onto out outside over past than through to toward
towards under underneath up upon with within without
and but or so while
he her hers him his it its itself she their them themselves there they what where which who whose
am are be been being is was were
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that hold a sentence together and say nothing about an image by themselves."""


def _is_none(value: object) -> bool:
    return value is None


class PhotoProbe(BaseModel):
    """How surely an image is a photo at all: a logistic regression on its features.

        p = sigmoid(weights . mean + bias)

    mean (D,) is that of the image's annotations over the grid. Of noise, text and drawings a
    captioner was taught nothing, and no word that it says of them is to be trusted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=65_536)]
    bias: FiniteFloat

    def probability(self, mean: npt.NDArray[np.floating[Any]]) -> float:
        """Estimate it of the mean (D,) of an image's annotations, in [0, 1].

        Raises ValueError where D is not the number of weights.
        """
        return _sigmoid(float(np.dot(np.asarray(self.weights), mean)) + self.bias)


class CalibrationConfig(BaseModel):
    """A monotone map from a word's probability p to its confidence.

        score = sigmoid(slope * logit(p) + offset + words[word]),    confidence = knots(score)

    `words` are offsets of single words, none for the others. `knots` are the (score, confidence)
    corners of a function that is linear between them and constant beyond; without knots the score
    is the confidence. The defaults change nothing. Platt 1999 (slope and offset), Guo et al. 2017
    (temperature: 1 / slope), Zadrozny and Elkan 2002 (knots).

    photo: what every confidence is multiplied with, the probability that the image is a photo;
    None for 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    offset: FiniteFloat = 0.0
    words: dict[str, FiniteFloat] = {}
    knots: Annotated[tuple[tuple[_Fraction, _Fraction], ...], Field(max_length=32)] = ()
    photo: Annotated[PhotoProbe | None, Field(exclude_if=_is_none)] = None

    @model_validator(mode="after")
    def _monotone(self) -> Self:
        """Refuse knots out of order: a higher probability never means a lower confidence."""
        for (score, confidence), (next_score, next_confidence) in zip(
            self.knots, self.knots[1:], strict=False
        ):
            if next_score <= score or next_confidence < confidence:
                raise ValueError("knots: scores must rise, and confidences may not fall")
        return self


def word_confidence(calibration: CalibrationConfig, word: str, probability: float) -> float:
    """Estimate the probability that a person who describes a photo uses `word`, in [0, 1].

    probability: the model's own, of the word given the image and the words before it, in [0, 1].
    """
    offset = calibration.offset + calibration.words.get(word, 0.0)
    score = _sigmoid(calibration.slope * logit(probability) + offset)
    if not calibration.knots:
        return score
    scores, confidences = zip(*calibration.knots, strict=True)
    return float(np.interp(score, scores, confidences))


def caption_confidence(words: Iterable[tuple[str, float]]) -> float:
    """Estimate the share of a caption's content words that a person uses, in [0, 1].

    It is the mean confidence of the (word, confidence) pairs whose word is not in FUNCTION_WORDS;
    of all pairs where there is no such word; and 0 without words. An expected share is the mean of
    the words' probabilities, however they depend on each other: it is as well calibrated as they
    are.
    """
    pairs = list(words)
    chosen = [confidence for word, confidence in pairs if word not in FUNCTION_WORDS]
    if not chosen:
        chosen = [confidence for _, confidence in pairs]
    return sum(chosen) / len(chosen) if chosen else 0.0


def logit(probability: float) -> float:
    """Compute the log-odds of a probability, which is kept away from 0 and 1 by a millionth."""
    probability = min(max(probability, _SMALLEST), 1 - _SMALLEST)
    return math.log(probability / (1 - probability))


def _sigmoid(value: float) -> float:
    """Compute the logistic function, safe where exp would overflow."""
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))
