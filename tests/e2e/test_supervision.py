"""The service as a process whose model hangs, crashes or breaks: callers are told, it is ready
again or ends with 1; and clients with deadlines of their own."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from tests.e2e.faulty_server import BREAKS, CRASHES, FAILS, HANGS
from tests.e2e.server import (
    BOUNDARY,
    HEAD,
    TAIL,
    WAIT_SECONDS,
    Server,
    eventually,
    serving,
    serving_within,
)

pytestmark = pytest.mark.e2e


def picture(red: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (40, 30), (red, 30, 30)).save(file, format="PNG")
    return file.getvalue()


def ask(
    server: Server, path: str, data: bytes | None = None, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The status, the document and the headers of an answer."""
    body = None if data is None else HEAD + data + TAIL
    if body is not None:
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
    request = Request(f"http://127.0.0.1:{server.port}{path}", body, headers)
    try:
        with urlopen(request, timeout=WAIT_SECONDS) as response:
            return response.status, json.load(response), dict(response.headers)
    except HTTPError as error:
        with error:
            return error.code, json.load(error), dict(error.headers)


def faulty(folder: Path, repository: Path, **settings: object) -> AbstractContextManager[Server]:
    settings = {"batch_timeout_seconds": 1.0, "shutdown_timeout_seconds": 3, **settings}
    program = ("-m", "tests.e2e.faulty_server")
    return serving_within((), folder, repository, program=program, **settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Server]:
    with faulty(tmp_path_factory.mktemp("faulty"), repository, max_inference_restarts=100) as one:
        yield one


@pytest.mark.parametrize(("red", "how"), [(HANGS, "hung"), (CRASHES, "crashed")])
def test_lost_inference_thread_answers_its_callers_turns_unready_and_ready_again(
    server: Server, red: int, how: str
) -> None:
    before = ask(server, "/caption", picture(1))[1]["caption"]
    status, problem, headers = ask(server, "/caption", picture(red))
    assert (status, problem["type"]) == (503, "/problems/inference-lost")
    assert f"The model {how}" in problem["detail"]
    assert int(headers["retry-after"]) >= 1
    eventually(lambda: ask(server, "/readyz")[0] == 200)
    assert ask(server, "/caption", picture(1))[1]["caption"] == before
    assert f"the inference thread {how}" in server.log.read_text()
    assert server.metric(f'glimpse_inference_lost_total{{how="{how}"}}') >= 1


def test_poisoned_image_in_a_batch_fails_alone(server: Server) -> None:
    reds = [1, 2, FAILS, 3, 4]
    alone = [ask(server, "/caption", picture(red)) for red in reds]
    with ThreadPoolExecutor(5) as pool:
        together = list(pool.map(lambda red: ask(server, "/caption", picture(red)), reds))
    assert [status for status, _, _ in together] == [200, 200, 500, 200, 200]
    for (_, one, _), (_, other, _) in zip(alone, together, strict=True):
        assert one.get("captions") == other.get("captions")


def test_model_that_hung_is_unready_while_it_is_proved_and_once_broken_ends_the_process_with_1(
    tmp_path: Path, repository: Path
) -> None:
    with faulty(tmp_path, repository, fake_batch_seconds=0.7) as server:
        assert ask(server, "/caption", picture(HANGS))[0] == 503
        status, problem, headers = ask(server, "/readyz")  # while the canary takes its time
        assert (status, problem["type"]) == (503, "/problems/not-ready")
        assert "hung, or crashed, and is being started again" in problem["detail"]
        assert int(headers["retry-after"]) >= 1
        assert ask(server, "/healthz")[0] == 200
        assert ask(server, "/caption", picture(1))[1]["type"] == "/problems/not-ready"
        eventually(lambda: ask(server, "/readyz")[0] == 200)
        assert ask(server, "/caption", picture(1))[0] == 200

        for red in (BREAKS, 1, 1, 1, 1):
            assert ask(server, "/caption", picture(red))[0] == 500
        assert server.process.wait(WAIT_SECONDS) == 1
        lines = [line for line in server.log.read_text().splitlines() if " CRITICAL " in line]
    assert len(lines) == 1
    assert "cannot go on: 5 batches in a row failed" in lines[0]


