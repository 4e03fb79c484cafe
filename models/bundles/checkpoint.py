"""Bundles on disk: weights/<name>/ with tensors, configuration, vocabulary and metrics.

Knows no images.

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
from typing import Any

from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor, nn

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
from models.bundles.outline import build_outline
from models.bundles.shared_tensors import (
    REMEDY,
    SHARED_FOLDER,
    SharedFile,
    SharedTensors,
    halve,
    is_same,
    parse_tensors,
    read_file,
    shared_path,
    sizes_in_memory,
)
from models.config import ModelConfig, migrate_config
from models.errors import CheckpointError, ConfigError
from models.memory import MemoryUse
from models.network import CaptioningModel
from models.tokenizer import Vocabulary

__all__ = [
    "Checkpoint",
    "CheckpointDescription",
    "add_metrics",
    "describe_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
    "update_metrics",
]


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
class Checkpoint:
    """A loaded bundle.

    digest: of the weights, in hex: the SHA-256 of model.safetensors; for a bundle with shared
        files, that of the lines of its SHA256SUMS that name weights, which
        `grep safetensors SHA256SUMS | sha256sum` gives.
    shared: the files that it has in common with other models in memory. Their store forgets them
        unless whoever keeps the model keeps these too.
    """

    model: CaptioningModel
    config: ModelConfig
    vocabulary: Vocabulary
    metrics: Mapping[str, Any]
    digest: str
    shared: tuple[SharedFile, ...] = ()

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return _count(self.model)

    @property
    def decoder_parameters(self) -> int:
        """How many numbers its decoder has."""
        return _count(self.model.decoder)

    @property
    def memory(self) -> MemoryUse:
        """What its tensors take in memory."""
        common: set[str] = set()
        for file in self.shared:
            common.update(file.tensors)
        shared_bytes = {file.digest: file.size_bytes for file in self.shared}
        return MemoryUse(_own_bytes(self.model, common), shared_bytes)


def save_checkpoint(
    folder: Path,
    model: CaptioningModel,
    config: ModelConfig,
    vocabulary: Vocabulary,
    metrics: Mapping[str, Any],
    shared: Sequence[str] = (),
) -> None:
    """Write a bundle to `folder`, in half precision; its model card stays as it is.

    shared: names of shared files; the model's tensors that lie in them are not written again.
    Raises CheckpointError where the vocabulary is not the model's, and where a shared file is
    missing, has no tensor of the model, or has one that differs from the model's in half precision.
    """
    if len(vocabulary) != config.vocab_size:
        raise CheckpointError(
            f"The vocabulary has {len(vocabulary)} tokens and the model {config.vocab_size}."
        )
    if config.name == SHARED_FOLDER:
        raise CheckpointError(
            f"{SHARED_FOLDER!r} is where bundles keep what they share: call the model otherwise."
        )
    tensors = halve(model.state_dict())
    sums: dict[str, str] = {}
    for name in sorted(set(shared)):
        path = shared_path(folder, name)
        content = read_file(path)
        tensors = _without(tensors, path, halve(parse_tensors(path, content)))
        sums[f"../{SHARED_FOLDER}/{path.name}"] = sum_of(content)
    folder.mkdir(parents=True, exist_ok=True)
    # one metadata entry: safetensors would write two in any order
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_json(folder / VOCABULARY, {"words": list(vocabulary.words)})
    write_json(folder / METRICS, metrics)
    write_sums(folder, sums)


def update_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Replace a bundle's metrics and update its sums, without reading its shared files."""
    sums = parse_sums(folder, read_file(folder / SUMS))
    write_json(folder / METRICS, metrics)
    write_sums(folder, {name: sums[name] for name in shared_names(sums)})


