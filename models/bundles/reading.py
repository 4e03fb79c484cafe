"""Bundles on disk: weights/<name>/ with tensors, configuration, vocabulary and metrics.

Read, verified and described here, in NumPy; `models.bundles.checkpoint` makes a torch module of
one. Knows no images and no torch.

    model.safetensors   every tensor that lies in no shared file; floats in half precision
    config.json         ModelConfig: architecture, preprocessing, decoding defaults
    vocab.json          {"words": [...]}, in the order of their ids
    metrics.json        what was measured, and how
    SHA256SUMS          of these four and of the shared files, as `sha256sum --check` reads it
    MODEL_CARD.md       for people

With its shared files a bundle is self-sufficient. It holds no code: loading it runs nothing from
it. Whatever is missing, damaged or does not fit is a CheckpointError that says what to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from models.architectures.grids import check_encoder
from models.architectures.shapes import Shapes, is_whole, tensor_shapes
from models.bundles.files import (
    CONFIG,
    FILES,
    METRICS,
    SUMS,
    VOCABULARY,
    WEIGHTS,
    parse_json,
    parse_sums,
    read_verified,
    shared_names,
    sum_of,
    sums_path,
    weights_digest,
    write_json,
    write_sums,
)
from models.bundles.shared_tensors import (
    REMEDY,
    Array,
    SharedFile,
    StoredTensor,
    parse_arrays,
    read_file,
    read_header,
)
from models.config import ModelConfig, migrate_config
from models.errors import CheckpointError, ConfigError
from models.memory import MemoryUse
from models.tokenizer import Vocabulary

__all__ = [
    "Bundle",
    "CheckpointDescription",
    "Small",
    "add_metrics",
    "check_probe",
    "describe_checkpoint",
    "join_tensors",
    "parse_small_files",
    "read_bundle",
    "read_config",
    "read_shared",
    "update_metrics",
]

_NORMALISE = "decoder.normalise.weight"  # of every decoder, (D,)


class Small(NamedTuple):
    """What the small files of a bundle say."""

    config: ModelConfig
    vocabulary: Vocabulary
    metrics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CheckpointDescription:
    """What the small files of a bundle say about it.

    digest: as `Checkpoint` has it, from SHA256SUMS; the weights were not compared with it.
    memory: what the model takes when it is loaded with a store.
    """

    config: ModelConfig
    metrics: Mapping[str, Any]
    digest: str
    parameters: int
    decoder_parameters: int
    memory: MemoryUse


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read and verified, with its tensors in NumPy as they are stored."""

    description: CheckpointDescription
    vocabulary: Vocabulary
    tensors: Mapping[str, Array]

    @property
    def config(self) -> ModelConfig:
        """What the model is."""
        return self.description.config


def read_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle whose tensors are known without PyTorch (`tensor_shapes`).

    Raises CheckpointError; so, too, for any other model.
    """
    contents, sums = read_verified(folder, FILES)
    small = parse_small_files(folder, contents)
    wanted = _known_shapes(folder, small.config)
    if wanted is None:
        raise CheckpointError(f"{folder}: the model {small.config.name!r} needs PyTorch.")
    check_probe(folder, small.config, wanted[_NORMALISE][0])
    files = [
        SharedFile(sums[name], parse_arrays(*read_shared(folder, name, sums[name])))
        for name in shared_names(sums)
    ]
    own = parse_arrays(folder / WEIGHTS, contents[WEIGHTS])
    tensors = join_tensors(folder, wanted, own, files)
    return Bundle(_describe(folder, small, sums), small.vocabulary, tensors)


def read_config(folder: Path) -> ModelConfig:
    """Read a bundle's configuration alone, verified. Raises CheckpointError."""
    contents, _ = read_verified(folder, (CONFIG, VOCABULARY, METRICS))
    return parse_small_files(folder, contents).config


def describe_checkpoint(folder: Path) -> CheckpointDescription:
    """Describe a bundle without reading its weights; its small files are verified.

    Raises CheckpointError.
    """
    contents, sums = read_verified(folder, (CONFIG, VOCABULARY, METRICS))
    return _describe(folder, parse_small_files(folder, contents), sums)


def _describe(folder: Path, small: Small, sums: Mapping[str, str]) -> CheckpointDescription:
    common: set[str] = set()
    shared_bytes: dict[str, int] = {}
    stored: dict[str, StoredTensor] = {}
    for name in shared_names(sums):
        header = read_header(sums_path(folder, name))
        common.update(header)
        stored |= header
        shared_bytes[sums[name]] = sum(tensor.size_bytes for tensor in header.values())
    tensors = _tensors(folder, small.config, stored)
    own_bytes = sum(each.size_bytes for name, each in tensors.items() if name not in common)
    return CheckpointDescription(
        config=small.config,
        metrics=small.metrics,
        digest=weights_digest(sums),
        parameters=_count(tensors, ""),
        decoder_parameters=_count(tensors, "decoder."),
        memory=MemoryUse(own_bytes, shared_bytes),
    )


