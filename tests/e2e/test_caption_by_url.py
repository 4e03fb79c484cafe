"""Captioning by URL, by the service as a process: from a web server that it may reach, and not from
one that it may not."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.e2e.server import WAIT_SECONDS, Server, eventually, serving

pytestmark = pytest.mark.e2e

FETCHES = 4


@dataclass
class Pictures:
    """A web server: /photo.png at once, /held.png when let go, /inside redirects to `inside`."""

    port: int
    asked: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    let_go: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


class Web(ThreadingHTTPServer):
    """Serves one test after another; `pictures` is the running one's."""

    request_queue_size = 64
    pictures: Pictures
    png: bytes


class Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        pictures = self.server.pictures
        pictures.asked.append(path)
        if path == "/inside":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.2:{pictures.port}/")
            self.end_headers()
            return
        if path == "/held.png":
            pictures.let_go.wait(WAIT_SECONDS)
        if path == "/dropped.png":
            self.connection.settimeout(WAIT_SECONDS)
            assert self.connection.recv(1) == b""  # the service closes the connection
            pictures.dropped.append(path)
            return
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(self.server.png)))
        self.end_headers()
        self.wfile.write(self.server.png)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def web(png: bytes) -> Iterator[Web]:
    with Web(("127.0.0.1", 0), Handler) as web:
        web.png = png
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        yield web
        web.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def port(web: Web) -> int:
    return web.server_port


@pytest.fixture
def pictures(web: Web) -> Iterator[Pictures]:
    web.pictures = Pictures(web.server_port)
    yield web.pictures
    web.pictures.let_go.set()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, port: int
) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("fetching"),
        repository,
        fetch_urls="true",
        fetch_ports=f"80,443,{port}",
        fetch_private_networks="127.0.0.1/32",
        max_fetches=FETCHES,
        log_level="debug",
    ) as server:
        yield server


def ask(server: Server, url: str, **options: object) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The status, the document and the headers of `POST /caption` with a URL."""
    body = json.dumps({"url": url, **options}).encode()
    request = Request(
        f"http://127.0.0.1:{server.port}/caption", body, {"Content-Type": "application/json"}
    )
    try:
        with urlopen(request, timeout=WAIT_SECONDS) as response:
            return response.status, json.load(response), dict(response.headers)
    except HTTPError as error:
        with error:
            return error.code, json.load(error), dict(error.headers)


def test_url_where_fetching_is_off_is_a_403_and_nothing_is_asked(
    tmp_path: Path, repository: Path, pictures: Pictures
) -> None:
    with serving(tmp_path, repository) as off:
        status, problem, _ = ask(off, pictures.url("/photo.png"))
    assert (status, problem["type"]) == (403, "/problems/url-fetching-off")
    assert pictures.asked == []


def test_url_is_captioned_as_its_upload_is_and_its_query_is_logged_nowhere(
    server: Server, pictures: Pictures, png: bytes
) -> None:
    status, document, _ = ask(server, pictures.url("/photo.png?token=hush-hush"), num_captions=2)
    assert status == 200
    assert len(document["captions"]) == 2
    assert document["caption"] == server.caption(png)[1]["caption"]
    assert "fetch: fetched host=127.0.0.1" in server.log.read_text()
    assert "hush-hush" not in server.log.read_text()


def test_urls_that_lead_inside_are_refused_alike_and_nobody_there_is_asked(
    server: Server, pictures: Pictures, port: int
) -> None:
    inside = [
        pictures.url("/inside"),
        f"http://127.0.0.2:{port}/",
        f"http://2130706434:{port}/",
        f"http://0x7f.2:{port}/",
        f"http://[::ffff:127.0.0.2]:{port}/",
        f"http://127.0.0.3:{port}/",  # where nobody listens
        "http://169.254.169.254/latest/meta-data/",
        "http://no-such-host.invalid/",
    ]
    with socket.create_server(("127.0.0.2", port)) as listener:
        answers = [ask(server, url) for url in inside]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert {(status, document["type"]) for status, document, _ in answers} == {
        (422, "/problems/url-refused")
    }
    assert len({document["detail"] for _, document, _ in answers}) == 1


def test_fetches_at_a_time_are_bounded_and_uploads_go_on(
    server: Server, pictures: Pictures, png: bytes
) -> None:
    with ThreadPoolExecutor(20) as pool:
        held = [pool.submit(ask, server, pictures.url("/held.png")) for _ in range(20)]
        eventually(lambda: sum(each.done() for each in held) == 20 - FETCHES)
        eventually(lambda: len(pictures.asked) == FETCHES)
        assert server.caption(png)[0] == 200
        pictures.let_go.set()
        answers = [each.result() for each in held]
    assert [status for status, _, _ in answers].count(200) == FETCHES
    refused = [(document, headers) for status, document, headers in answers if status == 503]
    assert len(refused) == 20 - FETCHES
    for document, headers in refused:
        assert document["type"] == "/problems/too-many-fetches"
        assert int(headers["retry-after"]) >= 1
    assert len(pictures.asked) == FETCHES
    assert ask(server, pictures.url("/photo.png"))[0] == 200


def test_client_that_hangs_up_ends_its_fetch_and_frees_its_place(
    server: Server, pictures: Pictures
) -> None:
    body = json.dumps({"url": pictures.url("/dropped.png")}).encode()
    head = (
        "POST /caption HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    for round_ in range(1, FETCHES + 2):  # more than there are places
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_SECONDS) as sock:
            sock.sendall(head + body)
            eventually(lambda: len(pictures.asked) == round_)  # noqa: B023 it runs at once
        eventually(lambda: len(pictures.dropped) == round_)  # noqa: B023 it runs at once
    eventually(lambda: server.metric('glimpse_fetches_total{outcome="dropped"}') == FETCHES + 1)
    assert ask(server, pictures.url("/photo.png"))[0] == 200
