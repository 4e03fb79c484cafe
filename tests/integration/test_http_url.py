"""`POST /caption` and `POST /attention` with JSON: the body, the options in it, the URL, and the
switch."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

URL = "http://127.0.0.1:1/photo.jpg"


@pytest.fixture(scope="module")
def pictures(image_file: bytes) -> Iterator[ThreadingHTTPServer]:
    """A web server on a loopback address that has one picture, at /photo.jpg."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = image_file if self.path == "/photo.jpg" else b"no picture at all, but text"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def url(pictures: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{pictures.server_port}/photo.jpg"


@pytest.fixture(scope="module")
def fetching(serve: Callable[..., Any], pictures: ThreadingHTTPServer) -> Iterator[TestClient]:
    """A client of a service that fetches, from that server too."""
    with serve(
        fetch_urls=True,
        fetch_ports=f"{pictures.server_port},80,443",
        fetch_private_networks="127.0.0.1/32",
    ) as client:
        yield client


@pytest.mark.parametrize("path", ["/caption", "/attention"])
def test_url_is_answered_as_its_bytes_are(
    fetching: TestClient, url: str, image_file: bytes, path: str
) -> None:
    options = {"beam_size": 4, "length_penalty": 0.5, "max_length": 9}
    of_bytes = fetching.post(path, files={"image": ("a.jpg", image_file)}, params=options)
    of_url = fetching.post(path, json={"url": url, **options})
    in_address = fetching.post(path, json={"url": url, "beam_size": None}, params=options)
    assert of_bytes.status_code == of_url.status_code == in_address.status_code == 200
    without_timing = {key: value for key, value in of_bytes.json().items() if key != "timing"}
    for answer in (of_url, in_address):
        assert {key: answer.json()[key] for key in without_timing} == without_timing


def test_url_with_png_is_drawn(fetching: TestClient, url: str) -> None:
    answer = fetching.post("/attention", json={"url": url, "format": "png", "word": 0})
    assert answer.headers["content-type"] == "image/png"


