"""HEIC: the primary image, upright, of any depth; by the setting not at all."""

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from models.errors import ImageTooLargeError, TruncatedImageError, UnreadableImageError
from models.preprocessing import ACCEPTED_FORMATS, DecodeLimits, decode_image, open_image
from tests.unit.corners import SEEN_CORNERS, corner_colors, painted_corners
from tests.unit.image_files import FILES, assert_close, heic, textured

WITHOUT_HEIC = DecodeLimits(formats=tuple(name for name in ACCEPTED_FORMATS if name != "HEIC"))


@pytest.mark.parametrize("orientation", SEEN_CORNERS)
def test_decode_image_heic_is_turned_upright_exactly_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = painted_corners(128, 64)
    stored.info["exif"] = exif.tobytes()
    data = heic(stored, quality=90, chroma=444)
    assert exif.tobytes() in data  # beside the file's own rotation, as a phone writes it
    decoded = decode_image(data)
    assert decoded.rgb.size == (decoded.width, decoded.height)
    assert (decoded.width, decoded.height) == ((64, 128) if orientation >= 5 else (128, 64))
    assert_close(corner_colors(decoded.rgb), SEEN_CORNERS[orientation], tolerance=12)


def test_decode_image_heic_of_several_images_gives_the_primary_one() -> None:
    images = (
        painted_corners(128, 64).rotate(180),
        painted_corners(128, 64),
        Image.new("RGB", (64, 64)),
    )
    data = heic(*images, quality=90, chroma=444, primary_index=1)
    assert_close(corner_colors(decode_image(data).rgb), SEEN_CORNERS[1], tolerance=12)


def test_decode_image_tiled_heic_has_no_seams() -> None:
    image = textured(320, 200)
    decoded = decode_image(heic(image, tile_size=64, quality=95, chroma=444))
    difference = np.asarray(decoded.rgb, dtype=int) - np.asarray(image, dtype=int)
    assert np.abs(difference).mean() < 4


def test_decode_image_transparent_heic_is_flattened_on_white() -> None:
    image = painted_corners(128, 64)
    image.putalpha(Image.new("L", image.size, 0))
    assert_close(decode_image(heic(image)).rgb, np.full((64, 128, 3), 255), tolerance=2)


@pytest.mark.parametrize("bits", [10, 12])
def test_decode_image_deep_heic_keeps_its_colors(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    deep = np.asarray(painted_corners(128, 64), dtype=np.uint16) * 257
    file = pillow_heif.from_bytes("RGB;16", (128, 64), deep.tobytes())
    buffer = bytearray()

    class Sink:
        def write(self, data: bytes) -> None:
            buffer.extend(data)

    file.save(Sink(), quality=90, chroma=444)
    data = bytes(buffer)
    assert pillow_heif.open_heif(data).info["bit_depth"] == bits
    assert_close(corner_colors(decode_image(data).rgb), SEEN_CORNERS[1], tolerance=12)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", ["HEIC", "HEIC tiled", "HEIC multi-picture"])
def test_decode_image_cut_heic_is_refused(name: str, share: float) -> None:
    with pytest.raises(TruncatedImageError):
        decode_image(FILES[name][: int(len(FILES[name]) * share)])


def test_open_image_heic_is_bounded_from_its_header() -> None:
    with pytest.raises(ImageTooLargeError, match="96 x 64 pixels"):
        open_image(FILES["HEIC"], limits=DecodeLimits(max_pixels=6_143))


def test_open_image_heic_that_is_off_says_how_to_convert() -> None:
    with pytest.raises(UnreadableImageError) as caught:
        open_image(FILES["HEIC"], limits=WITHOUT_HEIC)
    said = str(caught.value)
    assert said.startswith("The file is HEIC, which is not accepted. Accepted formats: JPEG,")
    assert said.endswith(
        "TIFF, AVIF. On an iPhone: Settings > Camera > Formats > Most Compatible, "
        "or share the photo as JPEG."
    )


@pytest.mark.parametrize("name", ACCEPTED_FORMATS)
def test_open_image_format_that_is_off_is_named(name: str) -> None:
    others = tuple(each for each in ACCEPTED_FORMATS if each != name)
    with pytest.raises(UnreadableImageError, match=f"The file is {name}, which is not accepted"):
        open_image(FILES[name], limits=DecodeLimits(formats=others))
    assert open_image(FILES[name], limits=DecodeLimits(formats=(name,))).format == name
