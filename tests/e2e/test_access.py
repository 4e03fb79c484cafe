"""The service on a network with strangers: it opens to nobody by accident, refuses before it reads,
forgets no revoked key, and shows no key in its log."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from app.core.keys import add_key
from tests.e2e.browser import CHROMIUM, FLAGS
from tests.e2e.server import (
    BOUNDARY,
    HEAD,
    TAIL,
    WAIT_SECONDS,
    Server,
    environment,
    eventually,
    serving,
)

pytestmark = pytest.mark.e2e

BIG = "Content-Length: 19000000"


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def key(keys_file: Path) -> str:
    return add_key(keys_file, "phone", now=datetime.now(UTC))


@pytest.fixture(scope="module")
def closed(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, keys_file: Path, key: str
) -> Iterator[Server]:
    """A service that needs keys, is called `a` or by this machine's names, and logs all it can."""
    assert key
    settings: dict[str, object] = {
        "keys_file": keys_file,
        "allowed_hosts": "a",
        "log_level": "debug",
    }
    settings |= {"max_upload_bytes": 20_000_000, "metrics_open": "true"}
    with serving(tmp_path_factory.mktemp("closed"), repository, **settings) as server:
        yield server


def ask(server: Server, path: str, data: bytes | None = None, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        named |= {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    try:
        request = Request(f"http://127.0.0.1:{server.port}{path}", data, named)
        with urlopen(request, timeout=WAIT_SECONDS) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code


def glimpse(repository: Path, *arguments: str, **settings: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        cwd=repository,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# -- who may listen ----


def test_start_on_every_address_without_keys_ends_with_both_ways_out(repository: Path) -> None:
    process = glimpse(repository, "serve", "--host", "0.0.0.0")
    _, told = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 2
    (line,) = told.strip().splitlines()[1:]
    assert "GLIMPSE_KEYS_FILE" in line
    assert "GLIMPSE_ALLOW_ANYONE=true" in line


def test_start_with_keys_that_cannot_be_read_ends_with_a_sentence(
    repository: Path, tmp_path: Path
) -> None:
    path = tmp_path / "keys.json"
    process = glimpse(repository, "serve", host="0.0.0.0", keys_file=path)
    _, told = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 2
    assert f"{path} cannot be read: No such file" in told
    assert "glimpse keys add NAME" in told
    assert "Traceback" not in told


def test_start_on_every_address_told_plainly_serves_whoever_asks(
    repository: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve", "--host", "0.0.0.0"],
            cwd=repository,
            env=environment(allow_anyone="true", allowed_hosts=""),
            stderr=output,
        )
    try:
        eventually(lambda: " ready " in log.read_text() or process.poll() is not None)
        found = re.search(r"running on http://0\.0\.0\.0:(\d+)", log.read_text())
        assert found, log.read_text()
        server = Server(process, int(found[1]), log)  # type: ignore[arg-type]
        assert ask(server, "/models", Host="photos.example.org") == 200
        assert "no key is needed: whoever reaches 0.0.0.0 is served" in log.read_text()
    finally:
        process.kill()
        process.wait()


# -- refused before the body is read ----


def answer_to_head(server: Server, *header_lines: str) -> tuple[int, dict[str, Any]]:
    """The answer to the head of an upload, of whose body not a byte is sent."""
    received = b""
    with server.connect(*header_lines) as sock:
        while not received.endswith(b"}"):
            piece = sock.recv(65_536)
            assert piece
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"100 Continue" not in received
    assert b"connection: close" in head.lower()
    assert b"\r\nserver:" not in head.lower()
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("wait", ["Expect: 100-continue", "Accept: */*"])
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((), 401),
        (("Origin: https://example.org",), 403),
        (("Sec-Fetch-Site: cross-site",), 403),
    ],
    ids=["key", "origin", "site"],
)
def test_upload_refused_before_a_byte_of_its_body(
    closed: Server, wait: str, lines: tuple[str, ...], status: int
) -> None:
    answered, problem = answer_to_head(closed, BIG, wait, *lines)
    assert (answered, problem["status"]) == (status, status)


def test_upload_beyond_the_rate_is_refused_before_a_byte_of_its_body(
    closed: Server, keys_file: Path, png: bytes
) -> None:
    text = add_key(keys_file, "twice", now=datetime.now(UTC), requests_per_day=2)
    eventually(lambda: ask(closed, "/caption", HEAD + png + TAIL, X_API_Key=text) == 200)
    assert ask(closed, "/caption", HEAD + png + TAIL, X_API_Key=text) == 200
    for wait in ("Expect: 100-continue", "Accept: */*"):
        status, problem = answer_to_head(closed, BIG, wait, f"X-API-Key: {text}")
        assert (status, problem["type"]) == (429, "/problems/too-many-requests")
    refused = 'glimpse_refused_total{reason="too-many-requests"}'
    assert closed.metric(refused) >= 2


def test_upload_refused_client_that_sends_all_of_it_still_reads_the_problem(
    closed: Server,
) -> None:
    with closed.connect("Content-Length: 19000000") as sock:
        for _ in range(190):
            sock.sendall(bytes(100_000))
        received = b""
        while piece := sock.recv(65_536):
            received += piece
    assert received.startswith(b"HTTP/1.1 401")


def test_host_of_another_name_is_refused_on_loopback(closed: Server, key: str) -> None:
    for host, status in (
        ("a", 200),
        ("localhost", 200),
        (f"127.0.0.1:{closed.port}", 200),
        ("evil.example.org", 421),
        ("evil_name.example.org", 421),
        ("evil!name", 421),
    ):
        assert ask(closed, "/models", Host=host, X_API_Key=key) == status, host
        # A page may say whatever it likes of a proxy: what was asked for stays what it was.
        feigned = "localhost"
        assert (
            ask(closed, "/models", Host=host, X_API_Key=key, X_Forwarded_Host=feigned) == status
        ), host
        assert ask(closed, "/healthz", Host=host) == 200


# -- keys that come and go, and are never shown ----


def test_key_made_and_revoked_by_the_command_while_the_service_runs(
    closed: Server, repository: Path, keys_file: Path
) -> None:
    made = glimpse(repository, "keys", "add", "guest", keys_file=keys_file)
    text = made.communicate(timeout=WAIT_SECONDS)[0].strip()
    eventually(lambda: ask(closed, "/models", Authorization=f"Bearer {text}") == 200)
    gone = glimpse(repository, "keys", "revoke", "guest", keys_file=keys_file)
    assert gone.wait(WAIT_SECONDS) == 0
    gone.communicate()
    eventually(lambda: ask(closed, "/models", Authorization=f"Bearer {text}") in (401, 429))


def test_log_shows_no_key_and_no_image_wherever_they_were_sent(
    closed: Server, key: str, png: bytes
) -> None:
    """At debug level: good and wrong keys, in headers, address, path, form and file name."""
    wrong = key[:-6] + "AbCdEf"
    mark = b"PictureOfMyself"
    picture = png[:-12] + b"\0\0\0\x0ftEXt" + mark + b"\xdb\x10\x19\x9a" + png[-12:]
    for text in (key, wrong):
        form = HEAD.replace(b'"a.png"', f'"{text}.png"'.encode()) + picture + TAIL
        field = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="key"\r\n\r\n{text}\r\n'
        ).encode()
        for data in (form, field + form, form[:200], text.encode()):
            for headers in (
                {"X_API_Key": text},
                {"Authorization": f"Bearer {text}", "X_Request_ID": text[-60:]},
                {"X_API_Key": key, "X_Request_ID": text, "User_Agent": text, "Cookie": text},
                {"X_API_Key": key, "Host": f"{text}.example.org", "Referer": f"http://a/{text}"},
                {"X_API_Key": key, "Origin": f"http://{text}"},
            ):
                ask(closed, f"/caption?key={text}&model={text}", data, **headers)
        for path in (f"/{text}", f"/caption/{text}", f"/models/{text}", f"/%00{quote(text)}/"):
            ask(closed, path, X_API_Key=key)
            ask(closed, path)
    assert ask(closed, "/caption", HEAD + picture + TAIL, X_API_Key=key) == 200
    log = closed.log.read_text(errors="replace") + closed.get("/metrics")
    assert "/models/glimpse_phone_[not logged]" in log
    assert " key=phone" in log
    for text in (key, wrong):
        for length in (43, 20):
            assert text[-length:] not in log
    assert mark.decode() not in log
    assert "Traceback" not in log


