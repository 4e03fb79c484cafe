"""Connections that ask for nothing: they end, they keep nobody out, and they fill no log."""

import os
import re
import resource
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.server import (
    WAIT_SECONDS,
    Server,
    eventually,
    read_all,
    read_to_end,
    serving_within,
    upload,
)

pytestmark = pytest.mark.e2e

HALF = b"POST /caption HTTP/1.1\r\nHost: a\r\nX-Half: "
WRITE_TIMEOUT_SECONDS = 0.5  # of the guarded server
CUT = 'glimpse_connections_cut_total{reason="%s"}'


@pytest.fixture
def server(guarded_server: Server) -> Server:
    return guarded_server


def test_half_a_head_is_answered_408_and_nothing_is_closed_silently(server: Server) -> None:
    with server.open() as silent, server.open(HALF) as half, server.open() as next_half:
        next_half.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert next_half.recv(12) == b"HTTP/1.1 200"
        next_half.sendall(HALF)  # a second request's, on a connection that was in use
        assert read_all(silent) == b""
        status, problem = read_to_end(half)
        assert (status, problem["type"]) == (408, "/problems/head-too-slow")
        assert "within 1 seconds" in problem["detail"]
        assert b"HTTP/1.1 408" in read_all(next_half)


def test_head_that_trickles_is_answered_408(server: Server) -> None:
    with server.open(HALF) as sock:
        sock.settimeout(0.1)
        received = b""
        while not received:
            sock.sendall(b"-")
            try:
                received = sock.recv(12)
            except TimeoutError:
                continue
        assert received == b"HTTP/1.1 408"


def test_flood_of_idle_connections_keeps_nobody_out(server: Server, png: bytes) -> None:
    with ExitStack() as stack:
        flood = [
            stack.enter_context(server.open(HALF if index % 2 else b"")) for index in range(240)
        ]
        assert server.get("/healthz") == '{"status":"alive"}'
        assert server.caption(png)[0] == 200
        assert server.metric("glimpse_connections") <= 16
        assert server.metric(CUT % "made-room") >= 240 - 16
        flood[0].settimeout(20)
        assert flood[0].recv(1) == b""  # the oldest made room
    eventually(lambda: server.metric("glimpse_connections") == 1)  # the one that asks
    assert server.log.stat().st_size < 100_000


def test_connection_beyond_all_busy_ones_is_answered_503_unless_it_is_a_probe(
    server: Server, png: bytes
) -> None:
    waits = b"POST /caption HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n"
    waits += b"Content-Type: multipart/form-data; boundary=a\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(16):
            busy = stack.enter_context(server.open(waits))
            assert busy.recv(12) == b"HTTP/1.1 100"
        with server.open(b"GET /models HTTP/1.1\r\nHost: a\r\n\r\n") as sock:
            status, problem = read_to_end(sock)
        assert (status, problem["type"]) == (503, "/problems/too-many-connections")
        for _ in range(50):  # idle ones, which may not keep the probes out either
            stack.enter_context(server.open())
        assert server.get("/healthz") == '{"status":"alive"}'
        assert server.metric("glimpse_connections") <= 16 + 16
    eventually(lambda: server.caption(png)[0] == 200)


def test_process_without_descriptors_logs_little_and_answers_all_the_same(
    tmp_path: Path, repository: Path, png: bytes
) -> None:
    limit = ("bash", "-c", 'ulimit -Sn 150; ulimit -Hn 200; exec "$@"', "bash")
    with serving_within(limit, tmp_path, repository) as server:
        assert "raised the limit of open files from 150 to 200" in server.log.read_text()
        assert "GLIMPSE_MAX_CONNECTIONS=1024 is lowered to 100" in server.log.read_text()
        open_files = len(os.listdir(f"/proc/{server.process.pid}/fd"))  # noqa: PTH208
        few = (open_files + 8, open_files + 8)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, few)
        before = server.log.stat().st_size
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(server.open())
            eventually(lambda: "cannot accept a connection" in server.log.read_text())
            assert server.caption(png)[0] == 200  # in the middle of it
        assert server.caption(png)[0] == 200
        assert server.log.stat().st_size - before < 10_000
        with server.open(), server.open(HALF), server.open(b"no HTTP\r\n\r\n") as refused:
            assert refused.recv(12) == b"HTTP/1.1 400"
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(WAIT_SECONDS) == 0
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("requests", [1, 2])
def test_client_that_closes_its_sending_half_is_answered(
    server: Server, png: bytes, requests: int
) -> None:
    with server.open(upload(png) * requests) as sock:
        sock.shutdown(socket.SHUT_WR)
        received = read_all(sock)
    assert received.count(b"HTTP/1.1 200") == requests
    assert received.count(b'"caption"') == requests


def test_client_of_http_1_0_that_closes_its_sending_half_is_answered_without_ado(
    server: Server,
) -> None:
    with server.open(b"GET /healthz HTTP/1.0\r\n\r\n") as sock:
        sock.shutdown(socket.SHUT_WR)
        received = read_all(sock)
    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(b'{"status":"alive"}')


def test_client_that_takes_nothing_of_its_answer_is_cut(server: Server) -> None:
    page = b"GET /static/swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(page * 8)
        eventually(lambda: server.metric(CUT % "write-timeout") == 1)
    eventually(lambda: server.metric("glimpse_http_requests_in_flight") == 1)


def test_client_that_takes_its_answer_slowly_and_steadily_gets_all_of_it(server: Server) -> None:
    page = b"GET /static/swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n"
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(page + b"\r\n" + page + b"Connection: close\r\n\r\n")
        began = time.monotonic()
        received = b""
        while piece := sock.recv(40_000):
            received += piece
            if time.monotonic() - began < 4 * WRITE_TIMEOUT_SECONDS:
                time.sleep(0.05)  # as slow as that, it takes longer than the limit
    lengths = [int(each) for each in re.findall(rb"content-length: (\d+)", received)]
    assert len(lengths) == 2
    assert received.endswith(server.get("/static/swagger-ui/swagger-ui-bundle.js")[-100:].encode())
    assert len(received) > sum(lengths)
