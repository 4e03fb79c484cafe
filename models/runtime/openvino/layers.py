"""Torch's layers as OpenVINO's operations, with the tensors of a bundle. Knows no network.

Maps are (B, C, H, W), as in torch; OpenVINO lays them out as the processor likes it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from openvino import Model, Node
from openvino import opset15 as ops

__all__ = [
    "Array",
    "Weights",
    "channels",
    "constant",
    "conv",
    "depthwise_conv",
    "double",
    "graph",
    "interpolate",
    "layer_norm",
    "linear",
    "matmul",
    "max_pool",
    "relu6",
    "reshape",
    "same_conv",
    "silu",
    "smooth",
    "tensor",
    "transpose",
    "unsqueeze",
]

Array = npt.NDArray[Any]
Padding = int | tuple[int, int]


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of one module, by the names that they have in it."""

    tensors: Mapping[str, Array]
    prefix: str = ""

    def __getitem__(self, name: str) -> Array:
        """Give a tensor. Raises KeyError."""
        return self.tensors[self.prefix + name]

    def __contains__(self, name: str) -> bool:
        """Tell whether there is such a tensor."""
        return self.prefix + name in self.tensors

    def at(self, module: str) -> "Weights":
        """Give those of a module within."""
        return Weights(self.tensors, f"{self.prefix}{module}.")


def graph(name: str, inputs: Sequence[Node], outputs: Sequence[Node]) -> Model:
    """Make a graph of its parameters and what it gives."""
    return Model([ops.result(each) for each in outputs], list(inputs), name)


def tensor(values: Array) -> Node:
    """Make a constant of a bundle's tensor; half precision is widened as the graph is compiled."""
    node = ops.constant(values)
    return ops.convert(node, "f32") if values.dtype == np.float16 else node


def constant(value: Any, dtype: Any = np.float32) -> Node:
    """Make a constant of numbers."""
    return ops.constant(np.asarray(value, dtype=dtype))


def channels(values: Sequence[float]) -> Node:
    """Make a constant of one number a channel, (1, C, 1, 1)."""
    return constant(np.reshape(values, (1, -1, 1, 1)))


def conv(x: Node, weights: Weights, stride: int = 1, padding: Padding = 0) -> Node:
    """Convolve, with bias; as nn.Conv2d."""
    down, across = (padding, padding) if isinstance(padding, int) else padding
    pads = [down, across]
    y = ops.convolution(x, tensor(weights["weight"]), [stride] * 2, pads, pads, [1, 1])
    return _add_bias(y, weights["bias"])


def depthwise_conv(
    x: Node, weights: Weights, stride: int = 1, padding: Padding | None = None
) -> Node:
    """Convolve each channel by itself, with bias; without `padding` as TensorFlow's SAME."""
    kernel = weights["weight"]  # (C, 1, h, w)
    grouped = tensor(kernel[:, None])
    side = padding or 0
    pads = [side, side] if isinstance(side, int) else list(side)
    how = "explicit" if padding is not None else "same_upper"
    y = ops.group_convolution(x, grouped, [stride] * 2, pads, pads, [1, 1], how)
    return _add_bias(y, weights["bias"])


def same_conv(x: Node, weights: Weights, stride: int) -> Node:
    """Convolve with TensorFlow's SAME padding, with bias."""
    kernel = tensor(weights["weight"])
    y = ops.convolution(x, kernel, [stride] * 2, [0, 0], [0, 0], [1, 1], "same_upper")
    return _add_bias(y, weights["bias"])


def _add_bias(maps: Node, bias: Array) -> Node:
    return ops.add(maps, tensor(bias.reshape(1, -1, 1, 1)))


def relu6(x: Node) -> Node:
    """Cut off below 0 and above 6."""
    return ops.clamp(x, 0.0, 6.0)


def silu(x: Node) -> Node:
    """Compute x * sigmoid(x)."""
    return ops.swish(x)


def max_pool(x: Node, kernel: int, stride: int, padding: int = 0) -> Node:
    """Take the greatest of each window; as F.max_pool2d."""
    pooled = ops.max_pool(
        x, [stride] * 2, [1, 1], [padding] * 2, [padding] * 2, [kernel] * 2, "floor"
    )
    return pooled.output(0)


def smooth(x: Node) -> Node:
    """3x3 mean of the same size; at the border over the pixels that are there."""
    return ops.avg_pool(x, [1, 1], [1, 1], [1, 1], [3, 3], exclude_pad=True)


def interpolate(x: Node, side: int) -> Node:
    """Resize maps to `side` x `side`: bilinear and antialiased, as F.interpolate."""
    return ops.interpolate(
        x,
        constant([side, side], np.int64),
        "bilinear_pillow",
        "sizes",
        axes=constant([2, 3], np.int64),
    )


def double(x: Node) -> Node:
    """Repeat each cell in both directions."""
    return ops.interpolate(
        x,
        constant([2.0, 2.0]),
        "nearest",
        "scales",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        axes=constant([2, 3], np.int64),
    )


def linear(x: Node, weights: Weights) -> Node:
    """Project the last dimension; as nn.Linear, with or without bias."""
    y = ops.matmul(x, tensor(weights["weight"]), False, True)
    return ops.add(y, tensor(weights["bias"])) if "bias" in weights else y


def layer_norm(x: Node, weights: Weights) -> Node:
    """Normalize the last dimension; as nn.LayerNorm."""
    normal = ops.mvn(x, constant([-1], np.int64), True, 1e-5, "inside_sqrt")
    scaled = ops.multiply(normal, tensor(weights["weight"]))
    return ops.add(scaled, tensor(weights["bias"]))


def matmul(a: Node, b: Node, *, transposed: bool = False) -> Node:
    """Multiply matrices; `transposed` swaps the last two dimensions of b."""
    return ops.matmul(a, b, False, transposed)


def reshape(x: Node, shape: Sequence[int]) -> Node:
    """Give another shape: 0 keeps the dimension that stands there, -1 is what is left."""
    return ops.reshape(x, constant(list(shape), np.int64), True)


def transpose(x: Node, order: Sequence[int]) -> Node:
    """Order the dimensions anew."""
    return ops.transpose(x, constant(list(order), np.int64))


def unsqueeze(x: Node, dim: int) -> Node:
    """Insert a dimension of one."""
    return ops.unsqueeze(x, constant([dim], np.int64))
