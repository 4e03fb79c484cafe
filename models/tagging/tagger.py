"""The tagger: which objects and concepts an image shows, how surely, and where.

Objects are YOLOX-nano's detections (Anderson et al. 2018 attend to such), concepts the likeliest
classes of an EfficientNet-Lite2 (You et al. 2016 attend to such), placed where they were seen by
class activation (Zhou et al. 2016). Knows no captions and no words.

Letters in shapes: W tags of an image, K classes; the others as in `models`.
"""

from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.array_features import TAG_FIELDS, TagArrays
from models.config import TaggerConfig
from models.detection.boxes import SIZE_PIXELS
from models.detection.yolox import YOLOXNano
from models.encoders.base import resize
from models.encoders.efficientnet_lite import (
    EFFICIENTNET_LITE2,
    LITE2,
    EfficientNetLiteClassifier,
)
from models.features import Tags
from models.geometry import CellGrid
from models.tagging.found import (
    CLASSIFIER_SCALE,
    LEAST_ACTIVATION,
    concepts_as_tags,
    objects_as_tags,
    shares_of_parts,
)

__all__ = ["Sighting", "Tagger"]


class Sighting(NamedTuple):
    """What the tagger saw: tags, and maps (B, L, D), the classifier's features on the grid."""

    tags: Tags
    maps: Tensor


class Tagger(nn.Module):
    """A detector and a classifier, both as published; neither learns from captions."""

    feature_dim = LITE2.stages[-1][1]

    def __init__(self, config: TaggerConfig, grid: CellGrid) -> None:
        """Build with random weights.

        grid: that of the annotations, on whose cells the tags are placed.
        """
        super().__init__()
        self.config = config
        self.grid = grid
        self.detector = YOLOXNano()
        self.classifier = EfficientNetLiteClassifier(LITE2)

    @property
    def tags_shape(self) -> tuple[int, int]:
        """The shape of one image's `Tags.values`."""
        locations = self.grid.rows * self.grid.columns
        return self.config.max_objects + self.config.max_concepts, TAG_FIELDS + locations

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Sighting:
        """Tag images: pixels (B, 3, S, S) uint8 RGB, W = max_objects + max_concepts each."""
        objects = self.find_objects(pixels)
        concepts, maps = self.find_concepts(pixels)
        return Sighting(Tags(torch.cat([objects.values, concepts.values], dim=1)), maps)

    def find_objects(self, pixels: Tensor) -> Tags:
        """Detect the objects of pixels (B, 3, S, S) uint8 RGB, the surest first.

        The image stays squeezed to a square, as the encoder sees it.
        """
        images = resize(pixels, SIZE_PIXELS).flip(1)  # BGR
        scores = self.detector(images.contiguous(memory_format=torch.channels_last)).float()
        return _on(pixels.device, objects_as_tags(_array(scores), self.config, self.grid))

    def find_concepts(self, pixels: Tensor) -> Sighting:
        """Classify pixels (B, 3, S, S) uint8 RGB: the likeliest classes above `min_probability`."""
        normalization = EFFICIENTNET_LITE2.normalization
        images = resize(pixels, LITE2.classify_pixels)
        images = (images - normalization.mean[0]) / normalization.std[0]
        features = self.classifier.body(images.contiguous(memory_format=torch.channels_last))
        logits, maps = self.classifier.classify(features)
        likeliest = logits.float().softmax(dim=1).topk(self.config.max_concepts, dim=1)
        with torch.autocast(pixels.device.type, enabled=False):
            places = self._place(maps.float(), likeliest.indices)
            laid = CLASSIFIER_SCALE * self._lay_over_grid(features.float())
        concepts = concepts_as_tags(
            _array(likeliest.indices), _array(likeliest.values), _array(places), self.config
        )
        return Sighting(_on(pixels.device, concepts), laid)

    def _lay_over_grid(self, features: Tensor) -> Tensor:
        """Average features (B, D, h, w) over each cell of the grid: (B, L, D)."""
        down, across = (each / each.sum(dim=1, keepdim=True) for each in self._overlaps(features))
        return (down @ features @ across.T).flatten(2).transpose(1, 2)

    def _overlaps(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Give the shares of the grid's rows and columns that those of maps (..., h, w) cover.

        (rows, h) and (columns, w).
        """
        left, top, right, bottom = self.grid.box
        down = shares_of_parts(maps.shape[-2], top, bottom, self.grid.rows)
        across = shares_of_parts(maps.shape[-1], left, right, self.grid.columns)
        rows, columns = (torch.from_numpy(each.T).to(maps.device) for each in (down, across))
        return rows, columns

    def _place(self, maps: Tensor, classes: Tensor) -> Tensor:
        """Give where classes (B, W) were seen in maps (B, C, h, w): (B, W, L), sums to 1."""
        weights = self.classifier.classifier.weight.float()[classes]  # (B, W, C)
        activation = torch.einsum("bwc,bchx->bwhx", weights, maps)
        highest = activation.amax(dim=(2, 3), keepdim=True)
        seen = (activation - LEAST_ACTIVATION * highest).clamp(min=0.0)
        down, across = self._overlaps(seen)
        placed = (down @ seen @ across.T).flatten(2)  # (B, W, L)
        total = placed.sum(dim=2, keepdim=True)
        return torch.where(total > 0, placed / total.clamp(min=1e-6), 1 / placed.shape[2])


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def _on(device: torch.device, tags: TagArrays) -> Tags:
    return Tags(torch.from_numpy(tags.values).to(device))
