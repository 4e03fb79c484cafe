"""Pictures that say in their metadata how they are to be turned, and such metadata when damaged."""

from functools import partial

from PIL import Image

from tests.corpus.case import COLORS, Captioned, Case, Group, quadrants
from tests.unit.image_files import encoded

# How a camera stores the scene for each orientation: the reverse of what a viewer does.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
ORIENTATION = 274
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
UPRIGHT = Captioned(colors=COLORS)


def turned(format_name: str, orientation: int) -> bytes:
    """The corpus's picture, stored as a camera held in that way stores it."""
    image = quadrants()
    if orientation in STORED:
        image = image.transpose(STORED[orientation])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if format_name == "TIFF":
        return encoded(image, "TIFF", tiffinfo={ORIENTATION: orientation})
    return encoded(image, format_name, exif=exif.tobytes())


def with_exif(block: bytes, format_name: str = "JPEG") -> bytes:
    """The picture with these bytes for its EXIF block."""
    return encoded(quadrants(), format_name, exif=block)


def broken_blocks() -> dict[str, bytes]:
    """EXIF blocks that no parser can follow to their end."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    whole = exif.tobytes()
    head = b"Exif\0\0"
    return {
        "cut in its directory": whole[: len(whole) // 2],
        "of noise": head + bytes(range(7, 207)),
        "empty": head,
        "directory outside": head + b"II*\0\xff\xff\xff\x7f",
        "directory of itself": head + b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0",
        "orientation as text": head
        + b"II*\0\x08\0\0\0\x01\0"
        + b"\x12\x01\x02\0\x04\0\0\0six\0"
        + b"\0\0\0\0",
        "orientation 9": head
        + b"II*\0\x08\0\0\0\x01\0"
        + b"\x12\x01\x03\0\x01\0\0\0\x09\0\0\0"
        + b"\0\0\0\0",
        "orientation 0": head
        + b"II*\0\x08\0\0\0\x01\0"
        + b"\x12\x01\x03\0\x01\0\0\0\0\0\0\0"
        + b"\0\0\0\0",
        "65,535 entries": head + b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\x01\0\0\0" * 20,
        "a value of 4 GB": head
        + b"II*\0\x08\0\0\0\x01\0"
        + b"\x12\x01\x03\0\xff\xff\xff\xff\x08\0\0\0"
        + b"\0\0\0\0",
    }


GROUPS = (
    Group(
        "a picture whose EXIF block says how the camera was held (orientation 1 to 8)",
        "turned upright; width and height are those of the upright picture",
        tuple(
            Case(f"orientation {number} {name}", partial(turned, name, number), UPRIGHT)
            for name in FORMATS
            for number in range(1, 9)
        ),
    ),
    Group(
        "a broken EXIF block, or one with an orientation that there is not",
        "captioned as it is stored: metadata never cost the picture",
        tuple(
            Case(f"EXIF {what} {name}", partial(with_exif, block, name), UPRIGHT)
            for name in ("JPEG", "PNG", "WEBP")
            for what, block in broken_blocks().items()
        ),
    ),
)
