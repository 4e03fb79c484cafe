"""A picture as regions: the whole, the blocks of its grid, and what the tagger found.

Each region has the annotations where it lies, pooled, its box, and the class of its tag. Knows no
words and no network.

Letters in shapes: N regions of a picture, absent ones included; Q boxes that are asked about; the
others as in `models`.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from models.array_features import TAG_CLASSES, places_of_boxes
from models.errors import ConfigError
from models.features import ImageFeatures
from models.geometry import WHOLE_IMAGE, CellGrid

__all__ = ["NO_CLASS", "Regions", "append_boxes", "find_regions"]

NO_CLASS = TAG_CLASSES
"""The class of a region that no tag names: the whole, a block of the grid, a box of a phrase."""


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """N regions of B pictures; the first is the whole picture, always present.

    features: (B, N, D). boxes: (B, N, 4), left, top, right, bottom in fractions of the picture.
    classes: (B, N) int64, of `models.tagging.classes` or `NO_CLASS`. scores: (B, N), how sure the
        tagger is; 1 for what is no tag. present: (B, N) bool.
    masked: (B, N) bool, those that are to be guessed.
    """

    features: Tensor
    boxes: Tensor
    classes: Tensor
    scores: Tensor
    present: Tensor
    masked: Tensor

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.features)

    def select(self, pictures: Tensor | slice) -> "Regions":
        """Take some pictures."""
        return Regions(*(getattr(self, each.name)[pictures] for each in fields(self)))

    def to(self, device: torch.device) -> "Regions":
        """Move all tensors."""
        return Regions(*(getattr(self, each.name).to(device) for each in fields(self)))


def find_regions(features: ImageFeatures, grid: CellGrid, blocks: int) -> Regions:
    """Read pictures as 1 + blocks x blocks + W regions, W being their tags.

    Raises ConfigError for features without tags.
    """
    if features.tags is None:
        raise ConfigError("Matching wants eyes that find objects: this captioner has no tagger.")
    tags = features.tags
    boxes = _block_boxes(blocks)  # (1 + blocks * blocks, 4)
    pooled = _pool(features.annotations, boxes.expand(len(features), -1, -1), grid)
    tagged = tags.places.to(features.annotations.dtype) @ features.annotations  # (B, W, D)
    blank = torch.ones(len(features), len(boxes))
    present = torch.cat([blank.bool(), tags.present], dim=1)
    return Regions(
        features=torch.cat([pooled, tagged], dim=1),
        boxes=torch.cat([boxes.expand(len(features), -1, -1), tags.boxes], dim=1),
        classes=torch.cat([torch.full_like(blank, NO_CLASS).long(), tags.classes], dim=1),
        scores=torch.cat([blank, tags.scores], dim=1),
        present=present,
        masked=torch.zeros_like(present),
    )


def append_boxes(regions: Regions, annotations: Tensor, boxes: Tensor, grid: CellGrid) -> Regions:
    """Append boxes (B, Q, 4) as regions that are to be guessed.

    annotations: (B, L, D), in which the eyes saw nothing of what lies in the boxes.
    """
    ones = torch.ones(boxes.shape[:2])
    added = Regions(
        features=_pool(annotations, boxes, grid),
        boxes=boxes,
        classes=torch.full_like(ones, NO_CLASS).long(),
        scores=ones,
        present=ones.bool(),
        masked=ones.bool(),
    )
    parts = [(getattr(regions, each.name), getattr(added, each.name)) for each in fields(Regions)]
    return Regions(*(torch.cat(pair, dim=1) for pair in parts))


def _pool(annotations: Tensor, boxes: Tensor, grid: CellGrid) -> Tensor:
    """Average annotations (B, L, D) over the cells of each box (B, N, 4)."""
    places = torch.from_numpy(places_of_boxes(boxes.numpy(), grid))  # (B, N, L)
    return places.to(annotations.dtype) @ annotations


def _block_boxes(blocks: int) -> Tensor:
    """Give the boxes of the whole picture and of its blocks, row by row: (1 + blocks ** 2, 4)."""
    edges = np.linspace(0.0, 1.0, blocks + 1, dtype=np.float32)
    rows = [
        (edges[column], edges[row], edges[column + 1], edges[row + 1])
        for row in range(blocks)
        for column in range(blocks)
    ]
    return torch.tensor(np.array([WHOLE_IMAGE, *rows], dtype=np.float32))
