"""The runtime in OpenVINO, on a CPU: graphs made of a bundle's tensors. Knows no words, no files.

Letters in shapes: K beams, R = B * K rows grouped by image; the others as in `models`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock, local
from typing import Any, Literal
from weakref import WeakValueDictionary

import numpy as np
import openvino as ov

from models.architectures.grids import sight_of
from models.architectures.shapes import has_shapes
from models.array_features import ArrayFeatures, Features, TagArrays
from models.caption import RuntimeInfo
from models.config import ModelConfig, TaggerConfig
from models.decoders.config import AttentionConfig
from models.decoding import Ints, StepOutput, log_softmax
from models.errors import ConfigError
from models.geometry import CellGrid
from models.runtime import Scores
from models.runtime.openvino.decoders import build_first_state, build_step
from models.runtime.openvino.eyes import build_eyes, can_build_eyes
from models.runtime.openvino.layers import Array, Weights
from models.tagging.found import concepts_as_tags, objects_as_tags
from models.tokenizer import Vocabulary

__all__ = ["OpenVINORuntime", "can_run"]

# What sees is compiled for one image, so that its weights are in memory once, laid out for the
# processor; more images at a time take more memory and are hardly faster (docs/LOG.md).
_EYES_AT_A_TIME = 1
_STATES_AT_A_TIME = 4


def can_run(config: ModelConfig) -> bool:
    """Tell whether there are graphs for a model of that configuration."""
    return has_shapes(config) and can_build_eyes(config)


class OpenVINORuntime:
    """A model that captions on a CPU.

    What sees computes in bfloat16 where the processor has instructions for it (`precision`
    "auto"), or in float32; what decodes computes in float32.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, Array],
        *,
        precision: Literal["auto", "float32", "bfloat16"],
        threads: int,
    ) -> None:
        """Build and compile the graphs of a model's tensors, by their names in its bundle.

        The tensors may be in half precision; none is kept. threads: how many compute one batch.
        Raises ConfigError for a model that `can_run` denies.
        """
        sight = sight_of(config) if can_run(config) else None
        if sight is None or not isinstance(config.decoder, AttentionConfig):
            raise ConfigError(f"There is no OpenVINO graph for the model {config.name!r}.")
        core = ov.Core()
        self.precision, self._reason = _choose(core, precision)
        self.grid = sight.grid
        self._config = config
        self._threads = threads
        self._fingerprint = _fingerprint(config, tensors, self.precision)
        weights = Weights(tensors)
        own = weights.at("decoder")
        self._eyes = self._shared_eyes(core, weights)
        first = _compiled(core, build_first_state(config.decoder, own), threads, "float32")
        step = _compiled(core, build_step(config.decoder, own), threads, "float32")
        self.decoder = _Decoder(first, step, has_tags=config.decoder.tags)

    def _shared_eyes(self, core: ov.Core, weights: Weights) -> "_Graph":
        """Compile what sees, or take it from another model in memory that sees alike."""
        key = f"{self._fingerprint} {self._threads}"
        with _eyes_lock:
            eyes = _eyes_in_memory.get(key)
            if eyes is None:
                graph = build_eyes(self._config, self.grid, weights)
                eyes = _compiled(core, graph, self._threads, self.precision)
                _eyes_in_memory[key] = eyes
            return eyes

    def describe(self) -> RuntimeInfo:
        """Say what computes."""
        return RuntimeInfo(
            name="openvino",
            version=ov.__version__.split("-")[0],
            precision=self.precision,
            threads=self._threads,
            reason=self._reason,
        )

    def encode(self, pixels: Any) -> ArrayFeatures:
        """Encode pixels (B, 3, S, S) uint8 RGB, an array or a tensor, to features in float32."""
        annotations, *found = _in_parts(self._eyes, [np.asarray(pixels)], _EYES_AT_A_TIME)
        tags = None
        if self._config.tagger is not None:
            tags = _tags(self._config.tagger, self.grid, *found)
        return ArrayFeatures(annotations, tags)

    def score_tokens(self, features: Features, token_ids: Ints) -> Scores:
        """Read given captions by teacher forcing, as `models.runtime.Runtime` says."""
        images, group, length = token_ids.shape
        rows = np.repeat(np.arange(images), group)
        state = self.decoder.init_state(features).select(rows)
        words = np.full(images * group, Vocabulary.bos_id, dtype=np.int64)
        logprobs, alphas = [], []
        for time in range(length):
            output = self.decoder.step(words, state)
            state = output.state
            words = token_ids[:, :, time].reshape(-1)
            scores = log_softmax(output.logits)
            chosen = np.take_along_axis(scores, words[:, np.newaxis], axis=1)
            logprobs.append(chosen.reshape(images, group))
            alphas.append(output.alpha.reshape(images, group, -1))
        return np.stack(logprobs, axis=2), np.stack(alphas, axis=2)

    def fingerprint(self) -> str:
        """Identify what `encode` gives, by the weights that see, preprocessing and precision."""
        return self._fingerprint


