"""MobileNetV2: inverted residuals, small enough for a CPU. Knows no captions.

Sandler et al. 2018 (arXiv 1801.04381).
"""

from models.architectures.grids import Cut, Normalization
from models.architectures.lite_scales import Stages
from models.encoders.base import EncoderSpec
from models.encoders.inverted_residuals import (
    STRIDE16_SIZES,
    STRIDE32_SIZES,
    InvertedResiduals,
)

__all__ = ["MOBILENET_V2", "MobileNetV2"]


class MobileNetV2(InvertedResiduals):
    """MobileNetV2 1.0: 96 channels at stride 16, or 320 at stride 32. Symmetric padding."""

    def __init__(self, stride: int) -> None:
        """Build with random weights, cut at `stride` 16 or 32."""
        stages: Stages = ((0, 16, 3, 1, 1), (6, 24, 3, 2, 2), (6, 32, 3, 2, 3), (6, 64, 3, 2, 4))
        stages += ((6, 96, 3, 1, 3), (6, 160, 3, 2, 3), (6, 320, 3, 1, 1))
        super().__init__(stages, {16: 13, 32: 17}[stride], same=False)


MOBILENET_V2 = EncoderSpec(
    normalization=Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    cuts=(Cut(STRIDE16_SIZES, 96, 16), Cut(STRIDE32_SIZES, 320, 32)),
    build=MobileNetV2,
    offset_pixels=0.0,
    pretrained={"": "mobilenet_v2"},
)
