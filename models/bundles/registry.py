"""The models in a weights folder, by name. Knows no environment: the folder is given."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from models.bundles.files import LANGUAGES_FOLDER, MATCHING_FOLDER
from models.bundles.reading import (
    Bundle,
    CheckpointDescription,
    describe_checkpoint,
    read_bundle,
    read_config,
)
from models.bundles.shared_tensors import SHARED_FOLDER, SharedTensors
from models.config import NAME_PATTERN, ModelConfig
from models.errors import UnknownModelError

if TYPE_CHECKING:
    from models.bundles.checkpoint import Checkpoint

__all__ = ["describe_model", "list_models", "load_model", "read_model", "read_model_config"]

_NAME = re.compile(NAME_PATTERN)


def list_models(folder: Path) -> list[str]:
    """List the names of all bundles in `folder`, sorted; empty where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if _is_name(path.name) and (path / "config.json").is_file()
    )


def load_model(folder: Path, name: str, store: SharedTensors | None = None) -> "Checkpoint":
    """Load model `name` from `folder` as a torch module, verified; `store` as `load_checkpoint`.

    Imports torch. Raises UnknownModelError or CheckpointError.
    """
    from models.bundles.checkpoint import load_checkpoint

    return load_checkpoint(_bundle(folder, name), store)


def read_model(folder: Path, name: str) -> Bundle:
    """Read model `name` in `folder`, verified, without torch, as `read_bundle` does.

    Raises UnknownModelError or CheckpointError.
    """
    return read_bundle(_bundle(folder, name))


def read_model_config(folder: Path, name: str) -> ModelConfig:
    """Read the configuration of model `name` in `folder`.

    Raises UnknownModelError or CheckpointError.
    """
    return read_config(_bundle(folder, name))


def describe_model(folder: Path, name: str) -> CheckpointDescription:
    """Describe model `name` in `folder` without loading it.

    Raises UnknownModelError or CheckpointError.
    """
    return describe_checkpoint(_bundle(folder, name))


def _bundle(folder: Path, name: str) -> Path:
    if not (_is_name(name) and (folder / name).is_dir()):
        names = list_models(folder)
        there = f"There are: {', '.join(names)}." if names else f"There is none in {folder}."
        raise UnknownModelError(f"No model is called {name!r}. {there}")
    return folder / name


def _is_name(name: str) -> bool:
    reserved = (SHARED_FOLDER, LANGUAGES_FOLDER, MATCHING_FOLDER)
    return _NAME.fullmatch(name) is not None and name not in reserved
