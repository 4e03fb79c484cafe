"""From uploaded bytes to the pixels of the encoder's input: decode, turn upright, flatten, resize.

The only place that reads image files, and the same for training, evaluation and serving. Knows no
networks, no HTTP and no file names: the content decides what a file is, never its extension.

    bytes -> open_image -> OpenedImage -> decode -> DecodedImage -> prepare_image -> PreparedImage

Decisions:
* The plugins of the accepted formats are called directly rather than through `Image.open`: other
  formats' parsers never see an upload, and the size is checked against our limit from the header,
  so that Pillow's process-wide `Image.MAX_IMAGE_PIXELS` needs no change and its warning is not in
  the way of a 100-megapixel limit.
* Pixels are reduced before they are converted, where it is known how many are needed, and converted
  in strips: beside the decoder's own buffer, little more than the result is in memory.
* ICC profiles are ignored: the encoders were trained on images decoded without color management,
  the change for sRGB and Display P3 photos is below what a caption shows, and a profile parser is
  one more attack surface.
* Of an animation the first image counts, of a HEIF file of several images the primary one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.errors import (
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    OutOfMemoryError,
    TruncatedImageError,
)
from models.image_files.sniffing import ACCEPTED_FORMATS, accepted_format
from models.opening import OPENERS, OpenedFile
from models.pixels import Pixels, strip_bytes, to_rgb

__all__ = [
    "ACCEPTED_FORMATS",
    "DecodeLimits",
    "DecodedImage",
    "OpenedImage",
    "PreparedImage",
    "Squeeze",
    "decode_image",
    "open_image",
    "prepare_image",
]

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that undoes each EXIF orientation; 1, and any unknown one, counts as upright."""

_SIDES_SWAPPED = (5, 6, 7, 8)
_RGB_BYTES = 4
"""Of a pixel, as Pillow holds it."""

_SMALL_BYTES = 1_000_000
"""For a codec's tables and all else that does not grow with the image."""

_Decode = Callable[[], tuple[Pixels, tuple[str, ...]]]

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# A box reduction to three times the target before the antialiased resize: indistinguishable, and
# much faster.
_REDUCING_GAP = 3.0


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What an image may be, checked from its header before decoding.

    max_pixels: most pixels that are decoded.
    max_jpeg_pixels: most pixels of a JPEG's file, where it is decoded at reduced size.
    min_side_pixels: fewest pixels that either side of the file may have.
    formats: those of `ACCEPTED_FORMATS` that are accepted.
    """

    max_pixels: int = 50_000_000
    max_jpeg_pixels: int = 200_000_000
    min_side_pixels: int = 16
    formats: tuple[str, ...] = ACCEPTED_FORMATS


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image as a person sees it: upright, on white, RGB.

    rgb: its pixels may be fewer than the file's, where the side that is needed was given.
    width, height: pixels of the file at full size, after EXIF rotation.
    format: what the file is, one of `ACCEPTED_FORMATS`.
    warnings: sentences for the user: what is missing of the image.
    """

    rgb: Image.Image
    width: int
    height: int
    format: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """One item of a batch, small enough to queue.

    pixels: (3, S, S) uint8, RGB, contiguous.
    width, height, format, warnings: of the file, as in `DecodedImage`.
    """

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    format: str
    warnings: tuple[str, ...] = ()


class Squeeze(Protocol):
    """The part of a `PreprocessConfig` that images are squeezed by.

    A decoder process starts in half the time without the whole of it.
    """

    @property
    def size_pixels(self) -> int:
        """The side of the square."""

    @property
    def resample(self) -> str:
        """Between which pixels: "bilinear" or "bicubic"."""


class OpenedImage:
    """A file whose header has been read and checked against the limits; nothing is decoded yet.

    format: one of `ACCEPTED_FORMATS`.
    width, height: pixels of the file as they are stored, before rotation.
    peak_bytes: the most memory that `decode` takes at once, beyond the file's own bytes.
    """

    def __init__(self, opened: OpenedFile, format_name: str, factor: int) -> None:
        """Take what an opener gave; `factor` divides the sides of what is decoded."""
        self._decode: _Decode | None = opened.decode
        self._orientation = opened.orientation
        self._factor = factor
        self.format = format_name
        self.width, self.height = opened.size
        self.peak_bytes = _peak_bytes(opened, factor)

    def decode(self) -> DecodedImage:
        """Decode the image, once. Raises TruncatedImageError, ImageTooLargeError or
        OutOfMemoryError."""
        if self._decode is None:
            raise RuntimeError("an opened image is decoded once")
        decode, self._decode = self._decode, None
        width, height, orientation = self.width, self.height, self._orientation
        with _only_image_errors(self.format):
            pixels, warnings = decode()
            rgb = to_rgb(pixels, self._factor)
            del pixels  # before the copy that is turned
            if orientation in _UPRIGHT:
                rgb = rgb.transpose(_UPRIGHT[orientation])
        if orientation in _SIDES_SWAPPED:
            width, height = height, width
        return DecodedImage(rgb, width, height, self.format, warnings)


