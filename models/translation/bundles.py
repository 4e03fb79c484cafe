"""Translators on disk: weights/languages/<name>/, read and verified in NumPy. Knows no torch.

    model.safetensors   every tensor once; floats in half precision
    config.json         TranslationConfig: languages, architecture, decoding defaults
    source.model        the subwords that it reads, of SentencePiece
    target.model        the subwords that it writes: the same where they are joint
    metrics.json        what was measured, and how
    SHA256SUMS          of these five, as `sha256sum --check` reads it

Whatever is missing, damaged or does not fit is a CheckpointError that says what to do.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.bundles.files import (
    CONFIG,
    LANGUAGES_FOLDER,
    METRICS,
    WEIGHTS,
    parse_json,
    read_verified,
    write_json,
    write_sums,
)
from models.bundles.shared_tensors import REMEDY, Array, parse_arrays
from models.config import NAME_PATTERN
from models.errors import CheckpointError, UnknownModelError
from models.translation.config import TranslationConfig
from models.translation.subwords import Subwords

__all__ = [
    "TRANSLATION_FILES",
    "TranslationBundle",
    "list_translators",
    "read_translation_bundle",
    "translator_folder",
    "update_translation_metrics",
    "write_translation_bundle",
]

_SOURCE = "source.model"
_TARGET = "target.model"
TRANSLATION_FILES = (WEIGHTS, CONFIG, _SOURCE, _TARGET, METRICS)
_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class TranslationBundle:
    """A translator's bundle that was read and verified.

    tensors: in NumPy as they are stored; without second names of the same one.
    digest: the SHA-256 of model.safetensors, in hex.
    """

    config: TranslationConfig
    source: Subwords
    target: Subwords
    metrics: Mapping[str, Any]
    tensors: Mapping[str, Array]
    digest: str


def list_translators(weights_folder: Path) -> list[str]:
    """List the names of all translators below the weights folder, sorted."""
    folder = weights_folder / LANGUAGES_FOLDER
    if not folder.is_dir():
        return []
    return sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))


def translator_folder(weights_folder: Path, name: str) -> Path:
    """Find the folder of the translator of that name. Raises UnknownModelError."""
    folder = weights_folder / LANGUAGES_FOLDER / name
    if not (_NAME.fullmatch(name) and folder.is_dir()):
        names = list_translators(weights_folder)
        there = f"There are: {', '.join(names)}." if names else f"There is none in {folder.parent}."
        raise UnknownModelError(f"No translator is called {name!r}. {there}")
    return folder


def read_translation_bundle(folder: Path) -> TranslationBundle:
    """Read and verify a translator's bundle. Raises CheckpointError."""
    contents, sums = read_verified(folder, TRANSLATION_FILES, TRANSLATION_FILES)
    config = _parse_config(folder / CONFIG, contents[CONFIG])
    if config.name != folder.absolute().name:
        raise CheckpointError(
            f"{folder} holds a translator called {config.name!r}; name the folder {config.name}."
        )
    return TranslationBundle(
        config=config,
        source=_parse_subwords(folder / _SOURCE, contents[_SOURCE], config.source_vocab_size),
        target=_parse_subwords(folder / _TARGET, contents[_TARGET], config.target_vocab_size),
        metrics=parse_json(folder / METRICS, contents[METRICS]),
        tensors=parse_arrays(folder / WEIGHTS, contents[WEIGHTS]),
        digest=sums[WEIGHTS],
    )


def write_translation_bundle(
    folder: Path,
    weights: bytes,
    config: TranslationConfig,
    source: Subwords,
    target: Subwords,
    metrics: Mapping[str, Any],
) -> None:
    """Write a bundle. weights: the content of model.safetensors.

    Raises CheckpointError where the subwords are not the translator's.
    """
    for subwords, size in ((source, config.source_vocab_size), (target, config.target_vocab_size)):
        if len(subwords) != size:
            raise CheckpointError(f"There are {len(subwords)} subwords, and {size} in the model.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / _SOURCE).write_bytes(source.content)
    (folder / _TARGET).write_bytes(target.content)
    write_json(folder / METRICS, metrics)
    write_sums(folder, {}, TRANSLATION_FILES)


def update_translation_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Replace a translator's metrics, and update its sums."""
    read_verified(folder, TRANSLATION_FILES, TRANSLATION_FILES)
    write_json(folder / METRICS, metrics)
    write_sums(folder, {}, TRANSLATION_FILES)


def _parse_config(path: Path, content: bytes) -> TranslationConfig:
    try:
        return TranslationConfig.model_validate(parse_json(path, content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: {where}: {first['msg']}. {REMEDY}") from error


def _parse_subwords(path: Path, content: bytes, size: int) -> Subwords:
    try:
        subwords = Subwords(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error} {REMEDY}") from error
    if len(subwords) != size:
        raise CheckpointError(
            f"{path} has {len(subwords)} subwords and config.json says {size}. {REMEDY}"
        )
    return subwords
