"""A small encoder, without pretrained weights, for tests and drawn shapes. Knows no captions."""

import torch
from torch import Tensor, nn

from models.architectures.grids import TINY
from models.encoders.base import EncoderSpec

__all__ = ["SPEC", "TinyEncoder"]


class TinyEncoder(nn.Module):
    """Maps images (B, 3, S, S) to maps (B, width, S / 4, S / 4); a cell sees 23 pixels.

    So maps stay local. What a cell sees does not tell where it is, which "left of" needs: the
    position is given as two more channels (CoordConv: Liu et al. 2018, arXiv 1807.03247).
    """

    def __init__(self, width: int = 64) -> None:
        """Build with random weights; `width`, a multiple of 8, is the number of features."""
        super().__init__()
        self.stem = nn.Sequential(_block(3, 24, stride=2), _block(24, 48, stride=2))
        self.local = nn.Sequential(_block(48 + 2, width), _block(width, width))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the map of the last block."""
        x = self.stem(images)  # (B, 48, rows, columns)
        count, _, rows, columns = x.shape
        across = torch.linspace(-1, 1, columns, device=x.device, dtype=x.dtype)
        down = torch.linspace(-1, 1, rows, device=x.device, dtype=x.dtype).unsqueeze(1)
        positions = [channel.expand(count, 1, rows, columns) for channel in (across, down)]
        maps: Tensor = self.local(torch.cat([x, *positions], dim=1))
        return maps


def _block(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(8, channels_out), nn.ReLU())


SPEC = EncoderSpec.of(TINY, lambda _stride: TinyEncoder(width=64), {"": "tiny"})
