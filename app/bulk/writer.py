"""Where rows are kept, so that a run can be killed at any moment and gone on with. Knows no photos
and no models.

    JSON Lines, CSV   rows are appended; a row that a kill has cut in half is taken off again
    Parquet           a folder of files, each whole from the moment on that it is there

Opening an output reads which photos it has; nothing is written for them again. An output is locked
while it is written.
"""

import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from app.bulk.formats import OutputFormat
from app.bulk.rows import Row, is_refusal
from app.core.errors import BulkOutputError

__all__ = ["RowWriter", "Written", "lock", "open_writer", "sync"]


@dataclass(slots=True)
class Written:
    """What an output has already.

    files: the names of its photos. failed: how many of them have a problem.
    digests: of the models that wrote its captions.
    without_xmp: how many captions were not to go into their files.
    not_embedded: how many were to, and could not.
    """

    files: set[str] = field(default_factory=set)
    failed: int = 0
    digests: set[str] = field(default_factory=set)
    without_xmp: int = 0
    not_embedded: int = 0

    @property
    def all_well(self) -> bool:
        """Whether every photo of it was captioned, and its file written where that was asked."""
        return not (self.failed or self.not_embedded)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row that was read. Raises KeyError or TypeError where it is none."""
        if not isinstance(row["file"], str):
            raise TypeError("a row without the name of a file")
        self.files.add(row["file"])
        if row.get("problem"):
            self.failed += 1
            return
        self.digests.add(row["digest"])
        xmp = row.get("xmp")
        self.without_xmp += not xmp
        self.not_embedded += is_refusal(xmp)


class RowWriter(Protocol):
    """Anything that keeps rows."""

    @property
    def written(self) -> Written:
        """What was there when it was opened."""

    def write(self, row: Row) -> None:
        """Keep a row, now or with those that follow. Raises BulkOutputError."""

    def close(self) -> None:
        """Keep what is not kept yet, and let go of the output. Raises BulkOutputError."""


def open_writer(path: Path, output_format: OutputFormat) -> RowWriter:
    """Open an output to be begun or gone on with.

    Raises BulkOutputError where it cannot be written, is written by somebody else now, or has
    something else in it; nothing of it is changed then.
    """
    # Each brings what it needs: Parquet a package that is large.
    if output_format is OutputFormat.parquet:
        from app.bulk.parquet import ParquetWriter

        return ParquetWriter(path)
    from app.bulk.lines import CsvWriter, JsonLinesWriter

    return CsvWriter(path) if output_format is OutputFormat.csv else JsonLinesWriter(path)


def lock(descriptor: int, path: Path) -> None:
    """Have an output alone until the descriptor is closed, also by a kill.

    Raises BulkOutputError where somebody else has it, or the file system knows no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BulkOutputError(
            f"{path} is being written by another run. Wait for its end, or name another output."
        ) from error
    except OSError as error:
        raise BulkOutputError(
            f"{path} cannot be locked: {error.strerror}. Name an output on a local disk."
        ) from error


def sync(folder: Path) -> None:
    """Have the names in a folder outlast a power failure, where the file system can."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
