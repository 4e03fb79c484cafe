"""Where models come from: which there are, what is known of one without loading it, and loading
it. Knows no HTTP."""

import logging
from pathlib import Path
from typing import Protocol

from models.bundles.registry import list_models
from models.bundles.shared_tensors import SHARED_FOLDER, SharedTensors
from models.caption import Captioner, ModelInfo
from models.errors import CheckpointError, GlimpseError
from models.loading import describe_captioner, load_captioner
from models.runtime.torch import Precision

__all__ = ["BundleCatalog", "Catalog"]

_logger = logging.getLogger(__name__)


class Catalog(Protocol):
    """Anything that has models. Its methods may take their time; each is called from a thread of
    its own."""

    def names(self) -> list[str]:
        """Every model there is, sorted."""

    def describe(self, name: str) -> ModelInfo:
        """What is known of a model without loading it; raises GlimpseError where it could not be
        loaded."""

    def load(self, name: str) -> Captioner:
        """The model, ready to caption. Called for one model at a time; raises GlimpseError."""

    def reject(self, name: str, reason: str) -> None:
        """Take a model for useless as it was when its last load began: `describe` raises until
        it changes."""


class BundleCatalog:
    """The bundles of a weights folder. Those in memory at a time share the tensors that they
    have in common."""

    def __init__(self, folder: Path, *, precision: Precision) -> None:
        """precision: what the encoders compute in."""
        self._folder = folder
        self._precision = precision
        self._store = SharedTensors()
        self._known: dict[str, tuple[_Signature, ModelInfo | str]] = {}
        self._loaded: dict[str, _Signature] = {}  # of the files when a model's last load began

    def names(self) -> list[str]:
        """Every bundle, whole or not."""
        return list_models(self._folder)

    def describe(self, name: str) -> ModelInfo:
        """Read a bundle's small files; again only when a file of it, or a shared one, has
        changed."""
        signature = self._signature(name)
        known = self._known.get(name)
        if known is None or known[0] != signature:
            known = self._known[name] = (signature, self._read(name))
        if isinstance(known[1], str):
            raise CheckpointError(known[1])
        return known[1]

    def load(self, name: str) -> Captioner:
        """Read a bundle whole, verified. Raises UnknownModelError or CheckpointError."""
        self._loaded[name] = self._signature(name)
        return load_captioner(self._folder, name, precision=self._precision, store=self._store)

    def reject(self, name: str, reason: str) -> None:
        """Remember that a bundle does not work, for as long as no file of it, nor a shared one,
        changes."""
        self._known[name] = (self._loaded[name], reason)

    def _read(self, name: str) -> ModelInfo | str:
        """The description, or what is wrong with the bundle, which is logged as well."""
        try:
            return describe_captioner(self._folder, name)
        except GlimpseError as error:
            _logger.warning("the model %s cannot be served: %s", name, error)
            return str(error)

    def _signature(self, name: str) -> "_Signature":
        paths = [
            path for folder in (name, SHARED_FOLDER) for path in (self._folder / folder).glob("*")
        ]
        try:
            stats = [(path, path.stat()) for path in paths]
        except OSError as error:
            raise CheckpointError(f"{error.filename} cannot be read ({error.strerror}).") from error
        return frozenset((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)


_Signature = frozenset[tuple[str, int, int]]
