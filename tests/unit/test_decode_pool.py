"""Decoding in processes: what comes out is what would come out here, and each fault is its own
caller's alone."""

import asyncio
import errno
import math
import os
import random
import signal
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.core.errors import (
    DecoderFailedError,
    DecoderLostError,
    NotReadyError,
    StoppingError,
)
from app.engine import decoder_process
from models.errors import (
    GlimpseError,
    ImageCrashError,
    ImageError,
    ImageTooSlowError,
)
from models.preprocessing import DecodeLimits, decode_image, open_image, prepare_image
from tests.unit.image_files import FILES, encoded, textured
from tests.unit.lying_worker import LIES
from tests.unit.toy_decoders import (
    SQUEEZE,
    Decoders,
    begin,
    children,
    decode,
    decoding,
    is_alive,
    result_of,
    run,
    slow_file,
    small_file,
    until,
)

RESTARTS = "glimpse_decoder_restarts_total"


def test_pool_gives_what_decoding_here_gives() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [*FILES.values(), encoded(textured(), "JPEG", exif=exif)]

    async def scenario() -> None:
        async with decoding() as decoders:
            for data in files:
                here = decode_image(data, side_pixels=SQUEEZE.size_pixels)
                expected = prepare_image(here, SQUEEZE)
                prepared = await decoders.pool.prepare(data, SQUEEZE)
                np.testing.assert_array_equal(prepared.pixels, expected.pixels)
                assert prepared.pixels.flags.c_contiguous
                assert (prepared.width, prepared.height) == (expected.width, expected.height)
                assert (prepared.format, prepared.warnings) == (expected.format, expected.warnings)
                picture = decode_image(data, side_pixels=70).rgb
                picture.thumbnail((70, 70))
                shown = await decoders.pool.picture(data, 70)
                np.testing.assert_array_equal(np.asarray(shown), np.asarray(picture))

    run(scenario())


def test_pool_bad_file_gets_the_error_that_it_gets_here() -> None:
    limits = DecodeLimits(max_pixels=20_000, min_side_pixels=20)
    files = [
        b"",
        b"no picture",
        small_file()[:50],
        encoded(Image.new("RGB", (8, 8)), "PNG"),
        encoded(Image.new("RGB", (200, 200)), "PNG"),
    ]

    async def scenario() -> None:
        async with decoding(limits=limits) as decoders:
            (pid,) = await decoders.all_alive(1)
            for data in files:
                with pytest.raises(GlimpseError) as here:
                    decode_image(data, limits=limits)
                with pytest.raises(GlimpseError) as there:
                    await decode(decoders, data)
                assert (there.type, str(there.value)) == (here.type, str(here.value))
                assert isinstance(there.value, ImageError)
            assert children() == {pid}

    run(scenario())


@pytest.mark.parametrize(
    ("fault", "answer", "reason"),
    [
        (signal.SIGKILL, DecoderLostError, "killed"),
        (signal.SIGSEGV, ImageCrashError, "crashed"),
        (signal.SIGABRT, ImageCrashError, "crashed"),
    ],
)
def test_pool_process_that_dies_loses_its_own_image_alone(
    fault: signal.Signals, answer: type[Exception], reason: str
) -> None:
    async def scenario() -> None:
        async with decoding() as decoders:
            lost = begin(decoders, slow_file())
            pid = await decoders.working()
            waiting = [begin(decoders, small_file(value)) for value in range(5)]
            os.kill(pid, fault)
            assert type(await result_of(lost)) is answer
            assert [await each for each in waiting] == ["PNG"] * 5
            assert decoders.metric(RESTARTS, reason=reason) == 1
            assert pid not in await decoders.all_alive(1)

    run(scenario())


def test_pool_idle_process_that_dies_is_replaced_before_anyone_asks() -> None:
    async def scenario() -> None:
        async with decoding(processes=2) as decoders:
            for pid in await decoders.all_alive(2):
                os.kill(pid, signal.SIGKILL)
            await until(lambda: decoders.metric(RESTARTS, reason="killed") == 2)
            assert await decode(decoders, small_file()) == "PNG"

    run(scenario())


