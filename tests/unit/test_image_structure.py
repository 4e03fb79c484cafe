"""What a file's structure may cost: refused before a decoder sees it, and real files are not."""

import io
import struct
import time
import zlib

import pytest
from PIL import GifImagePlugin, Image

from models.errors import ImageTooLargeError, TruncatedImageError
from models.image_files.boxes import read_boxes
from models.image_files.gif import read_gif
from models.image_files.pieces import open_pieces
from models.image_files.tiff import check_tiff
from models.preprocessing import decode_image
from tests.unit.image_files import FILES, assert_close, encoded, heic, png_chunk, textured

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


def test_decode_image_jpeg_of_tables_without_end_is_refused() -> None:
    table = b"\xff\xdb\xfd\xea" + (b"\0" + b"\1" * 64) * 1_000
    assert decode_image(PROGRESSIVE[:2] + table * 15 + PROGRESSIVE[2:]).format == "JPEG"
    with pytest.raises(ImageTooLargeError, match="more than 1,000,000 bytes of tables"):
        decode_image(PROGRESSIVE[:2] + table * 16 + PROGRESSIVE[2:])


def test_decode_image_jpeg_of_fill_bytes_behind_a_scan_is_refused() -> None:
    assert decode_image(PROGRESSIVE[:-2] + b"\xff" * 60_000 + EOI).format == "JPEG"
    with pytest.raises(ImageTooLargeError, match="fill bytes"):
        decode_image(PROGRESSIVE[:-2] + b"\xff" * 70_000 + EOI)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tag", [273, 324])
def test_check_tiff_of_millions_of_parts_is_refused(order: str, big: bool, tag: int) -> None:
    check_tiff(tiff(order, [(256, 1), (tag, 20_000)], big=big))
    with pytest.raises(ImageTooLargeError, match="3,100,000 strips or tiles"):
        check_tiff(tiff(order, [(256, 1), (tag, 3_100_000)], big=big))


def test_decode_image_tiff_of_one_row_strips_is_decoded_up_to_the_limit() -> None:
    one_row_a_strip = {278: 1}  # RowsPerStrip
    few = encoded(Image.new("L", (16, 900), 9), "TIFF", tiffinfo=one_row_a_strip)
    assert decode_image(few).height == 900
    many = encoded(Image.new("L", (16, 20_001), 9), "TIFF", tiffinfo=one_row_a_strip)
    with pytest.raises(ImageTooLargeError, match="20,001 strips"):
        decode_image(many)


def test_check_tiff_of_very_many_tags_is_refused() -> None:
    check_tiff(tiff("<", [(40_000 + n, 1) for n in range(1_000)]))
    with pytest.raises(ImageTooLargeError, match="1,001 tags"):
        check_tiff(tiff("<", [(40_000 + n, 1) for n in range(1_001)]))


@pytest.mark.parametrize("data", [b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0+" + b"\xff" * 12])
def test_check_tiff_directory_outside_the_file_is_left_to_its_decoder(
    data: bytes,
) -> None:
    check_tiff(data)
    with pytest.raises(TruncatedImageError):
        decode_image(data)


# --- PNG ----

PNG = FILES["PNG"]
IHDR_END = 33
TEXT_OF_A_MEGABYTE = zlib.compress(bytes(2_000_000))


def chunks_in(data: bytes, *chunks: bytes) -> bytes:
    """A PNG file with these chunks behind its header."""
    return data[:IHDR_END] + b"".join(chunks) + data[IHDR_END:]


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"iCCP", b"profile\0\0" + TEXT_OF_A_MEGABYTE),
        png_chunk(b"zTXt", b"Comment\0\0" + TEXT_OF_A_MEGABYTE),
        png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + TEXT_OF_A_MEGABYTE),
        png_chunk(b"tEXt", b"Comment\0" + b"a" * 1_200_000),
        png_chunk(b"iCCP", b"damaged"),
        png_chunk(b"prVt", bytes(5_000_000)),
        png_chunk(b"tEXt", b"a")[:-4] + b"\0\0\0\0",  # a wrong check sum
        png_chunk(b"eXIf", bytes(100_000)),
        png_chunk(b"fcTL", b"damaged"),
    ],
)
def test_decode_image_png_chunk_that_shows_nothing_is_skipped(chunk: bytes) -> None:
    decoded = decode_image(chunks_in(PNG, chunk))
    assert_close(decoded.rgb, textured())
    assert decoded.warnings == ()


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_decode_image_png_header_of_a_wrong_check_sum_is_damaged(kind: bytes) -> None:
    data = bytearray(FILES["PNG palette"])
    start = data.index(kind)
    end = start + 4 + int.from_bytes(data[start - 4 : start], "big")
    data[end] ^= 1
    with pytest.raises(TruncatedImageError):
        decode_image(bytes(data))


