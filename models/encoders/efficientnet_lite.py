"""EfficientNet-Lite0, -Lite1 and -Lite2, with or without their ImageNet classifier.

Knows no captions. Tan and Le 2019 (arXiv 1905.11946): one network, made wider and deeper by a rule;
Lite: ReLU6, no squeeze-and-excitation. TensorFlow's SAME padding.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders.base import Cut, EncoderSpec, Normalization
from models.encoders.inverted_residuals import (
    STRIDE16_SIZES,
    STRIDE32_SIZES,
    InvertedResiduals,
    Stages,
)

__all__ = [
    "EFFICIENTNET_LITE0",
    "EFFICIENTNET_LITE1",
    "EFFICIENTNET_LITE2",
    "LITE0",
    "LITE1",
    "LITE2",
    "EfficientNetLite",
    "EfficientNetLiteClassifier",
    "LiteScale",
]

IMAGENET_CLASSES = 1000
_HEAD_CHANNELS = 1280
_WIDTH_DIVISOR = 8
_LITE0_STAGES: Stages = (
    (0, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)


@dataclass(frozen=True, slots=True)
class LiteScale:
    """How much wider and deeper than Lite0 a network is, and the size that it classifies.

    classify_pixels: the side of the images that its classifier was trained on.
    """

    width: float
    depth: float
    classify_pixels: int

    @property
    def stages(self) -> Stages:
        """Lite0's stages, scaled; the first and the last keep their one block."""
        first, *middle, last = _LITE0_STAGES
        repeated = [
            (expansion, self._channels(channels), kernel, stride, math.ceil(blocks * self.depth))
            for expansion, channels, kernel, stride, blocks in middle
        ]
        ends = [(*stage[:1], self._channels(stage[1]), *stage[2:]) for stage in (first, last)]
        return (ends[0], *repeated, ends[1])

    def _channels(self, channels: int) -> int:
        """Scale a width to a multiple of 8, not below nine tenths (section 5 of the code)."""
        scaled = channels * self.width
        rounded = max(_WIDTH_DIVISOR, int(scaled + _WIDTH_DIVISOR / 2) // 8 * 8)
        return rounded if rounded >= 0.9 * scaled else rounded + _WIDTH_DIVISOR


LITE0 = LiteScale(width=1.0, depth=1.0, classify_pixels=224)
LITE1 = LiteScale(width=1.0, depth=1.1, classify_pixels=240)
LITE2 = LiteScale(width=1.1, depth=1.2, classify_pixels=260)


class EfficientNetLite(InvertedResiduals):
    """The network cut at a stride of 16 (before the sixth stage) or 32 (after the last)."""

    def __init__(self, scale: LiteScale, stride: int) -> None:
        """Build with random weights."""
        stages = scale.stages
        kept = {16: stages[:5], 32: stages}[stride]
        super().__init__(stages, sum(stage[-1] for stage in kept), same=True)


class EfficientNetLiteClassifier(nn.Module):
    """The whole network: images to the scores of ImageNet's 1,000 classes."""

    def __init__(self, scale: LiteScale) -> None:
        """Build with random weights."""
        super().__init__()
        self.body = EfficientNetLite(scale, 32)
        self.head = nn.Conv2d(scale.stages[-1][1], _HEAD_CHANNELS, 1)
        self.classifier = nn.Linear(_HEAD_CHANNELS, IMAGENET_CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Classify images (B, 3, S, S): logits (B, 1000), and the map before pooling.

        The map is (B, 1280, h, w); the classifier applied to one of its cells tells what was seen
        there (class activation, Zhou et al. 2016, arXiv 1512.04150).
        """
        return self.classify(self.body(images))

    def classify(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Classify what the body gives, (B, D, h, w); as `forward`."""
        maps = F.relu6(self.head(features))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits, maps


def _spec(scale: LiteScale, stem: str) -> EncoderSpec:
    stages = scale.stages
    return EncoderSpec(
        normalization=Normalization((127.0,) * 3, (128.0,) * 3),
        cuts=(
            Cut(STRIDE16_SIZES, stages[4][1], 16),
            Cut(STRIDE32_SIZES, stages[-1][1], 32),
        ),
        build=partial(EfficientNetLite, scale),
        offset_pixels=0.0,
        pretrained={"": stem},
    )


EFFICIENTNET_LITE0 = _spec(LITE0, "efficientnet_lite0")
EFFICIENTNET_LITE1 = _spec(LITE1, "efficientnet_lite1")
EFFICIENTNET_LITE2 = _spec(LITE2, "efficientnet_lite2")
