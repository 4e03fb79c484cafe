"""EfficientNet-Lite as a graph: `models.encoders.efficientnet_lite`, layer by layer."""

from openvino import Node
from openvino import opset15 as ops

from models.architectures.lite_scales import LiteScale
from models.runtime.openvino.layers import Weights, conv, depthwise_conv, relu6, same_conv

__all__ = ["efficientnet_lite"]


def efficientnet_lite(x: Node, weights: Weights, scale: LiteScale) -> Node:
    """Map normalized images (B, 3, S, S) through the whole body: (B, D, S / 32, S / 32)."""
    x = relu6(same_conv(x, weights.at("stem"), 2))
    blocks = weights.at("blocks")
    channels = weights["stem.weight"].shape[0]
    number = 0
    for _expansion, width, _kernel, first_stride, count in scale.stages:
        for index in range(count):
            stride = first_stride if index == 0 else 1
            y = _inverted_residual(x, blocks.at(str(number)), stride)
            x = ops.add(x, y) if stride == 1 and channels == width else y
            channels = width
            number += 1
    return x


def _inverted_residual(x: Node, weights: Weights, stride: int) -> Node:
    """Expand, convolve each channel, project."""
    wide = relu6(conv(x, weights.at("expand"))) if "expand.weight" in weights else x
    deep = relu6(depthwise_conv(wide, weights.at("depthwise"), stride))
    return conv(deep, weights.at("project"))
