"""The attention decoder as two graphs: its first state, and one step.

`models.decoders.show_attend_tell`, equation by equation. Knows no strings and no search.

Letters in shapes: G hypotheses of an image, W tags, P words of a class; the others as in `models`.
"""

import math
from dataclasses import dataclass

import numpy as np
from openvino import Model, Node
from openvino import opset15 as ops

from models.decoders.config import AttentionConfig, AttentionKind
from models.runtime.openvino.layers import (
    Weights,
    constant,
    graph,
    layer_norm,
    linear,
    matmul,
    reshape,
    tensor,
    unsqueeze,
)

__all__ = ["build_first_state", "build_step"]

_LOWEST = -1e30  # an energy that takes no share


def build_first_state(config: AttentionConfig, weights: Weights) -> Model:
    """Build the graph of annotations (B, L, D), and of tags where the decoder attends to them.

    Gives hidden and cell (B, 1, N), what contexts are the mean of (B, L, D) and the keys
    (B, L, A). Of tags: values (B, W, F), keys (B, W, A), what an absent one's energy gains (B, W),
    and their words and gains (B, W * P).
    """
    annotations = ops.parameter([-1, -1, -1], np.float32, name="annotations")
    normal = layer_norm(annotations, weights.at("normalise"))
    mean = ops.reduce_mean(normal, constant([1], np.int64), True)  # (B, 1, D)
    hidden = ops.tanh(linear(mean, weights.at("init_hidden")))
    cell = ops.tanh(linear(mean, weights.at("init_cell")))
    values, keys = _project_keys(config.attention, normal, weights.at("attention"))
    outputs = [hidden, cell, values, keys]
    if not config.tags:
        return graph("first state", [annotations], outputs)
    tags = _TagInputs.declare()
    outputs += _prepare_tags(tags, normal, weights)
    return graph("first state", [annotations, *tags.parameters], outputs)


def build_step(config: AttentionConfig, weights: Weights) -> Model:
    """Build the graph of one step.

    Takes the last words (B, G) int64, hidden and cell (B, G, N), and what the first state gives of
    the image; with tags also their places (B, W, L). Gives logits (B, G, V), alpha (B, G, L), beta
    (B, G), hidden and cell; with tags also how much of alpha lies on each, (B, G, W).
    """
    words = ops.parameter([-1, -1], np.int64, name="words")
    hidden = _floats("hidden", 3)
    cell = _floats("cell", 3)
    values = _floats("values", 3)
    keys = _floats("keys", 3)
    inputs = [words, hidden, cell, values, keys]
    embedding = tensor(weights["embedding.weight"])
    word = ops.gather(embedding, words, constant(0, np.int64))  # (B, G, E)
    gates = ops.add(
        linear(word, weights.at("lstm_word")), linear(hidden, weights.at("lstm_hidden"))
    )
    alpha = _attend(config.attention, hidden, keys, weights.at("attention"))
    beta = ops.sigmoid(linear(hidden, weights.at("gate")))  # (B, G, 1)
    context = ops.multiply(beta, matmul(alpha, values))
    gates = ops.add(gates, linear(context, weights.at("lstm_context")))
    tags = None
    if config.tags:
        tags = _attend_to_tags(hidden, weights.at("tags"))
        inputs += tags.parameters
        gates = ops.add(gates, linear(tags.context, weights.at("lstm_tags")))
        alpha = ops.add(ops.multiply(tags.none, alpha), tags.place)
    hidden, cell = _lstm_update(gates, cell)
    readout = ops.add(word, linear(hidden, weights.at("readout_hidden")))
    readout = ops.add(readout, linear(context, weights.at("readout_context")))
    if tags is not None:
        readout = ops.add(readout, linear(tags.context, weights.at("readout_tags")))
    logits = linear(readout, weights.at("output"))  # (B, G, V)
    outputs = [logits, alpha, reshape(beta, (0, 0)), hidden, cell]
    if tags is not None:
        outputs[0] = _add_copies(logits, tags)
        outputs.append(tags.shares)
    return graph("step", inputs, outputs)


def _floats(name: str, rank: int) -> Node:
    return ops.parameter([-1] * rank, np.float32, name=name)


