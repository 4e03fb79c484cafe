"""The service as a process, and what it takes of the machine: memory, threads, descriptors."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

import psutil

__all__ = ["Sample", "Server", "serving"]

_ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 120.0
_STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the service takes at one moment, its child processes included.

    seconds: since the first sample.
    memory_bytes: resident.
    """

    seconds: float
    memory_bytes: int
    threads: int
    descriptors: int
    processes: int


class Server:
    """A running service."""

    def __init__(self, process: psutil.Popen, port: int, log: Path) -> None:
        self._process = process
        self._began = time.monotonic()
        self.port = port
        self.log = log

    def sample(self) -> Sample:
        """Look at the service and its children once."""
        memory_bytes = threads = descriptors = processes = 0
        for process in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess), process.oneshot():
                memory_bytes += process.memory_info().rss
                threads += process.num_threads()
                descriptors += process.num_fds()
                processes += 1
        seconds = time.monotonic() - self._began
        return Sample(seconds, memory_bytes, threads, descriptors, processes)

    def stop(self) -> int:
        """Send SIGTERM and give the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return int(self._process.wait(timeout=_STOP_SECONDS))

    def log_lines(self, level: str) -> int:
        """Count the lines of the log so far that have that level."""
        with self.log.open(encoding="utf-8") as lines:
            return sum(f'"level": "{level}"' in line for line in lines)


@contextmanager
def serving(port: int) -> Iterator[Server]:
    """Run the service with its default settings; it is killed at the end if it still runs."""
    settings = {"GLIMPSE_PORT": str(port), "GLIMPSE_LOG_FORMAT": "json"}
    with TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with log.open("w", encoding="utf-8") as output:
            process = psutil.Popen(
                [sys.executable, "-m", "app", "serve"],
                cwd=_ROOT,
                env=os.environ | settings,
                stderr=output,
                stdout=subprocess.DEVNULL,
            )
        try:
            _wait_until_ready(process, port, log)
            yield Server(process, port, log)
        finally:
            with suppress(psutil.NoSuchProcess):
                process.kill()
            process.wait()


def _wait_until_ready(process: psutil.Popen, port: int, log: Path) -> None:
    """Raise RuntimeError with the log's end if the service ends, or takes too long."""
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        address = f"http://127.0.0.1:{port}/readyz"
        with suppress(URLError, OSError), urlopen(address, timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(f"The service did not become ready:\n{log.read_text()[-2000:]}")
