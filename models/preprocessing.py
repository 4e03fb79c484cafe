"""From uploaded bytes to the pixels of the encoder's input: decode, turn upright, flatten, resize.

The only place that reads image files, and the same for training, evaluation and serving. Knows no
networks, no HTTP and no file names: the content decides what a file is, never its extension.

    bytes -> decode_image -> DecodedImage -> prepare_image -> PreparedImage

Decisions:
* The plugins of the accepted formats are called directly rather than through `Image.open`: other
  formats' parsers never see an upload, and the size is checked against our limit from the header,
  so that Pillow's process-wide `Image.MAX_IMAGE_PIXELS` needs no change and its warning is not in
  the way of a 100-megapixel limit.
* ICC profiles are ignored: the encoders were trained on images decoded without color management,
  the change for sRGB and Display P3 photos is below what a caption shows, and a profile parser is
  one more attack surface.
* Of an animation or a file of several images the first one counts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from models.config import PreprocessConfig
from models.errors import (
    EmptyImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    OutOfMemoryError,
    TruncatedImageError,
    UnreadableImageError,
)
from models.file_structure import check_structure
from models.libtiff import silence_libtiff

__all__ = [
    "ACCEPTED_FORMATS",
    "DecodeLimits",
    "DecodedImage",
    "OpenedImage",
    "PreparedImage",
    "decode_image",
    "open_image",
    "prepare_image",
]

ACCEPTED_FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF")
"""The formats that may be uploaded, by the names that people use. A JPEG of several images (MPO, of
some phones) is a JPEG."""

_Opener = Callable[[BytesIO], ImageFile.ImageFile]

_OPENERS: dict[str, _Opener] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
)

_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

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

_SIDES_SWAPPED = frozenset(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))

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

    rgb: its pixels may be fewer than the file's, where a JPEG was decoded at reduced size.
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


class OpenedImage:
    """A file whose header has been read and checked against the limits; nothing is decoded yet."""

    def __init__(
        self, image: ImageFile.ImageFile, format_name: str, side_pixels: int | None
    ) -> None:
        """Take what a plugin has opened; `open_image` is how to get one."""
        self._image = image
        self._side_pixels = side_pixels
        self.format = format_name
        self.width, self.height = image.size

    @property
    def peak_bytes(self) -> int:
        """The most memory that `decode` takes at once, beyond the file's own bytes."""
        return self.width * self.height * 20

    def decode(self) -> DecodedImage:
        """Decode the image. Raises TruncatedImageError, ImageTooLargeError or OutOfMemoryError."""
        image = self._image
        width, height = image.size
        with _only_image_errors(self.format):
            if self._side_pixels is not None:
                image.draft(None, (self._side_pixels, self._side_pixels))
            image.load()
            rgb = _flatten(image)
            method = _UPRIGHT.get(_orientation(image))
            if method is not None:
                rgb = rgb.transpose(method)
        if method in _SIDES_SWAPPED:
            width, height = height, width
        return DecodedImage(rgb=rgb, width=width, height=height, format=self.format)


def decode_image(
    data: bytes, *, side_pixels: int | None = None, limits: DecodeLimits = DecodeLimits()
) -> DecodedImage:
    """Decode one image file; whatever the bytes, it raises nothing but an ImageError or
    OutOfMemoryError.

    side_pixels: the side that the image will be squeezed to, if known; a JPEG is then decoded at
        1/2, 1/4 or 1/8 of its size, as long as both sides stay at least this long.

    Raises EmptyImageError, UnreadableImageError (no image, or a format that is not accepted),
    TruncatedImageError (ends early or damaged; never filled up with gray), ImageTooLargeError and
    ImageTooSmallError (both decided from the header, before a pixel is decoded).
    """
    return open_image(data, side_pixels=side_pixels, limits=limits).decode()


