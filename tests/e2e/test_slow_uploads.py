"""Clients that upload slowly: they keep others from nothing, and are cut."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.server import (
    BOUNDARY,
    HEAD,
    Server,
    eventually,
    read_all,
    read_to_end,
    serving,
    upload,
)

pytestmark = pytest.mark.e2e

OTHER = "127.0.0.2"  # another client on this machine
SLOW = (
    f"POST /caption HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n"
    f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
).encode() + HEAD


@contextmanager
def trickling(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Uploads of another client, of which a byte comes now and then until they are closed."""
    socks = [server.open(SLOW, source=OTHER) for _ in range(count)]
    done = threading.Event()

    def trickle() -> None:
        while not done.wait(0.1):
            for sock in socks:
                try:
                    sock.send(b"-")
                except OSError:
                    continue

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield socks
    finally:
        done.set()
        thread.join()
        for sock in socks:
            sock.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("slow_uploads"),
        repository,
        body_idle_timeout_seconds=3.0,
        fake_batch_seconds=1.0,
        max_batch_size=2,
        max_queue_size=4,
        max_upload_bytes=100_000,
        max_upload_memory_bytes=200_000,
        max_uploads=8,
    ) as server:
        yield server


def test_slow_uploads_of_one_client_keep_nobody_out_and_are_cut(server: Server, png: bytes) -> None:
    with trickling(server, 64) as slow:
        eventually(lambda: server.metric("glimpse_uploads_arriving") == 4)  # half of the places
        assert server.caption(png)[0] == 200
        results = [read_to_end(sock) for sock in slow]
        kinds = sorted((status, problem["type"]) for status, problem in results)
        assert (
            kinds
            == [(408, "/problems/body-too-slow")] * 4 + [(503, "/problems/too-many-uploads")] * 60
        )
        details = {problem["detail"] for _, problem in results}
        assert "The request's body arrived more slowly than 1000 bytes a second." in details
        assert server.metric("glimpse_uploads_arriving") == 0
        assert server.metric("glimpse_upload_memory_bytes") == 0


def test_uploads_that_wait_leave_their_places_and_reach_the_queues_limit(
    server: Server, png: bytes
) -> None:
    answers: list[bytes] = []

    def send() -> None:
        with server.open(upload(png, "Connection: close")) as sock:
            answers.append(read_all(sock))

    def is_refused() -> bool:
        return any(b'"/problems/queue-full"' in answer for answer in answers)

    with ThreadPoolExecutor(64) as pool:
        for _ in range(64):
            pool.submit(send)
            eventually(lambda: server.metric("glimpse_uploads_arriving") == 0 or is_refused())
            if is_refused():
                break
    assert is_refused()
    assert not any(b"uploads are being received" in answer for answer in answers)
    eventually(lambda: server.metric("glimpse_upload_memory_bytes") == 0)


def test_uploads_beyond_the_memory_for_them_are_refused_and_the_others_answered(
    server: Server, png: bytes
) -> None:
    slow = SLOW.replace(b"5000", b"90000") + bytes(80_000)
    with server.open(slow, source=OTHER), server.open(slow, source="127.0.0.3"):
        eventually(lambda: server.metric("glimpse_upload_memory_bytes") > 160_000)
        with server.connect("Content-Length: 50000") as sock:
            status, problem = read_to_end(sock)
        assert (status, problem["type"]) == (503, "/problems/upload-memory-full")
        with server.connect("Transfer-Encoding: chunked") as sock:  # which announces nothing
            sock.sendall(b"c350\r\n" + HEAD + bytes(50_000 - len(HEAD)) + b"\r\n")
            status, problem = read_to_end(sock)
        assert (status, problem["type"]) == (503, "/problems/upload-memory-full")
        assert server.caption(png)[0] == 200
    eventually(lambda: server.metric("glimpse_upload_memory_bytes") == 0)
