"""A decoder process by itself: what it loads, what it may take, and when it ends."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.engine.decode_protocol import (
    Decoded,
    Failed,
    FrameError,
    Grant,
    Job,
    Opened,
    encode_frame,
    parse_head,
    parse_message,
)
from app.engine.decoder_process import DecoderEndedError, DecoderProcess, EndReason
from models.errors import OutOfMemoryError
from models.preprocessing import DecodeLimits
from tests.unit.image_files import encoded
from tests.unit.toy_decoders import ANSWERED_SECONDS, is_alive, slow_file, small_file, until

JOB = Job(64, "bicubic", DecodeLimits())


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * ANSWERED_SECONDS))


@asynccontextmanager
async def started(timeout_seconds: float = ANSWERED_SECONDS) -> AsyncIterator[DecoderProcess]:
    process = await DecoderProcess.start(timeout_seconds)
    try:
        yield process
    finally:
        process.kill(EndReason.stopped)
        await process.wait()


def test_worker_loads_nothing_that_it_does_not_need() -> None:
    program = "import sys, app.engine.decode_worker; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"PIL", "numpy"} <= loaded
    assert not loaded & {"torch", "torchvision", "fastapi", "uvicorn", "pydantic", "asyncio"}


def test_worker_decode_that_needs_more_than_it_was_granted_fails_alone() -> None:
    large = encoded(Image.new("RGBA", (6000, 6000)), "PNG")  # 144 MB of pixels

    async def scenario() -> None:
        async with started() as process:
            opened, _ = await process.ask(JOB, large)
            assert isinstance(opened, Opened)
            answer, _ = await process.ask(Grant(1_000_000))
            assert isinstance(answer, Failed)
            assert isinstance(answer.exception(), OutOfMemoryError)
            await process.ask(JOB, large)
            answer, _ = await process.ask(Grant(opened.peak_bytes), max_payload_bytes=100_000)
            assert isinstance(answer, Decoded)
            assert not process.is_ending

    run(scenario())


def test_worker_under_a_limit_of_the_system_leaves_it_as_it_is() -> None:
    most_bytes = 4_000_000_000

    async def scenario() -> None:
        async with started() as process:
            resource.prlimit(process.pid, resource.RLIMIT_AS, (most_bytes, most_bytes))
            for granted_bytes in (1_000_000, 100_000_000_000):
                await process.ask(JOB, small_file())
                answer, _ = await process.ask(Grant(granted_bytes), max_payload_bytes=100_000)
                assert isinstance(answer, Decoded)
                now, most = resource.prlimit(process.pid, resource.RLIMIT_AS)
                assert (now <= most, most) == (True, most_bytes)
                assert resource.prlimit(process.pid, resource.RLIMIT_CORE)[0] == 0

    run(scenario())


def test_worker_gives_back_what_a_large_decode_took() -> None:
    large = encoded(Image.new("RGBA", (5000, 5000)), "PNG")

    async def scenario() -> None:
        async with started() as process:
            before = _resident_bytes(process.pid)
            for _ in range(3):
                opened, _ = await process.ask(JOB, large)
                assert isinstance(opened, Opened)
                await process.ask(Grant(opened.peak_bytes), max_payload_bytes=100_000)
            await until(lambda: _resident_bytes(process.pid) < before + 20_000_000)

    run(scenario())


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_worker_answers_that_are_larger_than_expected_end_it() -> None:
    async def scenario() -> None:
        async with started() as process:
            await process.ask(JOB, small_file())
            with pytest.raises(DecoderEndedError) as ended:
                await process.ask(Grant(10_000_000), max_payload_bytes=100)
            assert ended.value.reason is EndReason.failed
            await until(lambda: not is_alive(process.pid))

    run(scenario())


_SERVICE = """
import asyncio
from app.engine.decode_protocol import Grant, Job
from app.engine.decoder_process import DecoderProcess
from models.preprocessing import DecodeLimits
from tests.unit.toy_decoders import slow_file

async def serve():
    process = await DecoderProcess.start(1.0)
    print(process.pid, flush=True)
    if input() == "decode":
        await process.ask(Job(64, "bicubic", DecodeLimits()), slow_file())
        print("decoding", flush=True)
        await process.ask(Grant(2_000_000_000), max_payload_bytes=100_000)

asyncio.run(serve())
"""


@pytest.mark.parametrize("state", ["idle", "decoding", "stopped"])
def test_worker_whose_service_is_killed_ends(state: str, repository: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SERVICE],
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        pid = int(service.stdout.readline())
        if state == "decoding":
            service.stdin.write("decode\n")
            service.stdin.flush()
            assert service.stdout.readline() == "decoding\n"
        elif state == "stopped":
            os.kill(pid, signal.SIGSTOP)
        service.kill()
    if state == "stopped":
        os.kill(pid, signal.SIGCONT)
    asyncio.run(until(lambda: not is_alive(pid)))


def test_worker_ends_a_decode_that_outlives_its_time_by_itself() -> None:
    async def scenario() -> None:
        async with started(timeout_seconds=-4.9) as process:  # a tenth of a second with its grace
            await process.ask(JOB, slow_file())
            with pytest.raises(DecoderEndedError) as ended:
                await process.ask(Grant(2_000_000_000), max_payload_bytes=100_000)
            assert ended.value.reason is EndReason.too_slow

    run(scenario())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"kind": "Exit"}',
        b'{"kind": "Grant"}',
        b'{"kind": "Grant", "memory_bytes": 1, "more": 2}',
        b'{"kind": "Job", "side_pixels": 1, "resample": null, "limits": 3}',
        b"\xff\xfe",
    ],
)
def test_protocol_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        parse_message(body)


def test_protocol_message_comes_out_as_it_went_in() -> None:
    for message in (JOB, Job(5, None, DecodeLimits(max_pixels=3)), Grant(7), Failed("a", "b", [])):
        frame = encode_frame(message, 11)
        json_bytes, payload_bytes = parse_head(frame[:12], max_payload_bytes=11)
        assert payload_bytes == 11
        assert parse_message(frame[12 : 12 + json_bytes]) == message
        with pytest.raises(FrameError):
            parse_head(frame[:12], max_payload_bytes=10)
