"""The models that lie in a weights folder, by name. Knows no web framework and reads no environment."""

import re
from pathlib import Path

from models.checkpoint import Checkpoint, load_checkpoint
from models.errors import UnknownModelError

__all__ = ["list_models", "load_model"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def list_models(folder: Path) -> list[str]:
    """Name every bundle in `folder`, sorted; an empty list where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name for path in folder.iterdir() if _NAME.fullmatch(path.name) and (path / "config.json").is_file()
    )


def load_model(folder: Path, name: str) -> Checkpoint:
    """Load model `name` from `folder`, verified. Raises UnknownModelError or CheckpointError."""
    if not (_NAME.fullmatch(name) and (folder / name).is_dir()):
        names = list_models(folder)
        there = f"There are: {', '.join(names)}." if names else f"There is none in {folder}."
        raise UnknownModelError(f"No model is called {name!r}. {there}")
    return load_checkpoint(folder / name)
