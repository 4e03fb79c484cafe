"""The boxes of AVIF and HEIC: how many there are, and how deep their pixels are."""

from dataclasses import dataclass

from models.errors import ImageTooLargeError, TruncatedImageError

__all__ = ["BoxFile", "read_boxes"]

# Decoders search the lists of items and properties one by one, for each item. A phone's photo of 48
# megapixels has 200 tiles, and three boxes for each.
_MAX_BOXES = 4_000
_MAX_TABLE_BYTES = 262_144
_TABLES = (b"iloc", b"ipma", b"iref")
# How many bytes stand before the first box inside these.
_CONTAINERS = {b"meta": 4, b"iinf": 6, b"iprp": 0, b"ipco": 0, b"grpl": 0}
_CONTAINERS |= dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl"), 0)


@dataclass(slots=True)
class BoxFile:
    """What the configurations of the pixels say: the most of any.

    sample_bytes: 2 where they have more than 8 bits.
    samples: for each pixel, 1 (gray) to 3 (color at full size).
    """

    sample_bytes: int = 1
    samples: float = 1.0


class _Walk:
    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.boxes = 0
        self.file = BoxFile()

    def see(self, start: int, stop: int) -> None:
        """Walk the boxes that lie one behind the other in `start` to `stop`."""
        while start + 8 <= stop:
            self.boxes += 1
            if self.boxes > _MAX_BOXES:
                raise ImageTooLargeError(
                    f"The {self.name} has more than {_MAX_BOXES:,} boxes. Save it again as JPEG."
                )
            size = int.from_bytes(self.data[start : start + 4], "big")
            kind = self.data[start + 4 : start + 8]
            body = start + 8
            if size == 1:
                size = int.from_bytes(self.data[body : body + 8], "big")
                body += 8
            if kind == b"mdat" and start + size > stop:
                raise TruncatedImageError(
                    f"The {self.name} file ends early. Send the complete file."
                )
            end = stop if size == 0 else min(start + size, stop)
            if end < body:
                return  # the decoder says that it is damaged
            self._see_box(kind, body, end)
            start = end

    def _see_box(self, kind: bytes, body: int, end: int) -> None:
        if kind == b"moov":  # of a sequence: its pixels may be of any kind
            self._see_pixels(True, 3.0)
        if kind in _CONTAINERS:
            self.see(body + _CONTAINERS[kind], end)
        elif kind in _TABLES and end - body > _MAX_TABLE_BYTES:
            raise ImageTooLargeError(
                f"The {self.name} has a table of {end - body:,} bytes; at most "
                f"{_MAX_TABLE_BYTES:,} are accepted. Save it again as JPEG."
            )
        elif kind == b"av1C" and end - body >= 4:
            flags = self.data[body + 2]
            samples = 1.0 if flags & 0x10 else (3.0, 3.0, 2.0, 1.5)[flags >> 2 & 3]
            self._see_pixels(bool(flags & 0x40), samples)
        elif kind == b"hvcC" and end - body >= 19:
            samples = (1.0, 1.5, 2.0, 3.0)[self.data[body + 16] & 3]
            self._see_pixels(bool(self.data[body + 17] & 7), samples)

    def _see_pixels(self, is_deep: bool, samples: float) -> None:
        self.file.sample_bytes = max(self.file.sample_bytes, 1 + is_deep)
        self.file.samples = max(self.file.samples, samples)


def read_boxes(data: bytes, format_name: str) -> BoxFile:
    """Count the boxes of an AVIF or HEIC file, and read how deep its pixels are.

    Raises ImageTooLargeError where there are very many, or a very long table, and
    TruncatedImageError where the box of the pixels is cut: a decoder would fill up what is missing.
    """
    walk = _Walk(data, format_name)
    walk.see(0, len(data))
    return walk.file
