"""Bundles on disk: weights/<name>/ with tensors, configuration, vocabulary and metrics. Knows no pictures.

    model.safetensors   every tensor; numbers that are no counts in float16
    config.json         ModelConfig: architecture, preprocessing, decoding defaults
    vocab.json          {"words": [...]}, in the order of their ids
    metrics.json        what was measured, and how
    SHA256SUMS          of these four, as `sha256sum --check` reads it
    MODEL_CARD.md       for people

A bundle is self-sufficient and holds no code: loading it runs nothing from it. Whatever is missing, damaged or does
not fit is a CheckpointError that says what to do.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from models.captioning import CaptioningModel, build_model
from models.config import ModelConfig
from models.errors import CheckpointError, ConfigError
from models.tokenizer import Vocabulary

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint", "update_metrics"]

_WEIGHTS, _CONFIG, _VOCABULARY, _METRICS = "model.safetensors", "config.json", "vocab.json", "metrics.json"
_FILES = (_WEIGHTS, _CONFIG, _VOCABULARY, _METRICS)
_SUMS = "SHA256SUMS"
_REMEDY = "Take the folder again from the release or `git checkout` it, or export it anew with `glimpse-train export`."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded bundle; `digest` is the SHA-256 of model.safetensors, in hex."""

    model: CaptioningModel
    config: ModelConfig
    vocabulary: Vocabulary
    metrics: Mapping[str, Any]
    digest: str


def save_checkpoint(
    folder: Path, model: CaptioningModel, config: ModelConfig, vocabulary: Vocabulary, metrics: Mapping[str, Any]
) -> None:
    """Write a bundle to `folder`, in half precision; its model card is left as it is.

    Raises CheckpointError where the vocabulary is not the model's.
    """
    if len(vocabulary) != config.vocab_size:
        raise CheckpointError(f"The vocabulary has {len(vocabulary)} tokens and the model {config.vocab_size}.")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    halves = {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in tensors.items()}
    save_file(halves, folder / _WEIGHTS, metadata={"format": "pt"})  # two entries would come in any order
    (folder / _WEIGHTS).chmod(0o644)  # the writer makes it private; the service runs as another user
    (folder / _CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _write_json(folder / _VOCABULARY, {"words": list(vocabulary.words)})
    update_metrics(folder, metrics)


def update_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Replace a bundle's metrics, and its sums with them."""
    _write_json(folder / _METRICS, metrics)
    sums = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in _FILES)
    (folder / _SUMS).write_text(sums, encoding="utf-8")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify a bundle; the model is in float32, in evaluation mode. Raises CheckpointError."""
    contents, digests = _read_verified(folder)
    config = _parse_config(folder, contents[_CONFIG])
    if config.name != folder.absolute().name:
        raise CheckpointError(f"{folder} holds a model called {config.name!r}; name the folder {config.name}.")
    words, metrics = _parse_json(folder / _VOCABULARY, contents), _parse_json(folder / _METRICS, contents)
    if not isinstance(words.get("words"), list) or not all(isinstance(word, str) for word in words["words"]):
        raise CheckpointError(f'{folder / _VOCABULARY} has no list "words" of strings. {_REMEDY}')
    vocabulary = Vocabulary(words["words"])
    if len(vocabulary) != config.vocab_size:
        raise CheckpointError(
            f"{folder}: vocab.json has {len(vocabulary)} tokens and config.json says {config.vocab_size}: "
            f"they belong to different models. {_REMEDY}"
        )
    return Checkpoint(_build(folder, config, contents[_WEIGHTS]), config, vocabulary, metrics, digests[_WEIGHTS])


def _read_verified(folder: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """Read the files once, and compare each with its sum: what is verified is what is used."""
    if not folder.is_dir():
        raise CheckpointError(f"There is no model folder {folder}. {_REMEDY}")
    missing = [name for name in (*_FILES, _SUMS) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}. {_REMEDY}")
    contents = {name: _read(folder / name) for name in (*_FILES, _SUMS)}
    lines = [line.split() for line in contents.pop(_SUMS).decode(errors="replace").splitlines()]
    sums = {line[1]: line[0] for line in lines if len(line) == 2}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    for name in _FILES:
        if sums.get(name) != digests[name]:
            raise CheckpointError(f"{folder / name} does not match {_SUMS}: damaged or changed. {_REMEDY}")
    return contents, digests


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}). {_REMEDY}") from error
    if content.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer: fetch the file itself with `git lfs pull`. {_REMEDY}")
    return content


def _parse_config(folder: Path, content: bytes) -> ModelConfig:
    try:
        return ModelConfig.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "JSON"
        raise CheckpointError(
            f"{folder / _CONFIG}: {where}: {first['msg']}. It may come from another version. {_REMEDY}"
        ) from error


def _parse_json(path: Path, contents: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        value = json.loads(contents[path.name])
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON. {_REMEDY}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is no JSON object. {_REMEDY}")
    return value


def _build(folder: Path, config: ModelConfig, content: bytes) -> CaptioningModel:
    """Build the architecture and fill it; every tensor must be there, of the right shape, and finite."""
    try:
        tensors = {name: t.float() if t.is_floating_point() else t for name, t in load(content).items()}
    except SafetensorError as error:
        raise CheckpointError(f"{folder / _WEIGHTS} is no safetensors file. {_REMEDY}") from error
    try:
        with torch.device("meta"):
            model = build_model(config)
    except ConfigError as error:
        raise CheckpointError(f"{folder / _CONFIG}: {error} {_REMEDY}") from error
    wanted = model.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors or name not in wanted or wanted[name].shape != tensors[name].shape:
            raise CheckpointError(f"{folder}: the tensor {name} does not fit config.json's architecture. {_REMEDY}")
        if not bool(tensors[name].isfinite().all()):
            raise CheckpointError(f"{folder}: the tensor {name} has values that are no numbers. {_REMEDY}")
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
