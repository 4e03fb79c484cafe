"""The models in a weights folder, by name. Knows no environment: the folder is given."""

import re
from pathlib import Path

from models.bundles.checkpoint import (
    Checkpoint,
    CheckpointDescription,
    describe_checkpoint,
    load_checkpoint,
)
from models.bundles.shared_tensors import SHARED_FOLDER, SharedTensors
from models.config import NAME_PATTERN
from models.errors import UnknownModelError

__all__ = ["describe_model", "list_models", "load_model"]

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


def load_model(folder: Path, name: str, store: SharedTensors | None = None) -> Checkpoint:
    """Load model `name` from `folder`, verified; `store` as in `load_checkpoint`.

    Raises UnknownModelError or CheckpointError.
    """
    return load_checkpoint(_bundle(folder, name), store)


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
    return _NAME.fullmatch(name) is not None and name != SHARED_FOLDER