# -- in a real browser ----


@contextmanager
def browser_page(complaints: list[str]) -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("needs Debian's chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda said: complaints.append(said.text))
        yield page
        browser.close()


def test_docs_page_with_a_key_draws_a_picture_and_breaks_no_policy(
    closed: Server, key: str, tmp_path: Path, png: bytes
) -> None:
    (tmp_path / "photo.png").write_bytes(png)
    complaints: list[str] = []
    with browser_page(complaints) as page:
        page.goto(f"http://localhost:{closed.port}/docs")
        page.click(".auth-wrapper .authorize")
        page.fill("#auth-bearer-value", key)
        page.click(".auth-container .authorize >> nth=0")
        page.click(".auth-container .btn-done >> nth=0")
        page.click("#operations-captions-attention .opblock-summary-control")
        page.select_option(".responses-table select.content-type >> nth=0", "image/png")
        page.set_input_files("input[type=file]", str(tmp_path / "photo.png"))
        page.click("button.execute")
        page.wait_for_selector(".live-responses-table img")
        size = page.eval_on_selector(
            ".live-responses-table img",
            "image => image.decode().then(() => image.naturalWidth)",
        )
    assert size > 0
    assert complaints == []


def test_foreign_page_in_a_browser_can_make_it_compute_nothing(
    closed: Server, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    elsewhere = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=elsewhere.serve_forever)
    thread.start()
    service = f"http://127.0.0.1:{closed.port}"
    try:
        with browser_page([]) as page:
            page.goto(f"http://127.0.0.1:{elsewhere.server_address[1]}/")
            page.evaluate(
                "url => fetch(url, {method: 'POST', mode: 'no-cors', body: new FormData()})"
                ".catch(() => 0)",  # Cross-Origin-Resource-Policy hides even that it was answered
                f"{service}/caption",
            )
            can_read = page.evaluate(
                "url => fetch(url).then(() => true, () => false)", f"{service}/openapi.json"
            )
    finally:
        elsewhere.shutdown()
        thread.join()
        elsewhere.server_close()
    assert not can_read
    log = closed.log
    eventually(lambda: re.search(r"POST /caption .*status=403", log.read_text()) is not None)