def _project_keys(kind: AttentionKind, normal: Node, weights: Weights) -> tuple[Node, Node]:
    keys = linear(normal, weights.at("key"))
    if kind == "dot-product":
        return linear(normal, weights.at("value")), keys
    return normal, _unit(keys) if kind == "cosine" else keys


def _attend(kind: AttentionKind, hidden: Node, keys: Node, weights: Weights) -> Node:
    """Give alpha (B, G, L)."""
    query = linear(hidden, weights.at("query"))  # (B, G, A)
    if kind == "dot-product":
        scale = 1 / math.sqrt(weights["query.weight"].shape[0])
        energy = ops.multiply(matmul(query, keys, transposed=True), constant(scale))
    elif kind == "cosine":
        temperature = constant(np.exp(weights["log_temperature"].astype(np.float32)))
        energy = ops.divide(matmul(_unit(query), keys, transposed=True), temperature)
    else:
        energy = _additive(keys, query, weights)
    if kind != "hard":
        return ops.softmax(energy, 2)
    best = ops.topk(energy, constant(1, np.int64), 2, "max", "value").output(1)
    locations = ops.gather(ops.shape_of(energy), constant(2, np.int64), constant(0, np.int64))
    one_hot = ops.one_hot(best, locations, constant(1.0), constant(0.0), 3)
    return ops.squeeze(one_hot, constant([2], np.int64))


def _additive(keys: Node, query: Node, weights: Weights) -> Node:
    """Score every key by an MLP (equation 4): (B, L, A) and (B, G, A) to (B, G, L)."""
    units = ops.tanh(ops.add(unsqueeze(keys, 1), unsqueeze(query, 2)))  # (B, G, L, A)
    return ops.squeeze(linear(units, weights.at("score")), constant([3], np.int64))


def _unit(x: Node) -> Node:
    """Bring to length one, as F.normalize."""
    return ops.normalize_l2(x, constant([2], np.int64), 1e-12, "max")


def _lstm_update(gates: Node, cell: Node) -> tuple[Node, Node]:
    """Equations 1 to 3; the gates in the order input, forget, output, candidate."""
    split = ops.split(gates, constant(2, np.int64), 4)
    entering, kept, shown, candidate = (split.output(number) for number in range(4))
    cell = ops.add(
        ops.multiply(ops.sigmoid(kept), cell),
        ops.multiply(ops.sigmoid(entering), ops.tanh(candidate)),
    )
    return ops.multiply(ops.sigmoid(shown), ops.tanh(cell)), cell


# ---------------------------------------------------------------------- tags


@dataclass(frozen=True, slots=True)
class _TagInputs:
    """The tags of images.

    classes (B, W) int64, scores (B, W), boxes (B, W, 4), places (B, W, L).
    """

    classes: Node
    scores: Node
    boxes: Node
    places: Node

    @classmethod
    def declare(cls) -> "_TagInputs":
        return cls(
            ops.parameter([-1, -1], np.int64, name="classes"),
            _floats("scores", 2),
            _floats("boxes", 3),
            _floats("places", 3),
        )

    @property
    def parameters(self) -> list[Node]:
        return [self.classes, self.scores, self.boxes, self.places]


@dataclass(frozen=True, slots=True)
class _TagOutput:
    """What a step attended to among tags; `parameters` are what it needs of the image."""

    parameters: list[Node]
    context: Node  # (B, G, F)
    shares: Node  # (B, G, W)
    none: Node  # (B, G, 1)
    place: Node  # (B, G, L)
    word_ids: Node  # (B, W * P)
    gains: Node  # (B, G, W * P)


