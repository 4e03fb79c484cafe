"""How far a score may be chance: bootstrap over photos (Efron 1979), alone and in pairs. Knows no
captions.

A resample draws as many photos as there are, with replacement. As a `Score` is a function of sums
over photos, a thousand resamples are one matrix product. Models are compared on the same resamples
(paired), so that what is hard about a photo for both does not count as a difference.
"""

from dataclasses import dataclass

import numpy as np

from evaluation.metrics.score import Score, Values

__all__ = ["Difference", "Interval", "compare", "draw_resamples", "interval"]

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """The range of the middle 95 % of resamples (percentile bootstrap)."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """What one model scores more than another, its interval, and the share of resamples that say
    otherwise.

    `other_sign` counts the resamples whose difference is nought or of the sign that `value` does
    not have.
    """

    value: float
    interval: Interval
    other_sign: float

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves nought out."""
        return self.interval.low > 0 or self.interval.high < 0


def draw_resamples(photos: int, resamples: int, seed: int) -> Values:
    """Draw `resamples` sets of `photos` photos: counts (resamples, photos) of how often each
    photo is in each."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(photos, np.full(photos, 1 / photos), size=resamples).astype(
        np.float64
    )


def interval(score: Score, resamples: Values) -> Interval:
    """Give the 95 % interval of a score over resamples (R, photos); nan where a resample has no
    photo that counts."""
    return _middle(_values(score, resamples))


def compare(first: Score, second: Score, resamples: Values) -> Difference:
    """Compare two models by the same metric on the same photos: first minus second."""
    if first.name != second.name or len(first.per_photo) != len(second.per_photo):
        raise ValueError("a comparison wants the same metric on the same photos")
    value = first.value - second.value
    differences = _values(first, resamples) - _values(second, resamples)
    return Difference(
        value, _middle(differences), float(np.mean(differences * np.sign(value) <= 0))
    )


def _values(score: Score, resamples: Values) -> Values:
    return score.of_sums(resamples @ score.statistics)


def _middle(values: Values) -> Interval:
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(float(low), float(high))