def test_pool_process_goes_on_where_the_service_is_asked_to_stop() -> None:
    async def scenario() -> None:
        async with decoding() as decoders:
            answer = begin(decoders, slow_file())
            pid = await decoders.working()
            for order in (signal.SIGINT, signal.SIGTERM):
                os.kill(pid, order)
            assert await answer == "JPEG"
            assert children() == {pid}

    run(scenario())


def test_pool_decode_that_takes_too_long_is_ended_and_told_as_the_files_fault() -> None:
    async def scenario() -> None:
        async with decoding(timeout_seconds=0.5) as decoders:
            (pid,) = await decoders.all_alive(1)
            with pytest.raises(ImageTooSlowError, match=r"longer than 0\.5 seconds"):
                await decode(decoders, slow_file())
            await until(lambda: not is_alive(pid))
            await until(lambda: decoders.metric(RESTARTS, reason="too slow") == 1)
            assert await decode(decoders, small_file()) == "PNG"

    run(scenario())


def test_pool_all_processes_stuck_is_not_working_and_works_again_once_they_are_replaced() -> None:
    async def scenario() -> None:
        async with decoding(processes=2, timeout_seconds=2.0) as decoders:
            stopped = await decoders.all_alive(2)
            decoders.pool.check_working()
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            lost = [begin(decoders, small_file()) for _ in stopped]
            patient = begin(decoders, small_file())
            await until(lambda: not _works(decoders))
            assert not any(each.done() for each in (*lost, patient))
            for each in lost:  # not the file's fault: its process did not compute
                assert type(await result_of(each)) is DecoderLostError
            assert await patient == "PNG"
            decoders.pool.check_working()
            assert not stopped & await decoders.all_alive(2)

    run(scenario())


def _works(decoders: Decoders) -> bool:
    try:
        decoders.pool.check_working()
    except NotReadyError:
        return False
    return True


def test_pool_whose_processes_do_not_start_is_not_working_until_they_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/bin/false")
            async with decoding(timeout_seconds=1.0) as decoders:
                patient = begin(decoders, small_file())
                await until(lambda: not _works(decoders))
                assert "a decoder process does not start" in caplog.text
                patch.undo()
                assert await patient == "PNG"
                assert _works(decoders)

    run(scenario())


def test_pool_that_finds_no_descriptors_tries_again_until_there_are_some(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left() -> None:
        raise OSError(errno.EMFILE, "too many open files")

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("app.engine.decoder_process.socket.socketpair", none_left)
            async with decoding(timeout_seconds=1.0) as decoders:
                patient = begin(decoders, small_file())
                await until(lambda: "the system grants no socket" in caplog.text)
                patch.undo()
                assert await patient == "PNG"

    run(scenario())


def test_pool_decode_that_nobody_wants_is_ended() -> None:
    async def scenario() -> None:
        async with decoding() as decoders:
            gone = begin(decoders, slow_file())
            pid = await decoders.working()
            os.kill(pid, signal.SIGSTOP)  # it would never end
            patient = begin(decoders, small_file())
            gone.cancel()
            assert isinstance(await result_of(gone), asyncio.CancelledError)
            assert await patient == "PNG"
            assert not is_alive(pid)
            assert decoders.metric(RESTARTS, reason="abandoned") == 1

    run(scenario())


def test_pool_process_whose_decode_ends_in_a_moment_outlives_its_caller() -> None:
    async def scenario() -> None:
        async with decoding() as decoders:
            (pid,) = await decoders.all_alive(1)
            for _ in range(10):
                gone = begin(decoders, small_file())
                await asyncio.sleep(0)
                gone.cancel()
                assert isinstance(await result_of(gone), asyncio.CancelledError)
            assert await decode(decoders, small_file()) == "PNG"
            assert children() == {pid}

    run(scenario())


def test_pool_process_that_answers_nonsense_is_not_given_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoder_process, "_PROGRAM", "tests.unit.lying_worker")

    async def scenario() -> None:
        async with decoding() as decoders:
            (pid,) = await decoders.all_alive(1)
            lie = begin(decoders, small_file(LIES))
            after = begin(decoders, small_file())
            assert type(await result_of(lie)) is DecoderFailedError
            assert await after == "PNG"
            assert pid not in await decoders.all_alive(1)

    run(scenario())


