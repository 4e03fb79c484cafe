"""Fetching from hostile servers on real sockets: each attack has its answer, and the fetcher goes
on."""

import asyncio
import gzip
import logging
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from app.core.errors import (
    TooManyFetchesError,
    UrlError,
    UrlNotAnImageError,
    UrlRefusedError,
    UrlStatusError,
    UrlTimeoutError,
    UrlTooLargeError,
    UrlUnreachableError,
)
from app.core.metrics import Metrics
from app.fetch.fetcher import ImageFetcher
from tests.unit.hostile_server import (
    WAIT_SECONDS,
    Answer,
    eventually,
    fetcher_for,
    forever,
    ok,
    saying,
    serving,
    silent,
)

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def fetch(answer: Answer, **options: Any) -> tuple[bytes | UrlError, list[str]]:
    """Fetch once from such a server; give what came of it, and what it was asked."""

    async def scenario() -> tuple[bytes | UrlError, list[str]]:
        async with serving(answer) as server:
            fetcher = fetcher_for(server.port, **options)
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    found: bytes | UrlError = await fetcher.fetch(
                        f"http://127.0.0.1:{server.port}/a.jpg?key=secret"
                    )
            except UrlError as error:
                found = error
            await eventually(lambda: server.open == 0)  # no connection is left behind
            return found, server.heads

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        saying(ok(b"picture", "Content-Type: image/jpeg")),
        saying(ok(b"picture", "Content-Type: application/octet-stream")),
        saying(ok(b"picture", "Content-Type: IMAGE/PNG; q=1", "Content-Encoding: identity")),
        saying(ok(b"picture")),
        saying(CHUNKED, b"3\r\npic\r\n", b"4\r\nture\r\n0\r\n\r\n"),
        saying(HEAD + b"\r\n", b"pict", b"ure"),
        saying(b"HTTP/1.1 103 Early Hints\r\n\r\n", ok(b"picture")),
    ],
)
def test_fetch_of_a_picture_gives_its_bytes(answer: Answer) -> None:
    found, heads = fetch(answer)
    assert found == b"picture"
    assert len(heads) == 1


def test_fetch_sends_nothing_that_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    found, (head,) = fetch(saying(ok(b"picture")))
    assert found == b"picture"
    line, *headers = head.strip().split("\r\n")
    assert line == "GET /a.jpg?key=secret HTTP/1.1"
    assert sorted(header.split(":")[0].lower() for header in headers) == [
        "accept",
        "accept-encoding",
        "connection",
        "host",
        "user-agent",
    ]
    assert "Accept-Encoding: identity" in headers


