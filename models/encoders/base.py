"""Pictures to annotation vectors: a network whose map is 14 x 14, most of them convolutional and
cut there. Knows no captions.

Encoders go by name. `build_encoder("inception_v3", 251)` gives one with random weights that
announces `feature_dim`, `grid_size` and `stride`; `load_pretrained` fills it from ImageNet, for
training. A finished model needs neither: its encoder's weights lie in its own checkpoint.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.config import PreprocessConfig
from models.encoders.fused import BESIDE, PairedEncoder
from models.encoders.inception import InceptionV3
from models.encoders.mobilenet import EfficientNetLite0, MobileNetV2
from models.encoders.tiny import TinyEncoder
from models.encoders.vit import VisionTransformer
from models.errors import ConfigError
from models.geometry import Box, CellGrid

__all__ = ["GRID_SIZE", "Encoder", "build_encoder", "default_preprocess", "load_pretrained"]

GRID_SIZE = (14, 14)  # rows, columns: L = 196 annotations (Xu et al. 2015, section 3.1.1)


class Encoder(nn.Module):
    """Images (B, 3, H, W) to annotations (B, L, D), row by row over the grid (Xu et al. 2015,
    section 3.1.1)."""

    def __init__(
        self,
        body: nn.Module,
        *,
        feature_dim: int,
        stride: int,
        offset_pixels: float,
        size_pixels: int,
    ) -> None:
        """Wrap `body`, which maps (B, 3, H, W) to (B, D, rows, columns), for images of
        `size_pixels`.

        A cell is `stride` pixels wide and high; the first one begins `offset_pixels` from the left
        and top edges (convolutions without padding see the rim only from inside).
        """
        super().__init__()
        self.body = body
        self.feature_dim = feature_dim
        self.stride = stride
        self.offset_pixels = offset_pixels
        self.grid_size = GRID_SIZE
        self.grid = _locate_grid(stride / size_pixels, offset_pixels / size_pixels)

    def forward(self, images: Tensor) -> Tensor:
        """Give the annotations; raise ConfigError where the map is not of the announced size."""
        maps: Tensor = self.body(images)  # (B, D, rows, columns)
        if tuple(maps.shape[2:]) != self.grid_size:
            size = tuple(images.shape[2:])
            raise ConfigError(
                f"Pictures of {size} pixels give a {tuple(maps.shape[2:])} grid, not "
                f"{self.grid_size}."
            )
        return maps.flatten(2).transpose(1, 2)  # (B, L, D)


def _locate_grid(side: float, first: float) -> CellGrid:
    """Give the grid of square cells of one side, the first of which begins at `first`, in
    fractions of the image."""
    rows, columns = GRID_SIZE
    return CellGrid(rows, columns, Box(first, first, first + columns * side, first + rows * side))


@dataclass(frozen=True)
class _Family:
    """A named architecture: its normalization on the 0..255 scale, and the cuts by input size in
    pixels."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    build: Callable[[int], nn.Module]  # stride -> body
    cuts: dict[range, tuple[int, int]]  # input sizes -> (feature_dim, stride)
    offset_pixels: float
    can_be_pretrained: bool = True
    files: Mapping[str, str] = field(
        default_factory=dict
    )  # where several fill one body: name's prefix -> file


_MOBILE_SIZES = {16: range(209, 225), 32: range(417, 449)}
_FAMILIES = {
    "inception_v3": _Family(
        (127.5,) * 3,
        (127.5,) * 3,
        lambda _: InceptionV3(),
        {range(251, 267): (768, 16)},
        # the first cell's center is pixel 21, by the strides and kernels without padding
        offset_pixels=13.5,
    ),
    "efficientnet_lite0": _Family(
        (127.0,) * 3,
        (128.0,) * 3,
        EfficientNetLite0,
        {_MOBILE_SIZES[16]: (112, 16), _MOBILE_SIZES[32]: (320, 32)},
        offset_pixels=0.0,
    ),
    "inception_v3+efficientnet_lite0": _Family(
        (127.5,) * 3,
        (127.5,) * 3,
        lambda _: PairedEncoder(),
        {range(251, 252): (PairedEncoder.feature_dim, 16)},
        offset_pixels=13.5,
        files={BESIDE: "efficientnet_lite0", "": "inception_v3"},
    ),
    "mobilenet_v2": _Family(
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
        MobileNetV2,
        {_MOBILE_SIZES[16]: (96, 16), _MOBILE_SIZES[32]: (320, 32)},
        offset_pixels=0.0,
    ),
    "tiny": _Family(
        (127.5,) * 3,
        (127.5,) * 3,
        lambda _: TinyEncoder(),
        {range(53, 57): (64, 4)},
        offset_pixels=0.0,
    ),
    "vit_patch16": _Family(
        (127.5,) * 3,
        (127.5,) * 3,
        lambda _: VisionTransformer(),
        {range(224, 225): (VisionTransformer.feature_dim, VisionTransformer.stride)},
        offset_pixels=0.0,
        can_be_pretrained=False,
    ),
}
_TORCHVISION = "torchvision/"