BAD: dict[str, tuple[bytes, int, str, str]] = {
    "cut off": (b'{"url": "http', 400, "malformed-json", "line 1, column 9"),
    "on its second line": (b'{"url":\n nothing}', 400, "malformed-json", "line 2, column 2"),
    "no UTF-8": (b'{"url": "\xff"}', 400, "malformed-json", "byte 9 is no UTF-8"),
    "half a character": (b'{"url": "\\ud800"}', 400, "malformed-json", "half a character"),
    "half a character as a name": (b'{"\\ud800": 1}', 400, "malformed-json", "half a character"),
    "not a number": (b'{"url": "a", "beam_size": NaN}', 400, "malformed-json", "NaN"),
    "a number of 500 digits": (
        b'{"beam_size": ' + b"9" * 500 + b"}",
        400,
        "malformed-json",
        "long",
    ),
    "a number too long": (b'{"beam_size": ' + b"9" * 5000 + b"}", 400, "malformed-json", "long"),
    "deep": (b"[" * 60_000, 400, "malformed-json", "deeply"),
    "nothing but spaces": (b"  ", 400, "malformed-json", "expecting value at line 1"),
    "a list": (b"[]", 400, "malformed-json", "no object"),
    "a text": (b'"http://example.org"', 400, "malformed-json", "no object"),
    "no URL": (b"{}", 400, "missing-image", "nor one named 'url'"),
    "empty URL": (b'{"url": " "}', 400, "missing-image", "nor one named 'url'"),
    "URL of a number": (b'{"url": 5}', 400, "missing-image", "nor one named 'url'"),
    "unknown member": (b'{"url": "a", "link": 1}', 400, "unexpected-field", "'link'"),
    "an image and a URL": (b'{"url": "a", "image": "b"}', 400, "two-images", "both"),
    "a member twice": (b'{"url": "a", "url": "b"}', 400, "repeated-field", "'url' twice"),
    "half a character twice": (b'{"\\ud800":1,"\\ud800":1}', 400, "repeated-field", "twice"),
    "a long URL": (b'{"url": "' + b"a" * 64_000 + b'"}', 422, "url-refused", "URL"),
    "many parts": (b"[" + b"[]," * 60_000, 400, "malformed-json", "100000 parts"),
    "large and wide": (
        b'{"url": "' + b"\xc3\xa4" * 600_000 + b'"}',
        400,
        "malformed-json",
        "ASCII",
    ),
    "option as text": (b'{"url": "a", "beam_size": "3"}', 422, "invalid-option", "'3'"),
    "option out of bounds": (b'{"url": "a", "beam_size": 0}', 422, "invalid-option", "'0'"),
    "option of truth": (b'{"url": "a", "beam_size": true}', 422, "invalid-option", "'true'"),
    "option of a list": (b'{"url": "a", "beam_size": [1]}', 422, "invalid-option", "beam_size"),
    "option without end": (b'{"url": "a", "length_penalty": 1e999}', 422, "invalid-option", "0"),
    "unknown model": (b'{"url": "a", "model": "nonesuch"}', 404, "unknown-model", "Models: "),
    "a file": (b'{"url": "file:///etc/passwd"}', 422, "url-refused", "Only http and https"),
    "a private address": (b'{"url": "http://127.0.0.2/"}', 422, "url-refused", "cannot be used"),
    "a closed port": (b'{"url": "http://127.0.0.1/"}', 422, "url-unreachable", "connection"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_json_gets_its_problem_and_a_good_one_is_answered(
    fetching: TestClient, url: str, name: str
) -> None:
    body, status, slug, detail = BAD[name]
    answer = fetching.post("/caption", content=body, headers={"Content-Type": "application/json"})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{slug}"), problem
    assert detail in problem["detail"]
    assert fetching.get(problem["type"]).json()["status"] == status
    assert fetching.post("/caption", json={"url": url}).status_code == 200


def test_bytes_decide_whether_what_was_fetched_is_a_picture(fetching: TestClient, url: str) -> None:
    answer = fetching.post("/caption", json={"url": url.replace("photo.jpg", "text.jpg")})
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unreadable-image")


def test_word_without_png_is_refused_before_anything_is_fetched(fetching: TestClient) -> None:
    answer = fetching.post("/attention", json={"url": URL, "word": 1})
    assert answer.json()["type"] == "/problems/invalid-option"


def test_option_twice_and_differently_is_refused(fetching: TestClient, url: str) -> None:
    answer = fetching.post("/caption?beam_size=2", json={"url": url, "beam_size": 3})
    assert "in the address but 3 in the body" in answer.json()["detail"]


@pytest.mark.parametrize("body", ['{"url": "http://example.org/"}', '{"url": 5, "beam_size": 0}'])
@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
def test_url_where_fetching_is_off_is_a_403_whatever_it_says(
    client: TestClient, body: str, content_type: str
) -> None:
    answer = client.post("/caption", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/url-fetching-off")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    ["url", "image", "beam_size", "model", "num_captions", "length_penalty", "word"]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names | st.text(), json_values, max_size=4).map(json.dumps) | st.text())
def test_json_of_any_kind_is_answered_with_a_problem_and_never_fails(
    fetching: TestClient, text: str
) -> None:
    for path in ("/caption", "/attention"):
        answer = fetching.post(
            path,
            content=text.encode("utf-8", "surrogatepass"),
            headers={"Content-Type": "application/json"},
        )
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.json()["type"].startswith("/problems/")


def test_openapi_offers_the_form_first_and_json_with_every_option(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/caption", "/attention"):
        operation = document["paths"][path]["post"]
        content = operation["requestBody"]["content"]
        assert list(content) == [
            "multipart/form-data",
            "application/json",
            "image/*",
            "application/octet-stream",
        ]
        schema = content["application/json"]["schema"]
        options = {each["name"] for each in operation["parameters"] if each["in"] == "query"}
        assert set(schema["properties"]) == {"image", "url"} | options
        assert schema["additionalProperties"] is False
        assert content["application/json"]["examples"]
        assert "/problems/url-fetching-off" in json.dumps(operation["responses"]["403"])