def test_decode_image_png_transparency_of_a_wrong_check_sum_is_skipped() -> None:
    data = bytearray(FILES["PNG palette"])
    start = data.index(b"tRNS")
    data[start + 4 + int.from_bytes(data[start - 4 : start], "big")] ^= 1
    assert_close(decode_image(bytes(data)).rgb, textured().quantize(16).convert("RGB"))


# --- 20 MB of nothing ----


def gif_of(block: bytes, count: int) -> bytes:
    gif = FILES["GIF"]
    start = 13 + 3 * 256
    assert gif[10] & 0x87 == 0x87  # a palette of 256 colors
    return gif[:start] + block * count + gif[start:]


def riff_of(chunk: bytes, count: int) -> bytes:
    body = FILES["WebP"][8:] + chunk * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


FREE_BOX = b"\0\0\0\x08free"
IFD = struct.pack("<HHHLL", 1, 254, 4, 1, 0)
"""A TIFF directory of one tag, up to the offset of the next."""


def chained_tiff(count: int) -> bytes:
    """A TIFF whose first directory, an image, is followed by a chain of others."""
    data = FILES["TIFF"]
    (first,) = struct.unpack_from("<L", data, 4)
    (tags,) = struct.unpack_from("<H", data, first)
    link = first + 2 + 12 * tags
    chain = [IFD + struct.pack("<L", len(data) + 18 * (n + 1)) for n in range(count - 1)]
    return (
        data[:link]
        + struct.pack("<L", len(data))
        + data[link + 4 :]
        + b"".join(chain)
        + IFD
        + bytes(4)
    )


REFUSED_BULK = {
    "PNG empty chunks": lambda: chunks_in(PNG, png_chunk(b"prVt", b"") * 1_600_000),
    "PNG empty IDAT": lambda: chunks_in(PNG, png_chunk(b"IDAT", b"") * 1_600_000),
    "GIF empty comments": lambda: gif_of(b"\x21\xfe\0", 6_600_000),
    "GIF comment of short blocks": lambda: gif_of(b"\x21\xfe" + b"\1a" * 9_000_000 + b"\0", 1),
    "WebP unknown chunks": lambda: riff_of(b"abcd\0\0\0\0", 2_400_000),
    "AVIF empty boxes": lambda: FILES["AVIF"] + FREE_BOX * 2_400_000,
    "HEIC empty boxes": lambda: FILES["HEIC"] + FREE_BOX * 2_400_000,
    "BMP run-length encoded": lambda: rle_bmp(b"\0\0" * 9_000_000),
}
SKIPPED_BULK = {
    "PNG one large chunk": lambda: chunks_in(PNG, png_chunk(b"prVt", bytes(19_000_000))),
    "GIF full comment blocks": lambda: gif_of(
        b"\x21\xfe" + (b"\xff" + b"a" * 255) * 74_000 + b"\0", 1
    ),
    "GIF application block": lambda: gif_of(b"\x21\xff\x0bNETSCAPE2.0\3\1\0\0\0", 9_000),
    "WebP one large chunk": lambda: riff_of(
        b"abcd" + struct.pack("<L", 19_000_000) + bytes(19_000_000), 1
    ),
    "AVIF one large box": lambda: FILES["AVIF"] + box(b"free", bytes(19_000_000)),
    "HEIC one large box": lambda: FILES["HEIC"] + box(b"free", bytes(19_000_000)),
    "TIFF chain of directories": lambda: chained_tiff(1_000_000),
    "TIFF bytes behind it": lambda: FILES["TIFF"] + bytes(19_000_000),
    "BMP bytes behind it": lambda: FILES["BMP"] + bytes(19_000_000),
}


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">L", 8 + len(body)) + kind + body


def rle_bmp(body: bytes) -> bytes:
    header = struct.pack("<LLLHHLLLLLL", 40, 64, 64, 1, 8, 1, len(body), 0, 0, 256, 0)
    palette = bytes(range(256)) * 4
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<LLL", start + len(body), 0, start) + header + palette + body


