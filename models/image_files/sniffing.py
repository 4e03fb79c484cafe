"""What a file is, by its first bytes: its content decides, never its name."""

import re

from models.errors import TruncatedImageError, UnreadableImageError

__all__ = ["ACCEPTED_FORMATS", "accepted_format"]

ACCEPTED_FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC")
"""The formats that may be uploaded, by the names that people use. A JPEG of several images (MPO, of
some phones) is a JPEG, and every HEIF file of HEVC pictures is HEIC."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"8BPS", "a Photoshop file (PSD)"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript file (EPS)"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1a\x45\xdf\xa3", "a WebM or Matroska video"),
)

_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"mif1", b"msf1"),
)
_MP4_BRANDS = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ")
# How far a text is read for its first element.
_TEXT_BYTES = 4096
_TEXT_BEGINNING = re.compile(r"<(svg|html|!doctype\s+(?:svg|html))\b", re.IGNORECASE)
_HEIC_ADVICE = (
    " On an iPhone: Settings > Camera > Formats > Most Compatible, or share the photo as JPEG."
)


def accepted_format(data: bytes, formats: tuple[str, ...]) -> str:
    """Tell the format of a file, one of `formats`, which are some of `ACCEPTED_FORMATS`.

    Raises UnreadableImageError where the file is none of them, with its name where that is certain,
    and TruncatedImageError where its first bytes already contradict themselves.
    """
    found = _name(data)
    accepted = f"Accepted formats: {', '.join(formats)}."
    if found is None:
        raise UnreadableImageError(f"The file is not a picture that can be read. {accepted}")
    if found not in formats:
        advice = _HEIC_ADVICE if found == "HEIC" else ""
        raise UnreadableImageError(
            f"The file is {found}, which is not accepted. {accepted}{advice}"
        )
    if found == "BMP":
        _check_bmp_width(data)
    return found


def _name(data: bytes) -> str | None:
    """Name what a file is: one of `ACCEPTED_FORMATS`, a noun with its article, or None."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    if data[4:8] == b"ftyp":
        return _name_by_brand(data)
    if data[:4] == b"\0\0\1\0" and data[4:6] != b"\0\0" and data[9:10] == b"\0":
        return "an icon (ICO)"
    found = next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)
    return found or _name_of_text(data[:_TEXT_BYTES])


def _name_by_brand(data: bytes) -> str | None:
    """Name a file of boxes by its major brand, and by the compatible ones where that is generic."""
    brand = data[8:12]
    length = min(int.from_bytes(data[:4], "big"), 256)
    compatible = [data[start : start + 4] for start in range(16, length, 4)]
    if brand in _AVIF_BRANDS:
        return "AVIF"
    if brand in _HEIF_BRANDS:
        is_avif = brand in (b"mif1", b"msf1") and any(name in _AVIF_BRANDS for name in compatible)
        return "AVIF" if is_avif else "HEIC"
    if brand == b"qt  ":
        return "a QuickTime video (MOV)"
    if brand == b"crx ":
        return "a raw photo of a Canon camera (CR3)"
    return "an MP4 video" if brand in _MP4_BRANDS else None


def _name_of_text(beginning: bytes) -> str | None:
    """Tell SVG and HTML by their first element, behind a byte order mark, prologue or comments."""
    encoding = "utf-16" if beginning[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = beginning.decode(encoding, errors="replace").lstrip()
    while text.startswith(("<?", "<!--")):
        _, closed, text = text.partition("?>" if text.startswith("<?") else "-->")
        if not closed:
            return None
        text = text.lstrip()
    found = _TEXT_BEGINNING.match(text)
    if found is None:
        return None
    return "an SVG drawing" if "svg" in found[1].lower() else "an HTML page"


def _check_bmp_width(data: bytes) -> None:
    """A height may be negative (rows from the top), a width may not."""
    if data[14:18] == b"\x0c\0\0\0":
        return  # the oldest header, of unsigned sizes
    width = int.from_bytes(data[18:22], "little", signed=True)
    if width <= 0:
        raise TruncatedImageError(
            f"The BMP file is damaged: its header says that it is {width} pixels wide. Send the "
            "complete file, or save it again as JPEG or PNG."
        )
