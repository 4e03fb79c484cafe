"""How far a score may be chance: bootstrap over images (Efron 1979), alone and in pairs.

A resample draws as many images as there are, with replacement. As a `Score` is a function of sums
over images, a thousand resamples are one matrix product. Models are compared on the same resamples
(paired), so that an image that is hard for both models does not count as a difference. Knows no
captions.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from evaluation.metrics.score import Score, Values
from evaluation.records import Estimate
from evaluation.results import BootstrapSettings

__all__ = [
    "SETTINGS",
    "Difference",
    "Interval",
    "compare",
    "default_resamples",
    "draw_resamples",
    "estimate",
    "interval",
    "round_value",
]

SETTINGS = BootstrapSettings(resamples=1000, seed=0)
"""The resamples of all reports."""

_LEVEL = 0.95
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Interval:
    """The range of the middle 95 % of resamples (percentile bootstrap)."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more one model scores than another.

    other_sign: the share of resamples whose difference is zero or has the other sign than `value`.
    """

    value: float
    interval: Interval
    other_sign: float

    @property
    def is_real(self) -> bool:
        """Whether the interval excludes zero."""
        return self.interval.low > 0 or self.interval.high < 0


def draw_resamples(images: int, resamples: int, seed: int) -> Values:
    """Draw `resamples` sets of `images` images.

    Gives counts (resamples, images): how often each image is in each resample.
    """
    generator = np.random.default_rng(seed)
    shares = np.full(images, 1 / images)
    return generator.multinomial(images, shares, size=resamples).astype(np.float64)


@cache
def default_resamples(images: int) -> Values:
    """Give the resamples of all reports on `images` images, drawn once."""
    return draw_resamples(images, SETTINGS.resamples, SETTINGS.seed)


def interval(score: Score, resamples: Values) -> Interval:
    """Give the 95 % interval of a score over resamples (R, images).

    nan where a resample has no image that counts.
    """
    return _middle(_values(score, resamples))


def estimate(score: Score) -> Estimate:
    """Give a score and its 95 % interval over the default resamples, rounded for JSON."""
    around = interval(score, default_resamples(len(score.per_image)))
    return Estimate(
        value=round_value(score.value),
        low=round_value(around.low),
        high=round_value(around.high),
    )


def round_value(value: float) -> float | None:
    """Round a value for JSON, which has no nan."""
    return round(value, _DIGITS) if math.isfinite(value) else None


def compare(first: Score, second: Score, resamples: Values) -> Difference:
    """Compare two models by one metric on the same images: first minus second.

    Raises ValueError for different metrics or different numbers of images.
    """
    if first.name != second.name or len(first.per_image) != len(second.per_image):
        raise ValueError("a comparison wants the same metric on the same photos")
    value = first.value - second.value
    differences = _values(first, resamples) - _values(second, resamples)
    other_sign = float(np.mean(differences * np.sign(value) <= 0))
    return Difference(value, _middle(differences), other_sign)


def _values(score: Score, resamples: Values) -> Values:
    return score.of_sums(resamples @ score.statistics)


def _middle(values: Values) -> Interval:
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(float(low), float(high))
