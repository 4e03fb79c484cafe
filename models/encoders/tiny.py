"""A small encoder without pretrained weights: for tests, and for experiments on drawn shapes."""

import torch
from torch import Tensor, nn

__all__ = ["TinyEncoder"]

_FEATURES = 64


class TinyEncoder(nn.Module):
    """Images (B, 3, H, W) to maps (B, 64, H / 4, W / 4), for pictures of 56 pixels; a cell sees 23
    of them.

    So maps stay local. What a cell sees does not tell where it is, and "left of" needs that: the
    place is given as two more channels (CoordConv: Liu et al. 2018, arXiv 1807.03247).
    """

    feature_dim = _FEATURES
    stride = 4

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.stem = nn.Sequential(_block(3, 24, stride=2), _block(24, 48, stride=2))
        self.local = nn.Sequential(_block(48 + 2, _FEATURES), _block(_FEATURES, _FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        """Give the map of the last block."""
        x = self.stem(x)
        across = torch.linspace(-1, 1, x.shape[3], device=x.device, dtype=x.dtype).expand(
            len(x), 1, x.shape[2], -1
        )
        down = (
            torch.linspace(-1, 1, x.shape[2], device=x.device, dtype=x.dtype)
            .unsqueeze(1)
            .expand_as(across)
        )
        maps: Tensor = self.local(torch.cat([x, across, down], dim=1))
        return maps


def _block(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(8, channels_out), nn.ReLU())
