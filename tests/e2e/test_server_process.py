"""The service as its own process, on real sockets: uploads too large or too slow, batches, a stop
in flight."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.core.settings import DEFAULT_MODEL
from tests.e2e.browser import execute_in_browser
from tests.e2e.server import (
    HEAD,
    TAIL,
    WAIT_SECONDS,
    Server,
    environment,
    eventually,
    read_to_end,
    serving,
)

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    settings: dict[str, Any] = {
        "max_upload_bytes": 1_000_000,
        "body_idle_timeout_seconds": 1.0,
        "body_timeout_seconds": 3.0,
        "min_upload_bytes_per_second": 0,
    }
    with serving(folder, repository, **settings) as server:
        yield server


def test_upload_announced_too_large_is_refused_before_its_body(server: Server, png: bytes) -> None:
    with server.connect("Content-Length: 50000000", "Expect: 100-continue") as sock:
        status, problem = read_to_end(sock)  # not a byte of the body is sent
    assert (status, problem["type"]) == (413, "/problems/body-too-large")
    assert server.caption(png)[0] == 200


@pytest.mark.parametrize("framing", ["Content-Length: 50000000", "Transfer-Encoding: chunked"])
def test_upload_too_large_client_that_sends_all_of_it_still_reads_the_problem(
    server: Server, png: bytes, framing: str
) -> None:
    block = bytes(50_000)
    if "chunked" in framing:
        block = b"c350\r\n" + block + b"\r\n"
    with server.connect(framing) as sock:
        if "chunked" in framing:
            sock.sendall(f"{len(HEAD):x}\r\n".encode() + HEAD + b"\r\n")
        for _ in range(1000):
            sock.sendall(block)
        if "chunked" in framing:
            sock.sendall(b"0\r\n\r\n")
        status, problem = read_to_end(sock)
    assert (status, problem["type"]) == (413, "/problems/body-too-large")
    assert server.caption(png)[0] == 200


def test_upload_that_pauses_is_ended_with_a_408(server: Server, png: bytes) -> None:
    with server.connect("Content-Length: 5000") as sock:
        sock.sendall(HEAD)
        status, problem = read_to_end(sock)
    assert (status, problem["type"]) == (408, "/problems/body-too-slow")
    assert "for 1 seconds" in problem["detail"]
    assert server.caption(png)[0] == 200


def test_upload_that_trickles_is_ended_with_a_408(server: Server) -> None:
    with server.connect("Content-Length: 5000") as sock, ThreadPoolExecutor(1) as pool:
        sock.sendall(HEAD)
        answer = pool.submit(read_to_end, sock)
        while not answer.done():
            try:
                sock.sendall(b"-")
            except OSError:
                break
            time.sleep(0.2)
        status, problem = answer.result()
    assert (status, problem["type"]) == (408, "/problems/body-too-slow")
    assert "longer than 3 seconds" in problem["detail"]


def test_connection_with_another_good_request_is_kept(server: Server, png: bytes) -> None:
    body = HEAD + png + TAIL
    with server.connect(f"Content-Length: {len(body)}") as sock:
        sock.sendall(body)
        assert sock.recv(12) == b"HTTP/1.1 200"
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        received = b""
        while piece := sock.recv(65_536):
            received += piece
    assert received.endswith(b'{"status":"alive"}')


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Server]:
    """One whose batches take a while, so that requests meet."""
    with serving(
        tmp_path_factory.mktemp("slow"), repository, fake_batch_seconds=1.0, max_batch_size=8
    ) as server:
        yield server


def test_concurrent_requests_share_batches(slow_server: Server, png: bytes) -> None:
    images, batches = (
        slow_server.metric(f"glimpse_batch_size_{each}") for each in ("sum", "count")
    )
    with ThreadPoolExecutor(17) as pool:
        answers = list(pool.map(lambda _: slow_server.caption(png), range(17)))
    assert {status for status, _ in answers} == {200}
    assert len({document["caption"] for _, document in answers}) == 1
    assert slow_server.metric("glimpse_batch_size_sum") == images + 17
    assert slow_server.metric("glimpse_batch_size_count") < batches + 17


def test_client_that_hangs_up_in_the_queue_is_not_computed_for(
    slow_server: Server, png: bytes
) -> None:
    images, batches = (
        slow_server.metric(f"glimpse_batch_size_{each}") for each in ("sum", "count")
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(slow_server.caption, png)
        eventually(lambda: slow_server.metric("glimpse_batch_size_count") == batches + 1)
        body = HEAD + png + TAIL
        with slow_server.connect(f"Content-Length: {len(body)}") as sock:
            sock.sendall(body)
            eventually(lambda: slow_server.metric("glimpse_queue_depth") == 1)
        gone = 'glimpse_http_requests_total{method="POST",route="/caption",status="499"}'
        eventually(lambda: slow_server.metric(gone) == 1)
        assert slow_server.metric("glimpse_queue_depth") == 0
        assert running.result()[0] == 200
    assert slow_server.caption(png)[0] == 200
    assert slow_server.metric("glimpse_batch_size_sum") == images + 2


def test_sigterm_answers_what_is_in_flight_then_ends(
    tmp_path: Path, repository: Path, png: bytes
) -> None:
    with (
        serving(tmp_path, repository, fake_batch_seconds=1.0, max_batch_size=2) as server,
        ThreadPoolExecutor(5) as pool,
    ):
        answers = [pool.submit(server.caption, png) for _ in range(5)]
        # This request for metrics too.
        eventually(lambda: server.metric("glimpse_http_requests_in_flight") == 6)
        server.process.send_signal(signal.SIGTERM)
        assert [answer.result()[0] for answer in answers] == [200] * 5
        assert server.process.wait(WAIT_SECONDS) == 0
        assert "Traceback" not in server.log.read_text()


def test_ctrl_c_drains_and_ends_with_0(tmp_path: Path, repository: Path, png: bytes) -> None:
    with (
        serving(tmp_path, repository, fake_batch_seconds=0.5) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(server.caption, png)
        eventually(lambda: server.metric("glimpse_http_requests_in_flight") == 2)
        server.process.send_signal(signal.SIGINT)
        assert answer.result()[0] == 200
        assert server.process.wait(WAIT_SECONDS) == 0
        assert "Traceback" not in server.log.read_text()


def test_start_without_weights_ends_with_a_sentence(tmp_path: Path, repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        cwd=repository,
        env=environment(captioner="real", weights_folder=tmp_path),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode != 0
    assert "cannot start: " in done.stderr
    assert DEFAULT_MODEL in done.stderr
    assert "Traceback" not in done.stderr


def test_start_with_an_impossible_setting_ends_with_a_sentence(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "serve"],
        cwd=repository,
        env=environment(port=99999),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert "GLIMPSE_PORT=99999 cannot work" in done.stderr
    assert "Traceback" not in done.stderr


def test_docs_page_in_a_browser_asks_nobody_else(
    server: Server, tmp_path: Path, png: bytes
) -> None:
    base = f"http://127.0.0.1:{server.port}"
    visit = execute_in_browser(f"{base}/docs", png, tmp_path)
    assert '"caption"' in visit.shown
    assert visit.complaints == []
    assert visit.asked_elsewhere(f"{base}/") == set()
