"""Inception-v3 as a graph: `models.encoders.inception`, layer by layer."""

from openvino import Node
from openvino import opset15 as ops

from models.runtime.openvino.layers import Padding, Weights, conv, max_pool, smooth

__all__ = ["inception_v3"]

_ROW = (1, 7)
_COLUMN = (7, 1)


def inception_v3(x: Node, weights: Weights) -> Node:
    """Map normalized images (B, 3, S, S) to (B, 768, 14, 14)."""

    def block(x: Node, name: str, stride: int = 1, *, same: bool = True) -> Node:
        return _conv_relu(x, weights.at(name), stride, same=same)

    x = block(x, "conv1a", 2, same=False)
    x = block(block(x, "conv2a", same=False), "conv2b")
    x = block(block(max_pool(x, 3, 2), "conv3b"), "conv4a", same=False)
    x = max_pool(x, 3, 2)
    for name in ("mixed5b", "mixed5c", "mixed5d"):
        x = _mixed5(x, weights.at(name))
    x = _mixed6a(x, weights.at("mixed6a"))
    for name in ("mixed6b", "mixed6c", "mixed6d", "mixed6e"):
        x = _mixed6(x, weights.at(name))
    return x


def _conv_relu(x: Node, weights: Weights, stride: int = 1, *, same: bool = True) -> Node:
    height, width = weights["weight"].shape[2:]
    padding: Padding = (height // 2, width // 2) if same else 0
    return ops.relu(conv(x, weights, stride, padding))


def _chain(x: Node, weights: Weights, *names: str) -> Node:
    """Apply convolutions one after the other."""
    for name in names:
        x = _conv_relu(x, weights.at(name))
    return x


def _mixed5(x: Node, weights: Weights) -> Node:
    wide = _chain(x, weights, "branch5x5_1", "branch5x5_2")
    deep = _chain(x, weights, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
    pooled = _chain(smooth(x), weights, "branch_pool")
    return ops.concat([_chain(x, weights, "branch1x1"), wide, deep, pooled], 1)


def _mixed6a(x: Node, weights: Weights) -> Node:
    strided = _conv_relu(x, weights.at("branch3x3"), 2, same=False)
    deep = _chain(x, weights, "branch3x3dbl_1", "branch3x3dbl_2")
    deep = _conv_relu(deep, weights.at("branch3x3dbl_3"), 2, same=False)
    return ops.concat([strided, deep, max_pool(x, 3, 2)], 1)


def _mixed6(x: Node, weights: Weights) -> Node:
    wide = _chain(x, weights, "branch7x7_1", "branch7x7_2", "branch7x7_3")
    deep = _chain(x, weights, *(f"branch7x7dbl_{number}" for number in range(1, 6)))
    pooled = _chain(smooth(x), weights, "branch_pool")
    return ops.concat([_chain(x, weights, "branch1x1"), wide, deep, pooled], 1)
