"""A Vision Transformer: pictures as rows of patches, without a convolutional network. Knows nothing
of captions.

Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021 (arXiv 2010.11929), section 3.1, equations
1 to 4, without the class token: every patch is an annotation. B pictures, L patches, D features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ConfigError
from models.multihead_attention import MultiHeadAttention, init_xavier_

__all__ = ["VisionTransformer"]

_FEATURES, _DEPTH, _HEADS, _PATCH, _GRID = 256, 6, 4, 16, 14


class _Block(nn.Module):
    """Self-attention (equation 2), then an MLP of four times the width (equation 3), each
    normalized before."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.feedforward_norm = (
            nn.LayerNorm(_FEATURES),
            nn.LayerNorm(_FEATURES),
        )
        self.attention = MultiHeadAttention(_FEATURES, _HEADS)
        self.expand, self.contract = (
            nn.Linear(_FEATURES, 4 * _FEATURES),
            nn.Linear(4 * _FEATURES, _FEATURES),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        x_norm = self.attention_norm(x)
        x = x + self.attention(x_norm, self.attention.project_keys(x_norm))[0]
        return x + self.contract(F.gelu(self.expand(self.feedforward_norm(x))))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Images (B, 3, 224, 224) to maps (B, 256, 14, 14); without dropout, so that both modes are the
    same.

    Every patch sees the whole picture: a cell's features are not of its 16 x 16 pixels alone.
    """

    feature_dim = _FEATURES
    stride = _PATCH

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.patches = nn.Conv2d(
            3, _FEATURES, _PATCH, _PATCH
        )  # E of equation 1: one linear projection per patch
        self.positions = nn.Parameter(
            torch.empty(_GRID * _GRID, _FEATURES)
        )  # E_pos of equation 1, learnt
        self.blocks = nn.Sequential(*(_Block() for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(_FEATURES)  # equation 4
        nn.init.trunc_normal_(self.positions, std=0.02)
        init_xavier_(self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Give the last block's map, normalized; raise ConfigError for pictures of another size."""
        patches = self.patches(x)  # (B, D, rows, columns)
        if tuple(patches.shape[2:]) != (_GRID, _GRID):
            raise ConfigError(
                f"Pictures of {tuple(x.shape[2:])} pixels give a {tuple(patches.shape[2:])} grid, "
                f"not {(_GRID, _GRID)}: a place was learnt for each of those patches alone."
            )
        annotations = self.norm(
            self.blocks(patches.flatten(2).transpose(1, 2) + self.positions)
        )  # (B, L, D)
        maps: Tensor = annotations.transpose(1, 2).unflatten(2, (_GRID, _GRID))
        return maps
