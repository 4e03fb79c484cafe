"""A TimeoutError that something raises by itself is not taken for the end of a request's time."""

import asyncio
from collections.abc import Sequence

import httpx
import pytest

from app.core.errors import RequestTimeoutError, UrlTimeoutError
from app.core.metrics import Metrics
from app.fetch.transport import PinnedTransport
from models.caption import Caption
from models.config import DecodingOptions
from models.memory import MemoryUse
from models.preprocessing import PreparedImage
from tests.unit.hostile_server import fetcher_for, forever, ok, saying, serving
from tests.unit.toy_engine import DEFAULT, Shelf, Sized, ask, run, running

SLOW_DEVICE = 77


class Impatient(Sized):
    """Gives up on images of one red, as a runtime does whose device does not answer."""

    def __init__(self) -> None:
        super().__init__(DEFAULT, MemoryUse(50, {}))

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        if any(int(image.pixels[0].max()) == SLOW_DEVICE for image in images):
            raise TimeoutError("the device did not answer")
        return super().caption(images, options)


def test_timeout_that_a_captioner_raises_is_its_own_fault_not_the_end_of_the_requests_time() -> (
    None
):
    async def scenario() -> None:
        shelf = Shelf()
        shelf.captioners[DEFAULT] = Impatient()
        async with running(shelf) as engine:
            with pytest.raises(TimeoutError, match="the device did not answer"):
                await ask(engine, None, SLOW_DEVICE)
            assert (await ask(engine, None, 1)).caption.hypotheses

    run(scenario())


def test_deadline_that_passes_is_told_as_one() -> None:
    async def scenario() -> None:
        shelf = Shelf()
        async with running(shelf, request_timeout_seconds=0.2) as engine:
            shelf.captioners[DEFAULT].may_caption.clear()
            with pytest.raises(RequestTimeoutError, match=r"within 0\.2 seconds"):
                await ask(engine, None)
            shelf.captioners[DEFAULT].may_caption.set()

    run(scenario())


def test_timeout_that_a_fetch_raises_by_itself_is_not_told_as_a_slow_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics = Metrics()

    async def gives_up(*_: object) -> httpx.Response:
        raise TimeoutError("no turn came")

    async def scenario() -> None:
        async with serving(saying(ok(b"picture"))) as hostile:
            fetcher = fetcher_for(hostile.port, metrics=metrics)
            url = f"http://127.0.0.1:{hostile.port}/a.png"
            with monkeypatch.context() as patch:
                patch.setattr(PinnedTransport, "handle_async_request", gives_up)
                with pytest.raises(TimeoutError, match="no turn came"):
                    await fetcher.fetch(url)
            assert await fetcher.fetch(url) == b"picture"
        endless = forever(b"HTTP/1.1 200 OK\r\n\r\n", b"a", pause_seconds=0.01)
        async with serving(endless) as hostile:
            with pytest.raises(UrlTimeoutError):
                await fetcher_for(hostile.port, timeout_seconds=0.2).fetch(
                    f"http://127.0.0.1:{hostile.port}/a.png"
                )

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert metrics.registry.get_sample_value("glimpse_fetches_total", {"outcome": "failed"}) == 1
