"""A server that answers as badly as it is told to, on a loopback address; and what the tests of
fetching share."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from app.core.metrics import Metrics
from app.fetch.fetcher import FetchLimits, ImageFetcher
from app.fetch.policy import FetchPolicy

WAIT_SECONDS = 20.0

Answer = Callable[[str], AsyncIterator[bytes]]
"""From a path to the pieces that are sent; a piece is sent when the one before it has left."""


@dataclass
class Hostile:
    """A running server, and what came to it."""

    port: int
    heads: list[str] = field(default_factory=list)
    open: int = 0


@asynccontextmanager
async def serving(
    answer: Answer, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Hostile]:
    hostile = Hostile(port)
    handling: set[asyncio.Task[None]] = set()

    async def send(writer: asyncio.StreamWriter, head: str) -> None:
        async for piece in answer(head.split()[1]):
            writer.write(piece)
            await writer.drain()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        hostile.open += 1
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            hostile.heads.append(head)
            sending = asyncio.create_task(send(writer, head))
            gone = asyncio.create_task(reader.read())
            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
            for each in (sending, gone):
                each.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
        hostile.open -= 1
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, host, port, ssl=tls)
    hostile.port = server.sockets[0].getsockname()[1]
    try:
        yield hostile
    finally:
        server.close()
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.gather(*handling, return_exceptions=True)


def saying(*pieces: bytes) -> Answer:
    """The same answer at every path."""

    async def answer(_path: str) -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return answer


def forever(first: bytes, piece: bytes, *, pause_seconds: float = 0.0) -> Answer:
    """An answer that does not end."""

    async def answer(_path: str) -> AsyncIterator[bytes]:
        yield first
        while True:
            yield piece
            await asyncio.sleep(pause_seconds)

    return answer


def silent(first: bytes = b"") -> Answer:
    """An answer that stops, while the connection stays."""

    async def answer(_path: str) -> AsyncIterator[bytes]:
        yield first
        await asyncio.Event().wait()

    return answer


def ok(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole answer with an honest length, unless a header says another."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if not any(line.lower().startswith(("content-length", "transfer-e")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return ok(b"", f"Location: {location}", status=status)


class Names:
    """A resolver that answers what it is told, and keeps what it was asked.

    Each name has a list of answers: one for each time that it is asked, the last one for ever.
    """

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        if host not in self._answers:
            raise OSError("unknown")
        answers = self._answers[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


def fetcher_for(
    *ports: int, networks: Iterable[str] = ("127.0.0.1/32",), **options: Any
) -> ImageFetcher:
    """A fetcher that may reach a test's server, and is otherwise as the settings make it."""
    policy = FetchPolicy(
        ports=frozenset(ports),
        allowed_hosts=options.pop("allowed_hosts", ()),
        private_networks=tuple(map(ip_network, networks)),
    )
    limits = FetchLimits(
        max_bytes=options.pop("max_bytes", 100_000),
        timeout_seconds=options.pop("timeout_seconds", WAIT_SECONDS),
        max_fetches=options.pop("max_fetches", 4),
    )
    return ImageFetcher(policy, limits, metrics=options.pop("metrics", Metrics()), **options)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)
