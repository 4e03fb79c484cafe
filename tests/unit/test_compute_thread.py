"""The compute thread: work in order, errors to their callers, and no process that waits for it."""

import subprocess
import sys
import threading

import pytest

from app.engine.compute_thread import ComputeThread, ThreadDiedError, has_running_threads
from tests.unit.repository import ROOT

WAIT_SECONDS = 20


def test_work_runs_in_order_in_one_thread_and_gives_its_results() -> None:
    thread = ComputeThread("inference")
    names = [thread.submit(lambda: threading.current_thread().name) for _ in range(3)]
    assert [each.result(WAIT_SECONDS) for each in names] == ["inference"] * 3
    thread.stop()
    assert thread.ends_within(WAIT_SECONDS)


def test_work_that_raises_fails_alone() -> None:
    def fails() -> None:
        raise MemoryError

    thread = ComputeThread("inference")
    assert isinstance(thread.submit(fails).exception(WAIT_SECONDS), MemoryError)
    assert thread.submit(lambda: 1).result(WAIT_SECONDS) == 1
    thread.stop()


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_work_that_raises_what_ends_a_thread_ends_this_one_and_its_caller_knows(
    error: BaseException,
) -> None:
    def fails() -> None:
        raise error

    thread = ComputeThread("inference")
    died = thread.submit(fails).exception(WAIT_SECONDS)
    assert isinstance(died, ThreadDiedError)
    assert died.__cause__ is error
    assert thread.ends_within(WAIT_SECONDS)


def test_thread_that_hangs_does_not_keep_the_process_from_ending() -> None:
    code = (
        "import threading\n"
        "from app.engine.compute_thread import ComputeThread\n"
        "begun = threading.Event()\n"
        "def hang():\n"
        "    begun.set()\n"
        "    threading.Event().wait()\n"
        "ComputeThread('inference').submit(hang)\n"
        "assert begun.wait(20)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=WAIT_SECONDS, check=True)


def test_command_ends_without_its_interpreter_where_a_thread_hangs() -> None:
    """Python's own end could come upon a thread in the middle of native code, and crash."""
    code = (
        "import atexit, sys, time\n"
        "from app.cli import main\n"
        "from app.engine.compute_thread import ComputeThread\n"
        "atexit.register(print, 'the interpreter ended')\n"
        "ComputeThread('hangs').submit(lambda: time.sleep(600))\n"
        "sys.argv = ['glimpse', '--version']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("glimpse ")
    assert "the interpreter ended" not in done.stdout


def test_running_threads_are_known_until_they_end() -> None:
    may_end = threading.Event()
    thread = ComputeThread("inference")
    thread.submit(may_end.wait)
    assert has_running_threads()
    may_end.set()
    thread.stop()
    assert thread.ends_within(WAIT_SECONDS)