def _tensors(
    folder: Path, config: ModelConfig, shared: Mapping[str, StoredTensor]
) -> Mapping[str, StoredTensor]:
    """Tell what tensors a model has: by its configuration, or else by the headers of its files."""
    wanted = _known_shapes(folder, config)
    if wanted is None:
        tensors = {**read_header(folder / WEIGHTS), **shared}
    else:
        tensors = {
            name: StoredTensor(shape, "I64" if is_whole(name) else "F16")
            for name, shape in wanted.items()
        }
    if _NORMALISE in tensors:
        check_probe(folder, config, tensors[_NORMALISE].shape[0])
    return tensors


def _known_shapes(folder: Path, config: ModelConfig) -> Shapes | None:
    try:
        check_encoder(config.encoder)
        return tensor_shapes(config)
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error} {REMEDY}") from error


def _count(tensors: Mapping[str, StoredTensor], prefix: str) -> int:
    """Count the parameters whose names begin so."""
    return sum(
        tensor.count
        for name, tensor in tensors.items()
        if name.startswith(prefix) and _is_parameter(name, tensor)
    )


def _is_parameter(name: str, tensor: StoredTensor) -> bool:
    """Tell parameters from buffers: whole numbers, and what batch normalization has seen."""
    return tensor.is_float and not name.endswith((".running_mean", ".running_var"))


def read_shared(folder: Path, name: str, digest: str) -> tuple[Path, bytes]:
    """Read and verify the shared file that SHA256SUMS calls `name`: where it is, and its content.

    Raises CheckpointError.
    """
    path = sums_path(folder, name)
    if not path.is_file():
        raise CheckpointError(f"{folder} needs {path}, which is missing. {REMEDY}")
    content = read_file(path)
    if sum_of(content) != digest:
        raise CheckpointError(
            f"{path} does not match {folder / SUMS}: damaged or changed. {REMEDY}"
        )
    return path, content


def join_tensors(
    folder: Path,
    wanted: Mapping[str, Sequence[int]],
    own: Mapping[str, Any],
    files: Sequence[SharedFile],
) -> dict[str, Any]:
    """Collect the tensors of a model, each from one place. wanted: their shapes.

    Raises CheckpointError where one is missing, has another shape or is there twice, and where
    `own` has one that the model lacks.
    """
    tensors = dict(own)
    for file in files:
        for name in wanted.keys() & file.tensors.keys():
            if name in tensors:
                raise CheckpointError(f"{folder}: the tensor {name} is there twice. {REMEDY}")
            tensors[name] = file.tensors[name]
    for name in sorted(wanted.keys() | tensors.keys()):
        fits = name in tensors and name in wanted
        if not fits or tuple(wanted[name]) != tuple(tensors[name].shape):
            raise CheckpointError(
                f"{folder}: the tensor {name} does not fit config.json's architecture. {REMEDY}"
            )
    return tensors


def update_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Replace a bundle's metrics and update its sums, without reading its shared files."""
    sums = parse_sums(folder, read_file(folder / SUMS))
    write_json(folder / METRICS, metrics)
    write_sums(folder, {name: sums[name] for name in shared_names(sums)})


def add_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Add metrics to those of a bundle; the same keys are replaced."""
    present = parse_json(folder / METRICS, read_file(folder / METRICS))
    update_metrics(folder, {**present, **metrics})


def parse_small_files(folder: Path, contents: Mapping[str, bytes]) -> Small:
    """Read configuration, vocabulary and metrics.

    Raises CheckpointError where they contradict each other.
    """
    config = _parse_config(folder / CONFIG, contents[CONFIG])
    if config.name != folder.absolute().name:
        raise CheckpointError(
            f"{folder} holds a model called {config.name!r}; name the folder {config.name}."
        )
    vocabulary = _parse_vocabulary(folder / VOCABULARY, contents[VOCABULARY])
    metrics = parse_json(folder / METRICS, contents[METRICS])
    if len(vocabulary) != config.vocab_size:
        raise CheckpointError(
            f"{folder}: vocab.json has {len(vocabulary)} tokens and config.json says "
            f"{config.vocab_size}: they belong to different models. {REMEDY}"
        )
    return Small(config, vocabulary, metrics)


def _parse_config(path: Path, content: bytes) -> ModelConfig:
    document = parse_json(path, content)
    try:
        return ModelConfig.model_validate(migrate_config(document))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{path}: {where}: {first['msg']}. It may come from another version. {REMEDY}"
        ) from error


def _parse_vocabulary(path: Path, content: bytes) -> Vocabulary:
    words = parse_json(path, content).get("words")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f'{path} has no list "words" of strings. {REMEDY}')
    return Vocabulary(words)


def check_probe(folder: Path, config: ModelConfig, feature_dim: int) -> None:
    """Raise CheckpointError where the calibration was fitted to other features."""
    photo = None if config.calibration is None else config.calibration.photo
    if photo is not None and len(photo.weights) != feature_dim:
        raise CheckpointError(
            f"{folder / CONFIG}: calibration.photo has {len(photo.weights)} weights, and the "
            f"model {feature_dim} features: calibrate it anew. {REMEDY}"
        )
