"""The published weights of the tagger's detector and classifier. Knows no captions.

YOLOX-nano's come from the ONNX file that its publisher gives.

Folded batch normalizations have lost their names there: a convolution is known by its place in the
order of computation, which is the same in `models.detection.yolox`.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from models.detection.boxes import SIZE_PIXELS
from models.detection.yolox import YOLOXNano
from models.errors import ConfigError

__all__ = ["read_tagger", "read_yolox_nano"]

_DETECTOR = "yolox_nano.onnx"
_CLASSIFIER = "efficientnet_lite2.safetensors"


def read_tagger(folder: Path) -> dict[str, Tensor]:
    """Read the tensors of a `Tagger`, by their names in it, from the files in a folder.

    Raises ConfigError where one is missing, damaged, or another network's.
    """
    detector = read_yolox_nano(folder / _DETECTOR).state_dict()
    tensors = {f"detector.{name}": tensor for name, tensor in detector.items()}
    path = folder / _CLASSIFIER
    try:
        classifier = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is missing, or is no safetensors file: {error}") from error
    for name, tensor in classifier.items():
        part = "" if name.startswith(("head.", "classifier.")) else "body."
        tensors[f"classifier.{part}{name}"] = tensor.float()
    return tensors


def read_yolox_nano(path: Path) -> YOLOXNano:
    """Read an ONNX file into the module: float32, ready to detect.

    Raises ConfigError where the file is missing, damaged, or another network's.
    """
    network = YOLOXNano().eval()
    try:
        graph = onnx.load(path).graph
    except (OSError, DecodeError) as error:
        raise ConfigError(f"{path} is missing, or is no ONNX file: {error}") from error
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    convolutions = _in_order(network)
    if len(nodes) != len(convolutions):
        raise ConfigError(
            f"{path} has {len(nodes)} convolutions, YOLOX-nano has {len(convolutions)}: it is "
            "another network's."
        )
    with torch.no_grad():
        for node, convolution in zip(nodes, convolutions, strict=True):
            _, weight, bias = node.input
            _copy(path, constants[weight], convolution.weight)
            _copy(path, constants[bias], convolution.bias)
    return network


def _copy(path: Path, value: npt.NDArray[np.float32], target: Tensor | None) -> None:
    source = torch.tensor(value)
    if target is None or source.shape != target.shape:
        raise ConfigError(f"{path} is not of YOLOX-nano: a convolution has another shape.")
    target.copy_(source)


def _in_order(network: nn.Module) -> list[nn.Conv2d]:
    """List the convolutions in the order in which they compute."""
    order: list[nn.Conv2d] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _inputs: order.append(module))
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        network(torch.zeros(1, 3, SIZE_PIXELS, SIZE_PIXELS))
    for hook in hooks:
        hook.remove()
    return order
