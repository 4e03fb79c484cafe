"""What raw sockets send: each is answered as HTTP/1.1 has it, none with a 500, and none hangs."""

import json
import re

import pytest

from tests.e2e.server import BOUNDARY, HEAD, Server, eventually, read_all, upload

pytestmark = pytest.mark.e2e


@pytest.fixture
def server(guarded_server: Server) -> Server:
    return guarded_server


def get(target: str = "/healthz", *lines: str, version: str = "1.1") -> bytes:
    head = [f"GET {target} HTTP/{version}", "Host: a", "Connection: close", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1")


def chunked(*lines: str, body: bytes = b"0\r\n\r\n") -> bytes:
    head = ["POST /caption HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", *lines, "", ""]
    return "\r\n".join(head).encode() + body


MALFORMED = {
    "length and chunked": chunked("Content-Length: 5"),
    "chunked and length": b"POST /caption HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST /caption HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Content-Length: 6\r\n\r\nhello!",
    "a length that is none": b"POST /caption HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
    "a negative length": b"POST /caption HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    "a length of 5000 digits": b"POST /caption HTTP/1.1\r\nHost: a\r\nContent-Length: "
    + b"9" * 5000
    + b"\r\n\r\n",
    "chunked in HTTP/1.0": b"POST /caption HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare carriage return": get("/healthz", "X-A: b\rGET /metrics HTTP/1.1"),
    "a NUL": get("/healthz", "X-A: b\0c"),
    "a space before a colon": get("/healthz", "X-A : b"),
    "a header without a colon": get("/healthz", "nothing"),
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": get("/healthz", "Host: b"),
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/2 by its first words": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.0": get(version="3.0"),
    "a target with a space": get("/health z"),
    "a target with letters beyond ASCII": get("/é"),
    "a bad chunk": chunked(body=b"zz\r\nhello\r\n0\r\n\r\n"),
    "thousands of tiny chunks": chunked(body=b"1\r\n0\r\n" * 5_000),
    "a first line that folds": b" GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_request_is_answered_with_a_problem_and_closed(server: Server, name: str) -> None:
    with server.open(MALFORMED[name]) as sock:
        received = read_all(sock)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n"), received
    assert b"connection: close" in head.lower()
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["type"] == "/problems/malformed-request"
    assert b"x-frame-options: deny" in head.lower()
    assert b"cache-control: no-store" in head.lower()
    request_id = json.loads(body)["instance"].removeprefix("urn:request:")
    eventually(lambda: f"request_id={request_id}" in server.log.read_text())


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_request_is_told_in_our_own_words(server: Server, name: str) -> None:
    with server.open(MALFORMED[name]) as sock:
        body = read_all(sock).partition(b"\r\n\r\n")[2]
    detail = json.loads(body)["detail"]
    assert re.fullmatch(r"The (request|target|body|head).*\. (Send|Write|Name) .*\.", detail), (
        detail
    )
    # Neither a word of the library's, nor a part of what was sent.
    assert not re.search(r"illegal|bytearray|b'|regex|peer|protocol|multiple|zz", detail), detail


def test_chunk_that_cannot_be_read_in_mid_body_is_one_malformed_request_and_no_client_that_left(
    server: Server,
) -> None:
    reasons = ("malformed-request", "client-gone")
    metrics = [f'glimpse_refused_total{{reason="{each}"}}' for each in reasons]
    answered = 'glimpse_http_requests_total{method="POST",route="/caption",status="400"}'
    before = [server.metric(each) for each in (*metrics, answered)]
    form = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    head = chunked(form, "X-Request-ID: mid-body", body=b"%x\r\n" % len(HEAD) + HEAD + b"\r\n")
    with server.open(head) as sock:
        eventually(lambda: server.metric("glimpse_uploads_arriving") == 1)
        sock.sendall(b"zz\r\nhello\r\n")
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["instance"] == "urn:request:mid-body"
    eventually(lambda: server.metric("glimpse_uploads_arriving") == 0)
    eventually(lambda: server.metric(answered) == before[2] + 1)
    assert [server.metric(each) for each in metrics] == [before[0] + 1, before[1]]
    lines = [line for line in server.log.read_text().splitlines() if "request_id=mid-body" in line]
    assert len(lines) == 1
    assert " status=400 " in lines[0]
    assert " problem=malformed-request " in lines[0]


def test_malformed_request_is_counted_by_its_reason(server: Server) -> None:
    metric = 'glimpse_refused_total{reason="malformed-request"}'
    before = server.metric(metric)
    with server.open(b"what is this\r\n\r\n") as sock:
        read_all(sock)
    assert server.metric(metric) == before + 1


def test_malformed_request_hides_no_second_one(server: Server) -> None:
    hidden = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with server.open(chunked("Content-Length: 5", body=hidden)) as sock:
        assert read_all(sock).count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("sent", "status", "slug"),
    [
        (get("/healthz", "X-A: " + "b" * 20_000), 431, "head-too-large"),
        (b"GET /" + b"a" * 20_000, 431, "head-too-large"),
        (chunked().replace(b"chunked", b"gzip, chunked"), 501, "unknown-transfer-encoding"),
    ],
)
def test_request_beyond_what_is_known_is_told_so(
    server: Server, sent: bytes, status: int, slug: str
) -> None:
    with server.open(sent) as sock:
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert json.loads(body)["type"] == f"/problems/{slug}"


def statuses(received: bytes) -> list[int]:
    return [int(each) for each in re.findall(rb"(?:^|[\r\n}])HTTP/1\.1 (\d{3}) ", received)]


ODD = {
    "HTTP/1.0": (get(version="1.0"), [200]),
    "HTTP/1.0 without a host": (b"GET /healthz HTTP/1.0\r\n\r\n", [200]),
    "absolute form": (get("http://a/healthz"), [200]),
    "absolute form without a path": (get("http://a"), [200]),
    "absolute form with a query": (get("http://a/healthz?x=1"), [200]),
    "OPTIONS *": (get("*").replace(b"GET", b"OPTIONS"), [404]),
    "CONNECT": (get("a:80").replace(b"GET", b"CONNECT"), [404]),
    "TRACE": (get().replace(b"GET", b"TRACE"), [405]),
    "an unknown method": (get().replace(b"GET", b"BREW"), [405]),
    "websocket": (get("/healthz", "Upgrade: websocket", "Sec-WebSocket-Key: a"), [200]),
    "websocket, asked for by the connection": (
        get("/healthz", "Upgrade: websocket").replace(b"close", b"close, upgrade"),
        [200],
    ),
    "h2c": (
        get("/healthz", "Upgrade: h2c", "HTTP2-Settings: a").replace(
            b"close", b"close, Upgrade, HTTP2-Settings"
        ),
        [200],
    ),
    "two at once": (get().replace(b"Connection: close\r\n", b"") + get(), [200, 200]),
    "fifty at once": (get().replace(b"Connection: close\r\n", b"") * 49 + get(), [200] * 50),
    "garbage behind": (get().replace(b"Connection: close\r\n", b"") + b"\0garbage", [200, 400]),
    "garbage behind the last": (get() + b"\0garbage", [200]),
    "a folded header": (get("/healthz", "X-A: b", " c"), [200]),
    "a host that is none": (get().replace(b"Host: a", b"Host: ["), [200]),
    "a host that is none, nowhere": (get("/x").replace(b"Host: a", b"Host: a/b?["), [404]),
    "an empty host": (get("/x").replace(b"Host: a", b"Host:"), [404]),
    "a path with escapes": (get("/%2e%2e/%00%ff"), [404]),
    "an unknown expectation": (get("/healthz", "Expect: a pony"), [200]),
    "nothing announced": (get("/caption").replace(b"GET", b"POST"), [400]),
    "an empty chunked body": (chunked("Connection: close"), [415]),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_request_is_answered(server: Server, name: str) -> None:
    sent, expected = ODD[name]
    with server.open(sent) as sock:
        received = read_all(sock)
    assert statuses(received) == expected, received


def test_client_that_waits_to_be_asked_is_asked(server: Server, png: bytes) -> None:
    head, _, body = upload(png, "Expect: 100-continue", "Connection: close").partition(b"\r\n\r\n")
    with server.open(head + b"\r\n\r\n") as sock:
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert statuses(read_all(sock)) == [200]


def test_client_that_was_asked_and_still_sends_reads_why_it_is_refused(server: Server) -> None:
    form = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
    head = chunked("Expect: 100-continue", form, body=b"")
    first = b"%x\r\n" % len(HEAD) + HEAD + b"\r\n"
    piece = b"%x\r\n" % 500_000 + bytes(500_000) + b"\r\n"
    with server.open(head) as sock:
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(first)
        for _ in range(44):  # 22 MB, of which 20 are accepted
            sock.sendall(piece)
        assert statuses(read_all(sock)) == [413]


def test_uploads_behind_one_another_are_each_answered(server: Server, png: bytes) -> None:
    with server.open(upload(png) * 3 + upload(png, "Connection: close")) as sock:
        assert statuses(read_all(sock)) == [200] * 4


def test_head_with_odd_line_ends_is_read(server: Server) -> None:
    with server.open(get().replace(b"\r\n", b"\n")) as sock:
        assert statuses(read_all(sock)) == [200]


def test_service_is_well_after_all_that(server: Server, png: bytes) -> None:
    assert server.caption(png)[0] == 200
    log = server.log.read_text()
    assert "Traceback" not in log
    assert not re.search("status=500", log)
    assert server.process.poll() is None
