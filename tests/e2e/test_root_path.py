"""The service behind a real proxy that shows it under a path of its host."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.e2e.browser import execute_in_browser
from tests.e2e.page import chromium, photo, visiting
from tests.e2e.server import WAIT_SECONDS, Server, serving

pytestmark = pytest.mark.e2e

PREFIX = "/captioner"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Strips the prefix from each request's target and passes the rest on, both ways."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._remember(asyncio.current_task())
        async with closing_stream(writer):
            first = await reader.readline()
            if not first.split(b" ")[1:2] or not first.split(b" ")[1].startswith(PREFIX.encode()):
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            async with closing_stream(up_writer):
                head = first.replace(PREFIX.encode(), b"", 1)
                host = f"X-Forwarded-Host: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
                up_writer.write(head + host.encode())
                await self._both_ways((reader, up_writer), (up_reader, writer))

    def _remember(self, task: "asyncio.Task[None] | None") -> None:
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _both_ways(self, there: Streams, back: Streams) -> None:
        """Pass on what comes until the answer ends."""
        sending = asyncio.create_task(self.pipe(*there))
        try:
            await self.pipe(*back)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()

    async def run(self, started: threading.Event, stop: asyncio.Event) -> None:
        """Serve until `stop`, then close every connection that a browser still holds."""
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        async with server:
            await stop.wait()
            server.close()
            held = list(self._tasks)
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)


@asynccontextmanager
async def closing_stream(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Leave no transport behind, however the block ends; a peer that is gone is none of ours."""
    try:
        yield
    except OSError:
        pass
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@contextmanager
def proxying(server: Server) -> Iterator[str]:
    """The proxy in a thread of its own; gives the address under which it shows the service."""
    proxy = Proxy(server.port)
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(proxy.run(started, stop)))
    thread.start()
    try:
        assert started.wait(WAIT_SECONDS)
        yield f"http://127.0.0.1:{proxy.port}{PREFIX}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("root_path")
    with serving(folder, repository, root_path=PREFIX) as server, proxying(server) as address:
        yield address


def unreadable_request(address: str) -> dict[str, str]:
    """The problem of a request that never reaches the application."""
    request = Request(f"{address}/caption", b"a", {"Transfer-Encoding": "chunked"}, method="POST")
    request.add_unredirected_header("Content-Length", "1")
    with pytest.raises(HTTPError) as caught:
        urlopen(request, timeout=WAIT_SECONDS)
    with caught.value as error:
        problem: dict[str, str] = json.load(error)
    return problem


def test_problem_behind_a_proxy_leads_back_through_it(address: str) -> None:
    with pytest.raises(HTTPError) as caught:
        urlopen(Request(f"{address}/caption", method="POST"), timeout=WAIT_SECONDS)
    with caught.value as error:
        problem = json.load(error)
    assert problem["type"] == f"{PREFIX}/problems/missing-image"
    assert f"{address}/caption" in problem["detail"]
    assert unreadable_request(address)["type"] == f"{PREFIX}/problems/malformed-request"
    host = address.removesuffix(PREFIX)
    with urlopen(host + problem["type"], timeout=WAIT_SECONDS) as response:
        assert json.load(response)["type"] == problem["type"]


def test_page_behind_a_proxy_captions_through_it(address: str, tmp_path: Path) -> None:
    with chromium() as browser, visiting(browser, f"{address}/") as visit:
        visit.give(photo(tmp_path / "a.png"))
        assert visit.sentence().startswith("a red ")
        visit.page.locator(".curl summary").click()
        assert f"'{address}/attention?" in visit.page.locator(".code code").inner_text()
        visit.page.get_by_role("link", name="API").click()
        assert visit.page.url == f"{address}/docs"
        visit.page.wait_for_selector(".swagger-ui .info")


def test_docs_page_behind_a_proxy_executes_requests_through_it(
    address: str, tmp_path: Path, png: bytes
) -> None:
    visit = execute_in_browser(f"{address}/docs", png, tmp_path)
    assert '"caption"' in visit.shown
    assert visit.complaints == []
    assert visit.asked_elsewhere(f"{address}/") == set()
