"""Augmentation of training images that keeps their captions true; and a part of one, hidden.

Knows of captions only whether a flip is allowed.

B images of H x W pixels.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.geometry import Box

__all__ = ["augment", "blank", "mirror"]

_FLIP_PROBABILITY = 0.5
# the side of the window, as a share of the image's; above 1 the image's edge is repeated
_ZOOM = (0.85, 1.1)
_BRIGHTNESS = 0.2
_CONTRAST = 0.2
_GRAY = 127


def mirror(pixels: Tensor) -> Tensor:
    """Swap left and right of images (..., W)."""
    return pixels.flip(-1)


def augment(pixels: Tensor, flippable: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, zoom and recolor images (B, 3, H, W) uint8 a little, each by its own draw; uint8 again.

    Only images marked in `flippable` (B,) are ever mirrored: a caption that says left or right must
    stay true.
    """
    draws = torch.rand(pixels.shape[0], 7, generator=generator)
    flip = (draws[:, 0] < _FLIP_PROBABILITY) & flippable
    pixels = torch.where(flip.view(-1, 1, 1, 1).to(pixels.device), mirror(pixels), pixels)
    images = _zoom(pixels.float(), draws[:, 1:5])
    brightness = (1 + _BRIGHTNESS * (2 * draws[:, 5] - 1)).view(-1, 1, 1, 1).to(images.device)
    contrast = (1 + _CONTRAST * (2 * draws[:, 6] - 1)).view(-1, 1, 1, 1).to(images.device)
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = ((images - middle) * contrast + middle) * brightness
    return images.round().clamp(0, 255).to(torch.uint8)


def blank(pixels: Tensor, boxes: Sequence[Box]) -> Tensor:
    """Make what lies in a box of each image (B, 3, H, W) uint8 gray, before any network sees it.

    Su et al. 2020, section 3.3: else the features of the rest would tell what lies there. Gray is
    what normalization makes about zero. A pixel that the box covers in part is hidden too.
    """
    height, width = pixels.shape[2:]
    hidden = pixels.clone()
    for image, box in zip(hidden, boxes, strict=True):
        left, top, right, bottom = box.in_pixels(width, height)
        rows = slice(max(math.floor(top), 0), math.ceil(bottom))
        columns = slice(max(math.floor(left), 0), math.ceil(right))
        image[:, rows, columns] = _GRAY
    return hidden


def _zoom(images: Tensor, draws: Tensor) -> Tensor:
    """Show a window of each image.

    draws (B, 4) in [0, 1): the window's size, its aspect, and its place, which keeps it inside.
    """
    low, high = _ZOOM
    side = low + (high - low) * draws[:, 0]
    stretch = torch.exp(math.log(1.1) * (2 * draws[:, 1] - 1))
    width = side * stretch.sqrt()
    height = side / stretch.sqrt()
    shift_x = (2 * draws[:, 2] - 1) * (1 - width).abs()
    shift_y = (2 * draws[:, 3] - 1) * (1 - height).abs()
    zero = torch.zeros_like(width)
    across = torch.stack([width, zero, shift_x], dim=1)
    down = torch.stack([zero, height, shift_y], dim=1)
    theta = torch.stack([across, down], dim=1).to(images.device)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