@pytest.mark.parametrize("name", REFUSED_BULK)
def test_decode_image_twenty_megabytes_of_empty_structure_are_refused(name: str) -> None:
    started = time.monotonic()
    with pytest.raises(ImageTooLargeError, match="Save it again as"):
        decode_image(REFUSED_BULK[name]())
    assert time.monotonic() - started < 20  # against hanging, not a promise


@pytest.mark.parametrize("name", SKIPPED_BULK)
def test_decode_image_twenty_megabytes_that_show_nothing_are_skipped(name: str) -> None:
    data = SKIPPED_BULK[name]()
    assert len(data) > 170_000
    started = time.monotonic()
    decoded = decode_image(data)
    assert (decoded.width, decoded.height) == (96, 64)
    assert time.monotonic() - started < 20  # against hanging, not a promise


def test_decode_image_run_length_encoded_bmp_is_decoded() -> None:
    decoded = decode_image(rle_bmp(b"\x40\7\0\0" * 64 + b"\0\1"))
    assert_close(decoded.rgb, Image.new("RGB", (64, 64), (30, 29, 28)))


@pytest.mark.parametrize("table", [b"iloc", b"ipma", b"iref"])
def test_decode_image_heif_of_a_long_table_is_refused(table: bytes) -> None:
    meta = box(b"meta", bytes(4) + box(table, bytes(300_000)))
    with pytest.raises(ImageTooLargeError, match="a table of 300,000 bytes"):
        decode_image(box(b"ftyp", b"heic\0\0\0\0mif1heic") + meta)


def test_decode_image_heic_of_many_tiles_is_accepted() -> None:
    data = heic(Image.new("RGB", (1024, 768), 9), tile_size=64, enc_params={"preset": "ultrafast"})
    assert decode_image(data).width == 1024  # of 192 tiles, as a phone's 48 megapixels


def test_decode_image_bmp_of_negative_width_is_told_as_damaged() -> None:
    data = bytearray(FILES["BMP"])
    data[18:22] = struct.pack("<l", -200)
    with pytest.raises(TruncatedImageError, match="its header says that it is -200 pixels"):
        decode_image(bytes(data))


def test_decode_image_bmp_of_negative_height_is_read_from_the_top() -> None:
    data = bytearray(FILES["BMP"])
    data[22:26] = struct.pack("<l", -64)
    flipped = textured().transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    assert_close(decode_image(bytes(data)).rgb, flipped)


def test_decode_image_tiff_of_tiles_far_larger_than_itself_is_refused() -> None:
    data = bytearray(FILES["TIFF tiff_adobe_deflate"])
    (start,) = struct.unpack_from("<L", data, 4)
    (tags,) = struct.unpack_from("<H", data, start)
    entries = {
        struct.unpack_from("<H", data, start + 2 + 12 * number)[0]: start + 2 + 12 * number
        for number in range(tags)
    }
    offset, count = (struct.unpack_from("<L", data, entries[tag] + 8)[0] for tag in (273, 279))
    tiled = [(322, 60_000), (323, 30_000), (324, offset), (325, count)]
    kept = b"".join(
        bytes(data[at : at + 12])
        for tag, at in sorted(entries.items())
        if tag not in (273, 278, 279)
    )
    directory = struct.pack("<H", tags - 3 + 4) + kept
    directory += b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tiled) + bytes(4)
    changed = bytes(data[:4]) + struct.pack("<L", len(data)) + bytes(data[8:]) + directory
    with pytest.raises(ImageTooLargeError, match="tiles of 60000 x 30000 pixels"):
        decode_image(changed)


def test_gif_that_is_to_be_disposed_of_makes_no_room_for_that_as_it_is_opened() -> None:
    image = textured(64, 48).quantize(16)
    for disposal in (2, 3):
        data = encoded(image, "GIF", disposal=disposal, transparency=3)
        opened = GifImagePlugin.GifImageFile(open_pieces(data, read_gif(data)))
        assert opened.dispose is None
        assert GifImagePlugin.GifImageFile(io.BytesIO(data)).dispose is not None
        plain = encoded(image, "GIF", transparency=3)
        assert decode_image(data).rgb.tobytes() == decode_image(plain).rgb.tobytes()


def test_sequence_of_images_may_have_pixels_of_any_depth() -> None:
    still = read_boxes(encoded(textured(), "AVIF"), "AVIF")
    assert (still.sample_bytes, still.samples) == (1, 1.5)
    sequence = encoded(textured(), "AVIF", save_all=True, append_images=[textured().rotate(180)])
    moving = read_boxes(sequence, "AVIF")
    assert (moving.sample_bytes, moving.samples) == (2, 3.0)
