"""A small encoder that learns from scratch in a minute on a CPU: for drawn shapes, tests and first steps."""

import torch
from torch import Tensor, nn

__all__ = ["TinyEncoder"]

_FEATURES = 96


class TinyEncoder(nn.Module):
    """Images (B, 3, H, W) to maps (B, 96, H / 4, W / 4); a cell sees 23 pixels, so that maps stay local.

    What a cell sees does not tell where it is, and "left of" needs that: the place is given as two more channels (Liu
    et al. 2018, "An Intriguing Failing of Convolutional Neural Networks and the CoordConv Solution").
    """

    feature_dim = _FEATURES
    stride = 4

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        widths = ((3, 32, 2), (32, 64, 2), (64 + 2, _FEATURES, 1), (_FEATURES, _FEATURES, 1))
        self.blocks = nn.ModuleList(_block(*each) for each in widths)

    def forward(self, x: Tensor) -> Tensor:
        """Give the map of the last block."""
        x = self.blocks[1](self.blocks[0](x))
        across = torch.linspace(-1, 1, x.shape[3], device=x.device, dtype=x.dtype).expand(len(x), 1, x.shape[2], -1)
        down = torch.linspace(-1, 1, x.shape[2], device=x.device, dtype=x.dtype).unsqueeze(1).expand_as(across)
        maps: Tensor = self.blocks[3](self.blocks[2](torch.cat([x, across, down], dim=1)))
        return maps


def _block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(8, channels_out), nn.ReLU())
