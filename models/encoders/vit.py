"""A Vision Transformer: an image as a row of patches. Knows no captions.

Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021 (arXiv 2010.11929), section 3.1, equations
1 to 4: every patch is an annotation, the class token is none. Two of them: a small one without it,
for random weights, and one as DINOv2 has it (Oquab et al. 2023, arXiv 2304.07193), with the scale
of each layer learnt (Touvron et al. 2021, arXiv 2103.17239). Letters in shapes: see `models`.
"""

import torch
from torch import Tensor, nn

from models.architectures.grids import Cut, Normalization
from models.encoders.base import EncoderSpec
from models.errors import ConfigError
from models.multihead_attention import init_xavier_
from models.self_attention import EncoderBlock

__all__ = ["SMALL14", "SPEC", "VisionTransformer", "small14"]


class VisionTransformer(nn.Module):
    """Maps images (B, 3, S, S) of grid x grid patches to maps (B, width, grid, grid).

    It has no dropout, so training and evaluation mode are the same. Every patch sees the whole
    image: a cell's features are not of its own pixels alone.
    """

    def __init__(
        self,
        *,
        width: int,
        patch: int,
        depth: int,
        heads: int,
        grid: int,
        has_class_token: bool = False,
        scales: bool = False,
        epsilon: float = 1e-5,
    ) -> None:
        """Build with random weights: `depth` blocks, for patches of `patch` x `patch` pixels.

        has_class_token: one more position that every patch sees; it is no annotation.
        scales: what a layer adds is weighed by feature.
        epsilon: of the layer norms.
        """
        super().__init__()
        self.grid = grid
        # E of equation 1: one linear projection per patch
        self.patches = nn.Conv2d(3, width, patch, patch)
        # E_pos of equation 1, learnt
        self.positions = nn.Parameter(torch.empty(grid * grid, width))
        # x_class of equation 1, its position included
        self.class_token = nn.Parameter(torch.zeros(1, width)) if has_class_token else None
        self.blocks = nn.Sequential(
            *(EncoderBlock(width, heads, scales=scales, epsilon=epsilon) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width, epsilon)  # equation 4
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
        x = patches.flatten(2).transpose(1, 2) + self.positions  # (B, L, D)
        if self.class_token is not None:
            x = torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        x = self.blocks(x)[:, -(self.grid**2) :]  # (B, L, D)
        maps: Tensor = self.norm(x).transpose(1, 2).unflatten(2, grid_size)
        return maps


SPEC = EncoderSpec(
    normalization=Normalization((127.5,) * 3, (127.5,) * 3),
    cuts=(Cut(range(224, 225), feature_dim=256, stride=16),),
    build=lambda stride: VisionTransformer(width=256, patch=stride, depth=6, heads=4, grid=14),
    offset_pixels=0.0,
    pretrained={},
)


def small14(grid: int) -> VisionTransformer:
    """Build ViT-S/14 as DINOv2 has it, with random weights, for grid x grid patches."""
    return VisionTransformer(
        width=384,
        patch=14,
        depth=12,
        heads=6,
        grid=grid,
        has_class_token=True,
        scales=True,
        epsilon=1e-6,
    )


SMALL14 = EncoderSpec(
    normalization=Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    cuts=(Cut(range(196, 197), feature_dim=384, stride=14),),
    build=lambda _stride: small14(14),
    offset_pixels=0.0,
    pretrained={"": "vit_small14"},
)