def _prepare_tags(tags: _TagInputs, normal: Node, weights: Weights) -> list[Node]:
    """Give values, keys, energies of absence, words and gains; see `build_first_state`."""
    own = weights.at("tags")
    first = constant(0, np.int64)
    word_ids = ops.gather(tensor(own["class_words"]), tags.classes, first)  # (B, W, P)
    present = ops.convert(ops.greater(tags.scores, constant(0.0)), "f32")  # (B, W)
    is_word = ops.convert(ops.not_equal(word_ids, constant(0, np.int64)), "f32")
    there = ops.multiply(is_word, unsqueeze(present, 2))
    gains = ops.multiply(ops.gather(tensor(own["gain"]), tags.classes, first), there)
    count = ops.maximum(ops.reduce_sum(there, constant([2], np.int64), True), constant(1.0))
    share = ops.divide(there, count)  # (B, W, P)
    names = ops.gather(tensor(weights["embedding.weight"]), word_ids, first)
    name = matmul(unsqueeze(share, 2), names)  # (B, W, 1, E)
    value = ops.add(
        linear(reshape(name, (0, 0, -1)), own.at("word")),
        linear(_describe(tags, present), own.at("place")),
    )
    seen = linear(matmul(tags.places, normal), own.at("seen"))
    values = layer_norm(ops.add(value, seen), own.at("normalise"))
    values = ops.multiply(values, unsqueeze(present, 2))
    absence = ops.multiply(ops.subtract(constant(1.0), present), constant(_LOWEST))
    keys = linear(values, own.at("key"))
    return [values, keys, absence, reshape(word_ids, (0, -1)), reshape(gains, (0, -1))]


def _describe(tags: _TagInputs, present: Node) -> Node:
    """Give box, score, area and how many are alike, of each tag that is there: (B, W, 7)."""
    split = ops.split(tags.boxes, constant(2, np.int64), 4)
    left, top, right, bottom = (split.output(number) for number in range(4))
    area = ops.multiply(ops.subtract(right, left), ops.subtract(bottom, top))  # (B, W, 1)
    same = ops.equal(unsqueeze(tags.classes, 1), unsqueeze(tags.classes, 2))
    alike = ops.multiply(ops.convert(same, "f32"), unsqueeze(present, 1))
    count = ops.reduce_sum(alike, constant([2], np.int64), True)
    counted = ops.log(ops.add(count, constant(1.0)))
    known = ops.concat([tags.boxes, unsqueeze(tags.scores, 2), area, counted], 2)
    return ops.multiply(known, unsqueeze(present, 2))


def _attend_to_tags(hidden: Node, weights: Weights) -> _TagOutput:
    """Attend to tags, and to none of them."""
    values = _floats("tag_values", 3)
    keys = _floats("tag_keys", 3)
    absence = _floats("absence", 2)
    word_ids = ops.parameter([-1, -1], np.int64, name="word_ids")
    word_gains = _floats("word_gains", 2)
    places = _floats("places", 3)
    energy = _additive(keys, linear(hidden, weights.at("query")), weights)  # (B, G, W)
    energy = ops.add(energy, unsqueeze(absence, 1))
    none = linear(hidden, weights.at("none"))  # (B, G, 1)
    together = ops.softmax(ops.concat([energy, none], 2), 2)
    tags = ops.subtract(
        ops.gather(ops.shape_of(together), constant([2], np.int64), constant(0, np.int64)),
        constant([1], np.int64),
    )
    lengths = ops.concat([tags, constant([1], np.int64)], 0)
    split = ops.variadic_split(together, constant(2, np.int64), lengths)
    shares, rest = split.output(0), split.output(1)
    # each word of a tag gains by the tag's share
    spread = ops.multiply(
        unsqueeze(shares, 3),
        unsqueeze(reshape(word_gains, (0, -1, _words_a_class(weights))), 1),
    )
    return _TagOutput(
        parameters=[values, keys, absence, word_ids, word_gains, places],
        context=matmul(shares, values),
        shares=shares,
        none=rest,
        place=matmul(shares, places),
        word_ids=word_ids,
        gains=reshape(spread, (0, 0, -1)),
    )


def _words_a_class(weights: Weights) -> int:
    return int(weights["class_words"].shape[1])


def _add_copies(logits: Node, tags: _TagOutput) -> Node:
    """Add to each word's logit what it gains by the tags that name it."""
    shape = ops.shape_of(tags.gains)
    ids = ops.broadcast(unsqueeze(tags.word_ids, 1), shape)  # (B, G, W * P)
    return ops.scatter_elements_update(
        logits, ids, tags.gains, constant(2, np.int64), reduction="sum"
    )
