"""What every encoder is: a network cut where its map is 14 x 14, and what is known of it.

Knows no captions and no network by name.

Letters in shapes: see `models`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from models.architectures.grids import GRID_SIZE, Cut, EncoderGrid, Normalization, locate_grid
from models.errors import ConfigError

__all__ = ["Encoder", "EncoderSpec", "resize"]


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What is known of one architecture.

    build: from the stride of a cut to the network with random weights, (B, 3, S, S) to (B, D, 14,
        14).
    cuts: one for each stride.
    offset_pixels: see `Encoder`.
    pretrained: which file has which tensors, <stem>.safetensors by the prefix that their names have
        in the network; a tensor belongs to the first prefix that fits. Empty where no pretrained
        weights exist.
    """

    normalization: Normalization
    cuts: tuple[Cut, ...]
    build: Callable[[int], nn.Module]
    offset_pixels: float
    pretrained: Mapping[str, str]

    @classmethod
    def of(
        cls, grid: EncoderGrid, build: Callable[[int], nn.Module], pretrained: Mapping[str, str]
    ) -> "EncoderSpec":
        """Add to what is known of an encoder how to build it, and its files."""
        return cls(grid.normalization, grid.cuts, build, grid.offset_pixels, pretrained)


class Encoder(nn.Module):
    """Maps images (B, 3, S, S) to annotations (B, L, D) (Xu et al. 2015, section 3.1.1).

    Annotations go row by row over the grid.
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        feature_dim: int,
        stride: int,
        offset_pixels: float,
        size_pixels: int,
    ) -> None:
        """Wrap `body`, which maps (B, 3, S, S) to (B, D, rows, columns).

        A cell is `stride` pixels wide and high. The first one begins `offset_pixels` from the left
        and top edges: convolutions without padding see the rim only from inside.
        """
        super().__init__()
        self.body = body
        self.feature_dim = feature_dim
        self.stride = stride
        self.size_pixels = size_pixels
        self.offset_pixels = offset_pixels
        self.grid_size = GRID_SIZE
        self.grid = locate_grid(stride, offset_pixels, size_pixels)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the annotations; raise ConfigError where the map is not of the announced size."""
        maps: Tensor = self.body(images)  # (B, D, rows, columns)
        if tuple(maps.shape[2:]) != self.grid_size:
            size = tuple(images.shape[2:])
            raise ConfigError(
                f"Pictures of {size} pixels give a {tuple(maps.shape[2:])} grid, not "
                f"{self.grid_size}."
            )
        return maps.flatten(2).transpose(1, 2)  # (B, L, D)


def resize(pixels: Tensor, side: int) -> Tensor:
    """Bring pixels (B, 3, S, S) to (B, 3, side, side) float32, on the same scale."""
    images = pixels.float()
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
