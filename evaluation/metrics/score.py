"""A metric over a set of images, kept so that it can be computed again for any part of the set.

Each metric is a function of sums over images. A `Score` keeps what is summed, so that the metric of
a part, or of a resampled set, is one sum away. Knows no captions.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import numpy.typing as npt

__all__ = ["Score", "Values", "mean_score", "ratio_score"]

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """One metric over a set of images: of the whole set, and of each image in order.

    statistics: what is summed, (images, S). of_sums: makes the metric (...) of sums (..., S).
    """

    name: str
    value: float
    per_image: tuple[float, ...]
    statistics: Values = field(compare=False, repr=False)
    of_sums: Callable[[Values], Values] = field(compare=False, repr=False)

    @classmethod
    def of(cls, name: str, statistics: Values, of_sums: Callable[[Values], Values]) -> Self:
        """Compute the score of images from their statistics (images, S)."""
        whole = of_sums(statistics.sum(axis=0))
        return cls(name, float(whole), tuple(of_sums(statistics).tolist()), statistics, of_sums)

    def part(self, images: slice) -> Self:
        """Compute the score of some of the images."""
        return self.of(self.name, self.statistics[images], self.of_sums)


def mean_score(name: str, values: Iterable[float | None]) -> Score:
    """Score by the mean over images; an image with None does not count."""
    pairs = [(0.0, 0.0) if value is None else (value, 1.0) for value in values]
    return Score.of(name, np.array(pairs), _ratio)


def ratio_score(name: str, totals: Values, counts: Values) -> Score:
    """Score by the sum of `totals` over the sum of `counts`, (images,) each.

    nan where nothing was counted.
    """
    return Score.of(name, np.stack([totals, counts], axis=-1), _ratio)


def _ratio(sums: Values) -> Values:
    totals = sums[..., 0]
    counts = sums[..., 1]
    ratios: Values = np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts != 0)
    return ratios
