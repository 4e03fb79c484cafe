"""Bundles of matching models: weights/matching/<name>/, of the same files as a captioner's.

Beside the captioners' bundles and apart from them: who lists captioners does not see these. Knows
no pictures.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors.torch import save
from torch import nn

from models.bundles.files import (
    CONFIG,
    FILES,
    MATCHING_FOLDER,
    METRICS,
    VOCABULARY,
    WEIGHTS,
    parse_json,
    read_verified,
    weights_digest,
    write_json,
    write_sums,
)
from models.bundles.reading import join_tensors
from models.bundles.shared_tensors import REMEDY
from models.bundles.tensors import halve, parse_tensors
from models.config import NAME_PATTERN
from models.errors import CheckpointError, ConfigError, UnknownModelError
from models.matching.config import MatcherConfig, MatchingConfig, NceConfig, VilbertConfig
from models.matching.nce import NceMatcher
from models.matching.vilbert import Vilbert
from models.matching.vl_bert import VlBert
from models.network import CaptioningModel
from models.runtime.torch import eyes_fingerprint
from models.tokenizer import Vocabulary

__all__ = [
    "Matcher",
    "MatchingBundle",
    "build_matcher",
    "check_eyes",
    "digest_of_eyes",
    "list_matchers",
    "load_matcher",
    "matching_folder",
    "save_matcher",
]

Matcher = NceMatcher | Vilbert | VlBert

_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class MatchingBundle:
    """A loaded bundle; the model is in float32, in evaluation mode.

    digest: SHA-256 of model.safetensors, in hex.
    """

    model: Matcher
    config: MatchingConfig
    vocabulary: Vocabulary
    metrics: Mapping[str, Any]
    digest: str


def build_matcher(config: MatcherConfig, vocab_size: int, feature_dim: int) -> Matcher:
    """Build the matcher that a configuration describes, with random weights.

    Raises ConfigError where it contradicts itself.
    """
    if isinstance(config, NceConfig):
        return NceMatcher(config, vocab_size, feature_dim)
    if isinstance(config, VilbertConfig):
        return Vilbert(config, vocab_size, feature_dim)
    return VlBert(config, vocab_size, feature_dim)


def digest_of_eyes(network: CaptioningModel) -> str:
    """Identify the eyes of a captioner: SHA-256 of all that its features depend on."""
    return hashlib.sha256(eyes_fingerprint(network).encode()).hexdigest()


def check_eyes(bundle: MatchingBundle, network: CaptioningModel) -> None:
    """Raise CheckpointError where a captioner's eyes are not those that a bundle learnt with."""
    if bundle.config.eyes_digest != digest_of_eyes(network):
        raise CheckpointError(
            f"The matching model {bundle.config.name!r} learnt to see through other eyes than "
            f"those of {bundle.config.eyes!r} now: train it again on them. {REMEDY}"
        )


def matching_folder(weights_folder: Path, name: str) -> Path:
    """Give the folder of the bundle of that name."""
    return weights_folder / MATCHING_FOLDER / name


def list_matchers(weights_folder: Path) -> list[str]:
    """List the names of all matching models, sorted; empty where there is none."""
    folder = weights_folder / MATCHING_FOLDER
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if _NAME.fullmatch(path.name) and (path / CONFIG).is_file()
    )


def save_matcher(
    weights_folder: Path,
    model: nn.Module,
    config: MatchingConfig,
    vocabulary: Vocabulary,
    metrics: Mapping[str, Any],
) -> Path:
    """Write a bundle in half precision; its model card stays as it is. Gives its folder.

    Raises CheckpointError where the vocabulary is not the model's.
    """
    if len(vocabulary) != config.vocab_size:
        raise CheckpointError(
            f"The vocabulary has {len(vocabulary)} tokens and the model {config.vocab_size}."
        )
    folder = matching_folder(weights_folder, config.name)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = halve(model.state_dict())
    (folder / WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_json(folder / VOCABULARY, {"words": list(vocabulary.words)})
    write_json(folder / METRICS, metrics)
    write_sums(folder, {})
    return folder


def load_matcher(weights_folder: Path, name: str) -> MatchingBundle:
    """Read and verify a bundle. Raises UnknownModelError or CheckpointError."""
    folder = matching_folder(weights_folder, name)
    if not _NAME.fullmatch(name) or not folder.is_dir():
        names = list_matchers(weights_folder)
        there = f"There are: {', '.join(names)}." if names else f"There is none in {folder.parent}."
        raise UnknownModelError(f"No matching model is called {name!r}. {there}")
    contents, sums = read_verified(folder, FILES)
    config = _parse_config(folder, contents[CONFIG])
    vocabulary = _parse_vocabulary(folder, contents[VOCABULARY], config)
    try:
        model = build_matcher(config.matcher, config.vocab_size, config.feature_dim)
    except ConfigError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error} {REMEDY}") from error
    own = parse_tensors(folder / WEIGHTS, contents[WEIGHTS])
    wanted = {key: tensor.shape for key, tensor in model.state_dict().items()}
    model.load_state_dict(join_tensors(folder, wanted, own, []))
    model.eval().requires_grad_(False)
    metrics = parse_json(folder / METRICS, contents[METRICS])
    return MatchingBundle(model, config, vocabulary, metrics, weights_digest(sums))


def _parse_config(folder: Path, content: bytes) -> MatchingConfig:
    path = folder / CONFIG
    try:
        config = MatchingConfig.model_validate(parse_json(path, content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: {where}: {first['msg']}. {REMEDY}") from error
    if config.name != folder.absolute().name:
        raise CheckpointError(
            f"{folder} holds a model called {config.name!r}; name the folder {config.name}."
        )
    return config


def _parse_vocabulary(folder: Path, content: bytes, config: MatchingConfig) -> Vocabulary:
    words = parse_json(folder / VOCABULARY, content).get("words")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f'{folder / VOCABULARY} has no list "words" of strings. {REMEDY}')
    vocabulary = Vocabulary(words)
    if len(vocabulary) != config.vocab_size:
        raise CheckpointError(
            f"{folder}: vocab.json has {len(vocabulary)} tokens and config.json says "
            f"{config.vocab_size}: they belong to different models. {REMEDY}"
        )
    return vocabulary