BAD: dict[str, tuple[Answer, type[UrlError], str]] = {
    "404": (saying(ok(b"", status="404 Not Found")), UrlStatusError, "answered 404"),
    "204": (saying(ok(b"", status="204 No Content")), UrlStatusError, "answered 204"),
    "206": (saying(ok(b"a", status="206 Partial Content")), UrlStatusError, "answered 206"),
    "401": (saying(ok(b"", status="401 Unauthorized")), UrlStatusError, "answered 401"),
    "101": (
        saying(ok(b"", status="101 Switching Protocols")),
        UrlUnreachableError,
        "does not answer in HTTP",
    ),
    "redirect to nowhere": (saying(ok(b"", status="302 Found")), UrlStatusError, "answered 302"),
    "page": (saying(ok(b"<html>", "Content-Type: text/html")), UrlNotAnImageError, "'text/html'"),
    "gzip bomb": (
        saying(ok(gzip.compress(bytes(10_000_000)), "Content-Encoding: gzip")),
        UrlNotAnImageError,
        "compressed",
    ),
    "transfer encoding": (
        saying(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        UrlUnreachableError,
        "does not answer in HTTP",
    ),
    "announced too large": (
        silent(ok(b"", "Content-Length: 100001")),  # not a byte of the body is sent
        UrlTooLargeError,
        "larger than 100000 bytes",
    ),
    "announced absurdly large": (
        silent(ok(b"", "Content-Length: 99999999999999999")),
        UrlTooLargeError,
        "larger than 100000 bytes",
    ),
    "length of a thousand digits": (
        saying(ok(b"", "Content-Length: " + "9" * 5000)),
        UrlUnreachableError,
        "does not answer in HTTP",
    ),
    "length of letters": (
        saying(ok(b"", "Content-Length: many")),
        UrlUnreachableError,
        "does not answer in HTTP",
    ),
    "endless body": (forever(HEAD + b"\r\n", bytes(9000)), UrlTooLargeError, "larger than 100000"),
    "endless chunks": (
        forever(CHUNKED, b"1000\r\n" + bytes(4096) + b"\r\n"),
        UrlTooLargeError,
        "larger than 100000",
    ),
    "body shorter than announced": (
        saying(ok(b"pict", "Content-Length: 7")),
        UrlUnreachableError,
        "broke off",
    ),
    "broken off within chunks": (saying(CHUNKED + b"7\r\npict"), UrlUnreachableError, "broke off"),
    "chunk of no size": (saying(CHUNKED + b"x\r\n"), UrlUnreachableError, "does not answer in"),
    "endless head": (forever(HEAD, b"X-A: b\r\n" * 500), UrlUnreachableError, "does not answer"),
    "endless header": (forever(HEAD + b"X-A: ", b"b" * 9000), UrlUnreachableError, "HTTP"),
    "nothing": (saying(), UrlUnreachableError, "broke off"),
    "noise": (saying(bytes(range(256)) * 9), UrlUnreachableError, "does not answer in HTTP"),
    "greeting of another protocol": (
        saying(b"220 mail.test ESMTP\r\n"),
        UrlUnreachableError,
        "does not answer in HTTP",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_fetch_from_a_server_that_misbehaves_ends_with_the_reason(name: str) -> None:
    answer, error, said = BAD[name]
    found, heads = fetch(answer)
    assert type(found) is error
    assert said in str(found)
    assert "secret" not in str(found)
    assert len(heads) == 1


def test_fetch_of_a_body_longer_than_announced_reads_what_was_announced() -> None:
    found, _ = fetch(forever(ok(b"picture"), b"more", pause_seconds=0.01))
    assert found == b"picture"


@pytest.mark.parametrize(
    "answer",
    [
        silent(),
        silent(HEAD),
        silent(ok(b"pict", "Content-Length: 7")),
        forever(HEAD + b"\r\n", b"a", pause_seconds=0.02),
        forever(HEAD, b"X", pause_seconds=0.02),
        forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause_seconds=0.001),
    ],
)
def test_fetch_that_is_slow_or_never_ends_is_cut(answer: Answer) -> None:
    found, _ = fetch(answer, timeout_seconds=0.3)
    assert isinstance(found, UrlTimeoutError)
    assert "0.3 seconds" in str(found)


def test_fetch_from_a_host_that_takes_no_connection_is_cut() -> None:
    async def scenario() -> None:
        with ExitStack() as sockets:
            full = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            port = full.getsockname()[1]
            for _ in range(4):  # the queue is full: nobody's hand is shaken any more
                waiting = sockets.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            with pytest.raises(UrlTimeoutError):
                await fetcher_for(port, timeout_seconds=0.3).fetch(f"http://127.0.0.1:{port}/")

    asyncio.run(scenario())


def test_fetch_from_a_closed_port_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UrlUnreachableError, match="did not take the connection"):
        asyncio.run(fetcher_for(port).fetch(f"http://127.0.0.1:{port}/"))


# -- how many, how long, and what is told ----


def test_fetches_beyond_the_most_are_refused_at_once_and_a_place_comes_back() -> None:
    async def scenario() -> None:
        metrics = Metrics()
        async with serving(silent()) as server:
            fetcher = fetcher_for(server.port, max_fetches=2, metrics=metrics)
            url = f"http://127.0.0.1:{server.port}/"
            running = [asyncio.create_task(fetcher.fetch(url)) for _ in range(2)]
            await eventually(lambda: len(server.heads) == 2)
            with pytest.raises(TooManyFetchesError, match="2 pictures are being fetched"):
                await fetcher.fetch(url)
            running[0].cancel()  # as when its client hangs up
            await asyncio.gather(running[0], return_exceptions=True)
            await fails_as_unreachable(fetcher)
            running[1].cancel()
            await asyncio.gather(running[1], return_exceptions=True)
        counted = metrics.render().decode()
        assert 'glimpse_fetches_total{outcome="busy"} 1.0' in counted
        assert 'glimpse_fetches_total{outcome="dropped"} 2.0' in counted
        assert 'glimpse_fetches_total{outcome="refused"} 1.0' in counted

    asyncio.run(scenario())


async def fails_as_unreachable(fetcher: ImageFetcher) -> None:
    with pytest.raises(UrlRefusedError):
        await fetcher.fetch("http://127.0.0.9/")


def test_fetch_whose_caller_goes_closes_its_connection() -> None:
    closed = asyncio.Event()

    async def scenario() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            assert await reader.read() == b""
            writer.close()
            closed.set()

        asked = asyncio.Event()
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        fetching = asyncio.create_task(fetcher_for(port).fetch(f"http://127.0.0.1:{port}/"))
        async with asyncio.timeout(20):
            await asked.wait()
            fetching.cancel()
            await closed.wait()
        server.close()

    asyncio.run(scenario())


def test_log_has_the_host_and_the_outcome_and_never_the_rest_of_the_url(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, logger="app.fetch"):
        fetch(saying(ok(b"", status="404 Not Found")))
    record = next(each for each in caplog.records if each.getMessage() == "fetch: wrong status")
    assert record.__dict__["host"] == "127.0.0.1"
    ours = [vars(each) for each in caplog.records if each.name.startswith("app.")]
    assert ours
    assert "secret" not in str(ours)
