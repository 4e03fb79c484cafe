"""Which photos a run is about: those of a folder, of an object store, or of a text file that names
them. Opens no image."""

from pathlib import Path

from app.bulk.reader import Listing, Photo, StoredObject, find_photos, read_photo, text_of_path
from app.bulk.store import find_objects, is_address, object_at, read_object
from app.core.errors import PhotoFileError

__all__ = ["list_photos", "read_place"]


def list_photos(source: str) -> Listing:
    """List the photos of a source. Raises PhotoFileError where it is none, or cannot be read."""
    if is_address(source):
        return find_objects(source)
    path = Path(source)
    if path.is_dir():
        return find_photos(path)
    if path.is_file():
        return _named_in(path)
    raise PhotoFileError(
        f"{text_of_path(path)} is not there. Name a folder of photos, a text file with the name of "
        "a photo on each line, or an object store, such as s3://bucket/photos."
    )


def read_place(place: Path | StoredObject, max_bytes: int) -> bytes:
    """Read a photo whole, wherever it lies.

    Raises PhotoFileError, and StoreUnreachableError where another try may succeed.
    """
    if isinstance(place, StoredObject):
        return read_object(place, max_bytes)
    return read_photo(place, max_bytes)


def _named_in(listing: Path) -> Listing:
    """Read a text file with a photo on each line: a path, from the file's own folder, or an
    address.

    A line is the photo's name as it is; empty lines and repetitions are left out.
    """
    try:
        text = listing.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PhotoFileError(f"{listing} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PhotoFileError(
            f"{listing} is no text file (UTF-8) with the name of a photo on each line. Of a single "
            "photo, glimpse caption tells."
        ) from error
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    names = dict.fromkeys(line for line in lines if line.strip())
    return Listing([Photo(name, _place(name, listing.parent)) for name in names], passed_over=0)


def _place(name: str, folder: Path) -> Path | StoredObject:
    return object_at(name) if is_address(name) else folder / name
