"""`/jobs`: many pictures in, captioned while nobody waits; who sees them, and what bounds them."""

import base64
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.core.keys import add_key, revoke_key

NOW = datetime.now(UTC)
WAIT_SECONDS = 20


def picture(red: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 30), (red, 30, 30)).save(file, format="PNG")
    return file.getvalue()


def files(*named: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", each) for each in named]


def pictures(count: int) -> list[tuple[str, tuple[str, bytes]]]:
    return files(*((f"{red}.png", picture(red)) for red in range(count)))


def ended(client: TestClient, address: str, **headers: str) -> dict[str, Any]:
    """The job once it has ended."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        document: dict[str, Any] = client.get(address, headers=headers).json()
        if document["state"] != "active":
            return document
        assert time.monotonic() < end, document
        time.sleep(0.02)


@pytest.fixture(scope="module")
def keeping(serve: Callable[..., Any], tmp_path_factory: Any) -> Iterator[TestClient]:
    with serve(jobs_folder=tmp_path_factory.mktemp("jobs")) as client:
        yield client


@pytest.fixture
def busy(serve: Callable[..., Any], tmp_path: Path) -> Iterator[TestClient]:
    """A service that takes its time for each picture."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    with serve(jobs_folder=folder, fake_batch_seconds=0.3, max_batch_size=1) as client:
        yield client


def test_job_comes_to_what_the_batch_is_answered(keeping: TestClient) -> None:
    sent = files(("a.png", picture(1)), ("b.txt", b"no picture"), ("c.png", picture(2)))
    accepted = keeping.post("/jobs?num_captions=2&include=objects", files=sent)
    assert accepted.status_code == 202, accepted.text
    first = accepted.json()
    assert accepted.headers["location"] == f"/jobs/{first['id']}"
    assert (first["state"], first["total"]) == ("active", 3)
    job = ended(keeping, accepted.headers["location"])
    assert (job["state"], job["captioned"], job["failed"]) == ("done", 2, 1)
    assert job["ended"] >= job["created"] == first["created"]
    result = keeping.get(f"/jobs/{first['id']}/result").json()
    assert result["pictures"] == job["pictures"]
    batch = keeping.post("/caption/batch?num_captions=2&include=objects", files=sent).json()
    assert (result["captioned"], result["failed"]) == (batch["captioned"], batch["failed"])
    for one, other in zip(result["pictures"], batch["pictures"], strict=True):
        for name in ("position", "name", "status"):
            assert one[name] == other[name]
        assert one.get("answer", {}) | {"timing": 0} == other.get("answer", {}) | {"timing": 0}
        assert one.get("problem", {}).get("detail") == other.get("problem", {}).get("detail")
    instance = result["pictures"][1]["problem"]["instance"]
    assert instance == f"urn:request:{accepted.headers['x-request-id']}"


def test_job_as_json_and_its_progress_without_its_pictures(keeping: TestClient) -> None:
    texts = [base64.b64encode(picture(red)).decode() for red in range(3)]
    address = keeping.post("/jobs", json={"images": texts, "beam_size": 2}).headers["location"]
    assert ended(keeping, address)["captioned"] == 3
    short = keeping.get(f"{address}?pictures=false").json()
    assert (short["captioned"], short["total"]) == (3, 3)
    assert "pictures" not in short


def test_job_shows_what_there_is_so_far_and_is_canceled_then_forgotten(busy: TestClient) -> None:
    address = busy.post("/jobs", files=pictures(30)).headers["location"]
    refused = busy.get(f"{address}/result")
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/job-not-done")
    assert "of 30 pictures are" in refused.json()["detail"]
    end = time.monotonic() + WAIT_SECONDS
    while not busy.get(address).json()["pictures"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert busy.delete(address).status_code == 204
    job = busy.get(address).json()
    assert job["state"] == "canceled"
    assert 1 <= len(job["pictures"]) == job["captioned"] < 30
    assert busy.get(f"{address}/result").json()["pictures"] == job["pictures"]
    assert "glimpse_job_images_waiting 0.0" in busy.get("/metrics").text
    assert busy.delete(address).status_code == 204
    assert busy.get(address).status_code == busy.delete(address).status_code == 404


def test_job_lets_whoever_waits_for_an_answer_go_first(busy: TestClient) -> None:
    address = busy.post("/jobs", files=pictures(20)).headers["location"]
    for red in range(3):
        assert busy.post("/caption", files=files(("a", picture(red)))).status_code == 200
    job = busy.get(address).json()
    # One batch of the job may run before each of the three, and one beside the last look.
    assert job["captioned"] <= 5
    busy.delete(address)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/jobs"), ("GET", "/jobs/a"), ("GET", "/jobs/a/result"), ("DELETE", "/jobs/a")],
)
def test_jobs_that_are_off_say_which_setting_turns_them_on(
    client: TestClient, method: str, path: str
) -> None:
    answer = client.request(method, path, files=pictures(1) if method == "POST" else None)
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/jobs-off")
    assert "GLIMPSE_JOBS_FOLDER" in answer.json()["detail"]


def test_job_of_a_key_is_seen_by_that_key_alone_also_after_its_name_is_taken(
    serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.core.keys._SECONDS_BETWEEN_LOOKS", 0.0)
    keys = tmp_path / "keys.json"
    mine = {"X-API-Key": add_key(keys, "mine", now=NOW)}
    theirs = {"X-API-Key": add_key(keys, "theirs", now=NOW)}
    with serve(keys_file=keys, jobs_folder=tmp_path) as client:
        assert client.post("/jobs", files=pictures(1)).status_code == 401
        address = client.post("/jobs", files=pictures(2), headers=mine).headers["location"]
        ended(client, address, **mine)
        unknown = client.get("/jobs/0", headers=theirs)
        for method, path in (("GET", ""), ("GET", "/result"), ("DELETE", "")):
            answer = client.request(method, address + path, headers=theirs)
            assert answer.status_code == 404
            assert answer.json()["type"] == unknown.json()["type"] == "/problems/unknown-job"
            assert client.request(method, address + path).status_code == 401
        revoke_key(keys, "mine")
        again = {"X-API-Key": add_key(keys, "mine", now=NOW)}
        assert client.get(address, headers=again).status_code == 404


def test_job_pictures_each_count_in_the_rate(serve: Callable[..., Any], tmp_path: Path) -> None:
    with serve(jobs_folder=tmp_path, requests_per_day=5) as client:
        accepted = client.post("/jobs", files=pictures(4))
        refused = client.post("/jobs", files=pictures(2))
    assert (accepted.status_code, refused.status_code) == (202, 429)
    assert '"day";r=1;' in accepted.headers["ratelimit"]


def test_jobs_beyond_what_is_kept_are_refused_and_old_ones_make_room(
    serve: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.keeper._SECONDS_BETWEEN_LOOKS", 0.05)
    with serve(jobs_folder=tmp_path, max_jobs=2, job_kept_seconds=0.5, max_job_images=3) as client:
        many = client.post("/jobs", files=pictures(4))
        addresses = [client.post("/jobs", files=pictures(1)).headers["location"] for _ in range(2)]
        full = client.post("/jobs", files=pictures(1))
        end = time.monotonic() + WAIT_SECONDS
        while any(client.get(address).status_code == 200 for address in addresses):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert client.post("/jobs", files=pictures(1)).status_code == 202
    assert (many.status_code, many.json()["type"]) == (413, "/problems/too-many-images")
    assert (full.status_code, full.json()["type"]) == (503, "/problems/jobs-full")
    assert int(full.headers["retry-after"]) >= 1


def test_job_of_more_bytes_than_may_wait_is_refused(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    with serve(jobs_folder=tmp_path, max_jobs_bytes=50_000, max_job_bytes=100_000) as client:
        full = client.post("/jobs", files=files(("a", bytes(60_000))))
        large = client.post("/jobs", files=files(("a", bytes(120_000))))
    assert (full.status_code, full.json()["type"]) == (503, "/problems/jobs-full")
    assert (large.status_code, large.json()["type"]) == (413, "/problems/body-too-large")


def test_jobs_whose_database_fails_are_told_so_and_go_on_when_it_works(
    keeping: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr("app.jobs.database.JobDatabase.add", fail)
        answer = keeping.post("/jobs", files=pictures(1))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/jobs-unavailable")
    assert "disk is full" not in answer.text
    assert "database or disk is full" in caplog.text
    address = keeping.post("/jobs", files=pictures(1)).headers["location"]
    assert ended(keeping, address)["captioned"] == 1


def test_jobs_go_on_after_a_restart_where_they_stood(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    with serve(jobs_folder=tmp_path, fake_batch_seconds=0.1, max_batch_size=1) as client:
        address = client.post("/jobs", files=pictures(12)).headers["location"]
        end = time.monotonic() + WAIT_SECONDS
        while client.get(address).json()["captioned"] < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
    with serve(jobs_folder=tmp_path) as client:
        job = ended(client, address)
        alone = [client.post("/caption", files=[each]).json() for each in pictures(12)]
    assert [each["position"] for each in job["pictures"]] == list(range(12))
    captions = [each["answer"]["caption"] for each in job["pictures"]]
    assert captions == [each["caption"] for each in alone]
