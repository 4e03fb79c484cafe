"""Jobs and batches of the service as a process: killed in the middle and started again, left by a
client; and with a picture that crashes the model."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from tests.e2e.faulty_server import CRASHES
from tests.e2e.server import WAIT_SECONDS, Server, environment, eventually, serving, serving_within

pytestmark = pytest.mark.e2e

BOUNDARY = "glimpse"


def picture(red: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 30), (red, 30, 30)).save(file, format="PNG")
    return file.getvalue()


def form(reds: list[int]) -> bytes:
    """Pictures, each named after its red."""
    parts = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
        f'name="image"; filename="{red}.png"\r\n\r\n'.encode()
        + picture(red)
        + b"\r\n"
        for red in reds
    ]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def ask(
    server: Server, method: str, path: str, body: bytes | None = None
) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"} if body else {}
    address = f"http://127.0.0.1:{server.port}{path}"
    request = Request(address, body, headers, method=method)
    try:
        with urlopen(request, timeout=WAIT_SECONDS) as response:
            return response.status, json.loads(response.read() or b"{}")
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


def add(server: Server, reds: list[int]) -> str:
    status, job = ask(server, "POST", "/jobs", form(reds))
    assert status == 202, job
    return f"/jobs/{job['id']}"


def slow(folder: Path, repository: Path, **settings: object) -> AbstractContextManager[Server]:
    settings = {"jobs_folder": folder, "fake_batch_seconds": 0.1, "max_batch_size": 1, **settings}
    return serving(folder, repository, **settings)


def captions(server: Server, reds: list[int]) -> list[str]:
    return [server.caption(picture(red))[1]["caption"] for red in reds]


def is_far(server: Server, address: str, pictures: int) -> bool:
    return len(ask(server, "GET", address)[1]["pictures"]) >= pictures


@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_job_whose_server_is_killed_loses_nothing_and_repeats_nothing(
    tmp_path: Path, repository: Path, kills: int
) -> None:
    reds = list(range(100, 108 + 4 * kills))
    computed = 0.0
    done: list[dict[str, Any]] = []
    address = ""
    for _ in range(kills):
        with slow(tmp_path, repository) as server:
            address = address or add(server, reds)
            eventually(partial(is_far, server, address, len(done) + 3))
            computed += server.metric("glimpse_batch_size_sum") - 1  # the canary
            # An answer that a client has seen is on the disk: it is the same after the kill.
            seen = ask(server, "GET", address)[1]["pictures"]
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        assert [each for each in seen if each in done] == done
        done = seen
    with slow(tmp_path, repository, fake_batch_seconds=0.0) as server:
        eventually(lambda: ask(server, "GET", address)[1]["state"] == "done")
        job = ask(server, "GET", address)[1]
        computed += server.metric("glimpse_batch_size_sum") - 1
        expected = captions(server, reds)
    assert [each for each in job["pictures"] if each in done] == done
    assert [each["name"] for each in job["pictures"]] == [f"{red}.png" for red in reds]
    assert [each["answer"]["caption"] for each in job["pictures"]] == expected
    # Of each killed process one picture may have been computed and not yet written; and what it
    # computed after it was asked is not counted.
    assert abs(computed - len(reds)) <= 3 * kills


def test_job_picture_that_crashes_the_model_is_given_up_and_the_others_are_captioned(
    tmp_path: Path, repository: Path
) -> None:
    reds = [1, 2, CRASHES, 3, 4]
    with serving_within(
        (),
        tmp_path,
        repository,
        program=("-m", "tests.e2e.faulty_server"),
        jobs_folder=tmp_path,
        max_inference_restarts=100,
    ) as server:
        address = add(server, reds)
        eventually(lambda: ask(server, "GET", address)[1]["state"] == "done")
        job = ask(server, "GET", address)[1]
        assert [each["status"] for each in job["pictures"]] == [200, 200, 422, 200, 200]
        assert job["pictures"][2]["problem"]["type"] == "/problems/given-up"
        assert server.metric('glimpse_inference_lost_total{how="crashed"}') == 3
        assert server.metric('glimpse_job_images_total{outcome="captioned"}') == 4
        assert server.metric("glimpse_job_images_waiting") == 0


@pytest.mark.slow
def test_job_that_a_stopping_server_has_in_hand_waits_for_the_next_one(
    tmp_path: Path, repository: Path
) -> None:
    with slow(tmp_path, repository, fake_batch_seconds=0.3) as server:
        address = add(server, [1, 2, 3, 4, 5, 6])
        eventually(lambda: bool(ask(server, "GET", address)[1]["pictures"]))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(WAIT_SECONDS) == 0
        assert "Traceback" not in server.log.read_text()
    assert not (tmp_path / "jobs.sqlite3-wal").exists()
    with slow(tmp_path, repository, fake_batch_seconds=0.0) as server:
        eventually(lambda: ask(server, "GET", address)[1]["state"] == "done")
        assert len(ask(server, "GET", address)[1]["pictures"]) == 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Server]:
    with slow(tmp_path_factory.mktemp("jobs"), repository, fake_batch_seconds=0.3) as one:
        yield one


def test_second_server_on_the_folder_of_jobs_does_not_start_and_names_the_setting(
    server: Server, repository: Path
) -> None:
    folder = server.log.parent
    second = subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        cwd=repository,
        env=environment(jobs_folder=folder),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert second.returncode == 2
    assert f"GLIMPSE_JOBS_FOLDER={folder} cannot work: another process uses it" in second.stderr
    assert "Traceback" not in second.stderr


def test_batch_whose_client_hangs_up_leaves_the_queue_and_the_others_are_answered(
    server: Server,
) -> None:
    before = server.metric("glimpse_batch_size_sum")
    body = form(list(range(12)))
    head = (
        "POST /caption/batch HTTP/1.1\r\nHost: a\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(head + body)
        eventually(lambda: server.metric("glimpse_queue_depth") >= 6)
    eventually(lambda: server.metric("glimpse_queue_depth") == 0)
    assert server.caption(picture(1))[0] == 200
    # This one, and what was in hand before the client left.
    assert server.metric("glimpse_batch_size_sum") - before < 10
    assert server.metric("glimpse_upload_memory_bytes") == 0
