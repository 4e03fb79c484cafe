"""Outputs that grow by appended rows: JSON Lines and CSV.

Each row is handed to the system as it comes, so that a kill costs at most its last row half; that
half is taken off when the output is opened again.
"""

import csv
import io
import json
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from app.bulk.rows import COLUMNS, Row
from app.bulk.writer import Written, lock, sync
from app.core.errors import BulkOutputError

__all__ = ["CsvWriter", "JsonLinesWriter"]

# A power failure costs so many rows at most, and they are done again.
_ROWS_A_SYNC = 256


def _csv_line(values: Iterable[object]) -> bytes:
    """Write one line. What has either letter of the module's own line end in it is quoted."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(values)
    return text.getvalue().removesuffix("\r\n").encode() + b"\n"


_HEAD = _csv_line(COLUMNS)


class _LinesWriter(ABC):
    """A file of rows, locked while it is open.

    _first, _later: what its first line begins with, and each that follows.
    """

    _first: bytes
    _later: bytes

    def __init__(self, path: Path) -> None:
        """Open the file, read its rows, and take off the half of one at its end."""
        self._path = path
        self._unsynced = 0
        self._line = 0
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            self._fail(error)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BulkOutputError(
                f"{path} is no file, and could not be gone on with after a kill. Name a file; for "
                "captions in a pipe there is glimpse caption --json."
            )
        self._file: IO[bytes] = open(descriptor, "r+b")  # noqa: PTH123, SIM115  of a descriptor
        try:
            lock(descriptor, path)
            data = self._file.read()
            end = self._end_of_rows(data)
            self.written = self._read(data[:end])
            self._check_half(data[end:], self._later if end else self._first)
            self._file.truncate(end)
            self._file.seek(end)
            self._append(self._between(data[:end]))
            sync(path.parent)
        except OSError as error:
            self._file.close()
            self._fail(error)
        except BaseException:
            self._file.close()
            raise

    def write(self, row: Row) -> None:
        """Append a row, and hand it to the system."""
        try:
            self._append(self._encode(row))
            self._unsynced += 1
            if self._unsynced >= _ROWS_A_SYNC:
                self._sync()
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Have every row on the disk, and let go of the file."""
        try:
            self._sync()
        except OSError as error:
            self._fail(error)
        finally:
            with suppress(OSError):  # what it could not write, it tries once more
                self._file.close()

    def _append(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsynced = 0

    def _fail(self, error: OSError) -> NoReturn:
        raise BulkOutputError(f"{self._path} cannot be written: {error.strerror}.") from error

    def _refuse(self, error: Exception | None = None) -> NoReturn:
        raise BulkOutputError(
            f"{self._path}, line {self._line}: this is no row of glimpse bulk. Name another "
            "output, or move this file away."
        ) from error

    def _read(self, data: bytes) -> Written:
        written = Written()
        try:
            for row in self._rows(data):
                written.add(row)
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            self._refuse(error)
        return written

    def _check_half(self, half: bytes, beginning: bytes) -> None:
        """Refuse what a killed run cannot have left: it may be somebody's only copy."""
        half = half.rstrip(b"\0")  # what a power failure may leave
        if not half.startswith(beginning[: len(half)]):
            self._line += 1
            self._refuse()

    @abstractmethod
    def _between(self, rows: bytes) -> bytes:
        """Give what has to stand between the rows that are there and the next one."""

    @abstractmethod
    def _end_of_rows(self, data: bytes) -> int:
        """Find where the last whole row ends."""

    @abstractmethod
    def _rows(self, data: bytes) -> Iterator[Mapping[str, Any]]:
        """Read whole rows; `_line` is then the number of the line."""

    @abstractmethod
    def _encode(self, row: Row) -> bytes:
        """Write a row, its end included."""


class JsonLinesWriter(_LinesWriter):
    """One JSON object a line, without the columns that are empty."""

    _first = _later = b'{"file": "'

    def _between(self, rows: bytes) -> bytes:
        return b"\n" if rows and not rows.endswith(b"\n") else b""

    def _end_of_rows(self, data: bytes) -> int:
        """A last row that lacks nothing but its line's end is whole."""
        end = data.rfind(b"\n") + 1
        try:
            json.loads(data[end:])
        except ValueError:
            return end
        return len(data)

    def _rows(self, data: bytes) -> Iterator[Mapping[str, Any]]:
        for self._line, line in enumerate(io.BytesIO(data), 1):
            yield json.loads(line)

    def _encode(self, row: Row) -> bytes:
        filled = {name: value for name, value in row.as_dict().items() if value not in (None, ())}
        return (json.dumps(filled, ensure_ascii=False) + "\n").encode()


class CsvWriter(_LinesWriter):
    """A line of column names, then one row a photo; `captions` as JSON, `warnings` as one text."""

    _first = _HEAD
    _later = b""

    def _between(self, rows: bytes) -> bytes:
        return b"" if rows else _HEAD

    def _end_of_rows(self, data: bytes) -> int:
        """A row ends at a line's end outside quotes: a photo's name may have line ends."""
        end = position = quotes = 0
        for line in io.BytesIO(data):
            position += len(line)
            quotes += line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                end = position
        return end

    def _rows(self, data: bytes) -> Iterator[Mapping[str, Any]]:
        self._line = 1
        reader = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
        head = next(reader, None)
        if head not in (None, list(COLUMNS)):
            raise ValueError("not the columns of a row")
        for values in reader:
            self._line = reader.line_num
            yield dict(zip(COLUMNS, values, strict=True))

    def _encode(self, row: Row) -> bytes:
        values = row.as_dict()
        values["captions"] = json.dumps(row.captions) if row.captions else None
        values["warnings"] = " ".join(row.warnings)
        return _csv_line(values.values())
