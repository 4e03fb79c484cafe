"""Small valid files of every accepted format, how to write others, and how to compare what is seen
in them."""

import io
import struct
import zlib

import numpy as np
import pillow_heif
from PIL import Image


def encoded(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def heic(*images: Image.Image, **options: object) -> bytes:
    """A HEIC file of these images; the first is the primary one."""
    buffer = io.BytesIO()
    file = pillow_heif.HeifFile()  # type: ignore[no-untyped-call]
    for image in images:
        # not add_from_pillow, which would turn the pixels of an orientation that it also writes
        added = file.add_frombytes(image.mode, image.size, image.tobytes())
        added.info["exif"] = image.info.get("exif")
    file.save(buffer, **options)
    return buffer.getvalue()


def textured(width: int = 96, height: int = 64) -> Image.Image:
    """Draw noise: an image that compresses badly, so that truncation removes pixels and not
    padding."""
    noise = np.random.default_rng(7).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def real_files() -> dict[str, bytes]:
    """One small valid file of every accepted format, and of its notable variants."""
    image = textured()
    other = textured().rotate(180)
    animation: dict[str, object] = {"save_all": True, "append_images": [other]}
    files = {
        "JPEG": encoded(image, "JPEG"),
        "JPEG progressive": encoded(image, "JPEG", progressive=True),
        "JPEG gray": encoded(image.convert("L"), "JPEG"),
        "JPEG CMYK": encoded(image.convert("CMYK"), "JPEG"),
        "JPEG multi-picture": encoded(image, "MPO", **animation),
        "PNG": encoded(image, "PNG"),
        "PNG alpha": encoded(image.convert("RGBA"), "PNG"),
        "PNG palette": encoded(image.quantize(16), "PNG", transparency=3),
        "PNG animated": encoded(image, "PNG", **animation),
        "WebP": encoded(image, "WEBP"),
        "WebP lossless": encoded(image, "WEBP", lossless=True),
        "WebP animated": encoded(image, "WEBP", **animation),
        "GIF": encoded(image, "GIF"),
        "GIF animated": encoded(image, "GIF", **animation),
        "BMP": encoded(image, "BMP"),
        "TIFF": encoded(image, "TIFF"),
        "AVIF": encoded(image, "AVIF"),
        "HEIC": heic(image),
        "HEIC tiled": heic(image, tile_size=64),
        "HEIC multi-picture": heic(image, other, primary_index=0),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"TIFF {compression}"] = encoded(image, "TIFF", compression=compression)
    return files


FILES = real_files()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def assert_close(actual: object, expected: object, tolerance: int = 0) -> None:
    np.testing.assert_allclose(
        np.asarray(actual, dtype=int), np.asarray(expected, dtype=int), atol=tolerance
    )
