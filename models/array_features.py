"""What a model sees of images, as NumPy arrays: annotations of the grid, and tags, what was found.

Values only: knows no network, no words and no torch. `models.features` has the same in torch, for
training.

Letters in shapes: W tags of an image, absent ones included; the others as in `models`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from models.geometry import CellGrid

__all__ = [
    "TAG_CLASSES",
    "TAG_FIELDS",
    "WORDS_A_CLASS",
    "ArrayFeatures",
    "Features",
    "TagArrays",
    "TagValues",
    "covered_shares",
    "places_of_boxes",
]

TAG_CLASSES = 1080
"""How many classes a tag may have; `models.tagging.classes` names them."""

TAG_FIELDS = 6
"""Class, score, left, top, right, bottom: what stands before a tag's places."""

WORDS_A_CLASS = 6
"""How many words, at most, a class is spoken of with."""

_LEAST_AREA = 1e-6

Floats = npt.NDArray[np.float32]


class TagValues(Protocol):
    """Tags of B images, in any library's arrays; see `TagArrays`."""

    @property
    def values(self) -> Any:
        """All of them, (B, W, 6 + L)."""

    @property
    def classes(self) -> Any:
        """The number of each tag's class, (B, W)."""

    @property
    def scores(self) -> Any:
        """How sure the tagger is, (B, W); 0 marks an absence."""

    @property
    def boxes(self) -> Any:
        """Left, top, right, bottom in fractions of the image, (B, W, 4)."""


class Features(Protocol):
    """What a decoder reads of B images, in any library's arrays, wherever they lie."""

    @property
    def annotations(self) -> Any:
        """One vector for each cell of the grid, (B, L, D)."""

    @property
    def tags(self) -> TagValues | None:
        """None where the model looks for none."""

    @property
    def means(self) -> Floats:
        """The mean of each image's annotations, (B, D), in NumPy."""

    def __len__(self) -> int:
        """Count the images."""

    def __getitem__(self, chosen: slice, /) -> Self:
        """Take some images."""

    def __iter__(self) -> Iterator[Self]:
        """Give the images one by one, each as a batch of one."""


@dataclass(frozen=True, slots=True, eq=False)
class TagArrays:
    """Objects and concepts of B images, W each, the absent ones masked.

    values: (B, W, 6 + L) float32. Made by `pack`.
    """

    values: Floats

    @classmethod
    def pack(
        cls, classes: npt.NDArray[Any], scores: Floats, boxes: Floats, places: Floats
    ) -> "TagArrays":
        """Make tags of their parts, shaped as the properties give them; score 0 marks an absence.

        classes: below 2,048, which half precision keeps exact.
        """
        numbers = classes[..., np.newaxis].astype(np.float32)
        return cls(np.concatenate([numbers, scores[..., np.newaxis], boxes, places], axis=-1))

    @classmethod
    def join(cls, parts: Sequence["TagArrays"]) -> "TagArrays":
        """Put the tags of all parts, of the same images, behind each other."""
        return cls(np.concatenate([part.values for part in parts], axis=1))

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """The number of each tag's class, (B, W); see `models.tagging.classes`."""
        return self.values[..., 0].round().astype(np.int64)

    @property
    def scores(self) -> Floats:
        """How sure the tagger is, (B, W), from 0 to 1."""
        return self.values[..., 1]

    @property
    def boxes(self) -> Floats:
        """Left, top, right, bottom in fractions of the image, (B, W, 4)."""
        return self.values[..., 2:TAG_FIELDS]

    @property
    def places(self) -> Floats:
        """Where on the grid each tag is, (B, W, L): non-negative, sums to 1; zero where absent."""
        return self.values[..., TAG_FIELDS:]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.values)


@dataclass(frozen=True, slots=True, eq=False)
class ArrayFeatures:
    """What a decoder reads of B images.

    annotations: (B, L, D) float32, one vector for each cell of the grid (Xu et al. 2015, section
    3.1.1). tags: None where the model looks for none.
    """

    annotations: Floats
    tags: TagArrays | None = None

    @classmethod
    def of(cls, features: Features) -> "ArrayFeatures":
        """Take features of any library that lie in this machine's memory, without a copy."""
        tags = None if features.tags is None else TagArrays(np.asarray(features.tags.values))
        return cls(np.asarray(features.annotations), tags)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.annotations)

    def __getitem__(self, chosen: slice) -> "ArrayFeatures":
        """Take some images."""
        tags = None if self.tags is None else TagArrays(self.tags.values[chosen])
        return ArrayFeatures(self.annotations[chosen], tags)

    def __iter__(self) -> Iterator["ArrayFeatures"]:
        """Give the images one by one, each as a batch of one."""
        return (self[number : number + 1] for number in range(len(self)))

    @property
    def means(self) -> Floats:
        """The mean of each image's annotations, (B, D)."""
        means: Floats = self.annotations.mean(axis=1)
        return means


def places_of_boxes(boxes: Floats, grid: CellGrid) -> Floats:
    """Spread each box evenly over the cells that it covers: (..., 4) to (..., L), sums to 1.

    A cell that is covered in part takes part of it. A box in the rim that no cell sees is spread
    over all cells.
    """
    left, top, right, bottom = grid.box
    across = covered_shares(boxes[..., 0::2], left, right, grid.columns)  # (..., columns)
    down = covered_shares(boxes[..., 1::2], top, bottom, grid.rows)  # (..., rows)
    covered = down[..., :, np.newaxis] * across[..., np.newaxis, :]
    covered = covered.reshape(*covered.shape[:-2], grid.rows * grid.columns)  # (..., L)
    total = covered.sum(axis=-1, keepdims=True)
    shares = covered / np.maximum(total, _LEAST_AREA)
    spread: Floats = np.where(total > _LEAST_AREA, shares, np.float32(1 / covered.shape[-1]))
    return spread


def covered_shares(edges: Floats, first: float, last: float, cells: int) -> Floats:
    """Give the share of each cell that lies between two edges (..., 2): (..., cells).

    The cells divide one side of the image evenly from `first` to `last`, in fractions of it.
    """
    borders = np.linspace(first, last, cells + 1, dtype=np.float32)
    low = np.maximum(edges[..., :1], borders[:-1])
    high = np.minimum(edges[..., 1:], borders[1:])
    shares: Floats = np.maximum(high - low, 0.0) * np.float32(cells / (last - first))
    return shares
