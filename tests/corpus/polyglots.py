"""Files that are two things at once: the first bytes decide, and nothing else in them is run."""

import io
import struct
import zipfile

from tests.corpus import jpeg, png
from tests.corpus.case import COLORS, Captioned, Case, Group, Refused, quadrants
from tests.unit.image_files import encoded

SEEN = Captioned(colors=COLORS, tolerance=20)
UNREADABLE = Refused("unreadable-image")
PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
SCRIPT = b"=1;alert(document.cookie);/*"
PAGE = b"<!DOCTYPE html><html><script>alert(1)</script></html>"


def gif_and_script() -> bytes:
    """GIF whose width reads as `/*`, so that a browser could run it as a script too."""
    data = encoded(quadrants(), "GIF")
    return data[:6] + b"/*" + data[8:] + b"*/" + SCRIPT


def gif_with_script_behind() -> bytes:
    return encoded(quadrants(), "GIF") + b"/*" + SCRIPT + b"*/"


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("setup.exe", b"MZ" + bytes(500))
    return buffer.getvalue()


def web_page_in_comment() -> bytes:
    return jpeg.with_segment(0xFE, PAGE)


def riff_twice() -> bytes:
    """WebP with a sound file's chunk behind its picture, counted by its length."""
    data = encoded(quadrants(), "WEBP")
    body = data[8:] + b"wave" + struct.pack("<I", 4) + bytes(4)
    return b"RIFF" + struct.pack("<I", len(body)) + body


GROUPS = (
    Group(
        "a picture that is another file too: a PDF, script, web page or archive in it or behind it",
        "captioned for what its first bytes say; the rest is never looked at",
        (
            Case("JPEG with PDF in it", lambda: jpeg.with_segment(0xFE, PDF), SEEN),
            Case("JPEG with PDF behind", lambda: jpeg.plain() + PDF, SEEN),
            Case("JPEG with web page in it", web_page_in_comment, SEEN),
            Case("JPEG with archive behind", lambda: jpeg.plain() + archive(), SEEN),
            Case("PNG with archive behind", lambda: png.interlaced() + archive(), SEEN),
            Case("PNG with script in it", lambda: png.with_chunk(b"tEXt", b"a\0" + PAGE), SEEN),
            Case("GIF with script behind", gif_with_script_behind, SEEN),
            Case("WebP with other chunks", riff_twice, SEEN),
        ),
    ),
    Group(
        "a GIF that is a script by its width, which is far beyond its pixels",
        "captioned at the size that it says, on white",
        (Case("GIF and script", gif_and_script, Captioned(size=(10_799, 64))),),
    ),
    Group(
        "a picture behind something else: a PDF, a web page, an archive, a byte too many",
        "refused by its first bytes",
        (
            Case("PDF before JPEG", lambda: PDF + jpeg.plain(), UNREADABLE),
            Case("web page before JPEG", lambda: PAGE + jpeg.plain(), UNREADABLE),
            Case("archive before PNG", lambda: archive() + png.interlaced(), UNREADABLE),
            Case("a line end before PNG", lambda: b"\n" + png.interlaced(), UNREADABLE),
            Case("HTTP answer", lambda: b"HTTP/1.1 200 OK\r\n\r\n" + jpeg.plain(), UNREADABLE),
        ),
    ),
)
