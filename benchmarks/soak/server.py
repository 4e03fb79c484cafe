"""The service as a process, and what it takes of the machine: memory, threads, descriptors."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from urllib.error import URLError
from urllib.request import urlopen

import psutil

__all__ = ["SERVICE", "Sample", "Server", "free_port", "serving"]

SERVICE = ("-m", "app", "serve")
"""What Python is given to run the service."""

_ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 120.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Sample:
    """What the service takes at one moment, its child processes included.

    seconds: since the first sample.
    memory_bytes: resident; what processes have in common counts in each of them.
    cpu_seconds: that those which live now have computed, since they began.
    """

    seconds: float
    memory_bytes: int
    threads: int
    descriptors: int
    processes: int
    cpu_seconds: float = 0.0


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
        cpu_seconds = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess), process.oneshot():
                memory_bytes += process.memory_info().rss
                threads += process.num_threads()
                descriptors += process.num_fds()
                cpu_seconds += sum(process.cpu_times()[:2])
                processes += 1
        seconds = time.monotonic() - self._began
        return Sample(seconds, memory_bytes, threads, descriptors, processes, cpu_seconds)

    def stop(self) -> int:
        """Send SIGTERM and give the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return int(self._process.wait(timeout=_STOP_SECONDS))

    def log_lines(self, level: str) -> int:
        """Count the lines of the log so far that have that level."""
        with self.log.open(encoding="utf-8") as lines:
            return sum(f'"level": "{level}"' in line for line in lines)


def free_port() -> int:
    """Find a port that nobody listens at now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(
    port: int,
    settings: Mapping[str, str] = MappingProxyType({}),
    program: Sequence[str] = SERVICE,
) -> Iterator[Server]:
    """Run the service until the end of the block; it is killed then if it still runs.

    settings: environment variables beside those that are set. program: another server, which
    answers `/readyz` too.
    """
    usual = {"GLIMPSE_PORT": str(port), "GLIMPSE_LOG_FORMAT": "json"}
    with TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with log.open("w", encoding="utf-8") as output:
            process = psutil.Popen(
                [sys.executable, *program],
                cwd=_ROOT,
                env=os.environ | usual | dict(settings),
                stderr=output,
                stdout=subprocess.DEVNULL,
            )
        try:
            _wait_until_ready(process, port, log)
            yield Server(process, port, log)
        finally:
            _kill(process)


def _kill(process: psutil.Popen) -> None:
    """End a server with all its processes; some leave theirs behind."""
    with suppress(psutil.NoSuchProcess):
        for each in (*process.children(recursive=True), process):
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


def _wait_until_ready(process: psutil.Popen, port: int, log: Path) -> None:
    """Raise RuntimeError with the log's end if the server ends, or takes too long."""
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        address = f"http://127.0.0.1:{port}/readyz"
        with suppress(URLError, OSError), urlopen(address, timeout=5):
            return
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"The server did not become ready:\n{log.read_text()[-2000:]}")