def test_sigterm_with_a_hung_thread_ends_with_0_within_the_limit(
    tmp_path: Path, repository: Path
) -> None:
    with (
        faulty(
            tmp_path, repository, batch_timeout_seconds=60.0, shutdown_timeout_seconds=1
        ) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        hung = pool.submit(ask, server, "/caption", picture(HANGS))
        eventually(lambda: server.metric("glimpse_batch_size_count") == 2)
        server.process.send_signal(signal.SIGTERM)
        status, problem, _ = hung.result()
        assert (status, problem["type"]) == (503, "/problems/stopping")
        assert server.process.wait(WAIT_SECONDS) == 0


def test_second_sigterm_ends_at_once_what_the_first_one_drains(
    tmp_path: Path, repository: Path
) -> None:
    patient = {"batch_timeout_seconds": 600.0, "shutdown_timeout_seconds": 600}
    with (
        faulty(tmp_path, repository, **patient) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        hung = pool.submit(ask, server, "/caption", picture(HANGS))
        eventually(lambda: server.metric("glimpse_batch_size_count") == 2)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: "Waiting for connections" in server.log.read_text())
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(WAIT_SECONDS) == 0
        assert isinstance(hung.exception(), OSError) or hung.result()[0] == 503


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Server]:
    """One that captions one picture a second, and has room for three more."""
    folder = tmp_path_factory.mktemp("slow")
    with serving(
        folder, repository, fake_batch_seconds=1.0, max_batch_size=1, max_queue_size=3
    ) as one:
        yield one


def test_deadline_of_the_client_ends_its_wait_and_its_picture_is_not_computed(
    slow: Server,
) -> None:
    before = slow.metric("glimpse_batch_size_sum")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, slow, "/caption", picture(1))
        eventually(lambda: slow.metric("glimpse_batch_size_sum") == before + 1)
        hurried = {"X-Request-Timeout-Seconds": "0.2"}
        status, problem, headers = ask(slow, "/caption", picture(2), **hurried)
        assert (status, problem["type"]) == (503, "/problems/timed-out")
        assert int(headers["retry-after"]) >= 1
        assert slow.metric("glimpse_queue_depth") == 0
        assert running.result()[0] == 200
    assert ask(slow, "/caption", picture(3))[0] == 200
    assert slow.metric("glimpse_batch_size_sum") == before + 2


def test_full_queue_says_when_a_place_is_likely_free(slow: Server) -> None:
    with ThreadPoolExecutor(7) as pool:
        answers = list(pool.map(lambda red: ask(slow, "/caption", picture(red)), range(7)))
    refused = [each for each in answers if each[0] == 503]
    assert refused
    assert {problem["type"] for _, problem, _ in refused} == {"/problems/queue-full"}
    # One picture a second, three that wait, and this one.
    assert {int(headers["retry-after"]) for _, _, headers in refused} <= {4, 5}


def test_client_that_hangs_up_frees_its_place_in_the_queue(slow: Server) -> None:
    before = slow.metric("glimpse_batch_size_sum")
    body = HEAD + picture(1) + TAIL
    with ThreadPoolExecutor(1) as pool, ExitStack() as sockets:
        running = pool.submit(ask, slow, "/caption", picture(2))
        eventually(lambda: slow.metric("glimpse_batch_size_sum") == before + 1)
        for _ in range(3):
            sock = sockets.enter_context(slow.connect(f"Content-Length: {len(body)}"))
            sock.sendall(body)
        eventually(lambda: slow.metric("glimpse_queue_depth") == 3)
        assert ask(slow, "/caption", picture(3))[1]["type"] == "/problems/queue-full"
        sockets.close()
        eventually(lambda: slow.metric("glimpse_queue_depth") == 0)
        assert ask(slow, "/caption", picture(4))[0] == 200
        assert running.result()[0] == 200
    assert slow.metric("glimpse_batch_size_sum") == before + 2


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf", ""])
def test_deadline_that_is_none_is_a_422_that_says_so(server: Server, seconds: str) -> None:
    headers = {"X-Request-Timeout-Seconds": seconds}
    status, problem, _ = ask(server, "/caption", picture(1), **headers)
    assert (status, problem["type"]) == (422, "/problems/invalid-option")
    assert "X-Request-Timeout-Seconds" in problem["detail"]


def test_deadline_longer_than_the_servers_is_answered_within_the_servers(
    server: Server,
) -> None:
    headers = {"X-Request-Timeout-Seconds": "1e9"}
    for path in ("/caption", "/attention", "/attention?format=png&word=0"):
        request = Request(
            f"http://127.0.0.1:{server.port}{path}",
            HEAD + picture(1) + TAIL,
            {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **headers},
        )
        with urlopen(request, timeout=WAIT_SECONDS) as response:
            assert response.status == 200


def test_upload_that_outlasts_its_own_deadline_is_cut(server: Server) -> None:
    with server.connect("Content-Length: 5000", "X-Request-Timeout-Seconds: 0.3") as sock:
        sock.sendall(HEAD)
        answer = sock.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 503 ")
