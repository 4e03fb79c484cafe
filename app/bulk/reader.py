"""Which photos a folder has, and the bytes of one. Opens no image and knows no models.

In a folder a name decides what counts as a photo, as a folder holds other files too; what the file
really is, its first bytes decide when it is captioned.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.core.errors import PhotoFileError

__all__ = [
    "PHOTO_SUFFIXES",
    "Listing",
    "Photo",
    "StoredObject",
    "check_size",
    "find_photos",
    "is_named_as_photo",
    "read_photo",
    "text_of_path",
]

PHOTO_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        *(".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
        *(".avif", ".heic", ".heif"),
    }
)
"""Ends of the names of photos, in small letters."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in an object store: the store's address, and the object's key in it."""

    store: str
    key: str


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo to caption.

    name: what it is called in the output, the same in every run.
    place: its file, or where a store has it.
    data: its bytes, where they are known; None reads them when its turn comes.
    """

    name: str
    place: Path | StoredObject
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder or a store has. passed_over: how many files have no name of a photo."""

    photos: list[Photo]
    passed_over: int


def find_photos(folder: Path) -> Listing:
    r"""List the photos of a folder and of those inside it, in the order of their names.

    What begins with a dot is left out, and links to folders are not followed. A photo's name is its
    path from the folder on, with `/`; bytes of it that are no UTF-8 are written as `\xff`. Raises
    PhotoFileError where the folder, or one inside it, cannot be read.
    """
    photos: list[Photo] = []
    passed_over = 0
    for path in _files(folder):
        if is_named_as_photo(path.name):
            photos.append(Photo(text_of_path(path.relative_to(folder)), path))
        else:
            passed_over += 1
    return Listing(photos, passed_over)


def is_named_as_photo(name: str) -> bool:
    """Tell whether a file or object is named as a photo."""
    return PurePosixPath(name).suffix.lower() in PHOTO_SUFFIXES


def read_photo(path: Path, max_bytes: int) -> bytes:
    """Read a file whole. Raises PhotoFileError where it cannot be, or is larger."""
    try:
        # Not to wait for the other end where it is a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123  of a descriptor
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise PhotoFileError("It is no file. Name a file, or the folder that holds it.")
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise PhotoFileError(f"The file cannot be read: {error.strerror}.") from error
    check_size(len(data), max_bytes, status.st_size)
    return data


def check_size(read_bytes: int, max_bytes: int, whole_bytes: int | None = None) -> None:
    """Raise PhotoFileError where more was read than is accepted."""
    if read_bytes > max_bytes:
        is_about = f"{whole_bytes} bytes" if whole_bytes else f"more than {max_bytes} bytes"
        raise PhotoFileError(
            f"The file has {is_about}; at most {max_bytes} are accepted. Save a smaller copy, or "
            "raise GLIMPSE_MAX_UPLOAD_BYTES."
        )


def text_of_path(path: Path) -> str:
    r"""Write a path with `/`, and bytes of it that are no UTF-8 as `\xff`."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _files(folder: Path) -> Iterator[Path]:
    """Walk a folder in the order of names, its own files before those of the folders inside."""
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(place, name)


def _raise(error: OSError) -> None:
    raise PhotoFileError(f"{error.filename} cannot be read: {error.strerror}.") from error
