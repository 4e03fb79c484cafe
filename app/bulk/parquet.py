"""An output of Parquet files in a folder, each of many rows: `part-00000.parquet` and so on.

A file is there whole or not at all; rows that a kill takes are done by the next run. Needs pyarrow,
which is an extra: imported only here.
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from app.bulk.rows import COLUMNS, Row
from app.bulk.run_mark import mark_run
from app.bulk.writer import Written, lock, sync
from app.core.errors import BulkOutputError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ROWS_A_SHARD", "ParquetWriter", "read_shards", "write_shard"]

ROWS_A_SHARD = 1_000
"""What a kill costs at most: a minute or so of captions."""

_READ_COLUMNS = ["file", "digest", "xmp", "problem"]


class ParquetWriter:
    """A folder of Parquet files, locked while it is open."""

    def __init__(self, folder: Path, *, rows_a_shard: int = ROWS_A_SHARD) -> None:
        """Open the folder and read what it has. Raises BulkOutputError."""
        _check_pyarrow()
        self._folder = folder
        self._rows_a_shard = rows_a_shard
        self._rows: list[Row] = []
        try:
            folder.mkdir(exist_ok=True)
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileExistsError as error:
            raise BulkOutputError(
                f"{folder} is a file, but Parquet is written as a folder of files. Name another "
                "output, or move the file away."
            ) from error
        except OSError as error:
            raise BulkOutputError(f"{folder} cannot be written: {error.strerror}.") from error
        try:
            lock(self._descriptor, folder)
            mark_run(folder)  # from here on, no worker of a run before writes what is not read here
            _take_away_unfinished(folder)
            self.written = read_shards(folder)
            self._next = _next_number(folder)
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, row: Row) -> None:
        """Keep a row with those that follow, and write a file of them when they are enough."""
        self._rows.append(row)
        if len(self._rows) >= self._rows_a_shard:
            self._write_rows()

    def close(self) -> None:
        """Write the rows that are left, and let go of the folder."""
        try:
            if self._rows:
                self._write_rows()
        finally:
            os.close(self._descriptor)

    def _write_rows(self) -> None:
        write_shard(self._folder / f"part-{self._next:05d}.parquet", self._rows)
        self._next += 1
        self._rows = []


def write_shard(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as one Parquet file, which is there whole or not at all. Raises BulkOutputError.

    The file is written under a name that begins with a dot, and then renamed; a file of that name
    is replaced.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    unfinished = path.with_name(f".{path.name}.unfinished")
    table = pa.Table.from_pylist([row.as_dict() for row in rows], schema=_schema())
    try:
        with unfinished.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        why = error.strerror or str(error)
        raise BulkOutputError(f"{path} cannot be written: {why}.") from error


def read_shards(folder: Path) -> Written:
    """Read which photos the Parquet files of a folder have. Raises BulkOutputError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    written = Written()
    for path in _shards(folder):
        try:
            for row in pq.read_table(path, columns=_READ_COLUMNS).to_pylist():
                written.add(row)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise BulkOutputError(
                f"{path} is no file of glimpse bulk, or is damaged. Name another output, or move "
                "the file away."
            ) from error
    return written


def _take_away_unfinished(folder: Path) -> None:
    """Take away what a killed run or worker left half written; nobody writes now."""
    for path in folder.glob(".part-*.unfinished"):
        try:
            path.unlink()
        except OSError as error:
            raise BulkOutputError(f"{path} cannot be taken away: {error.strerror}.") from error


def _shards(folder: Path) -> list[Path]:
    """List the files of rows, whoever wrote them."""
    return sorted(folder.glob("part-*.parquet"))


def _next_number(folder: Path) -> int:
    """Give the first number that no file of rows has."""
    found = (re.fullmatch(r"part-(\d+)", path.stem) for path in _shards(folder))
    return max((int(match[1]) for match in found if match), default=-1) + 1


def _schema() -> "pa.Schema":
    import pyarrow as pa

    choice = [("text", pa.string()), ("confidence", pa.float64()), ("logprob", pa.float64())]
    kinds: dict[str, pa.DataType] = {
        "confidence": pa.float64(),
        "logprob": pa.float64(),
        "captions": pa.list_(pa.struct(choice)),
        "width": pa.int32(),
        "height": pa.int32(),
        "warnings": pa.list_(pa.string()),
    }
    return pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])


def _check_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise BulkOutputError(
            "Parquet needs the package pyarrow, which is not installed. Install the extra of that "
            "name: pip install 'glimpse[parquet]'. JSON Lines and CSV need nothing more."
        ) from error
