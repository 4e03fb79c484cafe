"""Formats that are not accepted: written by Pillow where it can, else by their first bytes."""

from functools import partial

from PIL import Image

from tests.corpus.case import Case, Group, Refused, quadrants
from tests.unit.image_files import encoded

UNREADABLE = Refused("unreadable-image")

MODES = {"MSP": "1", "PALM": "1", "SPIDER": "F", "XBM": "1", "FITS": "L", "BLP": "P"}
WRITTEN = (
    "BLP",
    "DDS",
    "EPS",
    "ICNS",
    "ICO",
    "JPEG2000",
    "MSP",
    "PALM",
    "PCX",
    "PDF",
    "PPM",
    "QOI",
    "SGI",
    "SPIDER",
    "TGA",
    "XBM",
)
"""The formats that Pillow writes and we do not read, by its names."""

STARTS = {
    "BUFR": b"BUFR" + bytes(60),
    "CR3": b"\0\0\0\x18ftypcrx " + bytes(60),
    "CUR": b"\0\0\2\0" + bytes(60),
    "DCX": b"\xb1\x68\xde\x3a" + bytes(60),
    "DIB": b"\x28\0\0\0" + bytes(60),
    "EMF": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(60),
    "FITS": b"SIMPLE  =                    T" + b" " * 60,
    "FLI": b"\0\0\0\0\x11\xaf" + bytes(124),
    "FPX": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
    "FTEX": b"FTEX" + bytes(60),
    "GBR": b"\0\0\0\x1c\0\0\0\2" + bytes(60),
    "GRIB": b"GRIB\0\0\0\1" + bytes(60),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "IM": b"Image type: RGB image\r\nName: a\r\nImage size (x*y): 96*64\r\n\x1a",
    "IPTC": b"\x1c\x01" + bytes(60),
    "JPEG XL": b"\xff\x0a" + bytes(60),
    "JPEG XL in boxes": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60),
    "JPEG 2000 codestream": b"\xff\x4f\xff\x51" + bytes(60),
    "MCIDAS": b"\0\0\0\0\0\0\0\4" + bytes(260),
    "MPEG": b"\0\0\1\xb3" + bytes(60),
    "MP4": b"\0\0\0\x18ftypisom" + bytes(60),
    "PCD": bytes(2048) + b"PCD_" + bytes(60),
    "PIXAR": b"\200\350\0\0" + bytes(600),
    "PSD": b"8BPS\0\1" + bytes(60),
    "SUN": b"\x59\xa6\x6a\x95" + bytes(60),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "SVG with a prologue": b"<?xml version='1.0'?>\n<!-- a drawing -->\n<svg width='9'/>",
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + bytes(60),
    "XPM": b"/* XPM */\nstatic char *a[] = {",
    "XV thumbnail": b"P7 332\n" + bytes(60),
    "a video of QuickTime": b"\0\0\0\x14ftypqt  " + bytes(60),
    "a text": b"This is a text that was saved as cat.jpg.",
    "a text that begins as a BMP": b"BMW makes cars, and this is no bitmap at all.",
    "a program": b"\x7fELF\2\1\1" + bytes(200),
    "a sound in RIFF": b"RIFF\x24\0\0\0WAVEfmt " + bytes(60),
    "zeros": bytes(5_000),
    "JSON": b'{"image": "..."}',
    "base64": b"data:image/jpeg;base64,/9j/4AAQSkZJRg==",
    "one byte": b"\xff",
}


def written(format_name: str) -> bytes:
    """The picture in a format that Pillow writes."""
    return encoded(quadrants().convert(MODES.get(format_name, "RGB")), format_name)


GROUPS = (
    Group(
        "any other format, among them JPEG XL, JPEG 2000, SVG, PDF, PSD, ICO, CR3, video",
        "refused by its first bytes, before any decoder of it is even loaded; the answer says "
        "which formats are accepted, and names the format where it is a known one",
        tuple(Case(f"other {name}", partial(written, name), UNREADABLE) for name in WRITTEN)
        + tuple(
            Case(f"other {name}", partial(bytes, start), UNREADABLE)
            for name, start in STARTS.items()
        ),
    ),
    Group("nothing", "refused", (Case("empty", bytes, Refused("empty-image")),)),
)


def writable() -> set[str]:
    """What Pillow can write of its own and we do not read; it will soon write no IM."""
    Image.init()
    accepted = {"AVIF", "BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP"}
    unusual = {"IM", "BUFR", "GRIB", "HDF5", "WMF"}
    return set(Image.SAVE) - accepted - unusual
