"""A JPEG that ends early: what a browser shows whole is captioned, what it fills with gray is told
in a warning or refused."""

import re
import struct

import numpy as np
import pytest
from PIL import Image

from models.errors import TruncatedImageError
from models.preprocessing import decode_image
from tests.unit.image_files import assert_close, encoded, textured

EOI = b"\xff\xd9"
IMAGE = textured(320, 400)
KINDS: dict[str, bytes] = {
    "4:2:0": encoded(IMAGE, "JPEG", quality=90),
    "4:4:4": encoded(IMAGE, "JPEG", quality=90, subsampling="4:4:4"),
    "gray": encoded(IMAGE.convert("L"), "JPEG", quality=90),
    "CMYK": encoded(IMAGE.convert("CMYK"), "JPEG", quality=90),
    "restart markers": encoded(IMAGE, "JPEG", quality=90, restart_marker_rows=1),
    "flat": encoded(Image.new("RGB", (320, 400), (9, 99, 200)), "JPEG"),
}
PROGRESSIVE = encoded(IMAGE, "JPEG", quality=90, progressive=True)
SCANS = [found.start() for found in re.finditer(rb"\xff\xda", PROGRESSIVE)]


def cut(data: bytes, share: float) -> bytes:
    """The file with only this share of its compressed data."""
    start = data.index(b"\xff\xda")
    return data[: start + int((len(data) - start) * share)]


def taller(data: bytes, height: int) -> bytes:
    """The file, announcing this many lines."""
    found = re.search(rb"\xff\xc0\x00.\x08", data, re.DOTALL)
    assert found is not None
    return data[: found.end()] + struct.pack(">H", height) + data[found.end() + 2 :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side_pixels", [None, 40])
@pytest.mark.parametrize("behind", [b"", EOI, EOI + b"trailing garbage", b"\xff", EOI * 3])
def test_decode_image_jpeg_that_shows_everything_is_whole_whatever_its_end(
    kind: str, side_pixels: int | None, behind: bytes
) -> None:
    whole = decode_image(KINDS[kind], side_pixels=side_pixels)
    decoded = decode_image(KINDS[kind][:-2] + behind, side_pixels=side_pixels)
    assert decoded.warnings == whole.warnings == ()
    assert_close(decoded.rgb, whole.rgb)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "flat"])
@pytest.mark.parametrize("side_pixels", [None, 40])
@pytest.mark.parametrize("end", [b"", EOI, b"\xff\xe0\0\2" + EOI])
def test_decode_image_jpeg_cut_in_its_last_quarter_is_captioned_with_a_warning(
    kind: str, side_pixels: int | None, end: bytes
) -> None:
    whole = np.asarray(decode_image(KINDS[kind], side_pixels=side_pixels).rgb)
    decoded = decode_image(cut(KINDS[kind], 0.88) + end, side_pixels=side_pixels)
    (warning,) = decoded.warnings
    assert re.fullmatch(r"The JPEG file ends early: 1\d % of the picture is missing\.", warning)
    missing = int(warning.split(": ")[1].split(" ")[0]) / 100
    pixels = np.asarray(decoded.rgb)
    lines = len(pixels)
    there = int(lines * (1 - missing)) - 2
    assert_close(pixels[:there], whole[:there])
    assert_close(pixels[-1], np.full_like(pixels[-1], 128))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side_pixels", [None, 40])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.7])
@pytest.mark.parametrize("end", [b"", EOI, EOI + b"trailing garbage"])
def test_decode_image_jpeg_of_which_a_third_is_missing_is_refused(
    kind: str, side_pixels: int | None, share: float, end: bytes
) -> None:
    with pytest.raises(TruncatedImageError, match="ends early"):
        decode_image(cut(KINDS[kind], share) + end, side_pixels=side_pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_decode_image_jpeg_that_announces_more_lines_than_it_has_is_told_or_refused(
    kind: str,
) -> None:
    decoded = decode_image(taller(KINDS[kind], 480))
    assert decoded.height == 480
    assert decoded.warnings == ("The JPEG file ends early: 17 % of the picture is missing.",)
    with pytest.raises(TruncatedImageError):
        decode_image(taller(KINDS[kind], 800))


@pytest.mark.parametrize("marker", [b"\xff\xe5\0\2", b"\xff\xd3", b"\xff\xd8\xff"])
def test_decode_image_jpeg_with_a_foreign_marker_in_its_data_is_not_filled_with_gray(
    marker: bytes,
) -> None:
    data = KINDS["4:4:4"]
    middle = data.index(b"\xff\xda") + 2_000
    with pytest.raises(TruncatedImageError):
        decode_image(data[:middle] + marker + data[middle:])


@pytest.mark.parametrize("end", [b"", EOI])
def test_decode_image_progressive_jpeg_cut_before_the_whole_picture_is_refused(end: bytes) -> None:
    for stop in (SCANS[0] - 10, SCANS[0] + 50, SCANS[1] - 40):
        with pytest.raises(TruncatedImageError, match="ends early"):
            decode_image(PROGRESSIVE[:stop] + end)


@pytest.mark.parametrize("stop", [SCANS[3], SCANS[-1] + 50, len(PROGRESSIVE) - 2])
def test_decode_image_progressive_jpeg_without_its_end_is_captioned_with_a_warning(
    stop: int,
) -> None:
    decoded = decode_image(PROGRESSIVE[:stop])
    assert decoded.warnings == ("The JPEG file has no end mark: fine detail may be missing.",)
    seen, true = np.asarray(decoded.rgb, dtype=int), np.asarray(IMAGE, dtype=int)
    assert np.abs(seen - true).mean() < 0.6 * np.abs(128 - true).mean()


def test_decode_image_progressive_jpeg_is_whole_with_garbage_behind_it() -> None:
    decoded = decode_image(PROGRESSIVE + b"trailing garbage")
    assert decoded.warnings == ()
    assert_close(decoded.rgb, decode_image(PROGRESSIVE).rgb)
