"""The service as a process of its own, for the tests that talk to it over real sockets."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

WAIT_SECONDS = 60
BOUNDARY = "glimpse"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
).encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    port: int
    log: Path

    def get(self, path: str) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=WAIT_SECONDS) as response:
            return str(response.read().decode())

    def caption(self, data: bytes) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        request = Request(f"http://127.0.0.1:{self.port}/caption", HEAD + data + TAIL, headers)
        try:
            with urlopen(request, timeout=WAIT_SECONDS) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def open(self, sent: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
        """A socket that has sent these bytes, from an address of this machine."""
        sock = socket.create_connection(
            ("127.0.0.1", self.port), timeout=WAIT_SECONDS, source_address=(source, 0)
        )
        sock.sendall(sent)
        return sock

    def connect(self, *header_lines: str) -> socket.socket:
        """A socket that has sent the head of a `POST /caption`."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_SECONDS)
        lines = [
            "POST /caption HTTP/1.1",
            "Host: a",
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        ]
        sock.sendall("\r\n".join([*lines, *header_lines, "", ""]).encode())
        return sock


def upload(data: bytes, *header_lines: str) -> bytes:
    """A whole `POST /caption`."""
    body = HEAD + data + TAIL
    lines = [
        "POST /caption HTTP/1.1",
        "Host: a",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body)}",
        *header_lines,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_all(sock: socket.socket) -> bytes:
    """What comes until the other side ends; a reset instead of an end is an error."""
    received = b""
    while piece := sock.recv(65_536):
        received += piece
    return received


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def is_ready(log: str) -> bool:
    """Whether a log, of either format, says so."""
    return " ready " in log or '"message": "ready"' in log


def environment(**settings: object) -> dict[str, str]:
    ours = {f"GLIMPSE_{name.upper()}": str(value) for name, value in settings.items()}
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("GLIMPSE_")}
    # Any Host will do, unless a test sets another rule or, by an empty text, the default one.
    usual = {"GLIMPSE_CAPTIONER": "fake", "GLIMPSE_PORT": "0", "GLIMPSE_ALLOWED_HOSTS": "*"}
    return theirs | usual | ours


@contextmanager
def serving(folder: Path, repository: Path, **settings: object) -> Iterator[Server]:
    """The service once it is ready."""
    program = ("-m", "app", "serve")
    with serving_within((), folder, repository, program=program, **settings) as server:
        yield server


@contextmanager
def serving_within(
    wrap: Sequence[str],
    folder: Path,
    repository: Path,
    *,
    program: Sequence[str] = ("-m", "app", "serve"),
    **settings: object,
) -> Iterator[Server]:
    """The service once it is ready; `wrap` is the beginning of a command line that runs it, and
    `program` what Python is given."""
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*wrap, sys.executable, *program],
            cwd=repository,
            env=environment(**settings),
            stderr=output,
            text=True,
        )
    try:
        eventually(lambda: is_ready(log.read_text()) or process.poll() is not None)
        found = re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found, log.read_text()
        yield Server(process, int(found[1]), log)
    finally:
        process.kill()
        process.wait()


def read_to_end(sock: socket.socket) -> tuple[int, dict[str, Any]]:
    """The answer on a connection that the server closes after it; a reset instead of an end is an
    error."""
    received = read_all(sock)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)
