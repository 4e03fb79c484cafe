"""Inverted residuals: what MobileNetV2 and EfficientNet-Lite are made of. Knows no captions.

Sandler et al. 2018 (arXiv 1801.04381). Every batch normalization is folded into the convolution
before it, so training and evaluation mode are the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architectures.lite_scales import Stages

__all__ = ["STRIDE16_SIZES", "STRIDE32_SIZES", "InvertedResiduals", "pad_same"]

STRIDE16_SIZES = range(209, 225)
STRIDE32_SIZES = range(417, 449)
"""The sizes of images, in pixels, whose maps are 14 x 14 at stride 16 and 32."""

STEM_CHANNELS = 32


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zero-pad as TensorFlow's SAME does: the odd row or column goes to the bottom and right."""
    pads: list[int] = []
    for size in (x.shape[3], x.shape[2]):  # width first
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class _InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, and a linear 1x1 projection; ReLU6 after the first two.

    The input is added where neither stride nor width changes.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int,
        expansion: int,
        same: bool,
    ) -> None:
        super().__init__()
        middle = channels_in * max(expansion, 1)
        self.expand = nn.Conv2d(channels_in, middle, 1) if expansion else nn.Identity()
        padding = 0 if same else kernel // 2
        self.depthwise = nn.Conv2d(middle, middle, kernel, stride, padding, groups=middle)
        self.project = nn.Conv2d(middle, channels_out, 1)
        self.expands = bool(expansion)
        self.same = same
        self.kernel = kernel
        self.stride = stride
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        wide = F.relu6(self.expand(x)) if self.expands else x
        if self.same:
            wide = pad_same(wide, self.kernel, self.stride)
        narrow: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + narrow if self.residual else narrow


class InvertedResiduals(nn.Module):
    """A stem and blocks of inverted residuals; the last `depth` decides the stride (16 or 32).

    Stem and first block run in float32 under autocast: their depthwise kernels nearly cancel, and
    bfloat16 loses up to a tenth of the annotation there.
    """

    def __init__(self, stages: Stages, depth: int, *, same: bool) -> None:
        """Build with random weights.

        depth: how many blocks. same: TensorFlow's SAME padding, else symmetric.
        """
        super().__init__()
        self.same = same
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, 2, 0 if same else 1)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for expansion, width, kernel, first_stride, count in stages:
            for index in range(count):
                stride = first_stride if index == 0 else 1
                blocks.append(_InvertedResidual(channels, width, kernel, stride, expansion, same))
                channels = width
        self.blocks = nn.ModuleList(blocks[:depth])

    def forward(self, x: Tensor) -> Tensor:
        """Compute linear maps (B, D, h, w) of images (B, 3, H, W)."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            x = F.relu6(self.stem(pad_same(x, 3, 2) if self.same else x))
            x = self.blocks[0](x)
        for block in self.blocks[1:]:
            x = block(x)
        return x
