"""All that a model sees of images, as one graph: the encoder's map, the detector's scores, the
classifier's concepts. Knows no captions.

Letters in shapes: N places of the detector, C concepts, S the side of the images in pixels; the
others as in `models`.
"""

import numpy as np
from openvino import Model, Node
from openvino import opset15 as ops

from models.architectures.grids import LITE_NORMALIZATION, Normalization
from models.architectures.lite_scales import LITE2
from models.config import ModelConfig, PreprocessConfig, TaggerConfig
from models.detection.boxes import SIZE_PIXELS
from models.geometry import CellGrid
from models.runtime.openvino.efficientnet_lite import efficientnet_lite
from models.runtime.openvino.fused import inception_and_lite0
from models.runtime.openvino.inception import inception_v3
from models.runtime.openvino.layers import (
    Array,
    Weights,
    channels,
    constant,
    conv,
    graph,
    interpolate,
    linear,
    matmul,
    relu6,
    reshape,
    tensor,
    transpose,
)
from models.runtime.openvino.tiny import tiny
from models.runtime.openvino.yolox import yolox_nano
from models.tagging.found import CLASSIFIER_SCALE, LEAST_ACTIVATION, shares_of_parts

__all__ = ["build_eyes", "can_build_eyes"]

_ENCODERS = {
    "inception_v3": inception_v3,
    "inception_v3+efficientnet_lite0": inception_and_lite0,
    "tiny": tiny,
}


def can_build_eyes(config: ModelConfig) -> bool:
    """Tell whether there is a graph for the model's encoder."""
    return config.encoder in _ENCODERS


def build_eyes(config: ModelConfig, grid: CellGrid, weights: Weights) -> Model:
    """Build the graph of the pixels of one image, (B, 3, S, S) uint8 RGB with B = 1.

    Gives annotations (B, L, D); with a tagger also the detector's scores (B, N, 5 + K), and of
    concepts the classes and scores (B, C) and the places (B, C, L).
    """
    side = config.preprocess.size_pixels
    pixels = ops.parameter([1, 3, side, side], np.uint8, name="pixels")
    images = ops.convert(pixels, "f32")

    def sized(pixels_a_side: int) -> Node:
        return images if pixels_a_side == side else interpolate(images, pixels_a_side)

    normal = _normalize(sized(config.encoder_pixels or side), config.preprocess)
    maps = _ENCODERS[config.encoder](normal, weights.at("encoder.body"))
    seen = transpose(reshape(maps, (0, 0, -1)), (0, 2, 1))  # (B, L, D)
    if config.tagger is None:
        return graph("eyes", [pixels], [seen])
    tagger = weights.at("tagger")
    bgr = ops.gather(sized(SIZE_PIXELS), constant([2, 1, 0], np.int64), constant(1, np.int64))
    detections = yolox_nano(bgr, tagger.at("detector"))
    small = sized(LITE2.classify_pixels)
    classified = _normalize(small, LITE_NORMALIZATION)
    laid, *concepts = _concepts(classified, config.tagger, grid, tagger.at("classifier"))
    seen = ops.concat([seen, laid], 2)
    return graph("eyes", [pixels], [seen, detections, *concepts])


def _normalize(images: Node, to: PreprocessConfig | Normalization) -> Node:
    return ops.divide(ops.subtract(images, channels(to.mean)), channels(to.std))


def _concepts(
    images: Node, config: TaggerConfig, grid: CellGrid, weights: Weights
) -> tuple[Node, Node, Node, Node]:
    """Give the body's features on the grid, and classes, scores and places of the concepts."""
    features = efficientnet_lite(images, weights.at("body"), LITE2)
    side = LITE2.classify_pixels // 32 + (LITE2.classify_pixels % 32 > 0)  # SAME rounds up
    spread = _spread(grid, side)  # (h * w, L)
    flat = reshape(features, (0, 0, -1))  # (B, D, h * w)
    mean_of_cells = constant(spread / spread.sum(axis=0) * CLASSIFIER_SCALE)
    laid = transpose(matmul(flat, mean_of_cells), (0, 2, 1))
    maps = reshape(relu6(conv(features, weights.at("head"))), (0, 0, -1))  # (B, 1280, h * w)
    pooled = ops.reduce_mean(maps, constant([2], np.int64))
    likely = ops.softmax(linear(pooled, weights.at("classifier")), 1)
    best = ops.topk(likely, constant(config.max_concepts, np.int64), 1, "max", "value")
    scores, classes = best.output(0), best.output(1)
    kernels = tensor(weights["classifier.weight"])
    activation = matmul(ops.gather(kernels, classes, constant(0, np.int64)), maps)
    highest = ops.reduce_max(activation, constant([2], np.int64), True)
    above = ops.relu(ops.subtract(activation, ops.multiply(highest, constant(LEAST_ACTIVATION))))
    placed = matmul(above, constant(spread))  # (B, C, L)
    total = ops.reduce_sum(placed, constant([2], np.int64), True)
    shares = ops.divide(placed, ops.maximum(total, constant(1e-6)))
    even = constant(1 / spread.shape[1])
    places = ops.select(ops.greater(total, constant(0.0)), shares, even)
    return laid, classes, scores, places


def _spread(grid: CellGrid, side: int) -> Array:
    """Give the share of each cell that each place of a side x side map covers, (side ** 2, L)."""
    left, top, right, bottom = grid.box
    down = shares_of_parts(side, top, bottom, grid.rows)  # (side, rows)
    across = shares_of_parts(side, left, right, grid.columns)
    shares: Array = np.einsum("ij,kl->ikjl", down, across).reshape(side**2, -1)
    return shares.astype(np.float32)
