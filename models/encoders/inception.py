"""Inception-v3 up to Mixed_6e. Knows no captions.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015 (arXiv
1512.00567). Every batch normalization is folded into the convolution before it, so training and
evaluation mode are the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.architectures.grids import INCEPTION
from models.encoders.base import EncoderSpec

__all__ = ["SPEC", "InceptionV3"]

Kernel = int | tuple[int, int]


class _ConvReLU(nn.Conv2d):
    """A convolution with bias, then ReLU; `same` keeps height and width."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: Kernel,
        stride: int = 1,
        same: bool = True,
    ) -> None:
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if same else 0
        super().__init__(channels_in, channels_out, (height, width), stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x), inplace=True)


def _smooth(x: Tensor) -> Tensor:
    """3x3 mean of the same size; at the border over the pixels that are there."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class _Mixed5(nn.Module):
    """35x35 block (figure 5): 1x1, 5x5, double 3x3, and pooled 1x1 side by side."""

    def __init__(self, channels_in: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _ConvReLU(channels_in, 64, 1)
        self.branch5x5_1 = _ConvReLU(channels_in, 48, 1)
        self.branch5x5_2 = _ConvReLU(48, 64, 5)
        self.branch3x3dbl_1 = _ConvReLU(channels_in, 64, 1)
        self.branch3x3dbl_2 = _ConvReLU(64, 96, 3)
        self.branch3x3dbl_3 = _ConvReLU(96, 96, 3)
        self.branch_pool = _ConvReLU(channels_in, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.branch5x5_2(self.branch5x5_1(x))
        deep = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), wide, deep, self.branch_pool(_smooth(x))], dim=1)


class _Mixed6a(nn.Module):
    """Halves the grid without padding (figure 10): strided 3x3, double 3x3, max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3 = _ConvReLU(288, 384, 3, stride=2, same=False)
        self.branch3x3dbl_1 = _ConvReLU(288, 64, 1)
        self.branch3x3dbl_2 = _ConvReLU(64, 96, 3)
        self.branch3x3dbl_3 = _ConvReLU(96, 96, 3, stride=2, same=False)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), deep, F.max_pool2d(x, 3, stride=2)], dim=1)


class _Mixed6(nn.Module):
    """17x17 block (figure 6): 7x7 convolutions as rows (1, 7) and columns (7, 1)."""

    def __init__(self, middle: int) -> None:
        super().__init__()
        row = (1, 7)
        column = (7, 1)
        self.branch1x1 = _ConvReLU(768, 192, 1)
        self.branch7x7_1 = _ConvReLU(768, middle, 1)
        self.branch7x7_2 = _ConvReLU(middle, middle, row)
        self.branch7x7_3 = _ConvReLU(middle, 192, column)
        self.branch7x7dbl_1 = _ConvReLU(768, middle, 1)
        self.branch7x7dbl_2 = _ConvReLU(middle, middle, column)
        self.branch7x7dbl_3 = _ConvReLU(middle, middle, row)
        self.branch7x7dbl_4 = _ConvReLU(middle, middle, column)
        self.branch7x7dbl_5 = _ConvReLU(middle, 192, row)
        self.branch_pool = _ConvReLU(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        deep = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        deep = self.branch7x7dbl_5(self.branch7x7dbl_4(deep))
        return torch.cat([self.branch1x1(x), wide, deep, self.branch_pool(_smooth(x))], dim=1)


class InceptionV3(nn.Module):
    """Maps images (B, 3, H, W) to non-negative maps (B, 768, h, w); 251 to 266 pixels give 14 x 14.

    The stem except conv2b, the strided convolutions and the max pools have no padding; all other
    layers keep the size.
    """

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.conv1a = _ConvReLU(3, 32, 3, stride=2, same=False)
        self.conv2a = _ConvReLU(32, 32, 3, same=False)
        self.conv2b = _ConvReLU(32, 64, 3)
        self.conv3b = _ConvReLU(64, 80, 1)
        self.conv4a = _ConvReLU(80, 192, 3, same=False)
        self.mixed5b = _Mixed5(192, 32)
        self.mixed5c = _Mixed5(256, 64)
        self.mixed5d = _Mixed5(288, 64)
        self.mixed6a = _Mixed6a()
        self.mixed6b = _Mixed6(128)
        self.mixed6c = _Mixed6(160)
        self.mixed6d = _Mixed6(160)
        self.mixed6e = _Mixed6(192)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map of Mixed_6e."""
        x = self.conv2b(self.conv2a(self.conv1a(x)))
        x = self.conv4a(self.conv3b(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.mixed5d(self.mixed5c(self.mixed5b(x)))
        x = self.mixed6a(x)
        return self.mixed6e(self.mixed6d(self.mixed6c(self.mixed6b(x))))  # type: ignore[no-any-return]


SPEC = EncoderSpec.of(INCEPTION, lambda _stride: InceptionV3(), {"": "inception_v3"})
