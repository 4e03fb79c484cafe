"""The line for memory of the decoder processes: never overdrawn, no process held in it, and nobody
in it for ever."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from PIL import Image

from app.engine import byte_budget
from models.errors import ImageTooLargeError
from models.preprocessing import open_image
from tests.unit.image_files import encoded
from tests.unit.toy_decoders import (
    SQUEEZE,
    Decoders,
    begin,
    children,
    decode,
    decoding,
    result_of,
    run,
    slow_file,
    small_file,
    until,
)

RESTARTS = "glimpse_decoder_restarts_total"


def test_pool_image_that_takes_more_memory_than_there_is_is_refused() -> None:
    async def scenario() -> None:
        async with decoding(memory_bytes=20_000_000) as decoders:
            (pid,) = await decoders.all_alive(1)
            large = encoded(Image.new("RGBA", (3000, 3000)), "PNG")
            with pytest.raises(ImageTooLargeError, match=r"takes about \d+ MB .* there are 20 MB"):
                await decode(decoders, large)
            assert await decode(decoders, small_file()) == "PNG"
            assert children() == {pid}

    run(scenario())


def test_pool_image_that_finds_no_memory_waits_for_the_others() -> None:
    async def scenario() -> None:
        async with decoding() as decoders:
            first = begin(decoders, slow_file())
            await until(lambda: decoders.metric("glimpse_decode_memory_bytes") > 10_000_000)
            needed_bytes = int(decoders.metric("glimpse_decode_memory_bytes"))
            await first
        async with decoding(processes=2, memory_bytes=needed_bytes) as decoders:
            await decoders.all_alive(2)
            first = begin(decoders, slow_file())
            await until(lambda: decoders.metric("glimpse_decode_memory_bytes") == needed_bytes)
            second = begin(decoders, small_file())
            gone = begin(decoders, small_file())
            await until(lambda: decoders.metric("glimpse_decode_waiting") == 2)
            gone.cancel()
            assert not second.done()
            assert await first == "JPEG"
            assert await second == "PNG"
            assert decoders.metric("glimpse_decode_memory_bytes") == 0

    run(scenario())


@asynccontextmanager
async def large_ones_waiting() -> AsyncIterator[tuple[Decoders, list[asyncio.Task[str]], int]]:
    """Two processes, one of which is stopped with a little memory, and two images that wait for
    all there is; the stopped one goes on in the end."""
    large = encoded(Image.new("RGBA", (3000, 3000)), "PNG")
    memory_bytes = open_image(large, side_pixels=SQUEEZE.size_pixels).peak_bytes
    async with decoding(processes=2, memory_bytes=memory_bytes) as decoders:
        stopped, working = await decoders.all_alive(2)
        for pid in (stopped, working):
            os.kill(pid, signal.SIGSTOP)
        small = [begin(decoders, small_file()) for _ in range(2)]
        await until(decoders.none_idle)
        os.kill(working, signal.SIGCONT)
        await until(lambda: any(each.done() for each in small))
        waiting = [begin(decoders, large) for _ in range(2)]
        await until(lambda: decoders.metric("glimpse_decode_waiting") == 2)
        yield decoders, waiting, stopped
        os.kill(stopped, signal.SIGCONT)
        assert {await each for each in (*small, *waiting)} == {"PNG"}


def test_pool_images_that_wait_for_memory_hold_no_process_and_small_ones_overtake_them() -> None:
    async def scenario() -> None:
        async with large_ones_waiting() as (decoders, waiting, _):
            assert [await decode(decoders, small_file()) for _ in range(5)] == ["PNG"] * 5
            assert not any(each.done() for each in waiting)

    run(scenario())


def test_pool_image_that_was_overtaken_as_often_as_may_be_comes_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        order: list[str] = []
        async with large_ones_waiting() as (decoders, waiting, stopped):
            monkeypatch.setattr(byte_budget, "MOST_OVERTAKING", 3)
            before = waiting[0]
            late = begin(decoders, small_file())
            while decoders.metric("glimpse_decode_waiting") != 3:
                if late.done():
                    order.append("small")
                    late = begin(decoders, small_file())
                await asyncio.sleep(0)
            assert len(order) <= 3
            before.add_done_callback(lambda _: order.append("large"))
            late.add_done_callback(lambda _: order.append("late"))
            os.kill(stopped, signal.SIGCONT)
            assert await late == "PNG"
        assert order.index("large") < order.index("late")

    run(scenario())


def test_pool_image_that_nobody_wants_any_more_gives_up_its_place_in_the_line_for_memory() -> None:
    async def scenario() -> None:
        async with large_ones_waiting() as (decoders, waiting, _):
            gone = waiting.pop(0)
            gone.cancel()
            assert isinstance(await result_of(gone), asyncio.CancelledError)
            await until(lambda: decoders.metric("glimpse_decode_waiting") == 1)
            assert decoders.metric(RESTARTS, reason="abandoned") == 0

    run(scenario())


def test_pool_small_images_decoded_at_once_take_no_more_memory_than_there_is() -> None:
    async def scenario() -> None:
        async with decoding(processes=2, memory_bytes=12_000_000) as decoders:
            stopped = await decoders.all_alive(2)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            answers = [begin(decoders, small_file()) for _ in range(3)]
            await until(lambda: decoders.metric("glimpse_decode_waiting") == 1)
            assert 0 < decoders.metric("glimpse_decode_memory_bytes") <= 12_000_000
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            assert [await each for each in answers] == ["PNG"] * 3
            assert decoders.metric("glimpse_decode_memory_bytes") == 0

    run(scenario())
