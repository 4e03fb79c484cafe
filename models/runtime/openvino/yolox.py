"""YOLOX-nano as a graph: `models.detection.yolox`, layer by layer."""

import numpy as np
from openvino import Node
from openvino import opset15 as ops

from models.runtime.openvino.layers import (
    Weights,
    constant,
    conv,
    depthwise_conv,
    double,
    max_pool,
    reshape,
    silu,
    transpose,
)

__all__ = ["yolox_nano"]

_LAST = 2**31 - 1  # to the end of a dimension


def yolox_nano(images: Node, weights: Weights) -> Node:
    """Score every place of images (B, 3, S, S), BGR on the 0..255 scale: (B, N, 5 + K)."""
    maps = _pyramid(*_backbone(images, weights.at("backbone")), weights.at("pyramid"))
    heads = weights.at("heads")
    scored = [reshape(_head(x, heads.at(str(at))), (0, 0, -1)) for at, x in enumerate(maps)]
    return transpose(ops.concat(scored, 2), (0, 2, 1))


def _conv(x: Node, weights: Weights, stride: int = 1) -> Node:
    side = weights["weight"].shape[2] // 2
    return silu(conv(x, weights, stride, side))


def _separable(x: Node, weights: Weights, stride: int = 1) -> Node:
    each = silu(depthwise_conv(x, weights.at("0"), stride, 1))
    return _conv(each, weights.at("1"))


def _cross_stage(x: Node, weights: Weights, blocks: int = 1, *, shortcut: bool = True) -> Node:
    through = _conv(x, weights.at("through"))
    for number in range(blocks):
        block = weights.at(f"blocks.{number}")
        y = _separable(_conv(through, block.at("reduce")), block.at("separable"))
        through = ops.add(through, y) if shortcut else y
    around = _conv(x, weights.at("around"))
    return _conv(ops.concat([through, around], 1), weights.at("join"))


def _pyramid_pooling(x: Node, weights: Weights) -> Node:
    narrow = _conv(x, weights.at("reduce"))
    pooled = [max_pool(narrow, size, 1, size // 2) for size in (5, 9, 13)]
    return _conv(ops.concat([narrow, *pooled], 1), weights.at("join"))


def _backbone(images: Node, weights: Weights) -> tuple[Node, Node, Node]:
    x = _conv(_space_to_depth(images), weights.at("stem"))
    x = _stage(x, weights.at("stage2"), 1)
    fine = _stage(x, weights.at("stage3"), 3)
    middle = _stage(fine, weights.at("stage4"), 3)
    last = weights.at("stage5")
    coarse = _pyramid_pooling(_separable(middle, last.at("0"), 2), last.at("1"))
    return fine, middle, _cross_stage(coarse, last.at("2"), shortcut=False)


def _stage(x: Node, weights: Weights, blocks: int) -> Node:
    return _cross_stage(_separable(x, weights.at("0"), 2), weights.at("1"), blocks)


def _pyramid(fine: Node, middle: Node, coarse: Node, weights: Weights) -> list[Node]:
    def joined(name: str, *maps: Node) -> Node:
        return _cross_stage(ops.concat(list(maps), 1), weights.at(name), shortcut=False)

    narrow_coarse = _conv(coarse, weights.at("narrow_coarse"))
    down_middle = joined("down_middle", double(narrow_coarse), middle)
    narrow_middle = _conv(down_middle, weights.at("narrow_middle"))
    out_fine = joined("down_fine", double(narrow_middle), fine)
    halved_fine = _separable(out_fine, weights.at("halve_fine"), 2)
    out_middle = joined("up_middle", halved_fine, narrow_middle)
    halved_middle = _separable(out_middle, weights.at("halve_middle"), 2)
    return [out_fine, out_middle, joined("up_coarse", halved_middle, narrow_coarse)]


def _head(x: Node, weights: Weights) -> Node:
    stem = _conv(x, weights.at("stem"))
    classes = _two(stem, weights.at("class_convs"))
    boxes = _two(stem, weights.at("box_convs"))
    return ops.concat(
        [
            conv(boxes, weights.at("box")),
            ops.sigmoid(conv(boxes, weights.at("objectness"))),
            ops.sigmoid(conv(classes, weights.at("classes"))),
        ],
        1,
    )


def _two(x: Node, weights: Weights) -> Node:
    return _separable(_separable(x, weights.at("0")), weights.at("1"))


def _space_to_depth(images: Node) -> Node:
    """Put each 2x2 square of pixels into channels: down before across."""
    squares = [_every_second(images, row, column) for column in (0, 1) for row in (0, 1)]
    return ops.concat(squares, 1)


def _every_second(images: Node, row: int, column: int) -> Node:
    def places(*values: int) -> Node:
        return constant(values, np.int64)

    return ops.slice(images, places(row, column), places(_LAST, _LAST), places(2, 2), places(2, 3))
