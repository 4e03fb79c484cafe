"""From a file's bytes to the pixels of its decoder, one opener a format. Knows no limits.

Each opener reads the header alone, with the one plugin or codec of its format, called directly:
other formats' parsers never see an upload. WebP, AVIF and HEIC are decoded by the codecs beneath
their plugins, which would hold a second copy of the image. What an opener gives says how large the
image is and what decoding will take, and decodes when it is told to.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import _pillow_heif
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    _avif,
    _imaging,
    _webp,
)

from models.errors import ImageTooLargeError
from models.image_files.bmp import RLE_METHODS, check_bmp, compression_of
from models.image_files.boxes import read_boxes
from models.image_files.exif import UPRIGHT
from models.image_files.gif import read_gif
from models.image_files.jpeg import read_jpeg
from models.image_files.pieces import open_pieces
from models.image_files.png import read_png
from models.image_files.tiff import check_tiff
from models.image_files.webp import read_webp
from models.partial_jpeg import load_jpeg
from models.pixels import BufferPixels, ImagePixels, Pixels

__all__ = ["OPENERS", "OpenedFile"]

_Decode = Callable[[], tuple[Pixels, tuple[str, ...]]]

# What the pixels of an image take in Pillow's memory, in bytes a pixel.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
_WIDEST_PIXEL_BYTES = 4
# A tile may be larger than the image, but not at any price.
_MAX_TILE_PIXELS = 4096 * 4096


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file whose header has been read.

    size: width and height in pixels of the file, as they are stored.
    decoded_size: the same as they will be decoded: less, where a JPEG is decoded at reduced size.
    orientation: 1 to 8, what is to be undone still.
    pixel_bytes: what the decoded pixels take, in bytes.
    codec_bytes: the most that is taken while they are decoded, the pixels included.
    is_rgb: the decoded pixels are the result already, an opaque RGB image.
    reduces_while_decoding: the pixels of the full size are never in memory.
    decode: gives the pixels, and sentences for the user; raises whatever the codec does. Can be
        called once, as it lets go of what it decodes with.
    """

    size: tuple[int, int]
    decoded_size: tuple[int, int]
    orientation: int
    pixel_bytes: int
    codec_bytes: int
    decode: _Decode
    is_rgb: bool = False
    reduces_while_decoding: bool = False


def _open_jpeg(data: bytes, side_pixels: int | None) -> OpenedFile:
    file = read_jpeg(data)
    image = JpegImagePlugin.JpegImageFile(open_pieces(data, [*file.spans, file.end]))
    size = image.size
    if side_pixels is not None:
        image.draft(None, (side_pixels, side_pixels))

    def decode() -> tuple[Pixels, tuple[str, ...]]:
        loaded, warnings = load_jpeg(held.pop())
        return ImagePixels(loaded), (*file.warnings, *warnings)

    held = [image]
    pixel_bytes = _pixel_bytes(image)
    return OpenedFile(
        size=size,
        decoded_size=image.size,
        orientation=file.orientation,
        pixel_bytes=pixel_bytes,
        # a band of lines, before and after its colors are converted
        codec_bytes=pixel_bytes + file.coefficient_bytes + 128 * size[0],
        decode=decode,
        is_rgb=image.mode == "RGB",
        reduces_while_decoding=file.coefficient_bytes == 0,
    )


def _open_png(data: bytes, _side_pixels: int | None) -> OpenedFile:
    file = read_png(data)
    image = PngImagePlugin.PngImageFile(open_pieces(data, file.spans))
    return _of_plugin(image, file.orientation, 0)


def _open_gif(data: bytes, _side_pixels: int | None) -> OpenedFile:
    image = GifImagePlugin.GifImageFile(open_pieces(data, read_gif(data)))
    return _of_plugin(image, UPRIGHT, 0)


def _open_bmp(data: bytes, _side_pixels: int | None) -> OpenedFile:
    check_bmp(data)
    image = BmpImagePlugin.BmpImageFile(BytesIO(data))
    is_rle = compression_of(data) in RLE_METHODS  # in two byte strings
    return _of_plugin(image, UPRIGHT, 2 * _area(image.size) if is_rle else 0)


def _open_tiff(data: bytes, _side_pixels: int | None) -> OpenedFile:
    """Open a TIFF; Pillow turns it upright itself, and gives the size of the upright image."""
    _silence_libtiff()
    check_tiff(data)
    image = TiffImagePlugin.TiffImageFile(BytesIO(data))
    part = _tiff_part(image)
    if _area(part) > max(_area(image.size), _MAX_TILE_PIXELS):
        raise ImageTooLargeError(
            f"The TIFF is stored in tiles of {part[0]} x {part[1]} pixels, far more than its own "
            f"{image.width} x {image.height}. Save it again as TIFF or PNG."
        )
    return _of_plugin(image, UPRIGHT, _tiff_extra_bytes(image))


