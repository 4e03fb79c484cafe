"""decode_image, prepare_image and normalise: every format, mode and orientation, and every way to be broken."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.config import PreprocessConfig
from models.errors import (
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    TruncatedImageError,
    UnreadableImageError,
)
from models.preprocessing import ACCEPTED_FORMATS, DecodeLimits, decode_image, normalise, prepare_image

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CONFIG = PreprocessConfig(size_pixels=32, mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0))


def encoded(image: Image.Image, format_name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def textured(width: int = 96, height: int = 64) -> Image.Image:
    """Draw noise: a picture that compresses badly, so that truncation removes pixels and not padding."""
    noise = np.random.default_rng(7).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def real_files() -> dict[str, bytes]:
    """One small valid file of every accepted format, and of its notable variants."""
    image, other = textured(), textured().rotate(180)
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
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"TIFF {compression}"] = encoded(image, "TIFF", compression=compression)
    return files


FILES = real_files()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def flat_png(width: int, height: int) -> bytes:
    """A black 1-bit PNG, written without holding its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(row * 1000) for _ in range(height // 1000)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def corner_colours(image: Image.Image) -> list[tuple[int, ...]]:
    """Colours near the corners: top left, top right, bottom left, bottom right."""
    right, bottom = image.width - 4, image.height - 4
    return [tuple(np.asarray(image)[y, x]) for y in (3, bottom) for x in (3, right)]


def assert_close(actual: object, expected: object, tolerance: int = 0) -> None:
    np.testing.assert_allclose(np.asarray(actual, dtype=int), np.asarray(expected, dtype=int), atol=tolerance)


# --- what is accepted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_decode_image_accepted_format_gives_rgb_of_full_size(name: str) -> None:
    decoded = decode_image(FILES[name])
    assert decoded.picture.mode == "RGB"
    assert decoded.picture.size == (decoded.width, decoded.height) == (96, 64)
    assert decoded.format == name.split()[0]
    assert decoded.format in ACCEPTED_FORMATS


def test_accepted_formats_each_has_a_file_in_these_tests() -> None:
    assert {name.split()[0] for name in FILES} == set(ACCEPTED_FORMATS)


@pytest.mark.parametrize("name", [name for name in FILES if "animated" in name or "multi-picture" in name])
def test_decode_image_several_frames_gives_the_first(name: str) -> None:
    decoded = np.asarray(decode_image(FILES[name]).picture, dtype=float)
    first, second = (np.asarray(picture, dtype=float) for picture in (textured(), textured().rotate(180)))
    assert np.abs(decoded - first).mean() < 0.5 * np.abs(decoded - second).mean()


# --- orientation -----------------------------------------------------------------------------------------------------

# Where the stored picture's red, green, blue and white corners (top left, top right, bottom left, bottom right) are
# seen after each orientation has been applied; from the EXIF 2.32 table of "0th row" and "0th column".
SEEN_CORNERS = {
    1: [RED, GREEN, BLUE, WHITE],
    2: [GREEN, RED, WHITE, BLUE],
    3: [WHITE, BLUE, GREEN, RED],
    4: [BLUE, WHITE, RED, GREEN],
    5: [RED, BLUE, GREEN, WHITE],
    6: [BLUE, RED, WHITE, GREEN],
    7: [WHITE, GREEN, BLUE, RED],
    8: [GREEN, WHITE, RED, BLUE],
}


def painted_corners(width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), (128, 128, 128))
    for colour, (x, y) in zip((RED, GREEN, BLUE, WHITE), [(0, 0), (1, 0), (0, 1), (1, 1)], strict=True):
        left, top = x * (width - width // 3), y * (height - height // 3)
        image.paste(colour, (left, top, left + width // 3, top + height // 3))
    return image


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", SEEN_CORNERS)
def test_decode_image_exif_orientation_shows_corners_as_a_person_sees_them(format_name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": "4:4:4"} if format_name in ("JPEG", "AVIF") else {}
    options |= {"lossless": True} if format_name == "WEBP" else {}
    decoded = decode_image(encoded(painted_corners(96, 48), format_name, exif=exif, **options))
    assert (decoded.width, decoded.height) == ((48, 96) if orientation >= 5 else (96, 48))
    assert decoded.picture.size == (decoded.width, decoded.height)
    assert_close(corner_colours(decoded.picture), SEEN_CORNERS[orientation], tolerance=24)


def test_decode_image_rotated_and_reduced_reports_the_full_upright_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_image(encoded(painted_corners(1999, 1001), "JPEG", exif=exif), side_pixels=200)
    assert (decoded.width, decoded.height) == (1001, 1999)
    assert decoded.picture.size == (251, 500)
    assert_close(corner_colours(decoded.picture), SEEN_CORNERS[6], tolerance=24)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning", "ignore:Truncated File Read:UserWarning")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage that is no TIFF header",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",  # orientation 99
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02ab\0\0\0\0\0\0",  # orientation "ab"
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03",  # ends inside its directory
    ],
)
def test_decode_image_malformed_exif_is_taken_as_upright(exif: bytes) -> None:
    decoded = decode_image(encoded(painted_corners(96, 48), "JPEG", quality=95, exif=exif))
    assert (decoded.width, decoded.height) == (96, 48)
    assert_close(corner_colours(decoded.picture), SEEN_CORNERS[1], tolerance=40)


# --- modes -----------------------------------------------------------------------------------------------------------


def half_transparent(mode: str) -> bytes:
    """Left half fully transparent, right half opaque and dark."""
    alpha = Image.new("L", (40, 20), 255)
    alpha.paste(0, (0, 0, 20, 20))
    image = Image.new("RGB", (40, 20), (10, 20, 30) if mode == "RGBA" else (20, 20, 20))
    image.putalpha(alpha)
    return encoded(image.convert(mode), "PNG")


def palette_with_transparent_entry() -> Image.Image:
    image = Image.new("P", (40, 20), 1)
    image.putpalette([255, 0, 0, 20, 20, 20])
    image.paste(0, (0, 0, 20, 20))
    return image


TRANSPARENT = {
    "RGBA": half_transparent("RGBA"),
    "LA": half_transparent("LA"),
    "P one entry": encoded(palette_with_transparent_entry(), "PNG", transparency=0),
    "P table": encoded(palette_with_transparent_entry(), "PNG", transparency=b"\x00\xff"),
    "GIF": encoded(palette_with_transparent_entry(), "GIF", transparency=0),
    "RGB tRNS": encoded(palette_with_transparent_entry().convert("RGB"), "PNG", transparency=(255, 0, 0)),
    "L tRNS": encoded(palette_with_transparent_entry().point([255, 20] + [0] * 254, "L"), "PNG", transparency=255),
    "WebP": encoded(Image.open(io.BytesIO(half_transparent("RGBA"))), "WEBP", lossless=True),
    "TIFF": encoded(Image.open(io.BytesIO(half_transparent("RGBA"))), "TIFF"),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_decode_image_transparent_part_becomes_white(name: str) -> None:
    pixels = np.asarray(decode_image(TRANSPARENT[name]).picture)
    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, 20:] <= 40).all()


def test_decode_image_half_opaque_pixels_are_mixed_with_white() -> None:
    pixels = np.asarray(decode_image(encoded(Image.new("RGBA", (20, 20), (255, 0, 0, 128)), "PNG")).picture)
    assert_close(pixels[0, 0], (255, 127, 127), tolerance=1)


def test_decode_image_palette_with_alpha_is_flattened_on_white() -> None:
    image = Image.new("PA", (20, 20))
    image.putpalette([0, 128, 0])
    data = encoded(image.convert("RGBA"), "PNG")
    assert (np.asarray(decode_image(data).picture) == 255).all()


@pytest.mark.parametrize(
    ("mode", "value", "format_name", "expected"),
    [
        ("1", 1, "PNG", WHITE),
        ("1", 0, "TIFF", (0, 0, 0)),
        ("L", 77, "PNG", (77, 77, 77)),
        ("L", 77, "BMP", (77, 77, 77)),
        ("P", 0, "BMP", (0, 128, 0)),
        ("CMYK", (0, 255, 255, 0), "TIFF", RED),
        ("CMYK", (0, 255, 255, 0), "JPEG", RED),
        ("CMYK", (0, 0, 0, 255), "JPEG", (0, 0, 0)),
        ("YCbCr", (76, 85, 255), "TIFF", RED),
        ("RGBX", (255, 0, 0, 0), "TIFF", RED),
    ],
)
def test_decode_image_mode_gives_the_colour_that_a_person_sees(
    mode: str, value: int | tuple[int, ...], format_name: str, expected: tuple[int, int, int]
) -> None:
    image = Image.new(mode, (24, 24), value)
    if mode == "P":
        image.putpalette([0, 128, 0])
    pixels = np.asarray(decode_image(encoded(image, format_name)).picture)
    assert_close(pixels[12, 12], expected, tolerance=3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 257, 32768, 65535], dtype=np.uint16), [0, 1, 128, 255]),
        (np.array([0, 100, 200, 255], dtype=np.int32), [0, 100, 200, 255]),
        (np.array([0, 257, 32768, 65535], dtype=np.int32), [0, 1, 128, 255]),
        (np.array([0, 1, 50_000, 100_000], dtype=np.int32), [0, 0, 128, 255]),
        (np.array([-100, 0, 0, 100], dtype=np.int32), [0, 128, 128, 255]),
        (np.array([0.0, 0.25, 0.5, 1.0], dtype=np.float32), [0, 64, 128, 255]),
        (np.array([0.0, 51.0, 102.0, 255.0], dtype=np.float32), [0, 51, 102, 255]),
        (np.array([0.0, np.nan, np.inf, 1.0], dtype=np.float32), [0, 0, 0, 255]),
        (np.array([-7.0, -7.0, -7.0, -7.0], dtype=np.float32), [0, 0, 0, 0]),
        (np.array([-3e38, 0.0, 0.0, 3e38], dtype=np.float32), [0, 128, 128, 255]),
    ],
)
def test_decode_image_deep_gray_is_scaled_and_never_clipped(values: np.ndarray, expected: list[int]) -> None:
    columns = np.repeat(values, 8)
    data = encoded(Image.fromarray(np.tile(columns, (32, 1))), "TIFF")
    assert_close(np.asarray(decode_image(data).picture)[0, ::8, 0], expected, tolerance=1)


