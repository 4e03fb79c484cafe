"""Bundles on disk: weights/<name>/ with tensors, configuration, vocabulary and metrics. Knows no
pictures.

    model.safetensors   every tensor that lies in no shared file; floats in half precision
    config.json         ModelConfig: architecture, preprocessing, decoding defaults
    vocab.json          {"words": [...]}, in the order of their ids
    metrics.json        what was measured, and how
    SHA256SUMS          of these four and of the shared files, as `sha256sum --check` reads it
    MODEL_CARD.md       for people

With its shared files a bundle is self-sufficient, and it holds no code: loading it runs nothing
from it. Whatever is missing, damaged or does not fit is a CheckpointError that says what to do.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor, nn

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
from models.network import CaptioningModel, build_model
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

_WEIGHTS, _CONFIG, _VOCABULARY, _METRICS = (
    "model.safetensors",
    "config.json",
    "vocab.json",
    "metrics.json",
)
_FILES = (_WEIGHTS, _CONFIG, _VOCABULARY, _METRICS)
_SUMS = "SHA256SUMS"
_SHARED = re.compile(rf"\.\./{SHARED_FOLDER}/([^/]+)\.safetensors")


@dataclass(frozen=True, slots=True)
class CheckpointDescription:
    """What a bundle's small files tell of it.

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
    files, that of the lines
        of its SHA256SUMS that name weights, which `grep safetensors SHA256SUMS | sha256sum` gives.
    shared: the files that it has in common with other models in memory. Whoever keeps the model
    keeps these too, or
        their store forgets them.
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
        """How many of them its decoder has."""
        return _count(self.model.decoder)

    @property
    def memory(self) -> MemoryUse:
        """What its tensors take."""
        common = {name for file in self.shared for name in file.tensors}
        own_bytes = sum(
            t.nbytes for name, t in self.model.state_dict().items() if name not in common
        )
        return MemoryUse(own_bytes, {file.digest: file.size_bytes for file in self.shared})


