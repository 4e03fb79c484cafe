"""The small encoder of tests and drawn shapes as a graph: `models.encoders.tiny`."""

import numpy as np
from openvino import Node
from openvino import opset15 as ops

from models.runtime.openvino.layers import Weights, constant, conv, reshape, tensor

__all__ = ["tiny"]

_GROUPS = 8


def tiny(x: Node, weights: Weights) -> Node:
    """Map normalized images (B, 3, S, S) to (B, width, S / 4, S / 4)."""
    x = _block(x, weights.at("stem.0"), 2)
    x = _block(x, weights.at("stem.1"), 2)
    x = ops.concat([x, _positions(x)], 1)
    return _block(_block(x, weights.at("local.0")), weights.at("local.1"))


def _positions(x: Node) -> Node:
    """Give two channels that tell where a cell is, across and down, from -1 to 1."""
    rows, columns = (int(x.get_output_partial_shape(0)[dim].get_length()) for dim in (2, 3))
    across = np.broadcast_to(np.linspace(-1, 1, columns), (rows, columns))
    down = np.broadcast_to(np.linspace(-1, 1, rows)[:, None], (rows, columns))
    count = ops.gather(ops.shape_of(x), constant([0], np.int64), constant(0, np.int64))
    shape = ops.concat([count, constant([2, rows, columns], np.int64)], 0)
    return ops.broadcast(constant(np.stack([across, down])[None]), shape)


def _block(x: Node, weights: Weights, stride: int = 1) -> Node:
    """Convolve, normalize eight groups of channels, cut off below 0."""
    x = conv(x, weights.at("0"), stride, 1)
    channels = weights["0.bias"].shape[0]
    rows, columns = (int(x.get_output_partial_shape(0)[dim].get_length()) for dim in (2, 3))
    grouped = reshape(x, (0, _GROUPS, -1))
    normal = ops.mvn(grouped, constant([2], np.int64), True, 1e-5, "inside_sqrt")
    x = reshape(normal, (0, channels, rows, columns))
    norm = weights.at("1")
    scaled = ops.multiply(x, tensor(norm["weight"].reshape(1, -1, 1, 1)))
    return ops.relu(ops.add(scaled, tensor(norm["bias"].reshape(1, -1, 1, 1))))