def test_decode_image_16_bit_gray_png_is_scaled_by_257() -> None:
    ramp = np.tile((np.arange(256, dtype=np.uint16) * 257), (16, 1))
    pixels = np.asarray(decode_image(encoded(Image.fromarray(ramp), "PNG")).picture)
    assert_close(pixels[0, :, 1], np.arange(256))


def test_decode_image_16_bit_rgb_png_keeps_its_colours() -> None:
    row = b"\0" + struct.pack(">HHH", 65535, 32768, 0) * 20
    body = zlib.compress(row * 20)
    header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")
    assert_close(np.asarray(decode_image(data).picture)[5, 5], (255, 128, 0))


# --- reduced size ----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(width=st.integers(16, 700), height=st.integers(16, 700), side=st.integers(16, 400))
def test_decode_image_with_side_pixels_never_goes_below_them(width: int, height: int, side: int) -> None:
    decoded = decode_image(encoded(Image.new("RGB", (width, height), GREEN), "JPEG"), side_pixels=side)
    assert (decoded.width, decoded.height) == (width, height)
    assert min(decoded.picture.size) >= min(side, width, height)
    assert decoded.picture.width <= width


def test_decode_image_large_jpeg_reduced_gives_nearly_the_same_input_as_full() -> None:
    data = encoded(textured(96, 72).resize((1600, 1200), Image.Resampling.BICUBIC), "JPEG", quality=92)
    config = CONFIG.model_copy(update={"size_pixels": 128})
    reduced = decode_image(data, side_pixels=config.size_pixels)
    assert reduced.picture.size == (200, 150)
    difference = prepare_image(reduced, config).pixels.astype(int) - prepare_image(decode_image(data), config).pixels
    assert np.abs(difference).mean() < 2.0


