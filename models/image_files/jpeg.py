"""A JPEG's segments and scans: what its decoder needs of them, and whether it is whole.

A walk through the segments by their lengths, from SOI to the first EOI: a third of a second for the
worst 20 MB. Metadata (all APP segments but those of the color transform, and comments) is not
handed on, nor is what lies behind the first image, as motion photos and MPO files have it.

A cut JPEG. The rule: what a browser shows whole is captioned; a part that it would fill with gray
is told in a warning where at least three quarters of the lines are there, and refused otherwise.
* Of one scan: libjpeg fills up with gray, silently, as soon as it meets a marker inside the scan.
  So the scan is handed on up to that marker, with zeros instead of it: a scan that is whole ends
  before them, and one that is cut uses them up and waits for more, which is an error that can be
  seen. A missing end mark, and what stands behind the scan, make no difference.
* Of several scans (progressive): the first ones show the whole image, with less detail. Where the
  last one ends cannot be told, so a missing end mark is a warning. One that is cut before every
  component has been shown once is refused.
"""

import re
from dataclasses import dataclass, field

from models.errors import ImageTooLargeError, TruncatedImageError
from models.image_files.exif import UPRIGHT, exif_orientation
from models.image_files.pieces import Span

__all__ = ["JpegFile", "read_jpeg"]

# Each scan of a progressive JPEG costs a pass over the whole image (35 ms at 49 megapixels) and can
# be written in a hundred bytes. Real encoders write about ten.
_MAX_SCANS = 50
# Pillow reads the segments before the first scan one by one, in Python. Real files have dozens of
# segments, and nothing between them.
_MAX_SEGMENTS = 4_000
_MAX_GAP_BYTES = 65_536
# Tables of codes and of quantization: a few thousand bytes, unless they are said again and again.
_MAX_TABLE_BYTES = 1_000_000
_FILL = b"\xff" * (_MAX_GAP_BYTES + 1)
_SOI, _EOI, _SOS, _TEM, _COM = 0xD8, 0xD9, 0xDA, 0x01, 0xFE
_APP0_JFIF, _APP1_EXIF, _APP14_ADOBE = 0xE0, 0xE1, 0xEE
_DRI = 0xDD
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE_FRAMES = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_ARITHMETIC_FRAMES = frozenset((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF))
_METADATA = frozenset((*range(0xE0, 0xF0), _COM)) - {_APP0_JFIF, _APP14_ADOBE}
# In compressed data 0xFF is escaped by 0x00, restart markers belong to the data, and a marker may
# have any number of 0xFF before it.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
# libjpeg reads up to 64 bits ahead.
_ZEROS = bytes(16)
_END_MARK = b"\xff\xd9"
_CUT = "The JPEG file ends early, before the whole picture. Send the complete file."


@dataclass(slots=True)
class JpegFile:
    """What a decoder needs of a JPEG file.

    spans, end: the parts of the file's bytes, and what stands behind them.
    orientation: 1 to 8, from EXIF.
    coefficient_bytes: what the decoder holds beside the image, at whatever size it decodes; 0 for
        the files of one scan.
    warnings: sentences for the user.
    """

    spans: list[Span] = field(default_factory=list)
    end: bytes = _END_MARK
    orientation: int = UPRIGHT
    coefficient_bytes: int = 0
    warnings: tuple[str, ...] = ()


