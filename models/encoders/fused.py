"""Two encoders over one grid, their features side by side. Knows no captions.

Networks that learnt differently err differently, and a decoder that reads both needs no ensemble.
"""

from typing import Any

import torch
from torch import Tensor, nn

from models.architectures import grids
from models.architectures.grids import Normalization
from models.encoders.base import EncoderSpec
from models.encoders.efficientnet_lite import LITE0, EfficientNetLite
from models.encoders.inception import InceptionV3
from models.errors import ConfigError

__all__ = ["INCEPTION_AND_LITE0", "SECOND_PREFIX", "FusedEncoder"]

SECOND_PREFIX = "beside."
"""What the names of the second network's tensors begin with in every state dict."""


class FusedEncoder(nn.Module):
    """Maps images (B, 3, S, S) to maps (B, D1 + D2, rows, columns): both networks' features.

    In its state dict the tensors of the first have the names that they have in the first alone, so
    that a bundle can share them with captioners of the first encoder; those of the second begin
    with `SECOND_PREFIX`.
    """

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        *,
        size_pixels: int,
        crop: slice,
        normalizations: tuple[Normalization, Normalization],
        scale: float,
    ) -> None:
        """Take two networks.

        size_pixels: the only size of input for which their cells coincide.
        crop: the rows and columns of pixels that the second sees: what the first's grid covers.
        normalizations: of the first, which the images have, and of the second.
        scale: what the second's values are multiplied with, to spread as wide as the first's.
        """
        super().__init__()
        self.first = first
        self.second = second
        self.size_pixels = size_pixels
        self.crop = crop
        self.normalizations = normalizations
        self.scale = scale
        self.register_state_dict_post_hook(_name_as_stored)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_name_as_built)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> Tensor:
        """Compute both maps; each cell of the second is repeated over those of the first in it.

        Raises ConfigError for images of another size.
        """
        if tuple(images.shape[2:]) != (self.size_pixels, self.size_pixels):
            raise ConfigError(
                f"Two encoders share one grid for pictures of {self.size_pixels} pixels, not of "
                f"{tuple(images.shape[2:])}."
            )
        seen = self._renormalize(images[:, :, self.crop, self.crop].float())
        fine: Tensor = self.first(images)  # (B, D1, rows, columns)
        coarse = self.scale * self.second(seen.contiguous(memory_format=torch.channels_last))
        repeats = fine.shape[2] // coarse.shape[2]
        coarse = coarse.repeat_interleave(repeats, dim=2).repeat_interleave(repeats, dim=3)
        return torch.cat([fine, coarse], dim=1)

    def _renormalize(self, images: Tensor) -> Tensor:
        """Bring images (B, 3, h, w) from the first's normalization to the second's."""
        first, second = self.normalizations
        rgb = images * _channels(first.std, images) + _channels(first.mean, images)
        return (rgb - _channels(second.mean, images)) / _channels(second.std, images)


def _channels(values: tuple[float, float, float], like: Tensor) -> Tensor:
    """Give one value a channel, (3, 1, 1)."""
    return like.new_tensor(values).view(3, 1, 1)


def _name_as_stored(
    _module: nn.Module, tensors: dict[str, Tensor], prefix: str, _metadata: dict[str, Any]
) -> None:
    """Rename the tensors of a FusedEncoder at `prefix` as its state dict names them."""
    for name in list(tensors):
        if name.startswith(f"{prefix}first."):
            tensors[prefix + name.removeprefix(f"{prefix}first.")] = tensors.pop(name)
        elif name.startswith(f"{prefix}second."):
            stored = prefix + SECOND_PREFIX + name.removeprefix(f"{prefix}second.")
            tensors[stored] = tensors.pop(name)


def _name_as_built(
    _module: nn.Module, tensors: dict[str, Tensor], prefix: str, *_others: object
) -> None:
    """Rename the tensors of a FusedEncoder at `prefix` as the module names them."""
    for name in list(tensors):
        if name.startswith(prefix + SECOND_PREFIX):
            built = f"{prefix}second." + name.removeprefix(prefix + SECOND_PREFIX)
            tensors[built] = tensors.pop(name)
        elif name.startswith(prefix):
            tensors[f"{prefix}first." + name.removeprefix(prefix)] = tensors.pop(name)


def _build_inception_and_lite0(_stride: int) -> FusedEncoder:
    (cut,) = grids.INCEPTION_AND_LITE0.cuts
    return FusedEncoder(
        InceptionV3(),
        EfficientNetLite(LITE0, 32),
        size_pixels=cut.sizes[0],
        crop=slice(*grids.FUSED_CROP),
        normalizations=(grids.INCEPTION.normalization, grids.LITE_NORMALIZATION),
        scale=grids.FUSED_SCALE,
    )


INCEPTION_AND_LITE0 = EncoderSpec.of(
    grids.INCEPTION_AND_LITE0,
    _build_inception_and_lite0,
    {SECOND_PREFIX: "efficientnet_lite0", "": "inception_v3"},
)
