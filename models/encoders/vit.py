"""A Vision Transformer: an image as a row of patches. Knows no captions.

Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021 (arXiv 2010.11929), section 3.1, equations
1 to 4, without the class token: every patch is an annotation. Letters in shapes: see `models`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoders.base import Cut, EncoderSpec, Normalization
from models.errors import ConfigError
from models.multihead_attention import MultiHeadAttention, init_xavier_

__all__ = ["SPEC", "VisionTransformer"]


class _Block(nn.Module):
    """Self-attention (equation 2), then an MLP of four times the width (equation 3), pre-norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        x_norm = self.attention_norm(x)
        x = x + self.attention(x_norm, self.attention.project_keys(x_norm))[0]
        return x + self.contract(F.gelu(self.expand(self.feedforward_norm(x))))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Maps images (B, 3, S, S) of grid x grid patches to maps (B, width, grid, grid).

    It has no dropout, so training and evaluation mode are the same. Every patch sees the whole
    image: a cell's features are not of its own pixels alone.
    """

    def __init__(self, *, width: int, patch: int, depth: int, heads: int, grid: int) -> None:
        """Build with random weights: `depth` blocks, for patches of `patch` x `patch` pixels."""
        super().__init__()
        self.grid = grid
        # E of equation 1: one linear projection per patch
        self.patches = nn.Conv2d(3, width, patch, patch)
        # E_pos of equation 1, learnt
        self.positions = nn.Parameter(torch.empty(grid * grid, width))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)  # equation 4
        nn.init.trunc_normal_(self.positions, std=0.02)
        init_xavier_(self.blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the map of the last block, normalized.

        Raises ConfigError for images of another size.
        """
        patches = self.patches(images)  # (B, D, rows, columns)
        grid_size = (self.grid, self.grid)
        if tuple(patches.shape[2:]) != grid_size:
            raise ConfigError(
                f"Pictures of {tuple(images.shape[2:])} pixels give a {tuple(patches.shape[2:])} "
                f"grid, not {grid_size}: a place was learnt for each of those patches alone."
            )
        x = self.blocks(patches.flatten(2).transpose(1, 2) + self.positions)  # (B, L, D)
        maps: Tensor = self.norm(x).transpose(1, 2).unflatten(2, grid_size)
        return maps


SPEC = EncoderSpec(
    normalization=Normalization((127.5,) * 3, (127.5,) * 3),
    cuts=(Cut(range(224, 225), feature_dim=256, stride=16),),
    build=lambda stride: VisionTransformer(width=256, patch=stride, depth=6, heads=4, grid=14),
    offset_pixels=0.0,
    pretrained={},
)
