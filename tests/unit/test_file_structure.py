"""What a file's structure may cost: refused before a decoder sees it, and real files are not."""

import struct

import pytest
from PIL import Image

from models.errors import ImageTooLargeError, TruncatedImageError
from models.file_structure import check_structure
from models.preprocessing import decode_image
from tests.unit.image_files import FILES, encoded

PROGRESSIVE = FILES["JPEG progressive"]
EOI = b"\xff\xd9"
SCAN = PROGRESSIVE[PROGRESSIVE.rfind(b"\xff\xda") : -2]
COMMENT_WITH_EOI = b"\xff\xfe\x00\x06" + EOI + b"ab"


def tiff(order: str, tags: list[tuple[int, int]], *, big: bool = False) -> bytes:
    """A TIFF's header and first directory, which announces `tags` as (tag, count)."""
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = (
            mark + struct.pack(f"{order}HHHQ", 43, 8, 0, 16) + struct.pack(f"{order}Q", len(tags))
        )
        return head + b"".join(struct.pack(f"{order}HHQQ", tag, 4, n, 0) for tag, n in tags)
    head = mark + struct.pack(f"{order}HL", 42, 8) + struct.pack(f"{order}H", len(tags))
    return head + b"".join(struct.pack(f"{order}HHLL", tag, 4, n, 0) for tag, n in tags)


@pytest.mark.parametrize("name", FILES)
def test_check_structure_real_files_are_accepted(name: str) -> None:
    check_structure(FILES[name], name.partition(" ")[0])


@pytest.mark.parametrize(
    "before", [b"", COMMENT_WITH_EOI, b"\xff\xff\xff", b"\xff\x01", b"\xff\xd0\x00\xff\x00"]
)
def test_decode_image_jpeg_of_very_many_scans_is_refused_whatever_stands_before_them(
    before: bytes,
) -> None:
    with pytest.raises(ImageTooLargeError, match="more than 50 scans"):
        decode_image(PROGRESSIVE[:-2] + before + SCAN * 300 + EOI)


@pytest.mark.parametrize("behind", [PROGRESSIVE[:-2] + SCAN * 300 + EOI, b"ftyp" * 50, SCAN * 300])
def test_decode_image_what_lies_behind_the_first_jpeg_does_not_count(behind: bytes) -> None:
    assert decode_image(PROGRESSIVE + behind).format == "JPEG"


def test_decode_image_jpeg_comment_that_looks_like_scans_is_no_scan() -> None:
    body = b"\xff\xda" * 2_000
    comment = b"\xff\xfe" + struct.pack(">H", len(body) + 2) + body
    assert decode_image(PROGRESSIVE[:2] + comment + PROGRESSIVE[2:]).format == "JPEG"


@pytest.mark.parametrize(
    ("filling", "what"),
    [
        (b"\xff" * 70_000, "bytes between"),
        (b"\xff\x00" * 40_000, "bytes between"),
        (b"\xff\xfe\x00\x02" * 5_000, "segments"),
        (b"\xff\xfe\x00\x03a" * 5_000, "segments"),
        (b"\xff\x01" * 5_000, "segments"),
    ],
)
def test_decode_image_jpeg_of_empty_structure_is_refused(filling: bytes, what: str) -> None:
    with pytest.raises(ImageTooLargeError, match=what):
        decode_image(PROGRESSIVE[:2] + filling + PROGRESSIVE[2:])


def test_decode_image_jpeg_of_fill_bytes_behind_a_scan_is_refused() -> None:
    assert decode_image(PROGRESSIVE[:-2] + b"\xff" * 60_000 + EOI).format == "JPEG"
    with pytest.raises(ImageTooLargeError, match="fill bytes"):
        decode_image(PROGRESSIVE[:-2] + b"\xff" * 70_000 + EOI)


@pytest.mark.parametrize("end", [2, 3, 4, 5, 20, 100])
def test_check_structure_jpeg_that_ends_early_is_left_to_its_decoder(end: int) -> None:
    check_structure(PROGRESSIVE[:end], "JPEG")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tag", [273, 324])
def test_check_structure_tiff_of_millions_of_parts_is_refused(
    order: str, big: bool, tag: int
) -> None:
    check_structure(tiff(order, [(256, 1), (tag, 20_000)], big=big), "TIFF")
    with pytest.raises(ImageTooLargeError, match="3,100,000 strips or tiles"):
        check_structure(tiff(order, [(256, 1), (tag, 3_100_000)], big=big), "TIFF")


def test_decode_image_tiff_of_one_row_strips_is_decoded_up_to_the_limit() -> None:
    one_row_a_strip = {278: 1}  # RowsPerStrip
    few = encoded(Image.new("L", (16, 900), 9), "TIFF", tiffinfo=one_row_a_strip)
    assert decode_image(few).height == 900
    many = encoded(Image.new("L", (16, 20_001), 9), "TIFF", tiffinfo=one_row_a_strip)
    with pytest.raises(ImageTooLargeError, match="20,001 strips"):
        decode_image(many)


def test_check_structure_tiff_of_very_many_tags_is_refused() -> None:
    check_structure(tiff("<", [(40_000 + n, 1) for n in range(1_000)]), "TIFF")
    with pytest.raises(ImageTooLargeError, match="1,001 tags"):
        check_structure(tiff("<", [(40_000 + n, 1) for n in range(1_001)]), "TIFF")


@pytest.mark.parametrize("data", [b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0+" + b"\xff" * 12])
def test_check_structure_tiff_directory_outside_the_file_is_left_to_its_decoder(
    data: bytes,
) -> None:
    check_structure(data, "TIFF")
    with pytest.raises(TruncatedImageError):
        decode_image(data)