def build_encoder(name: str, size_pixels: int) -> Encoder:
    """Build encoder `name`, cut where its map is 14 x 14 for pictures of `size_pixels`, with random
    weights.

    Names: inception_v3 (251 to 266 pixels), inception_v3+efficientnet_lite0 (251),
    efficientnet_lite0 and mobilenet_v2 (209 to 224 at stride 16, 417 to 448 at stride 32), tiny (53
    to 56), vit_patch16 (224) and torchvision/<classifier>. Raises ConfigError for another name or
    size.
    """
    if name.startswith(_TORCHVISION):
        return _torchvision(name, size_pixels, pretrained=False)[0]
    family = _family(name)
    for sizes, (feature_dim, stride) in family.cuts.items():
        if size_pixels in sizes:
            body = family.build(stride)
            return Encoder(
                body,
                feature_dim=feature_dim,
                stride=stride,
                offset_pixels=family.offset_pixels,
                size_pixels=size_pixels,
            )
    right = " or ".join(f"{s[0]} to {s[-1]}" if len(s) > 1 else f"{s[0]}" for s in family.cuts)
    raise ConfigError(
        f"Encoder {name!r} has a 14 x 14 map for {right} pixels, not for {size_pixels}."
    )


def default_preprocess(name: str, size_pixels: int) -> PreprocessConfig:
    """Give the preprocessing with which encoder `name` was pretrained, at `size_pixels`."""
    if name.startswith(_TORCHVISION):
        mean, std = _torchvision(name, size_pixels, pretrained=False)[1]
        return PreprocessConfig(size_pixels=size_pixels, mean=mean, std=std)
    family = _family(name)
    return PreprocessConfig(size_pixels=size_pixels, mean=family.mean, std=family.std)


def load_pretrained(name: str, size_pixels: int, folder: Path | None) -> Encoder:
    """Build encoder `name` with ImageNet weights: from `folder`/<name>.safetensors, or by
    torchvision's download.

    Raises ConfigError where the file or the network is missing, where the file is damaged or
    another network's, and for vit_patch16, of which there are no pretrained weights.
    """
    if name.startswith(_TORCHVISION):
        return _torchvision(name, size_pixels, pretrained=True)[0]
    encoder = build_encoder(name, size_pixels)
    if not _FAMILIES[name].can_be_pretrained:
        raise ConfigError(
            f"There are no pretrained weights for {name!r}: it begins from random ones (pretrained "
            "off)."
        )
    wanted, found = encoder.body.state_dict(), dict[str, Tensor]()
    for prefix, file in (
        _FAMILIES[name].files or {"": name}
    ).items():  # a name belongs to the first that fits
        part = {
            key.removeprefix(prefix): wanted[key]
            for key in wanted
            if key.startswith(prefix) and key not in found
        }
        found |= {
            prefix + key: tensor for key, tensor in _read_pretrained(folder, file, part).items()
        }
    encoder.body.load_state_dict(found)
    return encoder


def _read_pretrained(
    folder: Path | None, name: str, wanted: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Read from `folder`/<name>.safetensors what has the names and shapes of `wanted`, in
    float32."""
    path = (folder or Path()) / f"{name}.safetensors"
    if folder is None or not path.is_file():
        raise ConfigError(
            f"No pretrained weights at {path}; set the folder that holds {name}.safetensors."
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
            f"{path} is not of {name}: {unfit[0]} and {len(unfit) - 1} more tensors lack or do not "
            "fit."
        )
    return {key: tensors[key].float() for key in wanted}  # a head past the cut stays behind


def _family(name: str) -> _Family:
    if name not in _FAMILIES:
        known = ", ".join([*sorted(_FAMILIES), f"{_TORCHVISION}<classifier>"])
        raise ConfigError(f"No encoder is called {name!r}; there are {known}.")
    return _FAMILIES[name]


def _torchvision(
    name: str, size_pixels: int, *, pretrained: bool
) -> tuple[Encoder, tuple[tuple[float, float, float], tuple[float, float, float]]]:
    """Wrap a torchvision classifier; imported only here, as it is slow to import and not needed
    by the default."""
    from models.encoders.torchvision import build_torchvision_encoder

    with torch.device(
        "cpu"
    ):  # some compute their widths with tensors, which a caller's meta device does not do
        body, feature_dim, stride, statistics = build_torchvision_encoder(
            name.removeprefix(_TORCHVISION), size_pixels, pretrained=pretrained
        )
    offset = (
        size_pixels - GRID_SIZE[0] * stride
    ) / 2  # torchvision's networks pad on both sides alike
    encoder = Encoder(
        body, feature_dim=feature_dim, stride=stride, offset_pixels=offset, size_pixels=size_pixels
    )
    return encoder, statistics
