"""decode_image, prepare_image and normalize: every format, mode and orientation, as a person sees
it."""

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
from models.network import normalize
from models.preprocessing import ACCEPTED_FORMATS, decode_image, open_image, prepare_image
from tests.unit.corners import GREEN, RED, SEEN_CORNERS, WHITE, corner_colors, painted_corners
from tests.unit.image_files import FILES, assert_close, encoded, png_chunk, textured

CONFIG = PreprocessConfig(size_pixels=32, mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0))


# --- what is accepted ----


@pytest.mark.parametrize("name", FILES)
def test_decode_image_accepted_format_gives_rgb_of_full_size(name: str) -> None:
    decoded = decode_image(FILES[name])
    assert decoded.rgb.mode == "RGB"
    assert decoded.rgb.size == (decoded.width, decoded.height) == (96, 64)
    assert decoded.format == name.split()[0]
    assert decoded.format in ACCEPTED_FORMATS


def test_accepted_formats_each_has_a_file_in_these_tests() -> None:
    assert {name.split()[0] for name in FILES} == set(ACCEPTED_FORMATS)


@pytest.mark.parametrize(
    "name", [name for name in FILES if "animated" in name or "multi-picture" in name]
)
def test_decode_image_several_frames_gives_the_first(name: str) -> None:
    decoded = np.asarray(decode_image(FILES[name]).rgb, dtype=float)
    first, second = (
        np.asarray(image, dtype=float) for image in (textured(), textured().rotate(180))
    )
    assert np.abs(decoded - first).mean() < 0.5 * np.abs(decoded - second).mean()


# --- orientation ----


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", SEEN_CORNERS)
def test_decode_image_exif_orientation_shows_corners_as_a_person_sees_them(
    format_name: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": "4:4:4"} if format_name in ("JPEG", "AVIF") else {}
    options |= {"lossless": True} if format_name == "WEBP" else {}
    decoded = decode_image(encoded(painted_corners(96, 48), format_name, exif=exif, **options))
    assert (decoded.width, decoded.height) == ((48, 96) if orientation >= 5 else (96, 48))
    assert decoded.rgb.size == (decoded.width, decoded.height)
    assert_close(corner_colors(decoded.rgb), SEEN_CORNERS[orientation], tolerance=24)


def test_decode_image_rotated_and_reduced_reports_the_full_upright_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_image(encoded(painted_corners(1999, 1001), "JPEG", exif=exif), side_pixels=200)
    assert (decoded.width, decoded.height) == (1001, 1999)
    assert decoded.rgb.size == (251, 500)
    assert_close(corner_colors(decoded.rgb), SEEN_CORNERS[6], tolerance=24)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0garbage that is no TIFF header",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        # orientation 99
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x02ab\0\0\0\0\0\0",  # orientation "ab"
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03",  # ends inside its directory
    ],
)
def test_decode_image_malformed_exif_is_taken_as_upright(exif: bytes) -> None:
    decoded = decode_image(encoded(painted_corners(96, 48), "JPEG", quality=95, exif=exif))
    assert (decoded.width, decoded.height) == (96, 48)
    assert_close(corner_colors(decoded.rgb), SEEN_CORNERS[1], tolerance=40)


# --- modes ----


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
    "RGB tRNS": encoded(
        palette_with_transparent_entry().convert("RGB"), "PNG", transparency=(255, 0, 0)
    ),
    "L tRNS": encoded(
        palette_with_transparent_entry().point([255, 20] + [0] * 254, "L"), "PNG", transparency=255
    ),
    "WebP": encoded(Image.open(io.BytesIO(half_transparent("RGBA"))), "WEBP", lossless=True),
    "TIFF": encoded(Image.open(io.BytesIO(half_transparent("RGBA"))), "TIFF"),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_decode_image_transparent_part_becomes_white(name: str) -> None:
    pixels = np.asarray(decode_image(TRANSPARENT[name]).rgb)
    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, 20:] <= 40).all()


def test_decode_image_half_opaque_pixels_are_mixed_with_white() -> None:
    pixels = np.asarray(
        decode_image(encoded(Image.new("RGBA", (20, 20), (255, 0, 0, 128)), "PNG")).rgb
    )
    assert_close(pixels[0, 0], (255, 127, 127), tolerance=1)


def test_decode_image_palette_with_alpha_is_flattened_on_white() -> None:
    image = Image.new("PA", (20, 20))
    image.putpalette([0, 128, 0])
    data = encoded(image.convert("RGBA"), "PNG")
    assert (np.asarray(decode_image(data).rgb) == 255).all()


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
def test_decode_image_mode_gives_the_color_that_a_person_sees(
    mode: str, value: int | tuple[int, ...], format_name: str, expected: tuple[int, int, int]
) -> None:
    image = Image.new(mode, (24, 24), value)
    if mode == "P":
        image.putpalette([0, 128, 0])
    pixels = np.asarray(decode_image(encoded(image, format_name)).rgb)
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
def test_decode_image_deep_gray_is_scaled_and_never_clipped(
    values: np.ndarray, expected: list[int]
) -> None:
    columns = np.repeat(values, 8)
    data = encoded(Image.fromarray(np.tile(columns, (32, 1))), "TIFF")
    assert_close(np.asarray(decode_image(data).rgb)[0, ::8, 0], expected, tolerance=1)