def add_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Add metrics to those of a bundle; the same keys are replaced."""
    present = parse_json(folder / METRICS, read_file(folder / METRICS))
    update_metrics(folder, {**present, **metrics})


def load_checkpoint(folder: Path, store: SharedTensors | None = None) -> Checkpoint:
    """Read and verify a bundle; the model is in float32, in evaluation mode.

    Raises CheckpointError.

    store: where the tensors of shared files are taken from, and left for the next model; the model
        is then for captioning only. Without a store, all tensors are the model's own.
    """
    contents, sums = read_verified(folder, FILES)
    config, vocabulary, metrics = _parse_small_files(folder, contents)
    files = tuple(_load_shared(folder, name, sums[name], store) for name in shared_names(sums))
    own = parse_tensors(folder / WEIGHTS, contents[WEIGHTS])
    model = _fill(_build(folder, config), folder, own, files)
    kept = files if store else ()
    return Checkpoint(model, config, vocabulary, metrics, weights_digest(sums), kept)


def describe_checkpoint(folder: Path) -> CheckpointDescription:
    """Describe a bundle without reading its weights; its small files are verified.

    Raises CheckpointError.
    """
    contents, sums = read_verified(folder, (CONFIG, VOCABULARY, METRICS))
    config, _, metrics = _parse_small_files(folder, contents)
    model = _build(folder, config)
    common: set[str] = set()
    shared_bytes: dict[str, int] = {}
    for name in shared_names(sums):
        sizes = sizes_in_memory(sums_path(folder, name))
        common.update(sizes)
        shared_bytes[sums[name]] = sum(sizes.values())
    return CheckpointDescription(
        config=config,
        metrics=metrics,
        digest=weights_digest(sums),
        parameters=_count(model),
        decoder_parameters=_count(model.decoder),
        memory=MemoryUse(_own_bytes(model, common), shared_bytes),
    )


def _without(
    tensors: Mapping[str, Tensor], path: Path, common: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Leave out the tensors that lie in the shared file at `path`.

    Raises CheckpointError where there is none, or one differs in half precision.
    """
    names = tensors.keys() & common.keys()
    if not names:
        raise CheckpointError(
            f"{path} holds no tensor of this model (or another shared file holds them all)."
        )
    for name in sorted(names):
        if not is_same(tensors[name], common[name]):
            raise CheckpointError(
                f"The model's tensor {name} differs from the one in {path}: it cannot be shared."
            )
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def _load_shared(folder: Path, name: str, digest: str, store: SharedTensors | None) -> SharedFile:
    """Take the shared file of that name from the store, or else read and verify it."""
    path = sums_path(folder, name)

    def read_tensors() -> dict[str, Tensor]:
        if not path.is_file():
            raise CheckpointError(f"{folder} needs {path}, which is missing. {REMEDY}")
        content = read_file(path)
        if sum_of(content) != digest:
            raise CheckpointError(
                f"{path} does not match {folder / SUMS}: damaged or changed. {REMEDY}"
            )
        return parse_tensors(path, content)

    return store.take(digest, read_tensors) if store else SharedFile(digest, read_tensors())


def _parse_small_files(
    folder: Path, contents: Mapping[str, bytes]
) -> tuple[ModelConfig, Vocabulary, Mapping[str, Any]]:
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
    return config, vocabulary, metrics


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


def _build(folder: Path, config: ModelConfig) -> CaptioningModel:
    try:
        model = build_outline(config)
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error} {REMEDY}") from error
    _check_probe(folder, config, model)
    return model


def _fill(
    model: CaptioningModel, folder: Path, own: Mapping[str, Tensor], files: Sequence[SharedFile]
) -> CaptioningModel:
    """Put in the tensors, each from one place.

    Raises CheckpointError where one is missing, has another shape or is there twice, and where
    `own` has one that the model lacks.
    """
    wanted = model.state_dict()
    tensors = dict(own)
    for file in files:
        for name in wanted.keys() & file.tensors.keys():
            if name in tensors:
                raise CheckpointError(f"{folder}: the tensor {name} is there twice. {REMEDY}")
            tensors[name] = file.tensors[name]
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors or name not in wanted or wanted[name].shape != tensors[name].shape:
            raise CheckpointError(
                f"{folder}: the tensor {name} does not fit config.json's architecture. {REMEDY}"
            )
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def _check_probe(folder: Path, config: ModelConfig, model: CaptioningModel) -> None:
    """Raise CheckpointError where the calibration was fitted to other features."""
    photo = None if config.calibration is None else config.calibration.photo
    if photo is not None and len(photo.weights) != model.feature_dim:
        raise CheckpointError(
            f"{folder / CONFIG}: calibration.photo has {len(photo.weights)} weights, and the "
            f"model {model.feature_dim} features: calibrate it anew. {REMEDY}"
        )


def _own_bytes(model: CaptioningModel, common: set[str]) -> int:
    """Sum what the tensors take that are not in `common`, in bytes."""
    tensors = model.state_dict()
    return sum(tensor.nbytes for name, tensor in tensors.items() if name not in common)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
