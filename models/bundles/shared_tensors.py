"""Tensors that several bundles have in common: stored once, and in memory once. Knows no model.

    weights/shared/<name>.safetensors     tensors by their names in the state dicts, float16

A bundle names the shared files that it needs in its SHA256SUMS, as `../shared/<name>.safetensors`.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from models.errors import CheckpointError

__all__ = [
    "REMEDY",
    "SHARED_FOLDER",
    "SharedFile",
    "SharedTensors",
    "halve",
    "is_same",
    "parse_tensors",
    "read_file",
    "save_shared",
    "shared_path",
    "sizes_in_memory",
]

SHARED_FOLDER = "shared"
REMEDY = (
    "Take the folder again from the release or `git checkout` it, or export it anew with "
    "`glimpse-train export`."
)

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class SharedFile:
    """A shared file in memory: its SHA-256 in hex, and its tensors in float32, by their names in
    the models."""

    digest: str
    tensors: Mapping[str, Tensor]

    @property
    def size_bytes(self) -> int:
        """What its tensors take in memory."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


class SharedTensors:
    """The shared files in memory: one copy of each for all models that are loaded with this store.
    Thread-safe.

    A file stays for as long as something that was loaded with it does. Tensors of four dimensions
    are in channels-last order, which is how a captioner computes: converting them later would give
    each model a copy. Models that share tensors are for captioning; training one would change them
    all.
    """

    def __init__(self) -> None:
        """Begin with no file."""
        self._files: WeakValueDictionary[str, SharedFile] = WeakValueDictionary()
        self._lock = Lock()

    def digests(self) -> frozenset[str]:
        """The SHA-256 of every file that is in memory now."""
        return frozenset(self._files.keys())

    def take(self, digest: str, read: Callable[[], Mapping[str, Tensor]]) -> SharedFile:
        """The file of that SHA-256: the one in memory, or else of the tensors that `read` gives."""
        with self._lock:
            file = self._files.get(digest)
            if file is None:
                file = SharedFile(
                    digest, {name: _channels_last(tensor) for name, tensor in read().items()}
                )
                self._files[digest] = file
            return file


def shared_path(bundle: Path, name: str) -> Path:
    """Where the shared file of that name lies for the bundle in folder `bundle`; raise
    CheckpointError for no name."""
    if not _NAME.fullmatch(name):
        raise CheckpointError(
            f"{name[:100]!r} is no name of a shared file: it takes a-z, 0-9 and -, 64 at most."
        )
    return (
        bundle.resolve().parent / SHARED_FOLDER / f"{name}.safetensors"
    )  # as the system follows ../shared


def save_shared(weights_folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors`, under their full names, to the shared file `name` in half precision.

    Raises CheckpointError where a different file of that name is there: other bundles lean on it.
    """
    path = shared_path(weights_folder / "any", name)
    halves = halve(tensors)
    if path.exists():
        there = halve(parse_tensors(path, read_file(path)))
        if there.keys() != halves.keys() or not all(
            is_same(there[name], halves[name]) for name in halves
        ):
            raise CheckpointError(
                f"{path} is there and different, and bundles lean on it. Choose another name."
            )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save(halves, metadata={"format": "pt"}))


def halve(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As tensors are stored: numbers in float16, counts as they are, contiguous, on the CPU."""
    cpu = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    return {
        name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in cpu.items()
    }


def is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two stored tensors hold the same numbers; of two zeros one, as averaging weights
    drops the sign."""
    return one.dtype == other.dtype and torch.equal(one, other)


def parse_tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in float32; raise CheckpointError for no such file, or
    for no numbers."""
    try:
        tensors = {
            name: t.float() if t.is_floating_point() else t for name, t in load(content).items()
        }
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file. {REMEDY}") from error
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{path}: the tensor {name} has values that are no numbers. {REMEDY}"
            )
    return tensors


def sizes_in_memory(path: Path) -> dict[str, int]:
    """What each tensor of a file will take in memory, in bytes, from the file's head alone.
    Raises CheckpointError."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            slices = {name: file.get_slice(name) for name in names}
            return {
                name: math.prod(each.get_shape()) * _width(each.get_dtype())
                for name, each in slices.items()
            }
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or no safetensors file. {REMEDY}") from error


def read_file(path: Path) -> bytes:
    """The whole file; raise CheckpointError where it cannot be read, or is a Git LFS pointer."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}). {REMEDY}") from error
    if content.startswith(_LFS_POINTER):
        raise CheckpointError(
            f"{path} is a Git LFS pointer: fetch the file itself with `git lfs pull`. {REMEDY}"
        )
    return content


def _width(dtype: str) -> int:
    """The bytes of one value in memory, of a type as safetensors calls it: every number is
    float32 there."""
    if dtype == "BOOL":
        return 1
    return 4 if "F" in dtype else int(dtype.lstrip("IU")) // 8


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