def test_decode_image_16_bit_gray_png_is_scaled_by_257() -> None:
    ramp = np.tile((np.arange(256, dtype=np.uint16) * 257), (16, 1))
    pixels = np.asarray(decode_image(encoded(Image.fromarray(ramp), "PNG")).rgb)
    assert_close(pixels[0, :, 1], np.arange(256))


def test_decode_image_16_bit_rgb_png_keeps_its_colors() -> None:
    row = b"\0" + struct.pack(">HHH", 65535, 32768, 0) * 20
    body = zlib.compress(row * 20)
    header = struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", body)
        + png_chunk(b"IEND", b"")
    )
    assert_close(np.asarray(decode_image(data).rgb)[5, 5], (255, 128, 0))


# --- reduced size ----


@settings(max_examples=40, deadline=None)
@given(width=st.integers(16, 700), height=st.integers(16, 700), side=st.integers(16, 400))
def test_decode_image_with_side_pixels_never_goes_below_them(
    width: int, height: int, side: int
) -> None:
    decoded = decode_image(
        encoded(Image.new("RGB", (width, height), GREEN), "JPEG"), side_pixels=side
    )
    assert (decoded.width, decoded.height) == (width, height)
    assert min(decoded.rgb.size) >= min(side, width, height)
    assert decoded.rgb.width <= width


def test_decode_image_large_jpeg_reduced_gives_nearly_the_same_input_as_full() -> None:
    data = encoded(
        textured(96, 72).resize((1600, 1200), Image.Resampling.BICUBIC), "JPEG", quality=92
    )
    config = CONFIG.model_copy(update={"size_pixels": 128})
    reduced = decode_image(data, side_pixels=config.size_pixels)
    assert reduced.rgb.size == (200, 150)
    difference = (
        prepare_image(reduced, config).pixels.astype(int)
        - prepare_image(decode_image(data), config).pixels
    )
    assert np.abs(difference).mean() < 2.0


# --- preparing ----


@pytest.mark.parametrize("size", [(96, 48), (48, 96), (2000, 20)])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_prepare_image_squeezes_the_whole_image(size: tuple[int, int], resample: str) -> None:
    config = PreprocessConfig.model_validate(CONFIG.model_dump() | {"resample": resample})
    prepared = prepare_image(decode_image(encoded(painted_corners(*size), "PNG")), config)
    assert prepared.pixels.shape == (3, 32, 32)
    assert prepared.pixels.dtype == np.uint8
    assert prepared.pixels.flags.c_contiguous
    assert (prepared.width, prepared.height, prepared.format) == (*size, "PNG")
    corners = corner_colors(Image.fromarray(prepared.pixels.transpose(1, 2, 0)))
    assert_close(corners, SEEN_CORNERS[1], tolerance=16)


def test_prepare_image_reduction_is_antialiased() -> None:
    stripes = np.zeros((640, 640, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = prepare_image(decode_image(encoded(Image.fromarray(stripes), "PNG")), CONFIG).pixels
    assert_close(pixels, np.full_like(pixels, 128), tolerance=4)


def test_normalize_subtracts_mean_and_divides_by_std_per_channel() -> None:
    pixels = torch.tensor([180, 110, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    normalized = normalize(pixels, CONFIG)
    assert normalized.shape == (2, 3, 4, 5)
    assert normalized.dtype == torch.float32
    assert normalized[1, :, 2, 3].tolist() == pytest.approx([1.0, 0.0, -2.5])


def test_decode_image_real_images_give_their_size_and_a_full_input(shared_data: Path) -> None:
    images = sorted((shared_data / "ade-scenes" / "images").glob("*.jpg"))[:5]
    assert images
    for image in images:
        decoded = decode_image(image.read_bytes(), side_pixels=CONFIG.size_pixels)
        with Image.open(image) as expected:
            assert (decoded.width, decoded.height) == expected.size
        assert prepare_image(decoded, CONFIG).pixels.std() > 5


def test_opened_image_is_decoded_once() -> None:
    opened = open_image(FILES["PNG"])
    assert opened.decode().width == opened.width
    with pytest.raises(RuntimeError, match="decoded once"):
        opened.decode()


@pytest.mark.parametrize("mode", ["RGBA", "P", "I;16", "F", "CMYK", "LA"])
def test_decode_image_reduced_in_strips_is_what_the_whole_would_be(mode: str) -> None:
    ramp = Image.linear_gradient("L").resize((2000, 1500))
    if mode in ("F", "I;16"):
        values = np.asarray(ramp, dtype=np.float32 if mode == "F" else np.uint16)
        image = Image.fromarray(values * (1 if mode == "F" else 257))
    else:
        image = Image.merge("RGB", [ramp, ramp.rotate(180), ramp]).convert(mode)
    if mode == "RGBA":
        image.putalpha(
            ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(90).resize(image.size)
        )
    data = encoded(image, "TIFF")
    reduced = decode_image(data, side_pixels=100)
    assert reduced.rgb.size == (400, 300)
    assert_close(reduced.rgb, decode_image(data).rgb.reduce(5), tolerance=1)


def test_open_image_very_wide_image_counts_the_strip_that_it_takes() -> None:
    wide = open_image(encoded(Image.new("RGBA", (1_000_000, 16)), "PNG"))
    square = open_image(encoded(Image.new("RGBA", (4_000, 4_000)), "PNG"))

    assert wide.peak_bytes - square.peak_bytes > 20_000_000
