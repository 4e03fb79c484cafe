"""The shards of a bulk run on many machines: what a worker does, done again by another, and what a
worker of an older run may not do any more."""

import os
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.bulk.mapper import Outcome
from app.bulk.parquet import ParquetWriter, read_shards
from app.bulk.ray_runner import RayCluster
from app.bulk.reader import Photo, find_photos
from app.bulk.run_mark import hold_mark, mark_run, read_mark
from app.bulk.runner import BulkCounts
from app.bulk.shards import Settled, Shard, ShardOrder, ShardReport, ShardWorker, cut
from app.core.errors import BulkOutputError, QueueFullError
from app.core.settings import Settings

PHOTOS = 5


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    """Some photos, and one file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(PHOTOS):
        Image.new("RGB", (40, 30), (50 * number, 30, 30)).save(folder / f"{number}.png")
    (folder / "bad.jpg").write_text("no photo")
    return find_photos(folder).photos


def worker_for(folder: Path) -> ShardWorker:
    return ShardWorker(
        ShardOrder(
            settings=Settings(captioner="fake", decode_processes=1),
            folder=folder,
            mark=read_mark(folder),
            in_flight=3,
            options={"num_captions": 2},
            embedding=None,
        )
    )


@given(st.integers(0, 40), st.integers(1, 12))
def test_cut_has_every_photo_once_in_shards_of_one_size(number: int, size: int) -> None:
    listing = [Photo(str(each), Path(str(each))) for each in range(number)]
    shards = list(cut(listing, size))
    assert [photo for shard in shards for photo in shard.photos] == listing
    assert all(len(shard.photos) == size for shard in shards[:-1])
    assert len({shard.file_name for shard in shards}) == len(shards)
    assert shards == list(cut(listing, size))


def test_shard_and_report_come_back_from_their_text_whatever_their_names() -> None:
    odd = Path(os.fsdecode(b"caf\xe9.jpg"))
    shard = Shard("part-ray-0.parquet", (Photo("caf\\xe9.jpg", odd), Photo('"\n', Path("x"))))
    assert Shard.from_json(shard.to_json()) == shard
    report = ShardReport(BulkCounts(1, 2, 3, 4), (("a", "slow-image", "Why."),), (("b", "no"),))
    assert ShardReport.from_json(report.to_json()) == report
    assert (shard.to_json() + report.to_json()).isascii()


def test_worker_captions_a_shard_and_again_without_doubling_it(
    photos: list[Photo], tmp_path: Path
) -> None:
    mark_run(tmp_path)
    (shard,) = cut(photos, 100)
    worker = worker_for(tmp_path)
    first, again = worker.caption(shard), worker.caption(shard)
    worker.close()
    assert first == again
    assert first.counts == BulkCounts(captioned=PHOTOS, failed=1)
    assert [(name, code) for name, code, _ in first.problems] == [("bad.jpg", "unreadable-image")]
    rows = pq.read_table(tmp_path / shard.file_name).to_pylist()
    assert sorted(row["file"] for row in rows) == [photo.name for photo in photos]
    assert {len(row["captions"]) for row in rows if row["caption"]} == {2}
    assert read_shards(tmp_path).files == {photo.name for photo in photos}


def test_worker_of_an_older_run_writes_nothing(photos: list[Photo], tmp_path: Path) -> None:
    mark_run(tmp_path)
    (shard,) = cut(photos, 100)
    worker = worker_for(tmp_path)
    ParquetWriter(tmp_path).close()  # a newer run, on one machine or on many
    with pytest.raises(BulkOutputError, match="written by a newer run"):
        worker.caption(shard)
    worker.close()
    assert read_shards(tmp_path).files == set()


def test_newer_run_takes_away_what_a_killed_one_left_half_written(tmp_path: Path) -> None:
    (tmp_path / ".part-ray-0.parquet.unfinished").write_bytes(b"PAR1, and no more")
    ParquetWriter(tmp_path).close()
    assert {path.name for path in tmp_path.iterdir()} == {".run"}


def test_newer_run_waits_for_a_worker_in_the_middle_of_writing(tmp_path: Path) -> None:
    mark_run(tmp_path)
    mark = read_mark(tmp_path)
    marked = threading.Event()

    def newer_run() -> None:
        mark_run(tmp_path)
        marked.set()

    with hold_mark(tmp_path, mark):
        thread = threading.Thread(target=newer_run)
        thread.start()
        assert not marked.wait(0.2)
        assert read_mark(tmp_path) == mark
    thread.join(timeout=60)
    assert marked.is_set()
    assert read_mark(tmp_path) != mark


def test_folder_without_a_mark_is_told(tmp_path: Path) -> None:
    with pytest.raises(BulkOutputError, match="cannot be read"):
        read_mark(tmp_path)
    with pytest.raises(BulkOutputError, match="cannot be read"), hold_mark(tmp_path, "0"):
        pass


@given(st.integers(1, 10**7), st.integers(1, 100), st.integers(1, 100))
def test_shards_are_several_for_each_worker_within_bounds(
    photos: int, workers: int, in_flight: int
) -> None:
    cluster = RayCluster("local", min_workers=1, max_workers=workers, cpus_per_worker=1)
    size = cluster.photos_a_shard(photos, in_flight)
    assert 1 <= size <= 1000
    assert size >= min(in_flight, 1000)
    if size < 1000 and size > in_flight:
        assert photos / size <= 4 * workers


def test_photo_that_is_left_undone_is_in_the_report_alone() -> None:
    outcome = Outcome(Photo("a.jpg", Path("a.jpg")), error=QueueFullError("full"))
    assert not outcome.is_final
    settled = Settled()
    settled.take(outcome)
    report = settled.report(BulkCounts(undone=1))
    assert settled.rows == []
    assert [(name, code) for name, code, _ in report.problems] == [("a.jpg", "queue-full")]
