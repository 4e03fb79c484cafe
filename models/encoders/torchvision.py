"""Any torchvision classifier by name, cut where its map is 14x14 at a given input size.

Knows no bundles.

The network is followed block by block (a residual or dense block is never cut open), and the last
block whose map is 14x14 ends the encoder: `vgg19` at 224 px ends before its last pooling, 512
channels (Xu et al. 2015, section 3.1.1 and 4.3); `resnet50` ends after `layer3` at 224 px (1024
channels) and after `layer4` at 448 px (2048).
"""

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.error import URLError

import torch
from torch import Tensor, nn

from models.architectures.grids import GRID_SIZE, Normalization
from models.errors import ConfigError
from models.torchvision_compat import import_torchvision

__all__ = ["TorchvisionEncoder", "build_torchvision_encoder"]

_GRID_SIDE = GRID_SIZE[0]
_PREFIX = "torchvision/"
_HEADS = {"classifier", "fc", "head", "heads"}
# torchvision's files of networks with attention
_TRANSFORMERS = {"maxvit", "swin_transformer", "vision_transformer"}
# Pretrained weights switch this on inside the network; a bundle that is loaded later must agree.
_OPTIONS = {
    name: {"init_weights": True, "transform_input": True} for name in ("googlenet", "inception_v3")
}


class TorchvisionEncoder(NamedTuple):
    """A cut network: `body` maps images (B, 3, S, S) to (B, feature_dim, 14, 14).

    stride: the side of a cell, in pixels.
    """

    body: nn.Module
    feature_dim: int
    stride: int
    normalization: Normalization


class _Cut(NamedTuple):
    block: str
    feature_dim: int
    stride: int


class _Body(nn.Module):
    """The network up to the cut; the names of its tensors are torchvision's."""

    def __init__(self, network: nn.Module, block: str) -> None:
        super().__init__()
        import_torchvision()
        from torchvision.models.feature_extraction import create_feature_extractor

        self.network = create_feature_extractor(network, {block: "map"}, suppress_diff_warning=True)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to features (B, D, 14, 14)."""
        features: Tensor = self.network(images)["map"]  # (B, D, 14, 14)
        return features


def build_torchvision_encoder(
    name: str, size_pixels: int, *, pretrained: bool
) -> TorchvisionEncoder:
    """Build `torchvision/<architecture>` for square images of `size_pixels`, with a 14x14 map.

    With `pretrained`, torchvision loads its default ImageNet weights, from its cache or over the
    network; without, the weights are random. Raises ConfigError where the architecture is unknown
    or no convolutional network, has no 14x14 map at this size, or its weights cannot be loaded.
    """
    architecture = _known_architecture(name)
    outline = _outline(architecture)  # refuse before anything is downloaded
    if type(outline).__module__.rpartition(".")[2] in _TRANSFORMERS:
        raise ConfigError(
            f"encoder {name!r} is no convolutional network; choose one, such as "
            "'torchvision/resnet50'"
        )
    cut = _find_cut(outline, size_pixels)
    if cut is None:
        raise ConfigError(_no_map_message(name, outline, size_pixels))
    network = _load_network(architecture, pretrained=pretrained)
    return TorchvisionEncoder(
        _Body(network, cut.block), cut.feature_dim, cut.stride, _default_normalization(architecture)
    )


def _known_architecture(name: str) -> str:
    models = import_torchvision().models
    architecture = name.removeprefix(_PREFIX)
    known = models.list_models(module=models)
    if architecture not in known:
        close = [
            f"'{_PREFIX}{match}'" for match in difflib.get_close_matches(architecture, known, n=3)
        ]
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ConfigError(f"torchvision has no classifier named {architecture!r}{hint}")
    return architecture


def _random_network(architecture: str) -> nn.Module:
    network: nn.Module = import_torchvision().models.get_model(
        architecture, weights=None, **_OPTIONS.get(architecture, {})
    )
    return network


def _outline(architecture: str) -> nn.Module:
    """Build the network on the meta device: it has shapes and no values, and is built quickly."""
    try:
        with torch.device("meta"):
            return _random_network(architecture)
    except NotImplementedError:  # regnet computes its widths with tensors
        return _random_network(architecture).to("meta")


def _load_network(architecture: str, *, pretrained: bool) -> nn.Module:
    if not pretrained:
        return _random_network(architecture)
    models = import_torchvision().models
    try:
        network: nn.Module = models.get_model(architecture, weights="DEFAULT", progress=False)
    except (URLError, OSError, RuntimeError) as error:
        address = models.get_model_weights(architecture).DEFAULT.url
        raise ConfigError(
            f"the pretrained weights of '{_PREFIX}{architecture}' cannot be loaded ({error}); "
            f"connect this machine to the network, or put {address} into the folder "
            "hub/checkpoints of TORCH_HOME (~/.cache/torch)"
        ) from error
    return network


def _default_normalization(architecture: str) -> Normalization:
    preset = import_torchvision().models.get_model_weights(architecture).DEFAULT.transforms()
    return Normalization(_bytes_scale(preset.mean), _bytes_scale(preset.std))


def _bytes_scale(channels: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = channels
    return 255.0 * red, 255.0 * green, 255.0 * blue


def _find_cut(outline: nn.Module, size_pixels: int) -> _Cut | None:
    """Find the last block whose map is 14x14, or None."""
    block = None
    feature_dim = 0
    for name, (channels, height, width) in _block_shapes(outline, size_pixels).items():
        if height == width == _GRID_SIDE:
            block = name
            feature_dim = channels
    if block is None:
        return None
    # 224 is a multiple of every stride: so many more pixels enlarge the map by 224 / stride
    larger = _block_shapes(outline, size_pixels + 224)[block]
    return _Cut(block, feature_dim, stride=224 // (larger[1] - _GRID_SIDE))


def _block_shapes(outline: nn.Module, size_pixels: int) -> dict[str, tuple[int, int, int]]:
    """Give the output shape (channels, height, width) of each block, in the order of execution.

    No values are computed.
    """
    shapes: dict[str, tuple[int, int, int]] = {}

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            shapes[name] = (output.shape[1], output.shape[2], output.shape[3])

    with contextlib.ExitStack() as hooks:
        for name, block in _blocks(outline):
            handle = block.register_forward_hook(
                lambda _module, _inputs, output, name=name: note(name, output)
            )
            hooks.callback(handle.remove)
        # an image too small for the last layers still has maps before them
        with contextlib.suppress(RuntimeError), torch.no_grad():
            outline.eval()(torch.empty(1, 3, size_pixels, size_pixels, device="meta"))
    return shapes


def _blocks(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Walk through plain Sequentials and no deeper: inside a block there are branches."""
    for name, child in module.named_children():
        if not prefix and name in _HEADS:
            continue
        if type(child) is nn.Sequential:
            yield from _blocks(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _no_map_message(name: str, outline: nn.Module, size_pixels: int) -> str:
    maps = dict.fromkeys(
        f"{shape[1]}x{shape[2]}"
        for shape in _block_shapes(outline, size_pixels).values()
        if shape[1] > 1
    )
    sizes = [str(size) for size in range(112, 513, 16) if _find_cut(outline, size)]
    right = f"; input sizes that have one: {', '.join(sizes)}" if sizes else ""
    return (
        f"encoder {name!r} has no {_GRID_SIDE}x{_GRID_SIDE} map at {size_pixels} px (only "
        f"{', '.join(maps)}){right}"
    )
