"""From what a caller has of a picture to what is sent: bytes, or a URL. Imports no image library;
an image of PIL is known by what it can do."""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

__all__ = ["Image", "ImageUrl", "PilImage", "read_image"]

_MAX_PNG_PIXELS = 4_000_000  # at most 16 MB, which the server accepts unless it was told otherwise
_JPEG_QUALITY = 95
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


@runtime_checkable
class PilImage(Protocol):
    """What is needed of an image of PIL."""

    @property
    def mode(self) -> str:
        """What a pixel is made of, as in `RGB`."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""

    @property
    def info(self) -> Mapping[Any, Any]:
        """What the file said beside its pixels."""

    def convert(self, mode: str) -> Any:
        """Make the same image of another mode."""

    def getexif(self) -> Any:
        """Give what the camera said; empty where it said nothing."""

    def save(self, fp: Any, format: str | None = ..., **params: Any) -> None:
        """Write a file of this format."""


Image = str | os.PathLike[str] | bytes | bytearray | memoryview | PilImage
"""A path, a URL (a text that begins with http:// or https://), a file's bytes, or a PIL image."""


@dataclass(frozen=True, slots=True)
class ImageUrl:
    """Where an image lies that the server is to fetch."""

    url: str


def read_image(image: Image) -> bytes | ImageUrl:
    """Get what is to be sent. A file is sent as it is.

    A PIL image is sent as PNG; as JPEG of quality 95 where it has more than 4 megapixels and no
    transparency. It keeps its EXIF data, so that it is turned as its file would be.

    Raises OSError if a file cannot be read, and TypeError for another kind of value.
    """
    if isinstance(image, str) and image.lower().startswith(("http://", "https://")):
        return ImageUrl(image)
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, PilImage):
        return _encode(image)
    raise TypeError(
        f"An image is a path, a URL, bytes, or an image of PIL, but this is {type(image).__name__}."
    )


def _encode(image: PilImage) -> bytes:
    width, height = image.size
    has_alpha = image.mode in _ALPHA_MODES or "transparency" in image.info
    is_png = has_alpha or width * height <= _MAX_PNG_PIXELS
    options: dict[str, Any] = {"compress_level": 1} if is_png else {"quality": _JPEG_QUALITY}
    exif = image.getexif()
    if exif:
        options["exif"] = exif
    if is_png and image.mode not in _PNG_MODES:
        image = image.convert("RGBA" if has_alpha else "RGB")
    elif not is_png and image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    file = io.BytesIO()
    image.save(file, "PNG" if is_png else "JPEG", **options)
    return file.getvalue()
