"""Augmentation of training pictures that keeps their captions true. Knows no captions but
whether a flip is allowed."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["augment", "mirror"]

_FLIP_PROBABILITY = 0.5
_ZOOM = (
    0.85,
    1.1,
)  # the side of the window, as a share of the picture's; above 1 shows its edge repeated
_BRIGHTNESS = 0.2
_CONTRAST = 0.2


def mirror(pixels: Tensor) -> Tensor:
    """Swap left and right of pictures (..., W)."""
    return pixels.flip(-1)


def augment(pixels: Tensor, flippable: Tensor, generator: torch.Generator) -> Tensor:
    """Flip, zoom and recolor uint8 pictures (B, 3, H, W) a little, each by its own draw; uint8
    again.

    Only pictures marked in `flippable` (B,) are ever mirrored: a caption that says left or right
    must stay true.
    """
    count = pixels.shape[0]
    draws = torch.rand(count, 7, generator=generator)
    flip = (draws[:, 0] < _FLIP_PROBABILITY) & flippable
    pixels = torch.where(flip.view(-1, 1, 1, 1).to(pixels.device), mirror(pixels), pixels)
    picture = _zoom(pixels.float(), draws[:, 1:5])
    brightness = (1 + _BRIGHTNESS * (2 * draws[:, 5] - 1)).view(-1, 1, 1, 1).to(picture.device)
    contrast = (1 + _CONTRAST * (2 * draws[:, 6] - 1)).view(-1, 1, 1, 1).to(picture.device)
    middle = picture.mean(dim=(1, 2, 3), keepdim=True)
    picture = ((picture - middle) * contrast + middle) * brightness
    return picture.round().clamp(0, 255).to(torch.uint8)


def _zoom(picture: Tensor, draws: Tensor) -> Tensor:
    """Show a window of each picture; draws (B, 4) in [0, 1): size, aspect, and place, which
    keeps it inside."""
    low, high = _ZOOM
    side = low + (high - low) * draws[:, 0]
    stretch = torch.exp(math.log(1.1) * (2 * draws[:, 1] - 1))
    width, height = side * stretch.sqrt(), side / stretch.sqrt()
    shift_x = (2 * draws[:, 2] - 1) * (1 - width).abs()
    shift_y = (2 * draws[:, 3] - 1) * (1 - height).abs()
    zero = torch.zeros_like(width)
    theta = torch.stack(
        [torch.stack([width, zero, shift_x], dim=1), torch.stack([zero, height, shift_y], dim=1)],
        dim=1,
    ).to(picture.device)  # (B, 2, 3)
    grid = F.affine_grid(theta, list(picture.shape), align_corners=False)
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)
