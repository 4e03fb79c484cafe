"""A small encoder that learns from scratch in a minute on a CPU: for drawn shapes, tests and first steps."""

from torch import nn

__all__ = ["TinyEncoder"]

_FEATURES = 96


class TinyEncoder(nn.Sequential):
    """Images (B, 3, H, W) to maps (B, 96, H / 4, W / 4); a cell sees 23 pixels, so that maps stay local."""

    feature_dim = _FEATURES
    stride = 4

    def __init__(self) -> None:
        """Build with random weights."""
        widths = ((3, 32, 2), (32, 64, 2), (64, _FEATURES, 1), (_FEATURES, _FEATURES, 1))
        super().__init__(*(_block(*each) for each in widths))


def _block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(8, channels_out), nn.ReLU())
