"""What a model sees of images: annotations of the grid, and tags, the objects and concepts found.

Values only: knows no network and no words.

Letters in shapes: W tags of an image, absent ones included; the others as in `models`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.geometry import CellGrid

__all__ = [
    "TAG_CLASSES",
    "TAG_FIELDS",
    "WORDS_A_CLASS",
    "ImageFeatures",
    "Tags",
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


@dataclass(frozen=True, slots=True, eq=False)
class Tags:
    """Objects and concepts of B images, W each, the absent ones masked.

    values: (B, W, 6 + L) float, so that they can be cached and moved as one tensor. Made by `pack`.
    """

    values: Tensor

    @classmethod
    def pack(cls, classes: Tensor, scores: Tensor, boxes: Tensor, places: Tensor) -> "Tags":
        """Make tags of their parts, shaped as the properties give them; score 0 marks an absence.

        classes: below 2,048, which half precision keeps exact.
        """
        parts = [classes.unsqueeze(-1).float(), scores.unsqueeze(-1), boxes, places]
        return cls(torch.cat(parts, dim=-1))

    @property
    def classes(self) -> Tensor:
        """The number of each tag's class, (B, W) int64; see `models.tagging.classes`."""
        return self.values[..., 0].round().long()

    @property
    def scores(self) -> Tensor:
        """How sure the tagger is, (B, W), from 0 to 1."""
        return self.values[..., 1]

    @property
    def boxes(self) -> Tensor:
        """Left, top, right, bottom in fractions of the image, (B, W, 4)."""
        return self.values[..., 2:TAG_FIELDS]

    @property
    def places(self) -> Tensor:
        """Where on the grid each tag is, (B, W, L): non-negative, sums to 1; zero where absent."""
        return self.values[..., TAG_FIELDS:]

    @property
    def present(self) -> Tensor:
        """Which of the W are there, (B, W) bool."""
        return self.scores > 0

    def __len__(self) -> int:
        """Count the images."""
        return len(self.values)


@dataclass(frozen=True, slots=True, eq=False)
class ImageFeatures:
    """What a decoder reads of B images.

    annotations: (B, L, D), one vector for each cell of the grid (Xu et al. 2015, section 3.1.1).
    tags: None where the model looks for none.
    """

    annotations: Tensor
    tags: Tags | None = None

    @classmethod
    def join(cls, parts: Sequence["ImageFeatures"]) -> "ImageFeatures":
        """Put the images of all parts, at least one, behind each other.

        Raises ValueError where some have tags and others none.
        """
        tags = [part.tags.values for part in parts if part.tags is not None]
        if tags and len(tags) < len(parts):
            raise ValueError("images with tags and images without cannot be joined")
        return cls(
            torch.cat([part.annotations for part in parts]),
            Tags(torch.cat(tags)) if tags else None,
        )

    def __len__(self) -> int:
        """Count the images."""
        return len(self.annotations)

    def __getitem__(self, chosen: slice | Tensor) -> "ImageFeatures":
        """Take some images."""
        return self._each(lambda tensor: tensor[chosen])

    def __iter__(self) -> Iterator["ImageFeatures"]:
        """Give the images one by one, each as a batch of one."""
        return (self[number : number + 1] for number in range(len(self)))

    def put(self, rows: Sequence[int], others: "ImageFeatures") -> None:
        """Replace the images `rows` by others, in place."""
        chosen = list(rows)
        self.annotations[chosen] = others.annotations
        if self.tags is not None and others.tags is not None:
            self.tags.values[chosen] = others.tags.values

    def to(self, target: torch.device | torch.dtype) -> "ImageFeatures":
        """Move or convert all tensors."""
        return self._each(lambda tensor: tensor.to(target))

    @property
    def means(self) -> Tensor:
        """The mean of each image's annotations, (B, D)."""
        return self.annotations.mean(dim=1)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.annotations.device

    def _each(self, change: Callable[[Tensor], Tensor]) -> "ImageFeatures":
        tags = None if self.tags is None else Tags(change(self.tags.values))
        return ImageFeatures(change(self.annotations), tags)


def places_of_boxes(boxes: Tensor, grid: CellGrid) -> Tensor:
    """Spread each box evenly over the cells that it covers: (..., 4) to (..., L), sums to 1.

    A cell that is covered in part takes part of it. A box in the rim that no cell sees is spread
    over all cells.
    """
    left, top, right, bottom = grid.box
    across = covered_shares(boxes[..., 0::2], left, right, grid.columns)  # (..., columns)
    down = covered_shares(boxes[..., 1::2], top, bottom, grid.rows)  # (..., rows)
    covered = (down.unsqueeze(-1) * across.unsqueeze(-2)).flatten(-2)  # (..., L)
    total = covered.sum(dim=-1, keepdim=True)
    shares = covered / total.clamp(min=_LEAST_AREA)
    return torch.where(total > _LEAST_AREA, shares, 1 / covered.shape[-1])


def covered_shares(edges: Tensor, first: float, last: float, cells: int) -> Tensor:
    """Give the share of each cell that lies between two edges (..., 2): (..., cells).

    The cells divide one side of the image evenly from `first` to `last`, in fractions of it.
    """
    borders = torch.linspace(first, last, cells + 1, device=edges.device, dtype=edges.dtype)
    low = edges[..., :1].maximum(borders[:-1])
    high = edges[..., 1:].minimum(borders[1:])
    return (high - low).clamp(min=0.0) * cells / (last - first)
