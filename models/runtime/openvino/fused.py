"""Inception-v3 and EfficientNet-Lite0 over one grid, as a graph: `models.encoders.fused`."""

import numpy as np
from openvino import Node
from openvino import opset15 as ops

from models.encoders.lite_scales import LITE0
from models.runtime.openvino.efficientnet_lite import efficientnet_lite
from models.runtime.openvino.inception import inception_v3
from models.runtime.openvino.layers import Weights, constant, double

__all__ = ["inception_and_lite0"]

_CROP = (13, 237)
_SCALE = 1 / 12
_INCEPTION = 127.5  # mean and deviation
_LITE_MEAN, _LITE_STD = 127.0, 128.0


def inception_and_lite0(x: Node, weights: Weights) -> Node:
    """Map images (B, 3, 251, 251), normalized for Inception, to (B, 768 + 320, 14, 14)."""
    begin, end = (constant([edge, edge], np.int64) for edge in _CROP)
    cropped = ops.slice(x, begin, end, constant([1, 1], np.int64), constant([2, 3], np.int64))
    rgb = ops.multiply(ops.add(cropped, constant(1.0)), constant(_INCEPTION))
    seen = ops.divide(ops.subtract(rgb, constant(_LITE_MEAN)), constant(_LITE_STD))
    coarse = efficientnet_lite(seen, weights.at("beside"), LITE0)
    scaled = ops.multiply(coarse, constant(_SCALE))
    return ops.concat([inception_v3(x, weights), double(scaled)], 1)
