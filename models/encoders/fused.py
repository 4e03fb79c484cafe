"""Two encoders side by side: Inception-v3 and, over the same cells, EfficientNet-Lite0. Knows
nothing of captions.

Networks that learnt differently err differently, and a decoder that reads both needs no ensemble.
"""

import torch
from torch import Tensor

from models.encoders.inception import InceptionV3
from models.encoders.mobilenet import EfficientNetLite0
from models.errors import ConfigError

__all__ = ["BESIDE", "PairedEncoder"]

BESIDE = "beside."  # begins the names of the second network's tensors

_SIZE = 251
# 224 pixels, Lite0's own size: what Inception's 14 cells of 16 pixels cover, but for half a pixel
_SEEN = slice(13, 237)
_MEAN, _STD = 127.0, 128.0  # Lite0's normalization of 0..255; Inception's is 127.5 and 127.5
_SPREAD = (
    1 / 12
    # Lite0's values spread 12 times as wide as Inception's; the decoder's layer norm weighs both
)


class PairedEncoder(InceptionV3):
    """Images (B, 3, 251, 251), normalized as Inception's, to maps (B, 768 + 320, 14, 14):
    Inception's, then Lite0's.

    It is an Inception-v3 with another network in it, so that its tensors have Inception's names,
    and a bundle can share them with captioners that look through Inception alone. Lite0's 7 x 7
    cells each lie on four of Inception's.
    """

    feature_dim = 768 + 320

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.beside = EfficientNetLite0(32)

    def forward(self, x: Tensor) -> Tensor:
        """Give both maps, one behind the other; raise ConfigError for pictures of another size."""
        if tuple(x.shape[2:]) != (_SIZE, _SIZE):
            raise ConfigError(
                f"Two encoders share one grid for pictures of {_SIZE} pixels, not of "
                f"{tuple(x.shape[2:])}."
            )
        seen = (x[:, :, _SEEN, _SEEN].float() * 127.5 + 127.5 - _MEAN) / _STD  # (B, 3, 224, 224)
        coarse = _SPREAD * self.beside(
            seen.contiguous(memory_format=torch.channels_last)
        )  # (B, 320, 7, 7)
        return torch.cat(
            [super().forward(x), coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)],
            dim=1,
        )
