"""Photos as a matching model reads them: regions, from features that were cached once.

Knows no losses.
"""

from collections.abc import Iterator, Sequence

import torch

from models.features import ImageFeatures
from models.geometry import CellGrid
from models.matching.regions import Regions, append_boxes, find_regions
from models.network import CaptioningModel
from training.data.annotation_cache import AnnotationCache, Views
from training.data.blanks import Blank

__all__ = ["BlankedPhotos", "Photos", "read_in_parts"]

_PART = 64


class Photos:
    """Photos to learn from, each in one of its views."""

    def __init__(
        self, eyes: CaptioningModel, views: Views, *, blocks: int, hide_encoder: float
    ) -> None:
        """Take features in `views`; of a share of photos, what the encoder saw is hidden."""
        self.eyes = eyes
        self.views = views
        self.blocks = blocks
        self.hide_encoder = hide_encoder

    def read(self, indices: Sequence[int], generator: torch.Generator) -> Regions:
        """Give the regions of photos `indices`, each in a view that is drawn."""
        features = self.views.read(indices, self.views.draw(len(indices), generator))
        features = _hide(self.eyes, features, self.hide_encoder, generator)
        return find_regions(features, self.eyes.encoder.grid, self.blocks)


class BlankedPhotos:
    """Photos of which a box was hidden before the eyes saw them; its region is to be guessed."""

    def __init__(
        self,
        eyes: CaptioningModel,
        cache: AnnotationCache,
        blanks: Sequence[Blank],
        *,
        blocks: int,
        hide_encoder: float,
    ) -> None:
        """Take one photo of the cache for each blank, in their order."""
        self.eyes = eyes
        self.cache = cache
        self.blanks = tuple(blanks)
        self.blocks = blocks
        self.hide_encoder = hide_encoder

    def draw(self, count: int, generator: torch.Generator) -> list[int]:
        """Draw `count` blanks, or all where there are fewer."""
        return torch.randperm(len(self.blanks), generator=generator)[:count].tolist()

    def read(self, numbers: Sequence[int], generator: torch.Generator) -> Regions:
        """Give the regions of the photos of blanks `numbers`; the last of each is hidden."""
        features = self.cache.read(numbers)
        features = _hide(self.eyes, features, self.hide_encoder, generator)
        grid: CellGrid = self.eyes.encoder.grid
        regions = find_regions(features, grid, self.blocks)
        boxes = torch.tensor([[list(self.blanks[each].box)] for each in numbers])
        return append_boxes(regions, features.annotations, boxes, grid)


def read_in_parts(
    cache: AnnotationCache, grid: CellGrid, blocks: int, count: int | None = None
) -> Iterator[Regions]:
    """Give the regions of all photos of a cache, or the first `count`, some at a time."""
    total = len(cache.paths) if count is None else min(count, len(cache.paths))
    for start in range(0, total, _PART):
        features = cache.read(range(start, min(start + _PART, total)))
        yield find_regions(features, grid, blocks)


def _hide(
    eyes: CaptioningModel, features: ImageFeatures, share: float, generator: torch.Generator
) -> ImageFeatures:
    if not share:
        return features
    hidden = torch.rand(len(features), generator=generator) < share
    return eyes.without_encoder(features, hidden)
