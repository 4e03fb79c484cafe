"""What surrounds the captions: health, readiness, metrics, documentation, request ids, logs,
headers."""

import asyncio
import json
import logging
import re
import threading
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from app.api.middleware import RequestMiddleware
from app.api.routes.docs import WEB_FOLDER
from app.core.logging import JsonFormatter, TextFormatter, request_id_context
from app.core.metrics import Metrics
from app.core.settings import DEFAULT_MODEL, Settings
from app.engine.fake import FakeCaptioner
from app.main import create_app
from models.caption import Caption
from models.config import DecodingOptions
from models.errors import CheckpointError
from models.preprocessing import PreparedImage
from tests.unit.toys import save_tiny_bundle

EXTERNAL = re.compile(r"""(?:src|href|url|action)\s*[=:(]\s*["']?(?:https?:)?//""")


def good(image_file: bytes) -> dict[str, Any]:
    return {"image": ("photo.jpg", image_file, "image/jpeg")}


def test_openapi_document_is_the_golden_one(repository: Path) -> None:
    golden = json.loads(
        (repository / "tests" / "golden" / "openapi.json").read_text(encoding="utf-8")
    )
    assert create_app(Settings(captioner="fake")).openapi() == golden, (
        "changed: glimpse openapi > tests/golden/openapi.json"
    )


