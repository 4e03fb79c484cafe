"""Encoders: from images to annotations. Here is the table of their names. Knows no captions.

One network a file, which declares what is known of it.

`build_encoder("inception_v3", 251)` gives an encoder with random weights; `load_pretrained` fills
it from ImageNet, for training. A finished model needs no pretrained weights: those of its encoder
are in its bundle.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.architectures.grids import (
    GRID_SIZE,
    TORCHVISION,
    Normalization,
    find_cut,
)
from models.config import PreprocessConfig
from models.encoders import efficientnet_lite, fused, inception, mobilenet, tiny, vit
from models.encoders.base import Encoder, EncoderSpec
from models.errors import ConfigError

__all__ = ["build_encoder", "default_preprocess", "load_pretrained"]

# The one table of encoders; a classifier of torchvision goes by the prefix and its own name.
_SPECS = {
    "inception_v3": inception.SPEC,
    "efficientnet_lite0": efficientnet_lite.EFFICIENTNET_LITE0,
    "efficientnet_lite1": efficientnet_lite.EFFICIENTNET_LITE1,
    "efficientnet_lite2": efficientnet_lite.EFFICIENTNET_LITE2,
    "inception_v3+efficientnet_lite0": fused.INCEPTION_AND_LITE0,
    "mobilenet_v2": mobilenet.MOBILENET_V2,
    "tiny": tiny.SPEC,
    "vit_patch16": vit.SPEC,
    "vit_small14": vit.SMALL14,
}


def build_encoder(name: str, size_pixels: int) -> Encoder:
    """Build encoder `name` with random weights, cut where its map is 14 x 14.

    size_pixels: the side of the images.

    Names: inception_v3 (251 to 266 pixels), inception_v3+efficientnet_lite0 (251),
    efficientnet_lite0 to 2 and mobilenet_v2 (209 to 224 at stride 16, 417 to 448 at stride 32),
    tiny (53 to 56), vit_patch16 (224), vit_small14 (196) and torchvision/<classifier>. Raises
    ConfigError for another name or size.
    """
    if name.startswith(TORCHVISION):
        return _torchvision(name, size_pixels, pretrained=False)[0]
    spec = _spec(name)
    cut = find_cut(name, spec.cuts, size_pixels)
    return Encoder(
        spec.build(cut.stride),
        feature_dim=cut.feature_dim,
        stride=cut.stride,
        offset_pixels=spec.offset_pixels,
        size_pixels=size_pixels,
    )


def default_preprocess(name: str, size_pixels: int) -> PreprocessConfig:
    """Give the preprocessing with which encoder `name` was pretrained, at `size_pixels`."""
    if name.startswith(TORCHVISION):
        mean, std = _torchvision(name, size_pixels, pretrained=False)[1]
    else:
        mean, std = _spec(name).normalization
    return PreprocessConfig(size_pixels=size_pixels, mean=mean, std=std)


def load_pretrained(name: str, size_pixels: int, folder: Path | None) -> Encoder:
    """Build encoder `name` with ImageNet weights.

    They come from `folder`/<name>.safetensors, or by torchvision's download.

    Raises ConfigError where the file or the network is missing, where the file is damaged or
    another network's, and for an encoder without pretrained weights.
    """
    if name.startswith(TORCHVISION):
        return _torchvision(name, size_pixels, pretrained=True)[0]
    encoder = build_encoder(name, size_pixels)
    files = _spec(name).pretrained
    if not files:
        raise ConfigError(
            f"There are no pretrained weights for {name!r}: it begins from random ones (pretrained "
            "off)."
        )
    wanted = encoder.body.state_dict()
    found: dict[str, Tensor] = {}
    for prefix, stem in files.items():
        part = {
            key.removeprefix(prefix): tensor
            for key, tensor in wanted.items()
            if key.startswith(prefix) and key not in found
        }
        for key, tensor in _read_pretrained(folder, stem, part).items():
            found[prefix + key] = tensor
    encoder.body.load_state_dict(found)
    return encoder


def _read_pretrained(
    folder: Path | None, stem: str, wanted: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Read from `folder`/<stem>.safetensors the tensors named and shaped as `wanted`: float32."""
    path = (folder or Path()) / f"{stem}.safetensors"
    if folder is None or not path.is_file():
        raise ConfigError(
            f"No pretrained weights at {path}; set the folder that holds {stem}.safetensors."
        )
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ConfigError(
            f"{path} is damaged or no safetensors file (a Git LFS pointer?); fetch it again."
        ) from error
    unfit = sorted(
        key for key in wanted if key not in tensors or tensors[key].shape != wanted[key].shape
    )
    if unfit:
        raise ConfigError(
            f"{path} is not of {stem}: {unfit[0]} and {len(unfit) - 1} more tensors lack or do not "
            "fit."
        )
    return {key: tensors[key].float() for key in wanted}  # without the layers past the cut


def _spec(name: str) -> EncoderSpec:
    if name not in _SPECS:
        known = ", ".join([*sorted(_SPECS), f"{TORCHVISION}<classifier>"])
        raise ConfigError(f"No encoder is called {name!r}; there are {known}.")
    return _SPECS[name]


def _torchvision(name: str, size_pixels: int, *, pretrained: bool) -> tuple[Encoder, Normalization]:
    """Wrap a torchvision classifier.

    Its module is imported only here: it is slow to import, and the default model does not need it.
    """
    from models.encoders.torchvision import build_torchvision_encoder

    # some networks compute their widths with tensors, which a caller's meta device cannot do
    with torch.device("cpu"):
        cut = build_torchvision_encoder(
            name.removeprefix(TORCHVISION), size_pixels, pretrained=pretrained
        )
    # torchvision's networks pad on both sides alike
    offset_pixels = (size_pixels - GRID_SIZE[0] * cut.stride) / 2
    encoder = Encoder(
        cut.body,
        feature_dim=cut.feature_dim,
        stride=cut.stride,
        offset_pixels=offset_pixels,
        size_pixels=size_pixels,
    )
    return encoder, cut.normalization