def _open_webp(data: bytes, _side_pixels: int | None) -> OpenedFile:
    file = read_webp(data)
    size = file.width, file.height

    def decode() -> tuple[Pixels, tuple[str, ...]]:
        codec = _webp.WebPAnimDecoder(data)
        found, _, _, _, mode = codec.get_info()
        if found != size:
            raise ValueError(f"a WebP of {size} holds an image of {found}")
        frame = codec.get_next()
        del codec  # its two canvases
        if frame is None:
            raise ValueError("the first frame cannot be decoded")
        return BufferPixels(frame[0], size, mode), ()

    return OpenedFile(
        size=size,
        decoded_size=size,
        orientation=file.orientation,
        pixel_bytes=4 * _area(size),
        # two canvases, the frame, and the codec's own
        codec_bytes=15 * _area(size),
        decode=decode,
    )


def _open_avif(data: bytes, _side_pixels: int | None) -> OpenedFile:
    depth = read_boxes(data, "AVIF")
    codec = _avif.AvifDecoder(data, "auto", 1)
    # its orientation is that of the file's own transformations, whatever EXIF says
    size, _, mode, _, _, orientation, _ = codec.get_info()

    def decode() -> tuple[Pixels, tuple[str, ...]]:
        return BufferPixels(held.pop().get_frame(0)[0], size, mode), ()

    held = [codec]
    del codec
    planes = depth.samples * depth.sample_bytes + (depth.sample_bytes if mode == "RGBA" else 0)
    return OpenedFile(
        size=size,
        decoded_size=size,
        orientation=orientation,
        pixel_bytes=len(mode) * _area(size),
        codec_bytes=int((2 * len(mode) + 1.5 * planes) * _area(size)),
        decode=decode,
    )


def _open_heic(data: bytes, _side_pixels: int | None) -> OpenedFile:
    """Open the primary image; libheif turns it upright itself, and EXIF does not count."""
    depth = read_boxes(data, "HEIC")
    # one thread, 8 bits, RGB, rows without gaps, the library's own security limits
    images, _ = _pillow_heif.load_file(data, 1, True, False, True, True, "", False)
    image = next((each for each in images if each is not None and each.primary), None)
    if image is None:
        raise ValueError("no primary image: a sequence alone")
    size, mode = image.size_mode
    held = [image]
    del image, images

    def decode() -> tuple[Pixels, tuple[str, ...]]:
        image = held.pop()
        pixels = image.data
        decoded, _ = image.size_mode
        if decoded != size:
            raise ValueError(f"a HEIC of {size} holds an image of {decoded}")
        return BufferPixels(pixels, size, mode.replace("a", "A"), image.stride), ()

    planes = depth.samples * depth.sample_bytes + (depth.sample_bytes if len(mode) == 4 else 0)
    return OpenedFile(
        size=size,
        decoded_size=size,
        orientation=UPRIGHT,
        pixel_bytes=len(mode) * _area(size),
        codec_bytes=int((len(mode) + 2 * planes) * _area(size)),
        decode=decode,
    )


OPENERS: dict[str, Callable[[bytes, int | None], OpenedFile]] = {
    "JPEG": _open_jpeg,
    "PNG": _open_png,
    "WebP": _open_webp,
    "GIF": _open_gif,
    "BMP": _open_bmp,
    "TIFF": _open_tiff,
    "AVIF": _open_avif,
    "HEIC": _open_heic,
}
"""For each of `ACCEPTED_FORMATS`, what opens a file: its bytes, and the side in pixels that the
image will be squeezed to, None where it is not known. Raises ImageError, or whatever the plugin
does."""


def _of_plugin(image: ImageFile.ImageFile, orientation: int, extra_bytes: int) -> OpenedFile:
    def decode() -> tuple[Pixels, tuple[str, ...]]:
        loaded = held.pop()
        loaded.load()
        return ImagePixels(loaded), ()

    held = [image]
    pixel_bytes = _pixel_bytes(image)
    return OpenedFile(
        size=image.size,
        decoded_size=image.size,
        orientation=orientation,
        pixel_bytes=pixel_bytes,
        codec_bytes=pixel_bytes + extra_bytes,
        decode=decode,
        is_rgb=image.mode == "RGB" and not image.has_transparency_data,
    )


@cache
def _silence_libtiff() -> None:
    """Keep libtiff from writing to standard error what is wrong with a file, line after line.

    Pillow says that it is damaged. Its own copy of libtiff is asked, for the whole process.
    """
    library = ctypes.CDLL(_imaging.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        if hasattr(library, name):  # not where libtiff was linked in without its names
            getattr(library, name)(None)


def _tiff_part(image: TiffImagePlugin.TiffImageFile) -> tuple[int, int]:
    """The width and height of a tile, or of a strip, in pixels."""
    tags = image.tag_v2
    if 322 in tags:
        return tags[322], tags[323]
    width, height = tags.get(256, 0), tags.get(257, 0)
    return width, min(tags.get(278, height), height)


def _tiff_extra_bytes(image: TiffImagePlugin.TiffImageFile) -> int:
    """What is held beside the pixels: a strip or tile of the codec, and a copy to turn upright."""
    tags = image.tag_v2
    is_raw = tags.get(259, 1) == 1
    samples = max(1, tags.get(277, 1))
    part_bytes = _area(_tiff_part(image)) * max(1, *tags.get(258, (1,))) * samples // 8
    turned = _pixel_bytes(image) if tags.get(274, 1) != 1 else 0
    return (0 if is_raw else part_bytes) + turned


def _pixel_bytes(image: Image.Image) -> int:
    return _area(image.size) * _PIXEL_BYTES.get(image.mode, _WIDEST_PIXEL_BYTES)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
