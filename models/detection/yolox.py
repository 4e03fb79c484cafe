"""YOLOX-nano: one pass over an image, and for each of 3,549 places a box and what may be in it.

Ge et al. 2021 (arXiv 2107.08430): a CSPDarknet of depthwise convolutions, a feature pyramid that
goes down and up again, and a head that scores classes and boxes apart. Every batch normalization is
folded into the convolution before it, so training and evaluation mode are the same. Knows no
captions, and nothing of what becomes of a box: see `models.detection.boxes`.

Letters in shapes: C channels, N places, K classes; the others as in `models`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.detection.boxes import NUM_CLASSES, fitted_size

__all__ = ["YOLOXNano", "fit_into_square"]

_BACKGROUND = 114.0  # what YOLOX pads its images with
_WIDTHS = (16, 32, 64, 128, 256)  # of the stem and the four stages
_HEAD_WIDTH = 64


class _Conv(nn.Conv2d):
    """A convolution and SiLU; the map keeps its size but for the stride."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


class _SeparableConv(nn.Sequential):
    """A depthwise 3x3 convolution and a 1x1 convolution, each with SiLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            _Conv(channels_in, channels_in, 3, stride, groups=channels_in),
            _Conv(channels_in, channels_out, 1),
        )


class _Bottleneck(nn.Module):
    """A 1x1 and a separable convolution; the input is added where `shortcut` says so."""

    def __init__(self, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.reduce = _Conv(channels, channels, 1)
        self.separable = _SeparableConv(channels, channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.separable(self.reduce(x))
        return x + y if self.shortcut else y


class _CrossStage(nn.Module):
    """Half of the channels goes through bottlenecks, half around them (CSP)."""

    def __init__(
        self, channels_in: int, channels_out: int, blocks: int, *, shortcut: bool = True
    ) -> None:
        super().__init__()
        half = channels_out // 2
        self.through = _Conv(channels_in, half, 1)
        self.around = _Conv(channels_in, half, 1)
        bottlenecks = [_Bottleneck(half, shortcut=shortcut) for _ in range(blocks)]
        self.blocks = nn.Sequential(*bottlenecks)
        self.join = _Conv(2 * half, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        through = self.through(x)
        around = self.around(x)
        joined: Tensor = self.join(torch.cat([self.blocks(through), around], dim=1))
        return joined


class _PyramidPooling(nn.Module):
    """The map beside its maxima over 5, 9 and 13 cells (SPP)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = _Conv(channels, channels // 2, 1)
        self.join = _Conv(channels * 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.reduce(x)
        pooled = [F.max_pool2d(narrow, size, 1, size // 2) for size in (5, 9, 13)]
        joined: Tensor = self.join(torch.cat([narrow, *pooled], dim=1))
        return joined


class _Backbone(nn.Module):
    """Images (B, 3, H, W) to maps at strides 8, 16 and 32: (B, 64 | 128 | 256, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        stem, second, third, fourth, fifth = _WIDTHS
        self.stem = _Conv(12, stem, 3)
        self.stage2 = nn.Sequential(_SeparableConv(stem, second, 2), _CrossStage(second, second, 1))
        self.stage3 = nn.Sequential(_SeparableConv(second, third, 2), _CrossStage(third, third, 3))
        self.stage4 = nn.Sequential(
            _SeparableConv(third, fourth, 2), _CrossStage(fourth, fourth, 3)
        )
        self.stage5 = nn.Sequential(
            _SeparableConv(fourth, fifth, 2),
            _PyramidPooling(fifth),
            _CrossStage(fifth, fifth, 1, shortcut=False),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        stride8 = self.stage3(self.stage2(self.stem(_space_to_depth(images))))
        stride16 = self.stage4(stride8)
        return stride8, stride16, self.stage5(stride16)


class _Pyramid(nn.Module):
    """What coarse maps know goes down to the fine ones, and up again (PAN)."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = _WIDTHS[2:]
        self.narrow_coarse = _Conv(coarse, middle, 1)
        self.down_middle = _CrossStage(2 * middle, middle, 1, shortcut=False)
        self.narrow_middle = _Conv(middle, fine, 1)
        self.down_fine = _CrossStage(2 * fine, fine, 1, shortcut=False)
        self.halve_fine = _SeparableConv(fine, fine, 2)
        self.up_middle = _CrossStage(2 * fine, middle, 1, shortcut=False)
        self.halve_middle = _SeparableConv(middle, middle, 2)
        self.up_coarse = _CrossStage(2 * middle, coarse, 1, shortcut=False)

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> list[Tensor]:
        narrow_coarse = self.narrow_coarse(coarse)
        down_middle = self.down_middle(torch.cat([_double(narrow_coarse), middle], dim=1))
        narrow_middle = self.narrow_middle(down_middle)
        out_fine = self.down_fine(torch.cat([_double(narrow_middle), fine], dim=1))
        out_middle = self.up_middle(torch.cat([self.halve_fine(out_fine), narrow_middle], dim=1))
        halved = self.halve_middle(out_middle)
        out_coarse = self.up_coarse(torch.cat([halved, narrow_coarse], dim=1))
        return [out_fine, out_middle, out_coarse]


class _Head(nn.Module):
    """Scores each cell of one map: (B, C, h, w) to (B, 5 + K, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = _HEAD_WIDTH
        self.stem = _Conv(channels, width, 1)
        self.class_convs = nn.Sequential(_SeparableConv(width, width), _SeparableConv(width, width))
        self.classes = nn.Conv2d(width, NUM_CLASSES, 1)
        self.box_convs = nn.Sequential(_SeparableConv(width, width), _SeparableConv(width, width))
        self.box = nn.Conv2d(width, 4, 1)
        self.objectness = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        classes = self.classes(self.class_convs(stem)).sigmoid()
        boxes = self.box_convs(stem)
        return torch.cat([self.box(boxes), self.objectness(boxes).sigmoid(), classes], dim=1)


class YOLOXNano(nn.Module):
    """YOLOX-nano: 0.9 million parameters, the 80 classes of COCO."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.backbone = _Backbone()
        self.pyramid = _Pyramid()
        self.heads = nn.ModuleList([_Head(channels) for channels in _WIDTHS[2:]])

    def forward(self, images: Tensor) -> Tensor:
        """Score every place of images (B, 3, H, W), BGR on the 0..255 scale: (B, N, 5 + K).

        H and W are multiples of 32. Of each place: x, y, w, h before they are placed on the image
        (`models.detection.boxes`), objectness, and a score for each class, from 0 to 1. Places go
        row by row over the map of each stride in turn.
        """
        maps = self.pyramid(*self.backbone(images))
        scored = [head(each).flatten(2) for head, each in zip(self.heads, maps, strict=True)]
        return torch.cat(scored, dim=2).transpose(1, 2)


def fit_into_square(image: Tensor, width: int, height: int, size_pixels: int) -> Tensor:
    """Undo the squeezing of an image, and lay it into the top left of a gray square.

    image: (3, S, S), RGB on the 0..255 scale, of a file of `width` x `height` pixels. Gives
    (3, size_pixels, size_pixels) float32, BGR, as YOLOX was trained on.
    """
    columns, rows = fitted_size(width, height, size_pixels)
    fitted = F.interpolate(
        image.flip(0)[None].float(), size=(rows, columns), mode="bilinear", antialias=True
    )
    square = fitted.new_full((3, size_pixels, size_pixels), _BACKGROUND)
    square[:, :rows, :columns] = fitted[0]
    return square


def _space_to_depth(images: Tensor) -> Tensor:
    """Put each 2x2 square of pixels into channels: (B, 3, H, W) to (B, 12, H / 2, W / 2)."""
    columns = (images[..., ::2], images[..., 1::2])
    squares = [side[..., row::2, :] for side in columns for row in (0, 1)]
    return torch.cat(squares, dim=1)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
