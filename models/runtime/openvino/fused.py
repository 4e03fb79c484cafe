"""Inception-v3 and EfficientNet-Lite0 over one grid, as a graph: `models.encoders.fused`."""

import numpy as np
from openvino import Node
from openvino import opset15 as ops

from models.architectures.grids import (
    FUSED_CROP,
    FUSED_SCALE,
    INCEPTION,
    LITE_NORMALIZATION,
)
from models.architectures.lite_scales import LITE0
from models.runtime.openvino.efficientnet_lite import efficientnet_lite
from models.runtime.openvino.inception import inception_v3
from models.runtime.openvino.layers import Weights, channels, constant, double

__all__ = ["inception_and_lite0"]


def inception_and_lite0(x: Node, weights: Weights) -> Node:
    """Map images (B, 3, 251, 251), normalized for Inception, to (B, 768 + 320, 14, 14)."""
    begin, end = (constant([edge, edge], np.int64) for edge in FUSED_CROP)
    cropped = ops.slice(x, begin, end, constant([1, 1], np.int64), constant([2, 3], np.int64))
    first, second = INCEPTION.normalization, LITE_NORMALIZATION
    rgb = ops.add(ops.multiply(cropped, channels(first.std)), channels(first.mean))
    seen = ops.divide(ops.subtract(rgb, channels(second.mean)), channels(second.std))
    coarse = efficientnet_lite(seen, weights.at("beside"), LITE0)
    scaled = ops.multiply(coarse, constant(FUSED_SCALE))
    return ops.concat([inception_v3(x, weights), double(scaled)], 1)
