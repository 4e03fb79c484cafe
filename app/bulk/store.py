"""Photos in an object store: its listing, and the bytes of one. Opens no image and knows no models.

A store is named by an address, such as `s3://bucket/photos`. What it takes to be let in, pyarrow
finds where the store's own tools do: in environment variables, files and the machine's role. Needs
pyarrow, which is an extra: imported only here and by `app.bulk.parquet`.
"""

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.bulk.reader import Listing, Photo, StoredObject, check_size, is_named_as_photo
from app.core.errors import PhotoFileError, StoreUnreachableError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

__all__ = ["find_objects", "is_address", "object_at", "read_object"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_address(source: str) -> bool:
    """Tell whether a source is the address of a store, or of an object in one."""
    return _ADDRESS.match(source) is not None


def find_objects(address: str) -> Listing:
    """List the photos below an address, in the order of their names.

    What begins with a dot is left out. A photo's name is its path from the address on. Raises
    PhotoFileError where the store cannot be reached, or has nothing there.
    """
    files, root = _open(address)  # says so where pyarrow is missing
    from pyarrow.fs import FileSelector, FileType

    try:
        found = files.get_file_info(FileSelector(root, recursive=True))
    except (OSError, ValueError) as error:
        raise PhotoFileError(f"{address} cannot be listed: {_first_line(error)}") from error
    photos: list[Photo] = []
    passed_over = 0
    for info in found:
        name = info.path.removeprefix(root).lstrip("/")
        if info.type != FileType.File or _is_hidden(name):
            continue
        if is_named_as_photo(name):
            photos.append(Photo(name, StoredObject(address, info.path)))
        else:
            passed_over += 1
    photos.sort(key=lambda photo: photo.name)
    return Listing(photos, passed_over)


def object_at(address: str) -> StoredObject:
    """Give the object at an address, without looking whether it is there. Raises PhotoFileError."""
    parts = urlsplit(address)
    query = f"?{parts.query}" if parts.query else ""
    store = f"{parts.scheme}://{parts.netloc or '/'}{query}"
    _, root = _open(store)
    return StoredObject(store, f"{root.rstrip('/')}/{parts.path.lstrip('/')}")


def read_object(found: StoredObject, max_bytes: int) -> bytes:
    """Read an object whole.

    Raises PhotoFileError where it is gone or larger, and StoreUnreachableError where another try
    may succeed.
    """
    files, _ = _open(found.store)
    try:
        with files.open_input_stream(found.key) as stream:
            data: bytes = stream.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise PhotoFileError("There is no such object in the store.") from error
    except OSError as error:
        raise StoreUnreachableError(f"The store did not give it: {_first_line(error)}") from error
    check_size(len(data), max_bytes)
    return data


@lru_cache(maxsize=64)
def _open(address: str) -> "tuple[FileSystem, str]":
    """Give the store of an address and where in it the address points to."""
    try:
        from pyarrow.fs import FileSystem
    except ImportError as error:
        raise PhotoFileError(
            "An object store needs the package pyarrow, which is not installed. Install the extra "
            "'parquet': pip install 'glimpse[parquet]'."
        ) from error
    try:
        files, root = FileSystem.from_uri(address)
    except (OSError, ValueError) as error:
        raise PhotoFileError(f"{address} is no store to reach: {_first_line(error)}") from error
    return files, root


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