def test_version_is_the_packages(client: TestClient, repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert client.get("/openapi.json").json()["info"]["version"] == project["version"]


def test_openapi_shows_every_option_with_the_librarys_bounds(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/caption"]["post"]
    parameters = {
        parameter["name"]: parameter["schema"]
        for parameter in operation["parameters"]
        if parameter["in"] == "query"
    }
    properties = DecodingOptions.model_json_schema()["properties"]
    del properties["avoid_echoes"]  # the model's own
    assert set(parameters) == {"model", "include", *properties}
    for name, schema in properties.items():
        assert (parameters[name]["minimum"], parameters[name]["maximum"]) == (
            schema["minimum"],
            schema["maximum"],
        )


def test_openapi_every_operation_has_a_summary_an_example_and_no_framework_errors(
    client: TestClient,
) -> None:
    document = client.get("/openapi.json").json()
    assert "HTTPValidationError" not in json.dumps(document)
    for operation in (each for path in document["paths"].values() for each in path.values()):
        assert operation["summary"]
        assert operation["description"]
        for status, response in operation["responses"].items():
            if status == "204":
                assert "content" not in response
                continue
            first = next(iter(response["content"].values()))
            assert "example" in first or "examples" in first


@pytest.mark.parametrize("path", ["/", "/docs", "/static/docs.css"])
@pytest.mark.parametrize("part", ["bytes=0-1", "bytes=5-2", "bytes=99999999-", "lines=1"])
def test_request_for_a_part_of_a_file_is_answered_with_the_whole(
    client: TestClient, path: str, part: str
) -> None:
    answer = client.get(path, headers={"Range": part})
    assert (answer.status_code, answer.content) == (200, client.get(path).content)


def test_docs_page_and_its_own_files_come_from_here_alone(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert not EXTERNAL.search(page.text)
    assets = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
    assert len(assets) == 5
    for asset in assets:
        response = client.get(f"/{asset}")
        assert response.status_code == 200, asset
        if asset.endswith((".css", ".html")) or asset == "static/docs.js":
            assert not EXTERNAL.search(response.text), asset


def test_root_is_the_page_under_a_strict_policy_and_nothing_of_it_is_inline(
    client: TestClient,
) -> None:
    page = client.get("/", follow_redirects=False)
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|<script(?![^>]* src=)|\sstyle=|\son[a-z]+=", page.text)
    linked = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
    assert all(client.get(f"/{file}").status_code == 200 for file in linked)
    modules = {f"static/page/modules/{file.name}" for file in WEB_FOLDER.glob("page/modules/*.js")}
    assert modules <= set(linked)  # asked for at once, not one after the other


def test_files_of_the_page_name_no_other_host_and_parse_no_html(client: TestClient) -> None:
    folder = WEB_FOLDER / "page"
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 25
    for file in files:
        text = client.get(f"/static/page/{file.relative_to(folder).as_posix()}").text
        assert text == file.read_text(encoding="utf-8")
        assert "//" not in re.sub(r"http://www.w3.org/2000/svg|(^|\s)//\s.*", "", text), file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b", text), file
        if file.suffix == ".js":
            assert text.startswith("// "), f"{file} does not say what it is for"
            for name in re.findall(r'from "\./([^"]+)"', text):
                assert (file.parent / name).is_file(), (file, name)


def test_static_files_stay_inside_their_folder(client: TestClient) -> None:
    for path in ("/static/../main.py", "/static/%2e%2e/main.py", "/static/..%2fmain.py"):
        assert client.get(path).status_code == 404


def test_health_is_200_and_readiness_names_the_model(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready", "model": DEFAULT_MODEL}


class _Held(FakeCaptioner):
    """Holds its first batch, the canary, until told to let go."""

    let_go = threading.Event()

    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        assert self.let_go.wait(20)
        return super().caption(images, options)


def test_readiness_is_503_until_the_canary_has_gone_through(
    image_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.engine.fake.FakeCaptioner", _Held)
    with TestClient(create_app(Settings(captioner="fake"))) as client:
        for response in (client.get("/readyz"), client.post("/caption", files=good(image_file))):
            assert response.status_code == 503
            assert response.json()["type"] == "/problems/not-ready"
            assert "warming up" in response.json()["detail"]
            assert response.headers["retry-after"]
        assert client.get("/healthz").status_code == 200
        assert "glimpse_ready 0.0" in client.get("/metrics").text
        _Held.let_go.set()
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/caption", files=good(image_file)).status_code == 200
        assert "glimpse_ready 1.0" in client.get("/metrics").text


def test_request_that_a_stop_cuts_off_is_told_so() -> None:
    async def app(*_: Any) -> None:
        await asyncio.Event().wait()

    async def scenario() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            await asyncio.Event().wait()

        scope = {"type": "http", "method": "POST", "path": "/caption", "headers": []}
        request = asyncio.create_task(RequestMiddleware(app, Metrics())(scope, receive, send))
        await asyncio.sleep(0)
        request.cancel()  # as the server does when its time to stop is over
        await request
        return sent

    start, body = asyncio.run(scenario())
    assert start["status"] == 503
    assert json.loads(body["body"])["type"] == "/problems/stopping"


def wait_until(condition: Callable[[], bool]) -> None:
    """Fail, instead of hanging, where it does not come true within a minute."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("the service did not come to the state that the test waits for")


class _Broken(FakeCaptioner):
    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        raise RuntimeError(f"cannot caption {len(images)} with {options}")


def test_health_of_a_model_that_fails_its_canary_asks_for_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.engine.fake.FakeCaptioner", _Broken)
    with TestClient(create_app(Settings(captioner="fake"))) as client:
        wait_until(lambda: "warming up" not in client.get("/readyz").text)
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 503


def test_start_with_a_damaged_model_ends_with_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (save_tiny_bundle(tmp_path / "tiny") / "model.safetensors").write_bytes(b"damaged")
    app = create_app(Settings(weights_folder=tmp_path, model="tiny"))
    with pytest.raises(CheckpointError), TestClient(app):
        pass
    assert f"cannot start: {tmp_path}/tiny/model.safetensors does not match" in caplog.text


def metric(client: TestClient, line: str) -> float:
    found = re.search(rf"^{re.escape(line)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics_count_requests_by_route_and_status_and_time_each_stage(
    client: TestClient, image_file: bytes
) -> None:
    counted = [
        'glimpse_http_requests_total{method="POST",route="/caption",status="200"}',
        'glimpse_http_requests_total{method="POST",route="/caption",status="422"}',
        'glimpse_http_requests_total{method="GET",route="/models/{name}",status="404"}',
        'glimpse_http_requests_total{method="GET",route="unmatched",status="404"}',
        'glimpse_http_requests_total{method="other",route="unmatched",status="404"}',
        'glimpse_http_request_seconds_count{method="POST",route="/caption"}',
        "glimpse_decode_seconds_count",
        "glimpse_queue_seconds_count",
        "glimpse_inference_seconds_count",
        "glimpse_batch_size_count",
        "glimpse_upload_bytes_count",
    ]
    before = [metric(client, line) for line in counted]
    client.post("/caption", files=good(image_file))
    client.post("/caption?beam_size=0", files=good(image_file))
    client.get("/models/a")
    client.get("/a/b/c")
    client.request("BREW", "/d")
    after = [metric(client, line) for line in counted]
    assert [late - early for early, late in zip(before, after, strict=True)] == [
        1,
        1,
        1,
        1,
        1,
        2,
        1,
        1,
        1,
        1,
        1,
    ]
    assert "a/b/c" not in client.get("/metrics").text


def test_metrics_of_two_apps_are_apart() -> None:
    one, other = Metrics(), Metrics()
    one.batch_retries.inc()
    assert b"glimpse_batch_retries_total 1.0" in one.render()
    assert b"glimpse_batch_retries_total 0.0" in other.render()


@pytest.mark.parametrize("given", ["abc-123", "A.b_c:9", "x" * 64])
def test_request_id_sane_one_is_echoed(client: TestClient, given: str) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "two words", "x" * 65, "a\tb", '{"a":1}', "-", "é".encode()])
def test_request_id_odd_one_is_replaced(client: TestClient, given: str | bytes) -> None:
    headers: Any = {"X-Request-ID": given}
    answered = client.get("/healthz", headers=headers).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", answered)


def test_answers_forbid_content_sniffing(client: TestClient) -> None:
    for path in ("/docs", "/nowhere", "/healthz", "/static/docs.js"):
        assert client.get(path).headers["x-content-type-options"] == "nosniff"


def test_access_log_has_request_id_status_and_seconds(
    client: TestClient, image_file: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="app.access"):
        client.post("/caption", files=good(image_file), headers={"X-Request-ID": "one"})
    record = next(record for record in caplog.records if record.name == "app.access")
    assert record.getMessage() == "POST /caption"
    assert record.__dict__["status"] == 200
    assert record.__dict__["seconds"] >= 0


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_log_line_carries_request_id_extras_and_traceback(formatter: logging.Formatter) -> None:
    token = request_id_context.set("id-1")
    try:
        raise ValueError("why\nover two lines")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
        record = logging.LogRecord("app.x", logging.ERROR, "x.py", 1, "it %s", ("broke",), info)
        record.__dict__["seconds"] = 0.5
        line = formatter.format(record)
    finally:
        request_id_context.reset(token)
    assert "it broke" in line
    assert "id-1" in line
    assert "over two lines" in line
    if isinstance(formatter, JsonFormatter):
        document = json.loads(line)
        assert "\n" not in line
        assert (document["level"], document["seconds"], document["request_id"]) == (
            "error",
            0.5,
            "id-1",
        )


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_log_line_cannot_be_forged_by_what_a_client_sends(formatter: logging.Formatter) -> None:
    sent = "/x\n2026-01-01T00:00:00.000Z CRITICAL app: owned\x1b[31m\x9b31m\u2028\x07é"
    record = logging.LogRecord("app.access", logging.INFO, "", 0, "GET %s", (sent,), None)
    record.agent = sent
    line = formatter.format(record)
    assert len(line.splitlines()) == 1
    assert all(letter.isprintable() for letter in line)
    assert line.count("CRITICAL app: owned") == 2


@pytest.mark.parametrize("path", ["/x status=200 client=1.2.3.4", '/x" status=200', "/x=1", "/é"])
def test_path_of_a_request_forges_no_field_of_its_text_line(
    client: TestClient, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    with caplog.at_level(logging.INFO, logger="app.access"):
        client.get(quote(path))
    record = next(record for record in caplog.records if record.name == "app.access")
    shown = record.getMessage().removeprefix("GET ")
    forges = bool(set(path) & set(' ="'))
    assert shown == (json.dumps(path) if forges else path)
    assert " status=404 " in TextFormatter().format(record).partition(shown)[2]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/docs", "/models", "/metrics"])
def test_head_is_answered_as_get_without_a_body(client: TestClient, path: str) -> None:
    expected = client.get(path, follow_redirects=False)
    answer = client.head(path, follow_redirects=False)
    assert (answer.status_code, answer.content) == (expected.status_code, b"")
    assert answer.headers.get("content-type") == expected.headers.get("content-type")
    if path != "/metrics":  # which changes with every request
        assert answer.headers.get("content-length") == expected.headers.get("content-length")
    line = f'glimpse_http_requests_total{{method="HEAD",route="{path}",'
    assert line in client.get("/metrics").text


def test_head_where_only_post_is_answered_is_a_405(client: TestClient) -> None:
    assert client.head("/caption").status_code == 405
