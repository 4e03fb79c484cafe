"""Tensors on disk, and those that several bundles have in common: stored once, in memory once.

Knows no model and no torch.

    weights/shared/<name>.safetensors     tensors by their names in the state dicts, float16

A bundle names the shared files that it needs in its SHA256SUMS, as `../shared/<name>.safetensors`.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from models.config import NAME_PATTERN
from models.errors import CheckpointError

__all__ = [
    "REMEDY",
    "SHARED_FOLDER",
    "SharedFile",
    "SharedTensors",
    "StoredTensor",
    "check_finite",
    "parse_arrays",
    "read_file",
    "read_header",
    "shared_path",
]

SHARED_FOLDER = "shared"
REMEDY = (
    "Take the folder again from the release or `git checkout` it, or export it anew with "
    "`glimpse-train export`."
)

Array = npt.NDArray[Any]

_NAME = re.compile(NAME_PATTERN)
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class SharedFile:
    """A shared file in memory.

    digest: its SHA-256 in hex. tensors: by their names in the models, in torch and float32, or in
        NumPy as stored.
    """

    digest: str
    tensors: Mapping[str, Any]


class SharedTensors:
    """The shared files in memory: one copy for all models loaded with this store. Thread-safe.

    A file stays in memory as long as something that was loaded with it. Models that share tensors
    are for captioning; training one would change them all.
    """

    def __init__(self) -> None:
        """Start without files."""
        self._files: WeakValueDictionary[str, SharedFile] = WeakValueDictionary()
        self._lock = Lock()

    def digests(self) -> frozenset[str]:
        """List the SHA-256 of every file that is in memory now."""
        return frozenset(self._files.keys())

    def take(self, digest: str, read: Callable[[], Mapping[str, Any]]) -> SharedFile:
        """Give the file of that SHA-256 from memory, or make it of the tensors `read` gives."""
        with self._lock:
            file = self._files.get(digest)
            if file is None:
                file = self._files[digest] = SharedFile(digest, read())
            return file


def shared_path(bundle: Path, name: str) -> Path:
    """Locate the shared file of that name for the bundle in folder `bundle`.

    Raises CheckpointError where no file can have that name.
    """
    if not _NAME.fullmatch(name):
        raise CheckpointError(
            f"{name[:100]!r} is no name of a shared file: it takes a-z, 0-9 and -, 64 at most."
        )
    # resolved first, as the system follows ../shared
    return bundle.resolve().parent / SHARED_FOLDER / f"{name}.safetensors"


def parse_arrays(path: Path, content: bytes) -> dict[str, Array]:
    """Parse a safetensors file into arrays, as they are stored.

    Raises CheckpointError where it is none, or where a value is not finite.
    """
    try:
        arrays: dict[str, Array] = load(content)
    except (SafetensorError, KeyError) as error:  # the second for a type that NumPy lacks
        raise CheckpointError(f"{path} is no safetensors file. {REMEDY}") from error
    for name, array in arrays.items():
        check_finite(path, name, is_finite=bool(np.isfinite(array).all()))
    return arrays


def check_finite(path: Path, name: str, *, is_finite: bool) -> None:
    """Raise CheckpointError where not every value of a tensor is a number."""
    if not is_finite:
        raise CheckpointError(f"{path}: the tensor {name} has values that are no numbers. {REMEDY}")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """What a file's header says of one tensor."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether these are parameters; whole numbers are what a model looks up."""
        return "F" in self.dtype

    @property
    def size_bytes(self) -> int:
        """What it takes in memory, where every float becomes a float32."""
        if self.dtype == "BOOL":
            return self.count
        width = 4 if self.is_float else int(self.dtype.lstrip("IU")) // 8
        return self.count * width


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Read what each tensor of a file is, from its header alone. Raises CheckpointError."""
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in list(file.keys())}
            return {
                name: StoredTensor(tuple(each.get_shape()), each.get_dtype())
                for name, each in slices.items()
            }
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or no safetensors file. {REMEDY}") from error


def read_file(path: Path) -> bytes:
    """Read the whole file.

    Raises CheckpointError where it cannot be read, or is a Git LFS pointer.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}). {REMEDY}") from error
    if content.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git LFS pointer: fetch the file itself with `git lfs pull`. {REMEDY}"
        )
    return content
