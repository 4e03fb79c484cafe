"""The loop over photos: in order, many at a time, and a bad one harms no other."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.bulk.mapper import Outcome, PhotoMapper
from app.bulk.reader import Photo
from app.bulk.runner import BulkCounts, run_photos
from app.core.errors import InferenceLostError
from app.core.metrics import Metrics
from app.xmp.embedding import XmpEmbedding
from models.caption import Caption
from models.config import DecodingOptions
from models.memory import MemoryUse
from models.preprocessing import PreparedImage
from tests.unit.image_files import FILES
from tests.unit.toy_engine import DEFAULT, OPTIONS, Shelf, Sized, image_file, run, running, until

NOWHERE = Path("nowhere.png")


def photos(count: int) -> list[Photo]:
    return [Photo(f"{number:03d}", NOWHERE, image_file(number)) for number in range(count)]


class Dying(Sized):
    """Ends its thread so many times, from the second batch on: the first is the canary."""

    def __init__(self, times: int) -> None:
        super().__init__(DEFAULT, MemoryUse())
        self.left = times

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        self.batches.append(len(images))
        if len(self.batches) > 1 and self.left:
            self.left -= 1
            raise SystemExit
        return super().caption(images, options)


def depth(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("glimpse_queue_depth") or 0.0


def shelf(captioner: Sized) -> Shelf:
    found = Shelf()
    found.captioners[DEFAULT] = captioner
    return found


async def ran(
    todo: Sequence[Photo],
    *,
    catalog: Shelf | None = None,
    embedding: XmpEmbedding | None = None,
    in_flight: int = 24,
    **limits: Any,
) -> tuple[list[Outcome], BulkCounts]:
    outcomes: list[Outcome] = []
    async with running(catalog or Shelf(), **limits) as engine:
        model = await engine.model(None)
        mapper = PhotoMapper(engine, model, OPTIONS, max_file_bytes=1_000_000, embedding=embedding)
        counts = await run_photos(todo, mapper, outcomes.append, in_flight=in_flight)
    return outcomes, counts


def test_photos_are_settled_in_order() -> None:
    async def test() -> None:
        outcomes, counts = await ran(photos(64))
        assert [outcome.photo.name for outcome in outcomes] == [f"{each:03d}" for each in range(64)]
        assert (counts.captioned, counts.all_well) == (64, True)

    run(test())


def test_batches_are_full_where_captioning_is_what_takes_long() -> None:
    async def test() -> None:
        catalog, metrics = Shelf(), Metrics()
        captioner = catalog.captioners[DEFAULT]
        async with running(catalog, metrics) as engine:
            captioner.may_caption.clear()
            mapper = PhotoMapper(engine, await engine.model(None), OPTIONS, max_file_bytes=10**6)
            settled: list[Outcome] = []
            work = asyncio.create_task(run_photos(photos(32), mapper, settled.append, in_flight=24))
            # One batch has begun with what was there, the others of the 24 wait.
            await until(lambda: depth(metrics) >= 16)
            captioner.may_caption.set()
            await work
        assert len(settled) == 32
        assert captioner.batches.count(8) >= 2

    run(test())


def test_bad_photo_is_its_own_outcome_alone(tmp_path: Path) -> None:
    async def test() -> None:
        bad = [
            Photo("empty", NOWHERE, b""),
            Photo("text", NOWHERE, b"no picture at all"),
            Photo("cut", NOWHERE, FILES["PNG"][:200]),
            Photo("gone", tmp_path / "gone.png"),
        ]
        outcomes, counts = await ran([*photos(5), *bad, *photos(5)])
        assert counts == BulkCounts(captioned=10, failed=4)
        assert [outcome.row.problem for outcome in outcomes[5:9]] == [
            "empty-image",
            "unreadable-image",
            "damaged-image",
            "unreadable-file",
        ]
        assert all(outcome.row.detail for outcome in outcomes[5:9])
        assert all(outcome.is_final for outcome in outcomes)

    run(test())


def test_photo_that_the_model_fails_on_is_kept_as_such() -> None:
    async def test() -> None:
        catalog = Shelf()
        broken = catalog.captioners[DEFAULT]
        outcomes: list[Outcome] = []
        async with running(catalog) as engine:
            broken.broken = True
            mapper = PhotoMapper(engine, await engine.model(None), OPTIONS, max_file_bytes=10**6)
            await run_photos(photos(1), mapper, outcomes.append, in_flight=1)
        (row,) = (outcome.row for outcome in outcomes)
        assert (row.problem, row.caption) == ("internal-error", None)
        assert row.detail is not None
        assert "RuntimeError" in row.detail
        assert "no such operator" not in row.detail

    run(test())


def test_photo_of_a_batch_that_the_model_died_with_is_tried_again() -> None:
    async def test() -> None:
        outcomes, counts = await ran(photos(3), catalog=shelf(Dying(1)), max_batch_size=8)
        assert counts == BulkCounts(captioned=3)
        assert [outcome.row.caption for outcome in outcomes] != [None] * 3

    run(test())


def test_model_that_is_given_up_ends_the_run() -> None:
    async def test() -> None:
        settled: list[Outcome] = []
        async with running(shelf(Dying(100)), max_inference_restarts=0) as engine:
            mapper = PhotoMapper(engine, await engine.model(None), OPTIONS, max_file_bytes=10**6)
            with pytest.raises(InferenceLostError, match="does not work any more"):
                await run_photos(photos(20), mapper, settled.append, in_flight=8)
        assert settled == []

    run(test())


def test_run_that_is_cancelled_leaves_no_photo_behind() -> None:
    async def test() -> None:
        catalog = Shelf()
        captioner = catalog.captioners[DEFAULT]
        async with running(catalog) as engine:
            captioner.may_caption.clear()
            mapper = PhotoMapper(engine, await engine.model(None), OPTIONS, max_file_bytes=10**6)
            work = asyncio.create_task(run_photos(photos(20), mapper, print, in_flight=8))
            await asyncio.sleep(0)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not [task for task in others if "map" in repr(task.get_coro())]
            captioner.may_caption.set()

    run(test())


def test_captions_go_into_the_files_that_take_them(tmp_path: Path) -> None:
    async def test() -> None:
        todo = []
        for name in ("JPEG", "PNG", "WebP", "GIF"):
            path = tmp_path / name
            path.write_bytes(FILES[name])
            todo.append(Photo(name, path))
        outcomes, counts = await ran(todo, embedding=XmpEmbedding())
        assert counts == BulkCounts(captioned=4, not_embedded=1)
        assert not counts.all_well
        assert [outcome.row.xmp for outcome in outcomes[:3]] == ["written"] * 3
        assert "JPEG, PNG and WebP files only" in str(outcomes[3].row.xmp)
        assert outcomes[3].row.caption
        assert (tmp_path / "GIF").read_bytes() == FILES["GIF"]
        assert str(outcomes[0].row.caption).encode() in (tmp_path / "JPEG").read_bytes()
        again, _ = await ran(todo[:3], embedding=XmpEmbedding())
        assert [outcome.row.xmp for outcome in again] == ["kept"] * 3
        assert [each.row.caption for each in again] == [each.row.caption for each in outcomes[:3]]

    run(test())
