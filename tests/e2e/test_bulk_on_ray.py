"""`glimpse bulk --ray` on a cluster of two nodes, of which one is killed; and on one whose command
is killed: no photo is lost or doubled."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.e2e.ray_cluster import NEEDS_RAY, RAY, ray_environment, two_nodes
from tests.e2e.server import WAIT_SECONDS, eventually

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(not RAY.exists(), reason=NEEDS_RAY),
]

PHOTOS = 48
SLOW = {"fake_batch_seconds": 0.3, "max_batch_size": 1, "decode_processes": 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of as many colors, and one file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(PHOTOS):
        Image.new("RGB", (40, 30), (5 * number, 30, 30)).save(folder / f"{number:02d}.png")
    (folder / "bad.jpg").write_text("no photo")
    return folder


def bulk(
    repository: Path, photos: Path, out: Path, address: str, *options: str
) -> "subprocess.Popen[str]":
    where = ("--ray", address, "--cpus-per-worker", "1", "--max-workers", "2", *options)
    return subprocess.Popen(
        [sys.executable, "-m", "app", "bulk", str(photos), "--out", str(out), *where],
        cwd=repository,
        env=ray_environment(repository, **SLOW),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def shards(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))


def files_of(out: Path) -> Counter[str]:
    """How often each photo is in the output."""
    rows = [row for shard in shards(out) for row in pq.read_table(shard).to_pylist()]
    return Counter(row["file"] for row in rows)


def each_once(photos: Path) -> Counter[str]:
    return Counter(path.name for path in photos.iterdir())


def test_bulk_whose_node_is_killed_does_its_photos_again(
    tmp_path: Path, repository: Path, photos: Path
) -> None:
    out = tmp_path / "captions.parquet"
    with two_nodes(tmp_path, repository) as (address, second):
        run = bulk(repository, photos, out, address, "--min-workers", "2")
        # Its worker has work, and not all work is done.
        eventually(lambda: bool(second.workers()) and len(shards(out)) >= 2)
        second.kill()
        done_before = len(shards(out))
        _, told = run.communicate(timeout=4 * WAIT_SECONDS)
        assert run.returncode == 1, told  # one photo is bad
    assert done_before < len(shards(out))
    assert files_of(out) == each_once(photos)
    assert told.count("bad.jpg: The file is not a picture") == 1
    assert f"{PHOTOS} photos captioned" in told
    assert "1 failed" in told


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
def test_bulk_that_is_killed_itself_goes_on_where_it_was(
    tmp_path: Path, repository: Path, photos: Path, ended_by: signal.Signals
) -> None:
    out = tmp_path / "captions.parquet"
    with two_nodes(tmp_path, repository) as (address, _):
        run = bulk(repository, photos, out, address)
        eventually(lambda: len(shards(out)) >= 2)
        run.send_signal(ended_by)
        _, told = run.communicate(timeout=WAIT_SECONDS)
        if ended_by is signal.SIGINT:
            assert run.returncode == 130
            assert "The same command goes on from there." in told
            assert "Traceback" not in told
        done_before = sum(files_of(out).values())
        assert 0 < done_before < PHOTOS
        again = bulk(repository, photos, out, address)
        _, told = again.communicate(timeout=4 * WAIT_SECONDS)
    assert again.returncode == 1, told  # one photo is bad
    assert files_of(out) == each_once(photos)
    assert "were done before" in told


def test_bulk_without_a_cluster_is_told_in_a_sentence(
    tmp_path: Path, repository: Path, photos: Path
) -> None:
    run = bulk(repository, photos, tmp_path / "captions.parquet", "127.0.0.1:9")
    _, told = run.communicate(timeout=WAIT_SECONDS)
    assert run.returncode == 2, told
    assert "There is no Ray cluster to be reached at 127.0.0.1:9" in told
    assert "Traceback" not in told
