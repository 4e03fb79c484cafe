"""From decoded pixels of any mode to RGB, in strips and at reduced size: on white, 8 bits.

Knows no files. Nothing here holds a second copy of a large image: a strip at a time is converted,
flattened and reduced, so that beside the decoder's own buffer only the result is in memory.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["BufferPixels", "ImagePixels", "Pixels", "strip_bytes", "to_rgb"]

_STRIP_PIXELS = 262_144
_STRIP_BYTES = _STRIP_PIXELS * 40
"""The most that a strip of pixels and its copies take."""

_WHITES = (1.0, 255.0, 65535.0)


class Pixels(Protocol):
    """What a decoder left: an image that can be cut in strips of rows."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""

    @property
    def rgb(self) -> Image.Image | None:
        """The image itself, where it is RGB and opaque already."""

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Copy these rows, in any mode."""


class ImagePixels:
    """The pixels of a Pillow image that has been loaded."""

    def __init__(self, image: Image.Image) -> None:
        """Take the image; it is not copied."""
        self._image = image
        self.size = image.size

    @property
    def rgb(self) -> Image.Image | None:
        """The image itself, where it is RGB and opaque already."""
        image = self._image
        return image if image.mode == "RGB" and not image.has_transparency_data else None

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Copy these rows."""
        return self._image.crop((0, top, self._image.width, bottom))


class BufferPixels:
    """Pixels as a codec gave them: one row after the other, in one buffer."""

    def __init__(
        self, data: bytes, size: tuple[int, int], mode: str, stride_bytes: int | None = None
    ) -> None:
        """Take the buffer; it is not copied. Raises ValueError where it is too short.

        mode: one that Pillow reads, as RGB, RGBX or RGBA.
        stride_bytes: from one row to the next; None where they are without gaps.
        """
        self.size = size
        self._data = np.frombuffer(data, dtype=np.uint8)
        self._mode = mode
        self._stride = stride_bytes or size[0] * len(mode)
        if len(data) < self._stride * size[1] or self._stride < size[0] * len(mode):
            raise ValueError(f"{len(data)} bytes are no {mode} image of {size}")

    @property
    def rgb(self) -> Image.Image | None:
        """No image exists yet."""
        return None

    def rows(self, top: int, bottom: int) -> Image.Image:
        """Copy these rows."""
        part = self._data[top * self._stride : bottom * self._stride]
        mode = "RGB" if self._mode == "RGBX" else self._mode
        size = (self.size[0], bottom - top)
        return Image.frombytes(mode, size, part.tobytes(), "raw", self._mode, self._stride, 1)


def to_rgb(pixels: Pixels, factor: int) -> Image.Image:
    """Convert to RGB: transparency on white, more than 8 bits scaled to 8.

    factor: both sides are divided by it, each square of so many pixels becoming its mean.
    """
    if pixels.rgb is not None:
        return pixels.rgb if factor == 1 else pixels.rgb.reduce(factor)
    scale = _find_scale(pixels)
    width, height = pixels.size
    rgb = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    for top, bottom in _strips(pixels, factor):
        strip = _flatten(pixels.rows(top, bottom), scale)
        rgb.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
    return rgb


def _strips(pixels: Pixels, factor: int = 1) -> Iterator[tuple[int, int]]:
    """Cut the image into strips of rows, each a multiple of `factor` but the last."""
    width, height = pixels.size
    rows = max(_STRIP_PIXELS // width // factor, 1) * factor
    return ((top, min(top + rows, height)) for top in range(0, height, rows))


def strip_bytes(width: int, factor: int) -> int:
    """Give what converting a strip takes at most: a very wide image has one row at least."""
    return max(_STRIP_BYTES, _STRIP_BYTES * width * factor // _STRIP_PIXELS)


def _is_deep(image: Image.Image) -> bool:
    return image.mode == "F" or image.mode.startswith("I")


def _flatten(image: Image.Image, scale: tuple[float, float] | None) -> Image.Image:
    if _is_deep(image):
        image = Image.fromarray(_to_bytes(np.asarray(image), scale))
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(layer, mask=layer)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _find_scale(pixels: Pixels) -> tuple[float, float] | None:
    """Find what is black and what is white in gray values of 32 bits; None for other images.

    These have no agreed white: it is the smallest of 1 (floats only), 255 and 65535 that no value
    exceeds; where a value is negative or larger still, the darkest value becomes black and the
    brightest white. NaN and infinities count as black.
    """
    first = pixels.rows(0, 1)
    if first.mode not in ("F", "I"):
        return None
    lows, highs = [], []
    for top, bottom in _strips(pixels):
        gray = _finite(np.asarray(pixels.rows(top, bottom)))
        lows.append(float(gray.min()))
        highs.append(float(gray.max()))
    low, high = min(lows), max(highs)
    whites = _WHITES if first.mode == "F" else _WHITES[1:]
    white = next((white for white in whites if high <= white), None)
    return (low, high) if low < 0.0 or white is None else (0.0, white)


def _finite(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _to_bytes(
    values: npt.NDArray[np.generic], scale: tuple[float, float] | None
) -> npt.NDArray[np.uint8]:
    """Scale gray values to 0..255; 16-bit ones, without a scale, so that 65535 is white."""
    if scale is None:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    low, high = scale
    gray = _finite(values)
    half_span = high / 2 - low / 2  # halves: the span of the largest floats is itself no float
    gray *= 0.5
    gray -= low / 2
    if half_span > 0.0:
        gray /= half_span
    return (gray * 255.0).round().clip(0, 255).astype(np.uint8)
