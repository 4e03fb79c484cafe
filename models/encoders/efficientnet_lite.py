"""EfficientNet-Lite0, -Lite1 and -Lite2, with or without their ImageNet classifier.

Knows no captions. Tan and Le 2019 (arXiv 1905.11946): one network, made wider and deeper by a rule;
Lite: ReLU6, no squeeze-and-excitation. TensorFlow's SAME padding.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from models.architectures.grids import LITE_NORMALIZATION, Cut
from models.architectures.lite_scales import LITE0, LITE1, LITE2, LiteScale
from models.encoders.base import EncoderSpec
from models.encoders.inverted_residuals import (
    STRIDE16_SIZES,
    STRIDE32_SIZES,
    InvertedResiduals,
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
        normalization=LITE_NORMALIZATION,
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