def open_image(
    data: bytes, *, side_pixels: int | None = None, limits: DecodeLimits = DecodeLimits()
) -> OpenedImage:
    """Read and check the header of one image file, as `decode_image` does; decode nothing."""
    if not data:
        raise EmptyImageError("The picture is empty (0 bytes). Send the bytes of a picture file.")
    format_name = _sniff(data)
    check_structure(data, format_name)
    if format_name == "TIFF":
        silence_libtiff()
    with _only_image_errors(format_name):
        image = _OPENERS[format_name](BytesIO(data))
    _check_size(image.size, limits)
    return OpenedImage(image, format_name, side_pixels)


def prepare_image(image: DecodedImage, config: PreprocessConfig) -> PreparedImage:
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


def _sniff(data: bytes) -> str:
    """Tell the format by the first bytes; raise UnreadableImageError where it is not accepted."""
    found = next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        found = "WebP"
    elif data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        found = "BMP"
    elif brand in (b"avif", b"avis") or (brand in _HEIF_BRANDS and b"avif" in data[12:64]):
        found = "AVIF"
    elif brand in _HEIF_BRANDS:
        found = "HEIC"
    accepted = f"Accepted formats: {', '.join(ACCEPTED_FORMATS)}."
    if found is None:
        raise UnreadableImageError(f"The file is not a picture that can be read. {accepted}")
    if found not in _OPENERS:
        raise UnreadableImageError(f"The file is {found}, which is not accepted. {accepted}")
    return found


@contextmanager
def _only_image_errors(format_name: str) -> Iterator[None]:
    """Turn whatever Pillow and its codecs raise on hostile bytes into an ImageError.

    A damaged file can raise OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error,
    KeyError, IndexError, OverflowError and more, depending on plugin and version, so Exception is
    caught. Only MemoryError says nothing of the file. The cause is chained for the log.
    """
    try:
        yield
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


def _check_size(size: tuple[int, int], limits: DecodeLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(
            f"The picture is {width} x {height} pixels ({width * height / 1e6:.4g} megapixels); at "
            f"most {limits.max_pixels / 1e6:.4g} megapixels are accepted. Send a smaller copy."
        )
    if min(size) < limits.min_side_pixels:
        raise ImageTooSmallError(
            f"The picture is {width} x {height} pixels; each side must have at least "
            f"{limits.min_side_pixels}."
        )


def _orientation(image: ImageFile.ImageFile) -> int:
    """Read the EXIF orientation: 1 (upright) where there is none or the EXIF block is damaged.

    Pillow has turned a TIFF already while loading it, and gave the size of the upright image from
    the start.
    """
    if image.format == "TIFF":
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  damaged metadata, which can raise almost anything, must not cost the image
        return 1
    return value if isinstance(value, int) else 1


def _flatten(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB: transparency on white, more than 8 bits scaled to 8."""
    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_scale_to_bytes(np.asarray(image)))
    if image.has_transparency_data:
        # no needless copy: one of 50 megapixels is 200 MB
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(layer, mask=layer)
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _scale_to_bytes(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Scale gray values of any depth to 0..255.

    16-bit integers: / 257, so that 65535 is white. 32-bit integers and floats have no agreed white:
    it is the smallest of 1 (floats only), 255 and 65535 that no value exceeds; where a value is
    negative or larger still, the darkest value becomes black and the brightest white. NaN and
    infinities count as black.
    """
    if values.dtype.itemsize == 2:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    is_float = values.dtype.kind == "f"
    gray = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low = float(gray.min())
    high = float(gray.max())
    whites = (1.0, 255.0, 65535.0) if is_float else (255.0, 65535.0)
    white = next((white for white in whites if high <= white), None)
    if low < 0.0 or white is None:
        half_span = high / 2 - low / 2  # halves: the span of the largest floats is itself no float
        gray *= 0.5
        gray -= low / 2
        if half_span > 0.0:
            gray /= half_span
        white = 1.0
    return (gray * (255.0 / white)).round().clip(0, 255).astype(np.uint8)