class _Walk:
    """What has been seen of the file so far."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.file = JpegFile(spans=[(0, 2)])
        self.frame: int | None = None
        self.components = 0
        self.pixels = 0
        self.sampling: list[tuple[int, int]] = []
        self.table_bytes = 0
        self.scans: list[frozenset[int]] = []
        self.has_restarts = False
        self.scan_start = 0
        self.scan_data = 0
        self.scan_end: int | None = None
        self.end: int | None = None
        self.cut = len(data)  # where the file ends, or the segment begins that it ends in

    def see(self, marker: int, start: int, body: int, stop: int) -> None:
        """Take one segment: it begins at `start`, and its content is `body` to `stop`."""
        if marker == _SOS:
            if not self.scans:
                self.scan_start, self.scan_data = start, stop
            self.scans.append(frozenset(self.data[body + 1 : stop - 3 : 2]))
        elif not self.scans:
            if marker not in _METADATA:
                self.file.spans.append((start, stop))
                self.table_bytes += stop - start
                _refuse_above(_MAX_TABLE_BYTES, self.table_bytes, "bytes of tables")
            if marker == _APP1_EXIF and self.data[body : body + 6] == b"Exif\0\0":
                self.file.orientation = exif_orientation(memoryview(self.data)[body:stop])
        if marker == _DRI and not self.scans:
            self.has_restarts = any(self.data[body:stop])
        if marker in _FRAMES and self.frame is None:
            self._see_frame(marker, self.data[body:stop])

    def _see_frame(self, marker: int, body: bytes) -> None:
        self.frame = marker
        if len(body) >= 6:
            self.components = body[5]
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            self.pixels = width * height
            self.sampling = [(byte >> 4, byte & 15) for byte in body[7::3][: self.components]]


def read_jpeg(data: bytes) -> JpegFile:
    """Find what a decoder needs of a JPEG file, and whether the rest is there.

    Raises ImageTooLargeError where its structure would cost far more than its pixels, and
    TruncatedImageError where it is cut before the whole image has been shown once.
    """
    walk = _Walk(data)
    position = 2  # behind SOI
    segments = 0
    while (found := _MARKER.search(data, position)) is not None:
        marker = data[found.start() + 1]
        segments += 1
        if not walk.scans:
            _refuse_above(_MAX_GAP_BYTES, found.start() - position, "bytes between two segments")
        else:
            if walk.scan_end is None:
                walk.scan_end = found.start()
            if data.find(_FILL, position, found.end()) >= 0:  # compressed data lies here
                _refuse_above(_MAX_GAP_BYTES, len(_FILL), "fill bytes in a row")
        if marker == _EOI:
            walk.end = found.start()
            break
        _refuse_above(_MAX_SEGMENTS, segments, "segments")
        position = found.end()
        if marker not in (_SOI, _TEM):  # these have no length
            position += int.from_bytes(data[position : position + 2], "big")
        if walk.scans and max(position, found.end() + 2) > len(data):
            walk.cut = found.start()
            break
        walk.see(marker, found.start(), found.end() + 2, position)
        _refuse_above(_MAX_SCANS, len(walk.scans), "scans")
    return _judge(walk)


def _judge(walk: _Walk) -> JpegFile:
    """Decide what is handed on of the scans."""
    file = walk.file
    if not walk.scans or walk.frame is None:
        raise TruncatedImageError(_CUT)
    is_progressive = walk.frame in _PROGRESSIVE_FRAMES
    if not is_progressive and len(walk.scans[0]) >= walk.components:
        stop = len(walk.data) if walk.scan_end is None else walk.scan_end
        if not walk.has_restarts and (found := _RESTART.search(walk.data, walk.scan_data, stop)):
            stop = found.start()  # a marker like any other
        if walk.frame not in _ARITHMETIC_FRAMES:  # whose decoder must not wait, and has no end
            file.end = _ZEROS
        file.spans.append((walk.scan_start, stop))
        return file
    shown = walk.scans[:-1] if is_progressive else walk.scans
    if len(frozenset().union(*shown)) < walk.components:
        raise TruncatedImageError(_CUT)
    if walk.end is None:
        file.warnings = ("The JPEG file has no end mark: fine detail may be missing.",)
    file.spans.append((walk.scan_start, walk.cut if walk.end is None else walk.end))
    file.coefficient_bytes = _coefficient_bytes(walk)
    return file


def _coefficient_bytes(walk: _Walk) -> int:
    """Two bytes a coefficient, of every component at its own size."""
    across = max((h for h, _ in walk.sampling), default=1) or 1
    down = max((v for _, v in walk.sampling), default=1) or 1
    share = sum(h * v for h, v in walk.sampling) / (across * down)
    return int(2 * share * walk.pixels)


def _refuse_above(most: int, count: int, what: str) -> None:
    if count > most:
        raise ImageTooLargeError(f"The JPEG has more than {most:,} {what}. Save it again as JPEG.")
