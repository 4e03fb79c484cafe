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

from models.config import NAME_PATTERN
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

_NAME = re.compile(NAME_PATTERN)
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class SharedFile:
    """A shared file in memory.

    digest: its SHA-256 in hex. tensors: in float32, by their names in the models.
    """

    digest: str
    tensors: Mapping[str, Tensor]

    @property
    def size_bytes(self) -> int:
        """What its tensors take in memory."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


class SharedTensors:
    """The shared files in memory: one copy for all models loaded with this store. Thread-safe.

    A file stays in memory as long as something that was loaded with it. Tensors of four dimensions
    are in channels-last order, as a captioner computes: converting them later would give each model
    a copy. Models that share tensors are for captioning; training one would change them all.
    """

    def __init__(self) -> None:
        """Start without files."""
        self._files: WeakValueDictionary[str, SharedFile] = WeakValueDictionary()
        self._lock = Lock()

    def digests(self) -> frozenset[str]:
        """List the SHA-256 of every file that is in memory now."""
        return frozenset(self._files.keys())

    def take(self, digest: str, read: Callable[[], Mapping[str, Tensor]]) -> SharedFile:
        """Give the file of that SHA-256 from memory, or make it of the tensors `read` gives."""
        with self._lock:
            file = self._files.get(digest)
            if file is None:
                file = SharedFile(
                    digest, {name: _channels_last(tensor) for name, tensor in read().items()}
                )
                self._files[digest] = file
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


def save_shared(weights_folder: Path, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors`, under their full names, to the shared file `name` in half precision.

    Raises CheckpointError where a different file of that name exists: other bundles need it.
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
    """Bring tensors to their stored form: floats in float16, contiguous, on the CPU."""
    return {name: _stored(tensor) for name, tensor in tensors.items()}


def is_same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two stored tensors hold the same numbers.

    0.0 and -0.0 are the same: averaging weights drops the sign.
    """
    return one.dtype == other.dtype and torch.equal(one, other)


def parse_tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """Parse a safetensors file into tensors, floats in float32.

    Raises CheckpointError where it is none, or where a value is not finite.
    """
    try:
        stored = load(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file. {REMEDY}") from error
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in stored.items()}
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{path}: the tensor {name} has values that are no numbers. {REMEDY}"
            )
    return tensors


def sizes_in_memory(path: Path) -> dict[str, int]:
    """Compute what each tensor of a file will take in memory, in bytes, from its header alone.

    Raises CheckpointError.
    """
    sizes: dict[str, int] = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  no mapping, whatever it looks like
                tensor = file.get_slice(name)
                sizes[name] = math.prod(tensor.get_shape()) * _width(tensor.get_dtype())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or no safetensors file. {REMEDY}") from error
    return sizes


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


def _width(dtype: str) -> int:
    """Give the bytes of one value in memory, from its type's name in safetensors.

    Every float becomes a float32.
    """
    if dtype == "BOOL":
        return 1
    return 4 if "F" in dtype else int(dtype.lstrip("IU")) // 8


def _stored(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.half() if tensor.is_floating_point() else tensor).contiguous()


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
