"""A run cut into shards, for workers on other machines: what one of them does, and what it reports.

A shard is the photos of one Parquet file. Its name is made of theirs: a shard that is done again,
because its worker was killed or its report was lost, replaces the file that the first try may have
left. Knows no cluster.
"""

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from app.bulk.mapper import Outcome, PhotoMapper, open_mapper
from app.bulk.parquet import write_shard
from app.bulk.reader import Photo, StoredObject
from app.bulk.rows import Row, is_refusal
from app.bulk.run_mark import hold_mark
from app.bulk.runner import BulkCounts, run_photos
from app.core.errors import InferenceLostError
from app.core.settings import Settings
from app.xmp.embedding import XmpEmbedding

__all__ = ["Settled", "Shard", "ShardOrder", "ShardReport", "ShardWorker", "cut"]

_logger = logging.getLogger(__name__)
_DIGEST_LETTERS = 16


@dataclass(frozen=True, slots=True)
class Shard:
    """Some photos, and the name of their file, without its folder."""

    file_name: str
    photos: tuple[Photo, ...]

    def to_json(self) -> str:
        """Write it as ASCII text; names that are no UTF-8 are escaped."""
        photos = [[photo.name, *_written(photo.place)] for photo in self.photos]
        return json.dumps({"file_name": self.file_name, "photos": photos})

    @staticmethod
    def from_json(text: str) -> "Shard":
        """Read what `to_json` wrote."""
        members = json.loads(text)
        photos = tuple(Photo(name, _place(*place)) for name, *place in members["photos"])
        return Shard(members["file_name"], photos)


def _written(place: Path | StoredObject) -> tuple[str, ...]:
    return (place.store, place.key) if isinstance(place, StoredObject) else (str(place),)


def _place(first: str, *key: str) -> Path | StoredObject:
    return StoredObject(first, *key) if key else Path(first)


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What came of a shard.

    problems: (photo's name, code, sentence) of each photo at fault or left undone.
    not_embedded: (photo's name, why) of each caption that could not be put into its file.
    """

    counts: BulkCounts
    problems: tuple[tuple[str, str, str], ...]
    not_embedded: tuple[tuple[str, str], ...]

    def to_json(self) -> str:
        """Write it as ASCII text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "ShardReport":
        """Read what `to_json` wrote."""
        members = json.loads(text)
        return ShardReport(
            BulkCounts(**members["counts"]),
            tuple((name, code, detail) for name, code, detail in members["problems"]),
            tuple((name, why) for name, why in members["not_embedded"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOrder:
    """What every worker of a run is told.

    folder: of the Parquet files; every worker sees it under this name.
    mark: of the run, as `read_mark` gives it.
    in_flight: how many photos a worker has in the works.
    options, embedding: as `open_mapper` takes them.
    """

    settings: Settings
    folder: Path
    mark: str
    in_flight: int
    options: Mapping[str, float]
    embedding: XmpEmbedding | None


class Settled:
    """What is kept of a shard's outcomes while the others are awaited; not their pixels."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.rows: list[Row] = []
        self._problems: list[tuple[str, str, str]] = []
        self._not_embedded: list[tuple[str, str]] = []

    def take(self, outcome: Outcome) -> None:
        """Keep the row of what is final, and what is to be told."""
        row = outcome.row
        if outcome.is_final:
            self.rows.append(row)
        if outcome.error is not None:
            self._problems.append((row.file, row.problem or "", row.detail or ""))
        if outcome.xmp is not None and is_refusal(outcome.xmp):
            self._not_embedded.append((row.file, outcome.xmp))

    def report(self, counts: BulkCounts) -> ShardReport:
        """Report them."""
        return ShardReport(counts, tuple(self._problems), tuple(self._not_embedded))


def cut(photos: Sequence[Photo], photos_a_shard: int) -> Iterator[Shard]:
    """Cut a listing into shards, in its order."""
    for start in range(0, len(photos), photos_a_shard):
        some = tuple(photos[start : start + photos_a_shard])
        digest = hashlib.sha256("\0".join(photo.name for photo in some).encode()).hexdigest()
        yield Shard(f"part-ray-{digest[:_DIGEST_LETTERS]}.parquet", some)


class ShardWorker:
    """Captions shards, one after another, with a model that it holds; has a process of its own.

    The process ends where the model has failed for good: whoever runs workers starts another.
    """

    def __init__(self, order: ShardOrder) -> None:
        """Load the model. Raises what `open_mapper` raises."""
        self._order = order
        self._loop = asyncio.Runner()
        self._open = AsyncExitStack()
        self._mapper: PhotoMapper = self._loop.run(
            self._open.enter_async_context(
                open_mapper(order.settings, order.options, embedding=order.embedding)
            )
        )

    def caption(self, shard: Shard) -> ShardReport:
        """Caption a shard and write its file; photos that are left undone are not in it.

        Raises BulkOutputError.
        """
        settled = Settled()
        try:
            counts = self._loop.run(
                run_photos(
                    shard.photos, self._mapper, settled.take, in_flight=self._order.in_flight
                )
            )
        except InferenceLostError:
            _logger.critical("the model has failed; this worker ends, and another takes over")
            os._exit(1)
        if settled.rows:
            with hold_mark(self._order.folder, self._order.mark):
                write_shard(self._order.folder / shard.file_name, settled.rows)
        return settled.report(counts)

    def close(self) -> None:
        """Let go of the model."""
        self._loop.run(self._open.aclose())
        self._loop.close()
