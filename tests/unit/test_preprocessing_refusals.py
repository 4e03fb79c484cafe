"""decode_image and files that are no image, broken, too large or too small: an ImageError each,
never another."""

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from models.errors import (
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    OutOfMemoryError,
    TruncatedImageError,
    UnreadableImageError,
)
from models.preprocessing import ACCEPTED_FORMATS, DecodeLimits, decode_image, open_image
from tests.unit.image_files import FILES, assert_close, encoded, png_chunk

SVG = b"<svg xmlns='http://www.w3.org/2000/svg'/>"


def flat_png(width: int, height: int) -> bytes:
    """A black 1-bit PNG, written without holding its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(row * 1000) for _ in range(height // 1000)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", body)
        + png_chunk(b"IEND", b"")
    )


def test_decode_image_empty_is_refused_as_empty() -> None:
    with pytest.raises(EmptyImageError, match="0 bytes"):
        decode_image(b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"This is a text that was saved as cat.jpg.", "not a picture"),
        (b"BMW makes cars, and this is not a bitmap at all.", "not a picture"),
        (b"\0" * 5000, "not a picture"),
        (b"%PDF-1.7\n", "a PDF document"),
        (SVG, "an SVG drawing"),
        (b"\xef\xbb\xbf" + SVG, "an SVG drawing"),
        (SVG.decode().encode("utf-16"), "an SVG drawing"),
        (b"<?xml version='1.0'?>\n<!-- a > b -->\n" + SVG, "an SVG drawing"),
        (b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN'>" + SVG, "SVG"),
        (b"<?xml version='1.0'", "not a picture"),
        (b"<!DOCTYPE html><title>404</title>", "an HTML page"),
        (b"\n<html>", "an HTML page"),
        (b"\xff\x0a\0\0\0\0", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0\0\1\0\1\0\x10\x10\0\0", "an icon"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"),
        (b"PK\x03\x04\x14\0", "ZIP archive or an Office"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "an MP4 video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "QuickTime"),
        (b"\x1a\x45\xdf\xa3\x9f", "Matroska"),
    ],
)
def test_decode_image_not_accepted_is_refused_with_what_is_accepted(data: bytes, said: str) -> None:
    with pytest.raises(UnreadableImageError, match=said) as caught:
        decode_image(data)
    assert all(name in str(caught.value) for name in ACCEPTED_FORMATS)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_decode_image_truncated_is_refused_or_whole(name: str, share: float) -> None:
    data = FILES[name]
    cut = data[: int(len(data) * share)]
    try:
        decoded = decode_image(cut)
    except TruncatedImageError:
        return
    if name.startswith("JPEG") and decoded.warnings:
        assert "progressive" in name or share == 0.9
        return
    assert "animated" in name or "multi-picture" in name, "half of a single image was accepted"
    assert_close(decoded.rgb, decode_image(data).rgb)


@pytest.mark.parametrize("name", ["PNG", "GIF", "WebP", "BMP", "TIFF", "AVIF", "HEIC"])
@pytest.mark.parametrize("side_pixels", [None, 16])
def test_decode_image_last_tenth_missing_is_refused_as_truncated(
    name: str, side_pixels: int | None
) -> None:
    with pytest.raises(TruncatedImageError, match="ends early"):
        decode_image(FILES[name][: -len(FILES[name]) // 10], side_pixels=side_pixels)


def test_decode_image_200_megapixel_png_is_refused_from_its_header() -> None:
    data = flat_png(20_000, 10_000)
    assert len(data) < 400_000
    for candidate in (data, data[:60]):  # the header alone is enough
        with pytest.raises(
            ImageTooLargeError,
            match=r"20000 x 10000 pixels \(200 megapixels\); at most 50 megapixels",
        ):
            decode_image(candidate)


@pytest.mark.parametrize(
    ("width", "height"), [(9_500, 10_000), (60_000, 1_000), (2_000_000, 1_000)]
)
def test_decode_image_above_the_limit_is_refused_without_a_warning(width: int, height: int) -> None:
    with pytest.raises(ImageTooLargeError, match=f"{width} x {height}"):
        decode_image(flat_png(width, height))


def test_decode_image_above_pillows_own_warning_is_accepted_where_the_limit_allows() -> None:
    decoded = decode_image(flat_png(10_000, 9_000), limits=DecodeLimits(max_pixels=90_000_000))
    assert (decoded.width, decoded.height) == (10_000, 9_000)


@pytest.mark.parametrize(("width", "height"), [(16_383, 16_383), (16_383, 8_000)])
def test_decode_image_huge_webp_canvas_is_refused_as_too_large(width: int, height: int) -> None:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    small = FILES["WebP"][12:]
    body = b"WEBP" + extended + small
    with pytest.raises((ImageTooLargeError, TruncatedImageError)):
        decode_image(b"RIFF" + struct.pack("<I", len(body)) + body)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (15, 15)])
def test_decode_image_below_the_smallest_side_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(
        ImageTooSmallError, match=f"{size[0]} x {size[1]} pixels; each side must have at least 16"
    ):
        decode_image(encoded(Image.new("RGB", size), "PNG"))


def test_decode_image_limits_are_inclusive() -> None:
    data = encoded(Image.new("RGB", (20, 30)), "PNG")
    assert decode_image(data, limits=DecodeLimits(max_pixels=600, min_side_pixels=20)).width == 20
    with pytest.raises(ImageTooLargeError):
        decode_image(data, limits=DecodeLimits(max_pixels=599))
    with pytest.raises(ImageTooSmallError):
        decode_image(data, limits=DecodeLimits(min_side_pixels=21))


# Pillow warns of damaged EXIF and goes on, as it does in production.
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=400),
    start=st.sampled_from([b"", *[data[:24] for data in FILES.values()]]),
)
def test_decode_image_random_bytes_raise_image_error_only(data: bytes, start: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(start + data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_decode_image_mutated_file_decodes_or_raises_image_error_only(
    name: str, data: st.DataObject
) -> None:
    mutated = bytearray(FILES[name])
    # Headers are where a parser goes wrong: every second flip hits the first 200 bytes.
    ends = st.one_of(st.integers(0, 199), st.integers(0, len(mutated) - 1))
    for position, value in data.draw(st.lists(st.tuples(ends, st.integers(0, 255)), max_size=8)):
        mutated[position] = value
    length = data.draw(st.one_of(st.just(len(mutated)), st.integers(0, len(mutated))))
    side_pixels = data.draw(st.sampled_from([None, 16]))
    try:
        decoded = decode_image(
            bytes(mutated[:length]),
            side_pixels=side_pixels,
            limits=DecodeLimits(max_pixels=1_000_000),
        )
    except ImageError:
        return
    assert decoded.rgb.mode == "RGB"
    assert decoded.width * decoded.height <= 1_000_000


def test_decode_image_without_memory_is_not_told_as_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_image: PngImagePlugin.PngImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    with pytest.raises(OutOfMemoryError, match="no memory"):
        decode_image(FILES["PNG"])


# --- large JPEGs ----


def large_jpeg(**options: object) -> bytes:
    """A JPEG of 108 megapixels, as phones take them."""
    return encoded(Image.new("L", (12_000, 9_000), 99), "JPEG", **options)


def test_decode_image_phone_jpeg_of_108_megapixels_is_reduced_while_it_is_decoded() -> None:
    data = large_jpeg()
    opened = open_image(data, side_pixels=224)
    assert (opened.width, opened.height) == (12_000, 9_000)
    assert opened.peak_bytes < 50_000_000
    decoded = opened.decode()
    assert (decoded.width, decoded.height) == (12_000, 9_000)
    assert decoded.rgb.size == (1500, 1125)


def test_decode_image_large_jpeg_is_refused_where_its_pixels_would_be_in_memory() -> None:
    data = large_jpeg()
    with pytest.raises(ImageTooLargeError, match="at most 50 megapixels"):
        decode_image(data)
    with pytest.raises(ImageTooLargeError, match="at most 100 megapixels"):
        decode_image(data, side_pixels=224, limits=DecodeLimits(max_jpeg_pixels=100_000_000))
    with pytest.raises(ImageTooLargeError, match="at most 50 megapixels"):
        decode_image(large_jpeg(progressive=True), side_pixels=224)
