"""The tagger: which objects and concepts an image shows, how surely, and where.

Objects are YOLOX-nano's detections (Anderson et al. 2018 attend to such), concepts the likeliest
classes of an EfficientNet-Lite2 (You et al. 2016 attend to such), placed where they were seen by
class activation (Zhou et al. 2016). Knows no captions and no words.

Letters in shapes: W tags of an image, K classes; the others as in `models`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.config import TaggerConfig
from models.detection.boxes import Detection, find_objects
from models.detection.yolox import SIZE_PIXELS, STRIDES, YOLOXNano
from models.encoders.base import resize
from models.encoders.efficientnet_lite import (
    EFFICIENTNET_LITE2,
    LITE2,
    EfficientNetLiteClassifier,
)
from models.features import TAG_FIELDS, Tags, covered_shares, places_of_boxes
from models.geometry import WHOLE_IMAGE, CellGrid
from models.tagging.classes import FIRST_CONCEPT

__all__ = ["Sighting", "Tagger", "concepts_as_tags", "objects_as_tags"]

# Of the highest class activation of a concept: cells below are not where it was seen (section 3.2
# of Zhou et al. 2016).
_LEAST_ACTIVATION = 0.2
# The classifier's features spread 12 times as wide as Inception's; one layer norm weighs both.
_SCALE = 1 / 12


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
        return objects_as_tags(scores, self.config, self.grid)

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
            laid = _SCALE * self._lay_over_grid(features.float())
        concepts = concepts_as_tags(likeliest.indices, likeliest.values, places, self.config)
        return Sighting(concepts, laid)

    def _lay_over_grid(self, features: Tensor) -> Tensor:
        """Average features (B, D, h, w) over each cell of the grid: (B, L, D)."""
        down, across = (each / each.sum(dim=1, keepdim=True) for each in self._overlaps(features))
        return (down @ features @ across.T).flatten(2).transpose(1, 2)

    def _overlaps(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Give the shares of the grid's rows and columns that those of maps (..., h, w) cover.

        (rows, h) and (columns, w).
        """
        left, top, right, bottom = self.grid.box
        down = covered_shares(_sides(maps, -2), top, bottom, self.grid.rows)
        across = covered_shares(_sides(maps, -1), left, right, self.grid.columns)
        return down.T, across.T

    def _place(self, maps: Tensor, classes: Tensor) -> Tensor:
        """Give where classes (B, W) were seen in maps (B, C, h, w): (B, W, L), sums to 1."""
        weights = self.classifier.classifier.weight.float()[classes]  # (B, W, C)
        activation = torch.einsum("bwc,bchx->bwhx", weights, maps)
        highest = activation.amax(dim=(2, 3), keepdim=True)
        seen = (activation - _LEAST_ACTIVATION * highest).clamp(min=0.0)
        down, across = self._overlaps(seen)
        placed = (down @ seen @ across.T).flatten(2)  # (B, W, L)
        total = placed.sum(dim=2, keepdim=True)
        return torch.where(total > 0, placed / total.clamp(min=1e-6), 1 / placed.shape[2])


def objects_as_tags(scores: Tensor, config: TaggerConfig, grid: CellGrid) -> Tags:
    """Make tags of what the detector gives of B squeezed images, scores (B, N, 5 + K)."""
    found = find_objects(
        scores,
        [(SIZE_PIXELS, SIZE_PIXELS)] * len(scores),
        size_pixels=SIZE_PIXELS,
        strides=STRIDES,
        min_score=config.min_score,
        max_overlap=config.max_overlap,
        max_objects=config.max_objects,
    )
    values = torch.stack([_pad_objects(each, config.max_objects) for each in found])
    classes, sure, boxes = values.to(scores.device).split([1, 1, 4], dim=2)
    places = places_of_boxes(boxes, grid) * (sure > 0)
    return Tags.pack(classes.squeeze(2), sure.squeeze(2), boxes, places)


def concepts_as_tags(
    classes: Tensor, probabilities: Tensor, places: Tensor, config: TaggerConfig
) -> Tags:
    """Make tags of the likeliest classes of B images (B, W), where the classifier saw each.

    probabilities: (B, W). places: (B, W, L).
    """
    scores = probabilities * (probabilities >= config.min_probability)
    boxes = scores.new_tensor(WHOLE_IMAGE).expand(*scores.shape, 4)
    present = (scores > 0).unsqueeze(2)
    return Tags.pack(classes + FIRST_CONCEPT, scores, boxes, places * present)


def _pad_objects(found: list[Detection], count: int) -> Tensor:
    """Lay one image's objects out as (count, 6): class, score, box; zeros where there are fewer."""
    rows = [[float(each.category), each.score, *each.box] for each in found]
    rows += [[0.0] * 6] * (count - len(rows))
    return torch.tensor(rows).view(count, 6)


def _sides(maps: Tensor, dim: int) -> Tensor:
    """Give where each row or column of maps begins and ends, even over the image: (cells, 2)."""
    borders = torch.linspace(0.0, 1.0, maps.shape[dim] + 1, device=maps.device)
    return torch.stack([borders[:-1], borders[1:]], dim=1)
