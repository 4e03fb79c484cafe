"""`glimpse bulk`: photos, as many as there are, into one output; a killed run is gone on with."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from app.api.options import CaptionOptions
from app.bulk.formats import OutputFormat, choose_format
from app.bulk.mapper import Outcome, PhotoMapper, open_mapper
from app.bulk.ray_runner import RayCluster, run_on_ray
from app.bulk.reader import Listing, Photo, StoredObject
from app.bulk.rows import is_refusal
from app.bulk.run_mark import read_mark
from app.bulk.runner import BulkCounts, count_in_flight, run_photos
from app.bulk.shards import ShardOrder, ShardReport
from app.bulk.sources import list_photos
from app.bulk.writer import RowWriter, Written, open_writer
from app.commands.caption import say_problem
from app.commands.terminal import FAILED, WELL, say, visible
from app.core.errors import BulkOutputError, PhotoFileError
from app.core.settings import Settings
from app.engine.build import build_catalog
from app.xmp.embedding import XmpEmbedding
from models.caption import ModelInfo

__all__ = ["BulkOrder", "caption_folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOrder:
    """What a run is to do.

    source: as `list_photos` takes it.
    options: those of decoding that differ from the model's own.
    embedding: how captions are put into the photos' files; None leaves them as they are.
    cluster: where workers caption; None for this machine, without Ray.
    is_quiet: whether nothing is said but what is wrong.
    """

    source: str
    output: Path
    output_format: OutputFormat | None
    options: Mapping[str, float]
    embedding: XmpEmbedding | None
    cluster: RayCluster | None = None
    is_quiet: bool


async def caption_folder(settings: Settings, order: BulkOrder) -> int:
    """Caption the photos of a source that the output does not have yet.

    Gives the number to end with: whether every photo of the output is captioned. Raises
    BulkOutputError, PhotoFileError, ClusterError, and what `open_mapper` raises; before anything
    is written where that can be known.
    """
    output_format = choose_format(order.output, order.output_format)
    if order.cluster is not None and output_format is not OutputFormat.parquet:
        raise BulkOutputError(
            "With --ray, workers write files of their own: a Parquet folder. Add --format parquet, "
            "or name an output that ends with .parquet."
        )
    model = build_catalog(settings).describe(settings.model)
    CaptionOptions.model_validate(order.options).decoding(model.config.decoding)
    listing = _list(order)
    writer = open_writer(order.output, output_format)  # what can be wrong is known by now
    try:
        _check_goes_on(order, writer.written, model)
        todo = [photo for photo in listing.photos if photo.name not in writer.written.files]
        if not todo:
            _tell(order, listing, writer.written, BulkCounts(), seconds=0.0)
            return WELL if writer.written.all_well else FAILED
        if order.cluster is not None:
            started = perf_counter()
            counts = await _run_on_ray(order, settings, todo, order.cluster)
        else:
            async with open_mapper(settings, order.options, embedding=order.embedding) as mapper:
                started = perf_counter()
                counts = await _run(order, settings, todo, mapper, writer)
    finally:
        writer.close()
    _tell(order, listing, writer.written, counts, seconds=perf_counter() - started)
    return WELL if counts.all_well and writer.written.all_well else FAILED


def _list(order: BulkOrder) -> Listing:
    listing = list_photos(order.source)
    if not listing.photos:
        raise PhotoFileError(
            f"{visible(order.source)} has no file that is named as a photo (.jpg, .png, .webp and "
            "so on)."
        )
    stored = any(isinstance(photo.place, StoredObject) for photo in listing.photos)
    if order.embedding is not None and stored:
        raise PhotoFileError(
            "--write-xmp changes files, and an object in a store is none. Leave it out."
        )
    return listing


def _check_goes_on(order: BulkOrder, written: Written, model: ModelInfo) -> None:
    """Raise BulkOutputError where the output was begun otherwise."""
    if written.digests - {model.digest}:
        raise BulkOutputError(
            f"{order.output} was begun with another model. Choose that one with --model, or name "
            "another output."
        )
    if order.embedding is not None and written.without_xmp:
        raise BulkOutputError(
            f"{order.output} was begun without --write-xmp, and its photos would be passed over. "
            "Name another output."
        )


async def _run(
    order: BulkOrder,
    settings: Settings,
    todo: list[Photo],
    mapper: PhotoMapper,
    writer: RowWriter,
) -> BulkCounts:
    done = 0

    def settle(outcome: Outcome) -> None:
        nonlocal done
        if outcome.is_final:
            writer.write(outcome.row)
        done += 1
        progress.update(task, completed=done, rate=done / max(perf_counter() - started, 1e-6))
        say_problem(outcome.photo.name, outcome.error)
        if is_refusal(outcome.xmp):
            say(f"{visible(outcome.photo.name)}: {outcome.xmp}")

    started = perf_counter()
    with _progress(is_shown=not order.is_quiet) as progress:
        task = _add_task(progress, len(todo))
        try:
            return await run_photos(todo, mapper, settle, in_flight=count_in_flight(settings))
        except BaseException:
            _say_stopped(done, len(todo))
            raise


async def _run_on_ray(
    order: BulkOrder, settings: Settings, todo: list[Photo], cluster: RayCluster
) -> BulkCounts:
    """Have workers caption and write; they see folder and output under the same names."""
    shard_order = ShardOrder(
        settings=settings,
        folder=order.output.resolve(),
        mark=read_mark(order.output),
        in_flight=count_in_flight(settings),
        options=order.options,
        embedding=order.embedding,
    )
    photos = [Photo(photo.name, _resolved(photo.place)) for photo in todo]
    counts = BulkCounts()
    started = perf_counter()
    with _progress(is_shown=not order.is_quiet) as progress:
        task = _add_task(progress, len(todo))
        try:
            async for report in run_on_ray(photos, shard_order, cluster):
                counts.add(report.counts)
                rate = counts.photos / max(perf_counter() - started, 1e-6)
                progress.update(task, completed=counts.photos, rate=rate)
                _say_what_is_wrong(report)
        except BaseException:
            _say_stopped(counts.photos, len(todo))
            raise
    return counts


def _resolved(place: Path | StoredObject) -> Path | StoredObject:
    """Name a file as it is named in every folder."""
    return place.resolve() if isinstance(place, Path) else place


def _say_what_is_wrong(report: ShardReport) -> None:
    for name, code, detail in report.problems:
        say(f"{visible(name)}: {detail} ({code})")
    for name, why in report.not_embedded:
        say(f"{visible(name)}: {why}")


def _say_stopped(done: int, photos: int) -> None:
    say(f"stopped: {done} of {photos} photos are done. The same command goes on from there.")


def _progress(*, is_shown: bool) -> Progress:
    """Give a bar on standard error, or none where nobody watches."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} photos/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not (is_shown and sys.stderr.isatty()),
    )


def _add_task(progress: Progress, total: int) -> TaskID:
    return progress.add_task("captioning", total=total, rate=0.0)


def _tell(
    order: BulkOrder,
    listing: Listing,
    written: Written,
    counts: BulkCounts,
    *,
    seconds: float,
) -> None:
    """Say in a few words what came of it."""
    if order.is_quiet:
        return
    parts = [f"{counts.captioned} photos captioned"]
    if seconds:
        parts.append(f"{counts.captioned / seconds:.1f} a second")
    parts += [f"{len(written.files)} were done before"] if written.files else []
    failed = counts.failed + written.failed
    parts += [f"{failed} failed, as {order.output} tells"] if failed else []
    if counts.undone:
        parts.append(f"{counts.undone} were not captioned now; the same command tries them again")
    parts += [f"{counts.not_embedded} files were not written"] if counts.not_embedded else []
    others = "other file" if listing.passed_over == 1 else "other files"
    parts += [f"{listing.passed_over} {others} passed over"] if listing.passed_over else []
    say(f"{', '.join(parts)}.")