def _choose(core: ov.Core, asked: str) -> tuple[Literal["float32", "bfloat16"], str]:
    """Choose a precision, and say why."""
    if asked == "bfloat16":
        return "bfloat16", "it was asked for"
    if asked == "float32":
        return "float32", "it was asked for"
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "bfloat16", "the processor has bfloat16 instructions"
    return "float32", "the processor has no bfloat16 instructions"


class _Graph:
    """A compiled graph; each thread has a request of its own.

    So a thread that hangs in one, and is replaced, keeps no other from computing.
    """

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._compiled = compiled
        self._outputs = range(len(compiled.outputs))
        self._own = local()

    def __call__(self, *inputs: Array) -> list[Array]:
        """Compute; the outputs are the caller's."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        given = dict(enumerate(inputs))
        results = request.infer(given, share_inputs=True, share_outputs=False)
        return [results[number] for number in self._outputs]


def _in_parts(graph: _Graph, inputs: Sequence[Array], size: int) -> list[Array]:
    """Compute a batch `size` images at a time: their maps are what takes most of the memory."""
    starts = range(0, len(inputs[0]), size)
    parts = [graph(*(each[at : at + size] for each in inputs)) for at in starts]
    if len(parts) == 1:
        return parts[0]
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]


_eyes_in_memory: WeakValueDictionary[str, _Graph] = WeakValueDictionary()
_eyes_lock = Lock()


def _compiled(core: ov.Core, model: ov.Model, threads: int, precision: str) -> _Graph:
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        # else each process takes the first processors for itself, whoever else sits there
        "ENABLE_CPU_PINNING": False,
    }
    return _Graph(core.compile_model(model, "CPU", options))


@dataclass(frozen=True, slots=True)
class _State:
    """Everything that a step depends on besides the last word: rows (B, K, N), and the image's."""

    hidden: Array
    cell: Array
    of_image: tuple[Array, ...]

    def select(self, indices: Ints, images: Ints | None = None) -> "_State":
        """Take rows `indices` (R',), as `models.decoding.State` says."""
        every, _, size = self.hidden.shape
        of_image = self.of_image
        if images is not None:
            every = len(images)
            of_image = tuple(each[images] for each in of_image)
        shape = (every, -1, size)
        return _State(
            self.hidden.reshape(-1, size)[indices].reshape(shape),
            self.cell.reshape(-1, size)[indices].reshape(shape),
            of_image,
        )


@dataclass(frozen=True, slots=True)
class _Decoder:
    """The first state and the step, as the search asks for them."""

    first: _Graph
    advance: _Graph
    has_tags: bool

    def init_state(self, features: Features) -> _State:
        """Give a state of B rows, one for each image."""
        given = ArrayFeatures.of(features)
        inputs: list[Array] = [given.annotations]
        of_tags: tuple[Array, ...] = ()
        if self.has_tags:
            tags = given.tags
            assert tags is not None
            parts = (tags.classes, tags.scores, tags.boxes, tags.places)
            inputs += [np.ascontiguousarray(each) for each in parts]
            of_tags = (inputs[-1],)
        hidden, cell, *of_image = _in_parts(self.first, inputs, _STATES_AT_A_TIME)
        return _State(hidden, cell, (*of_image, *of_tags))

    def step(self, token_ids: Ints, state: _State) -> StepOutput[_State]:
        """Read the last words (R,)."""
        images, group, _ = state.hidden.shape
        words = token_ids.reshape(images, group)
        outputs = self.advance(words, state.hidden, state.cell, *state.of_image)
        logits, alpha, beta, hidden, cell, *shares = outputs
        return StepOutput(
            _rows(logits),
            _rows(alpha),
            beta.reshape(-1),
            replace(state, hidden=hidden, cell=cell),
            _rows(shares[0]) if shares else None,
        )


def _rows(values: Array) -> Array:
    """Lay (B, K, X) out as (R, X)."""
    return values.reshape(-1, values.shape[-1])


def _tags(
    config: TaggerConfig,
    grid: CellGrid,
    detections: Array,
    classes: Array,
    scores: Array,
    places: Array,
) -> TagArrays:
    """Make tags of what the graph found: objects, and behind them concepts."""
    objects = objects_as_tags(detections, config, grid)
    concepts = concepts_as_tags(classes, scores, places, config)
    return TagArrays.join([objects, concepts])


def _fingerprint(config: ModelConfig, tensors: Mapping[str, Array], precision: str) -> str:
    """Identify what sees as the runtime in PyTorch does: in float32 both give the same features.

    The same but for rounding; in bfloat16 each rounds in its own places.
    """
    seen = _hash_of(tensors, "encoder.")
    if config.tagger is not None:
        seen = f"{seen} {_hash_of(tensors, 'tagger.')} {config.tagger.model_dump_json()}"
    own = "" if precision == "float32" else " of openvino"
    return f"{seen} {config.preprocess.model_dump_json()} {precision}{own}"


def _hash_of(tensors: Mapping[str, Array], prefix: str) -> str:
    """Hash the tensors of one module, as `models.runtime.torch.fingerprint` does."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if name.startswith(prefix):
            digest.update(name.removeprefix(prefix).encode())
            values = np.ascontiguousarray(tensors[name], dtype=np.float32) + np.float32(0.0)
            digest.update(values.tobytes())
    return digest.hexdigest()