def test_pool_slow_decode_is_not_told_as_the_files_fault_where_its_processor_time_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoder_process.DecoderProcess, "cpu_seconds", lambda _: math.nan)

    async def scenario() -> None:
        async with decoding(timeout_seconds=0.5) as decoders:
            assert type(await result_of(begin(decoders, slow_file()))) is DecoderLostError

    run(scenario())


def test_pool_process_that_has_grown_is_replaced_and_nobody_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoder_process, "_PROGRAM", "tests.unit.growing_worker")
    large = encoded(Image.new("RGBA", (3000, 3000)), "PNG")

    async def scenario() -> None:
        async with decoding() as decoders:
            answers = [begin(decoders, data) for data in (small_file(), large, small_file(), large)]
            assert [await each for each in answers] == ["PNG"] * 4
            await decoders.all_alive(1)
            assert decoders.metric(RESTARTS, reason="grown") == 2

    run(scenario())


def test_pool_fault_of_the_program_is_told_as_ours() -> None:
    config = SQUEEZE.model_copy(update={"resample": "by hand"})

    async def scenario() -> None:
        async with decoding() as decoders:
            with pytest.raises(DecoderFailedError, match="KeyError: 'by hand'"):
                await decoders.pool.prepare(small_file(), config)
            assert await decode(decoders, small_file()) == "PNG"

    run(scenario())


def test_pool_stopped_leaves_no_process_and_nobody_waiting() -> None:
    async def scenario() -> None:
        async with decoding() as decoders:
            asked = [begin(decoders, slow_file()), begin(decoders, small_file())]
            pid = await decoders.working()
            await decoders.pool.stop()
            assert [type(await result_of(each)) for each in asked] == [StoppingError] * 2
            with pytest.raises(StoppingError):
                await decode(decoders, small_file())
            assert pid not in children()
            assert not is_alive(pid)

    run(scenario())


def test_process_is_given_neither_sockets_nor_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIMPSE_SECRET", "much")

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            os.set_inheritable(listening.fileno(), True)
            inode = Path(f"/proc/self/fd/{listening.fileno()}").readlink()
            async with decoding() as decoders:
                (pid,) = await decoders.all_alive(1)
                files = [each.readlink() for each in Path(f"/proc/{pid}/fd").iterdir()]
                assert inode not in files
                assert len(files) == 4  # nothing, twice; standard error; the service
                assert b"GLIMPSE" not in Path(f"/proc/{pid}/environ").read_bytes()

    run(scenario())


@pytest.mark.parametrize("seed", range(3))
def test_pool_whatever_happens_answers_everyone_and_is_whole_in_the_end(seed: int) -> None:
    chance = random.Random(seed)
    files = [small_file(), small_file()[:60], b"", slow_file()[:9000]]
    memory_bytes = 3 * open_image(small_file(), side_pixels=SQUEEZE.size_pixels).peak_bytes // 2

    async def scenario() -> None:
        async with decoding(processes=2, memory_bytes=memory_bytes) as decoders:
            await decoders.all_alive(2)
            tasks = []
            for _ in range(60):
                tasks.append(begin(decoders, chance.choice(files)))
                await asyncio.sleep(chance.choice((0.0, 0.001, 0.005)))
                fate = chance.random()
                if fate < 0.2:
                    chance.choice(tasks).cancel()
                elif fate < 0.25:
                    os.kill(chance.choice(sorted(children())), signal.SIGKILL)
            answers = [await result_of(task) for task in tasks]
            allowed = (ImageError, DecoderLostError, asyncio.CancelledError)
            assert all(isinstance(each, (str, *allowed)) for each in answers)
            assert "PNG" in answers
            await decoders.all_alive(2)
            assert await decode(decoders, small_file()) == "PNG"
            assert decoders.metric("glimpse_decode_memory_bytes") == 0
            assert decoders.metric("glimpse_decode_waiting") == 0

    run(scenario())