def open_image(
    data: bytes, *, side_pixels: int | None = None, limits: DecodeLimits = DecodeLimits()
) -> OpenedImage:
    """Read the header of one image file and check it against the limits; decode nothing.

    side_pixels: the side that the image will be squeezed to, if known: the decoded image is then
        smaller, as long as both sides stay at least this long.

    Whatever the bytes, it raises nothing but an ImageError or OutOfMemoryError: EmptyImageError,
    UnreadableImageError (no image, or a format that is not accepted), TruncatedImageError (damaged,
    as far as the header shows), ImageTooLargeError and ImageTooSmallError.
    """
    if not data:
        raise EmptyImageError("The picture is empty (0 bytes). Send the bytes of a picture file.")
    format_name = accepted_format(data, limits.formats)
    with _only_image_errors(format_name):
        opened = OPENERS[format_name](data, side_pixels)
        if min(opened.size) <= 0:
            raise ValueError(f"the header says {opened.size} pixels")
    _check_size(opened, limits)
    return OpenedImage(opened, format_name, _factor(opened.decoded_size, side_pixels))


def decode_image(
    data: bytes, *, side_pixels: int | None = None, limits: DecodeLimits = DecodeLimits()
) -> DecodedImage:
    """Decode one image file; as `open_image` and `decode` after it.

    Raises TruncatedImageError also where the data ends early or is damaged: nothing is filled up
    with gray, but of a JPEG at most a quarter of its lines, which is told in `warnings`.
    """
    return open_image(data, side_pixels=side_pixels, limits=limits).decode()


def prepare_image(image: DecodedImage, config: Squeeze) -> PreparedImage:
    """Squeeze the whole image, without cropping, to the (3, S, S) uint8 input of the model."""
    side = config.size_pixels
    resample = _RESAMPLING[config.resample]
    squeezed = image.rgb.resize((side, side), resample, reducing_gap=_REDUCING_GAP)
    channels_first = np.asarray(squeezed, dtype=np.uint8).transpose(2, 0, 1)
    pixels = np.ascontiguousarray(channels_first)  # (3, S, S)
    return PreparedImage(
        pixels=pixels,
        width=image.width,
        height=image.height,
        format=image.format,
        warnings=image.warnings,
    )


def _factor(size: tuple[int, int], side_pixels: int | None) -> int:
    """By how much both sides can be divided and leave the resize what it would reduce to itself."""
    return 1 if side_pixels is None else max(1, int(min(size) / side_pixels / _REDUCING_GAP))


def _peak_bytes(opened: OpenedFile, factor: int) -> int:
    """The codec's memory; then its pixels and the result; then the result and its turned copy."""
    width, height = opened.decoded_size
    result = -(-width // factor) * -(-height // factor) * _RGB_BYTES
    turned = result if opened.orientation in _UPRIGHT else 0
    converted = 0 if opened.is_rgb and factor == 1 else result
    working = _SMALL_BYTES if opened.is_rgb else strip_bytes(width, factor)
    return working + max(opened.codec_bytes, opened.pixel_bytes + converted, result + turned)


@contextmanager
def _only_image_errors(format_name: str) -> Iterator[None]:
    """Turn whatever Pillow and its codecs raise on hostile bytes into an ImageError.

    A damaged file can raise OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
    KeyError, IndexError, OverflowError and more, depending on plugin and version, so Exception is
    caught. Only MemoryError says nothing of the file. The cause is chained for the log.
    """
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(
            "The picture has far more pixels than are accepted. Send a smaller copy."
        ) from error
    except MemoryError as error:
        raise OutOfMemoryError(
            "There is no memory to decode the picture now. Try again in a few seconds, or send a "
            "smaller copy."
        ) from error
    except Exception as error:
        raise TruncatedImageError(
            f"The {format_name} file ends early, is damaged, or is of a rare kind that cannot be "
            "read. Send the complete file, or save it again as JPEG or PNG."
        ) from error


def _check_size(opened: OpenedFile, limits: DecodeLimits) -> None:
    width, height = opened.size
    decoded_width, decoded_height = opened.decoded_size
    is_reduced = opened.reduces_while_decoding and opened.decoded_size != opened.size
    most = max(limits.max_pixels, limits.max_jpeg_pixels) if is_reduced else limits.max_pixels
    if width * height > most or decoded_width * decoded_height > limits.max_pixels:
        raise ImageTooLargeError(
            f"The picture is {width} x {height} pixels ({width * height / 1e6:.4g} megapixels); at "
            f"most {most / 1e6:.4g} megapixels are accepted. Send a smaller copy."
        )
    if min(opened.size) < limits.min_side_pixels:
        raise ImageTooSmallError(
            f"The picture is {width} x {height} pixels; each side must have at least "
            f"{limits.min_side_pixels}."
        )
