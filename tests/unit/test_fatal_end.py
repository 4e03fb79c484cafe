"""The end of a process that cannot go on: it is asked once, answered by 1, and never hangs."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.server.fatal import FatalEnd


def test_fatal_end_asks_the_server_to_stop_once(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[str] = []
    end = FatalEnd(drain_seconds=600)
    end.stops(lambda: asked.append("stop"))
    end("the captioner keeps failing")
    end("and fails again")
    assert asked == ["stop"]
    assert end.reason == "the captioner keeps failing"
    assert [record.message for record in caplog.records] == [
        "cannot go on: the captioner keeps failing"
    ]


def test_fatal_end_decided_before_there_is_a_server_stops_it_as_it_comes() -> None:
    asked: list[str] = []
    end = FatalEnd(drain_seconds=600)
    end("no captioner")
    end.stops(lambda: asked.append("stop"))
    assert asked == ["stop"]


@pytest.mark.parametrize("hangs", ["threading.Event().wait()", "None"])
def test_process_ends_with_1_though_its_server_or_a_thread_of_it_hangs(
    repository: Path, hangs: str
) -> None:
    code = (
        "import threading; from app.server.fatal import FatalEnd\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        f"FatalEnd(drain_seconds=0.2)('over')\n{hangs}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert b"cannot go on: over" in done.stderr
