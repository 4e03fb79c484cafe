"""Where models come from: lists them, describes one without loading it, and loads it.

Knows no HTTP and no memory limit.
"""

import logging
from pathlib import Path
from typing import Protocol

from app.engine.heap import trim_heap
from models.bundles.registry import list_models
from models.bundles.shared_tensors import SHARED_FOLDER, SharedTensors
from models.caption import Captioner, ModelInfo
from models.errors import CheckpointError, GlimpseError, RuntimeMissingError
from models.loading import Precision, RuntimeName, describe_captioner, load_captioner

__all__ = ["BundleCatalog", "Catalog"]

_logger = logging.getLogger(__name__)


class Catalog(Protocol):
    """Anything that has models. Its methods may be slow, and are called from threads."""

    def names(self) -> list[str]:
        """List every model, sorted by name."""

    def describe(self, name: str) -> ModelInfo:
        """Describe a model without loading it. Raises GlimpseError if it could not be loaded."""

    def load(self, name: str) -> Captioner:
        """Load a model. Called for one model at a time; raises GlimpseError."""

    def reject(self, name: str, reason: str) -> None:
        """Mark a model, as it was when its last load began, as unusable.

        `describe` raises until it changes.
        """


class BundleCatalog:
    """The bundles of a weights folder; those in memory share the tensors they have in common."""

    def __init__(
        self,
        folder: Path,
        *,
        precision: Precision,
        runtime: RuntimeName = "torch",
        threads: int = 1,
    ) -> None:
        """Take a weights folder, and what the models compute with: `models.loading`."""
        self._folder = folder
        self._precision = precision
        self._runtime = runtime
        self._threads = threads
        self._store = SharedTensors()
        self._known: dict[str, tuple[_Signature, ModelInfo | GlimpseError]] = {}
        self._loaded: dict[str, _Signature] = {}  # of the files when a model's last load began

    def names(self) -> list[str]:
        """List every bundle, whole or not."""
        return list_models(self._folder)

    def describe(self, name: str) -> ModelInfo:
        """Read a bundle's small files; again only after one of them, or a shared one, changes."""
        signature = self._signature(name)
        known = self._known.get(name)
        if known is None or known[0] != signature:
            known = self._known[name] = (signature, self._read(name))
        found = known[1]
        if isinstance(found, RuntimeMissingError):
            raise RuntimeMissingError(str(found))
        if isinstance(found, GlimpseError):
            raise CheckpointError(str(found))
        return found

    def load(self, name: str) -> Captioner:
        """Load a bundle, verified. Raises UnknownModelError or CheckpointError."""
        self._loaded[name] = self._signature(name)
        captioner = load_captioner(
            self._folder,
            name,
            precision=self._precision,
            runtime=self._runtime,
            threads=self._threads,
            store=self._store,
        )
        trim_heap()  # of what was read, and is compiled now
        return captioner

    def reject(self, name: str, reason: str) -> None:
        """Mark a bundle as one that does not work, until a file of it, or a shared one, changes."""
        self._known[name] = (self._loaded[name], CheckpointError(reason))

    def _read(self, name: str) -> ModelInfo | GlimpseError:
        """Describe a bundle, or say what is wrong with it, which is logged too."""
        try:
            return describe_captioner(self._folder, name, self._runtime)
        except GlimpseError as error:
            _logger.warning("the model %s cannot be served: %s", name, error)
            return error

    def _signature(self, name: str) -> "_Signature":
        """Identify the files of a bundle, and all shared ones, by their times and sizes."""
        paths = [*(self._folder / name).glob("*"), *(self._folder / SHARED_FOLDER).glob("*")]
        try:
            stats = [(path, path.stat()) for path in paths]
        except OSError as error:
            raise CheckpointError(f"{error.filename} cannot be read ({error.strerror}).") from error
        return frozenset((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)


_Signature = frozenset[tuple[str, int, int]]
