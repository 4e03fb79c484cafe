"""Which run may write to a folder of Parquet files. Knows no photos and no cluster.

The workers of a run whose starter was killed may still be about to write. The run that goes on from
there has read what the folder holds, and does the rest again: what the old workers wrote after that
would be there twice. So a run marks the folder as its own before it reads, and a worker writes only
while the mark is still that of its run.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.core.errors import BulkOutputError

__all__ = ["hold_mark", "mark_run", "read_mark"]

_NAME = ".run"
_MARK_BYTES = 16


def mark_run(folder: Path) -> None:
    """Mark a folder as that of a new run; whoever calls has it alone.

    Waits for a worker that is writing at this moment. Raises BulkOutputError where the folder
    cannot be written.
    """
    mark = secrets.token_hex(_MARK_BYTES)
    path = folder / _NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, mark.encode(), 0)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BulkOutputError(f"{path} cannot be written: {error.strerror}.") from error


def read_mark(folder: Path) -> str:
    """Read a folder's mark. Raises BulkOutputError where it has none."""
    path = folder / _NAME
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BulkOutputError(f"{path} cannot be read: {error}.") from error


@contextmanager
def hold_mark(folder: Path, mark: str) -> Iterator[None]:
    """Keep a folder's mark as it is for the length of the block.

    Raises BulkOutputError where it is another run's by now.
    """
    path = folder / _NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BulkOutputError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.pread(descriptor, 2 * _MARK_BYTES, 0) != mark.encode():
            raise BulkOutputError(f"{folder} is written by a newer run, which does these photos.")
        yield
    finally:
        os.close(descriptor)