# --- what is refused -------------------------------------------------------------------------------------------------


def test_decode_image_empty_is_refused_as_empty() -> None:
    with pytest.raises(EmptyImageError, match="0 bytes"):
        decode_image(b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"This is a text that was saved as cat.jpg.", "not a picture"),
        (b"BMW makes cars, and this is not a bitmap at all.", "not a picture"),
        (b"\0" * 5000, "not a picture"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64, "HEIC"),
        (b"%PDF-1.7\n", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xff\x0a\0\0\0\0", "JPEG XL"),
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
        picture = decode_image(cut).picture
    except TruncatedImageError:
        return
    assert "animated" in name or "multi-picture" in name, "half of a single picture was accepted"
    assert_close(picture, decode_image(data).picture)


@pytest.mark.parametrize("name", ["JPEG", "JPEG progressive", "PNG"])
@pytest.mark.parametrize("side_pixels", [None, 16])
def test_decode_image_last_tenth_missing_is_refused_as_truncated(name: str, side_pixels: int | None) -> None:
    with pytest.raises(TruncatedImageError, match="ends early"):
        decode_image(FILES[name][: -len(FILES[name]) // 10], side_pixels=side_pixels)


def test_decode_image_200_megapixel_png_is_refused_from_its_header() -> None:
    data = flat_png(20_000, 10_000)
    assert len(data) < 400_000
    for candidate in (data, data[:60]):  # the header alone is enough
        with pytest.raises(ImageTooLargeError, match=r"20000 x 10000 pixels \(200 megapixels\); at most 50 megapixels"):
            decode_image(candidate)


@pytest.mark.parametrize(("width", "height"), [(9_500, 10_000), (60_000, 1_000), (2_000_000, 1_000)])
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
    with pytest.raises(ImageTooSmallError, match=f"{size[0]} x {size[1]} pixels; each side must have at least 16"):
        decode_image(encoded(Image.new("RGB", size), "PNG"))


def test_decode_image_limits_are_inclusive() -> None:
    data = encoded(Image.new("RGB", (20, 30)), "PNG")
    assert decode_image(data, limits=DecodeLimits(max_pixels=600, min_side_pixels=20)).width == 20
    with pytest.raises(ImageTooLargeError):
        decode_image(data, limits=DecodeLimits(max_pixels=599))
    with pytest.raises(ImageTooSmallError):
        decode_image(data, limits=DecodeLimits(min_side_pixels=21))


def test_decode_image_jpeg_of_thousands_of_scans_is_refused() -> None:
    data = FILES["JPEG progressive"]
    scan = data[data.rfind(b"\xff\xda") : -2]
    with pytest.raises(ImageTooLargeError, match="scans"):
        decode_image(data[:-2] + scan * 3000 + b"\xff\xd9")


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged EXIF and goes on, as it does in production
@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), start=st.sampled_from([b"", *[data[:24] for data in FILES.values()]]))
def test_decode_image_random_bytes_raise_image_error_only(data: bytes, start: bytes) -> None:
    with pytest.raises(ImageError):
        decode_image(start + data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_decode_image_mutated_file_decodes_or_raises_image_error_only(name: str, data: st.DataObject) -> None:
    mutated = bytearray(FILES[name])
    # Headers are where a parser goes wrong: every second flip hits the first 200 bytes.
    ends = st.one_of(st.integers(0, 199), st.integers(0, len(mutated) - 1))
    for position, value in data.draw(st.lists(st.tuples(ends, st.integers(0, 255)), max_size=8)):
        mutated[position] = value
    length = data.draw(st.one_of(st.just(len(mutated)), st.integers(0, len(mutated))))
    side_pixels = data.draw(st.sampled_from([None, 16]))
    try:
        decoded = decode_image(
            bytes(mutated[:length]), side_pixels=side_pixels, limits=DecodeLimits(max_pixels=1_000_000)
        )
    except ImageError:
        return
    assert decoded.picture.mode == "RGB"
    assert decoded.width * decoded.height <= 1_000_000


# --- preparing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(96, 48), (48, 96), (2000, 20)])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_prepare_image_squeezes_the_whole_picture(size: tuple[int, int], resample: str) -> None:
    config = PreprocessConfig.model_validate(CONFIG.model_dump() | {"resample": resample})
    prepared = prepare_image(decode_image(encoded(painted_corners(*size), "PNG")), config)
    assert prepared.pixels.shape == (3, 32, 32)
    assert prepared.pixels.dtype == np.uint8
    assert prepared.pixels.flags.c_contiguous
    assert (prepared.width, prepared.height, prepared.format) == (*size, "PNG")
    corners = corner_colours(Image.fromarray(prepared.pixels.transpose(1, 2, 0)))
    assert_close(corners, SEEN_CORNERS[1], tolerance=16)


def test_prepare_image_reduction_is_antialiased() -> None:
    stripes = np.zeros((640, 640, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = prepare_image(decode_image(encoded(Image.fromarray(stripes), "PNG")), CONFIG).pixels
    assert_close(pixels, np.full_like(pixels, 128), tolerance=4)


def test_normalise_subtracts_mean_and_divides_by_std_per_channel() -> None:
    pixels = torch.tensor([180, 110, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    normalised = normalise(pixels, CONFIG)
    assert normalised.shape == (2, 3, 4, 5)
    assert normalised.dtype == torch.float32
    assert normalised[1, :, 2, 3].tolist() == pytest.approx([1.0, 0.0, -2.5])


def test_decode_image_real_photos_give_their_size_and_a_full_input(shared_data: Path) -> None:
    photos = sorted((shared_data / "ade-scenes" / "images").glob("*.jpg"))[:5]
    assert photos
    for photo in photos:
        decoded = decode_image(photo.read_bytes(), side_pixels=CONFIG.size_pixels)
        with Image.open(photo) as expected:
            assert (decoded.width, decoded.height) == expected.size
        assert prepare_image(decoded, CONFIG).pixels.std() > 5
