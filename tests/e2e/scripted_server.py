"""A small HTTP server that answers as it is told: for what the real one does only now and then."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic

from tests.e2e.server import WAIT_SECONDS


@dataclass(frozen=True)
class Reply:
    """One answer: the connection is closed without a word where `status` is 0."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Seen:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_seconds: float


@dataclass
class Scripted:
    """The server's script, from which the last reply is repeated, and what has come so far."""

    url: str
    replies: list[Reply]
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    hold: threading.Event = field(default_factory=threading.Event)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    script: Scripted


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.script.connections += 1

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        script = self.server.script
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        script.seen.append(Seen(self.path, headers, body, monotonic()))
        reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
        if self.path.startswith("/hold"):
            script.hold.wait(WAIT_SECONDS)
        if self.path.startswith("/dribble"):
            self._dribble(script.hold)
            return
        if not reply.status:
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def _dribble(self, stopped: threading.Event) -> None:
        """Send a byte now and again, never all of them."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.close_connection = True
        try:
            while not stopped.wait(0.05):
                self.wfile.write(b" ")
        except OSError:
            pass  # the client has gone

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def scripted(*replies: Reply) -> Iterator[Scripted]:
    """The server, until the block ends. Paths that begin with /hold wait for `hold`, and those with
    /dribble answer a byte at a time until then."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.script = Scripted(f"http://127.0.0.1:{server.server_port}", list(replies))
        run: Callable[[], None] = server.serve_forever
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield server.script
        finally:
            server.script.hold.set()
            server.shutdown()
            thread.join()
