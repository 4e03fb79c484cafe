"""Parts of a file's bytes, read as if they were one file, without a copy of them."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import IO, cast

__all__ = ["Span", "open_pieces"]

Span = tuple[int, int]
"""Where a part begins and ends in a file's bytes."""

_Part = Span | bytes


class _Pieces:
    """The part of a binary file's interface that image plugins use: read, seek and tell."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = [piece for piece in pieces if len(piece)]
        self._starts = list(accumulate((len(piece) for piece in self._pieces), initial=0))
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes; all that are left where it is negative."""
        end = self._starts[-1] if size < 0 else min(self._position + size, self._starts[-1])
        found = []
        while self._position < end:
            number = bisect_right(self._starts, self._position) - 1
            start = self._position - self._starts[number]
            found.append(self._pieces[number][start : end - self._starts[number]])
            self._position += len(found[-1])
        return b"".join(found)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position from the beginning (0), from here (1) or from the end (2)."""
        self._position = max(0, offset + (0, self._position, self._starts[-1])[whence])
        return self._position

    def tell(self) -> int:
        """Tell the position from the beginning."""
        return self._position


def open_pieces(data: bytes, parts: Iterable[_Part]) -> IO[bytes]:
    """Open parts of `data`, and bytes that stand for others, as one file."""
    view = memoryview(data)
    pieces = [part if isinstance(part, bytes) else view[slice(*part)] for part in parts]
    return cast("IO[bytes]", _Pieces(pieces))