def save_checkpoint(
    folder: Path,
    model: CaptioningModel,
    config: ModelConfig,
    vocabulary: Vocabulary,
    metrics: Mapping[str, Any],
    shared: Sequence[str] = (),
) -> None:
    """Write a bundle to `folder`, in half precision; its model card is left as it is.

    shared: names of shared files; the model's tensors that lie in them are not written again.
    Raises CheckpointError where the vocabulary is not the model's, and where a shared file is
    missing, has nothing of the model, or has a tensor that differs from the model's in half
    precision.
    """
    if len(vocabulary) != config.vocab_size:
        raise CheckpointError(
            f"The vocabulary has {len(vocabulary)} tokens and the model {config.vocab_size}."
        )
    if config.name == SHARED_FOLDER:
        raise CheckpointError(
            f"{SHARED_FOLDER!r} is where bundles keep what they share: call the model otherwise."
        )
    tensors, sums = halve(model.state_dict()), dict[str, str]()
    for name in sorted(set(shared)):
        path = shared_path(folder, name)
        content = read_file(path)
        tensors = _without(tensors, path, halve(parse_tensors(path, content)))
        sums[f"../{SHARED_FOLDER}/{path.name}"] = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _WEIGHTS).write_bytes(
        save(tensors, metadata={"format": "pt"})
    )  # two entries would come in any order
    (folder / _CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _write_json(folder / _VOCABULARY, {"words": list(vocabulary.words)})
    _write_json(folder / _METRICS, metrics)
    _write_sums(folder, sums)


def update_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Replace a bundle's metrics, and its sums with them; those of its shared files stay as they
    are."""
    sums = _parse_sums(folder, read_file(folder / _SUMS))
    _write_json(folder / _METRICS, metrics)
    _write_sums(folder, {name: digest for name, digest in sums.items() if name not in _FILES})


def add_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Put metrics beside those that a bundle has now; the same keys are replaced."""
    update_metrics(
        folder,
        {**_parse_json(folder / _METRICS, {_METRICS: read_file(folder / _METRICS)}), **metrics},
    )


def load_checkpoint(folder: Path, store: SharedTensors | None = None) -> Checkpoint:
    """Read and verify a bundle; the model is in float32, in evaluation mode. Raises
    CheckpointError.

    store: where the tensors of shared files are taken from, and left for the next model, which is
    then for captioning only. Without one they are the model's own.
    """
    contents, sums = _read_verified(folder, _FILES)
    config, vocabulary, metrics = _parse_small_files(folder, contents)
    files = tuple(
        _load_shared(folder, name, sums[name], store) for name in sums if name not in _FILES
    )
    own = parse_tensors(folder / _WEIGHTS, contents[_WEIGHTS])
    model = _fill(_build(folder, config), folder, own, files)
    return Checkpoint(model, config, vocabulary, metrics, _digest(sums), files if store else ())


def describe_checkpoint(folder: Path) -> CheckpointDescription:
    """What is known of a bundle without reading its weights; its small files are verified.
    Raises CheckpointError."""
    contents, sums = _read_verified(folder, (_CONFIG, _VOCABULARY, _METRICS))
    config, _, metrics = _parse_small_files(folder, contents)
    model = _build(folder, config)
    files = {
        sums[name]: sizes_in_memory(_path(folder, name)) for name in sums if name not in _FILES
    }
    common = {name for sizes in files.values() for name in sizes}
    own_bytes = sum(t.nbytes for name, t in model.state_dict().items() if name not in common)
    memory = MemoryUse(own_bytes, {digest: sum(sizes.values()) for digest, sizes in files.items()})
    return CheckpointDescription(
        config=config,
        metrics=metrics,
        digest=_digest(sums),
        parameters=_count(model),
        decoder_parameters=_count(model.decoder),
        memory=memory,
    )


def _without(
    tensors: Mapping[str, Tensor], path: Path, common: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A model's tensors but those that lie in the shared file at `path` as well, the same in
    half precision."""
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


def _write_sums(folder: Path, shared: Mapping[str, str]) -> None:
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in _FILES}
    lines = [
        f"{digest}  {name}\n" for name, digest in (sums | dict(sorted(shared.items()))).items()
    ]
    (folder / _SUMS).write_text("".join(lines), encoding="utf-8")


def _read_verified(folder: Path, names: Sequence[str]) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read files once, and compare each with its sum (what is verified is what is used); also
    give all the sums."""
    if not folder.is_dir():
        raise CheckpointError(f"There is no model folder {folder}. {REMEDY}")
    missing = [name for name in (*_FILES, _SUMS) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}. {REMEDY}")
    contents = {name: read_file(folder / name) for name in names}
    sums = _parse_sums(folder, read_file(folder / _SUMS))
    for name in _FILES:
        if name not in sums or (
            name in names and sums[name] != hashlib.sha256(contents[name]).hexdigest()
        ):
            raise CheckpointError(
                f"{folder / name} does not match {_SUMS}: damaged or changed. {REMEDY}"
            )
    return contents, sums


def _parse_sums(folder: Path, content: bytes) -> dict[str, str]:
    """The sums of the bundle's files and of its shared files, by name as in SHA256SUMS; whatever
    else is no matter."""
    lines = [line.split() for line in content.decode(errors="replace").splitlines()]
    sums = {line[1]: line[0] for line in lines if len(line) == 2}
    for name in sums:
        if "/" in name and not _SHARED.fullmatch(name):
            raise CheckpointError(
                f"{folder / _SUMS} names {name!r}, which is no file of {SHARED_FOLDER}/. {REMEDY}"
            )
    return {name: digest for name, digest in sums.items() if name in _FILES or "/" in name}


def _digest(sums: Mapping[str, str]) -> str:
    """As `Checkpoint.digest` says."""
    shared = sorted(name for name in sums if name not in _FILES)
    if not shared:
        return sums[_WEIGHTS]
    return hashlib.sha256(
        "".join(f"{sums[name]}  {name}\n" for name in (_WEIGHTS, *shared)).encode()
    ).hexdigest()


def _path(folder: Path, name: str) -> Path:
    """Where the shared file lies that SHA256SUMS calls `name`."""
    found = _SHARED.fullmatch(name)
    assert found is not None
    return shared_path(folder, found[1])


def _load_shared(folder: Path, name: str, digest: str, store: SharedTensors | None) -> SharedFile:
    """The shared file of that name, from the store where it is there; read and verified where
    not."""
    path = _path(folder, name)

    def read() -> dict[str, Tensor]:
        if not path.is_file():
            raise CheckpointError(f"{folder} needs {path}, which is missing. {REMEDY}")
        content = read_file(path)
        if hashlib.sha256(content).hexdigest() != digest:
            raise CheckpointError(
                f"{path} does not match {folder / _SUMS}: damaged or changed. {REMEDY}"
            )
        return parse_tensors(path, content)

    return store.take(digest, read) if store else SharedFile(digest, read())


def _parse_small_files(
    folder: Path, contents: Mapping[str, bytes]
) -> tuple[ModelConfig, Vocabulary, Mapping[str, Any]]:
    """Read configuration, vocabulary and metrics, and compare what they say of each other."""
    config = _parse_config(folder, contents)
    if config.name != folder.absolute().name:
        raise CheckpointError(
            f"{folder} holds a model called {config.name!r}; name the folder {config.name}."
        )
    words, metrics = (
        _parse_json(folder / _VOCABULARY, contents),
        _parse_json(folder / _METRICS, contents),
    )
    if not isinstance(words.get("words"), list) or not all(
        isinstance(word, str) for word in words["words"]
    ):
        raise CheckpointError(f'{folder / _VOCABULARY} has no list "words" of strings. {REMEDY}')
    vocabulary = Vocabulary(words["words"])
    if len(vocabulary) != config.vocab_size:
        raise CheckpointError(
            f"{folder}: vocab.json has {len(vocabulary)} tokens and config.json says "
            f"{config.vocab_size}: "
            f"they belong to different models. {REMEDY}"
        )
    return config, vocabulary, metrics


def _parse_config(folder: Path, contents: Mapping[str, bytes]) -> ModelConfig:
    document = _parse_json(folder / _CONFIG, contents)
    try:
        return ModelConfig.model_validate(migrate_config(document))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(
            f"{folder / _CONFIG}: {where}: {first['msg']}. It may come from another version. "
            f"{REMEDY}"
        ) from error


def _parse_json(path: Path, contents: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        value = json.loads(contents[path.name])
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON. {REMEDY}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is no JSON object. {REMEDY}")
    return value


def _build(folder: Path, config: ModelConfig) -> CaptioningModel:
    """The architecture alone: its tensors have shapes and no values."""
    try:
        with torch.device("meta"):
            return build_model(config)
    except ConfigError as error:
        raise CheckpointError(f"{folder / _CONFIG}: {error} {REMEDY}") from error


def _fill(
    model: CaptioningModel, folder: Path, own: Mapping[str, Tensor], files: Sequence[SharedFile]
) -> CaptioningModel:
    """Put the tensors in, each from one place: every one must be there, of the right shape, and
    no other in `own`."""
    wanted, tensors = model.state_dict(), dict(own)
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


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
