"""What an operator sees of each request: its log lines, its metrics."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.api.errors import decode_problems
from app.api.problem_kinds import HTTP_PROBLEMS, PROBLEMS
from app.core.errors import DecoderFailedError
from app.core.logging import JsonFormatter
from app.engine.fake import FakeCaptioner
from models.caption import Caption
from models.config import DecodingOptions
from models.preprocessing import PreparedImage

Serve = Callable[..., Any]
_logger = logging.getLogger(__name__)


def good(image_file: bytes) -> dict[str, Any]:
    return {"image": ("photo.jpg", image_file, "image/jpeg")}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What has been logged, as the JSON format writes it in the thread that logs."""
    written: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(JsonFormatter().format(record))

    root = logging.getLogger()
    handler = Handler()
    root.addHandler(handler)
    caplog.set_level(logging.INFO)
    yield lambda: [json.loads(line) for line in written]
    root.removeHandler(handler)


class _Talkative(FakeCaptioner):
    def caption(self, images: Sequence[PreparedImage], options: DecodingOptions) -> list[Caption]:
        _logger.info("captions")
        return super().caption(images, options)


def test_every_log_line_of_a_request_has_its_id_also_from_threads(
    serve: Serve,
    image_file: bytes,
    lines: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.engine.fake.FakeCaptioner", _Talkative)
    with serve(max_batch_wait_seconds=0.5, max_batch_size=3) as client, ThreadPoolExecutor(3) as p:
        sent = [f"id-{number}" for number in range(3)]
        answers = p.map(
            lambda name: client.post(
                "/caption", files=good(image_file), headers={"X-Request-ID": name}
            ),
            sent,
        )
        assert [answer.status_code for answer in answers] == [200] * 3
    ids: dict[str, list[str]] = {}
    for line in lines():
        named = [name for name in line.get("request_id", "").split(",") if name.startswith("id-")]
        ids.setdefault(line["message"], []).extend(named)
    assert sorted(ids["captions"]) == sent
    assert sorted(ids["POST /caption"]) == sent


def test_access_log_line_tells_route_status_bytes_client_problem_and_key(
    client: TestClient, image_file: bytes, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    client.post("/caption", files=good(image_file))
    client.get("/models/nonesuch")
    accepted, refused = (line for line in lines() if line["logger"] == "app.access")
    assert (accepted["route"], accepted["status"]) == ("/caption", 200)
    assert accepted["received_bytes"] > len(image_file)
    assert accepted["client"] == "testclient"
    assert accepted["seconds"] > 0
    assert "problem" not in accepted
    assert (refused["route"], refused["problem"]) == ("/models/{name}", "unknown-model")
    assert refused["received_bytes"] == 0


def samples(client: TestClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("send", "reason", "is_decode_failure"),
    [
        (lambda client: client.post("/caption", files=good(b"no image")), "unreadable-image", True),
        (lambda client: client.post("/caption", files=good(b"")), "empty-image", True),
        (lambda client: client.post("/caption", files={"a": b"b"}), "unexpected-field", False),
        (lambda client: client.post("/caption", content=b"b"), "not-a-form", False),
        (lambda client: client.post("/caption?beam_size=0"), "invalid-option", False),
        (
            lambda client: client.post("/caption", content=b" " * 30_000_000),
            "body-too-large",
            False,
        ),
        (lambda client: client.get("/nowhere"), "not-found", False),
        (lambda client: client.get("/caption"), "method-not-allowed", False),
        (lambda client: client.get("/models/nonesuch"), "unknown-model", False),
    ],
)
def test_every_problem_is_counted_once_by_its_reason(
    client: TestClient,
    send: Callable[[TestClient], Any],
    reason: str,
    is_decode_failure: bool,
) -> None:
    before = samples(client)
    assert send(client).json()["type"] == f"/problems/{reason}"
    after = samples(client)
    changed = {
        (name, labels[0][1]): after[name, labels] - before[name, labels]
        for name, labels in before
        if name in ("glimpse_refused_total", "glimpse_decode_failures_total")
        and after[name, labels] != before[name, labels]
    }
    expected = {("glimpse_refused_total", reason): 1.0}
    if is_decode_failure:
        expected["glimpse_decode_failures_total", reason] = 1.0
    assert changed == expected


def test_request_answered_before_the_routes_is_named_by_what_answered(
    serve: Serve, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    page = {"Origin": "https://page.example"}
    asks = page | {"Access-Control-Request-Method": "POST"}
    with serve(cors_origins="https://page.example") as client:
        assert client.post("/caption", content=b" " * 30_000_000).status_code == 413
        assert client.post("/caption", headers={"Origin": "https://a.example"}).status_code == 403
        assert client.options("/caption", headers=asks).status_code == 200
        assert client.options("/caption", headers=page).status_code == 405
        assert client.get("/nowhere").status_code == 404
    asked = [line for line in lines() if line["logger"] == "app.access"]
    routes = [line["route"] for line in asked if line["route"] != "/readyz"]
    assert routes == ["refused", "refused", "preflight", "/caption", "unmatched"]


def test_reasons_and_codes_are_all_there_from_the_start(serve: Serve) -> None:
    with serve() as client:
        found = samples(client)
    reasons = {dict(labels)["reason"] for name, labels in found if name == "glimpse_refused_total"}
    codes = {
        dict(labels)["problem"] for name, labels in found if name == "glimpse_decode_failures_total"
    }
    kinds = (*PROBLEMS.values(), *HTTP_PROBLEMS.values())
    assert reasons == {kind.slug for kind in kinds} | {"other"}
    assert codes == decode_problems()
    assert "damaged-image" in codes


UNITS = ("_seconds", "_bytes", "_pixels", "_ratio", "_size")
NOT_BASE = re.compile(r"milliseconds|_ms\b|minutes|hours|kilobytes|megabytes|percent")


def test_metrics_follow_the_naming_conventions_of_prometheus(
    client: TestClient, image_file: bytes
) -> None:
    """What `promtool check metrics` looks at: help, unit, suffix, and no two kinds of one name."""
    client.post("/attention?format=png", files=good(image_file))
    text = client.get("/metrics").text
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    ours = [family for family in families if not family.name.endswith("_created")]
    assert len(ours) > 20
    for family in ours:
        assert re.fullmatch(r"(glimpse|process|python)_[a-z0-9_]+", family.name), family.name
        assert family.documentation.strip(), f"{family.name} has no help"
        assert not NOT_BASE.search(family.name), family.name
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name in (f"{family.name}_total", f"{family.name}_created")
            if family.type == "gauge":
                assert not sample.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert family.type != "histogram" or family.name.endswith(UNITS), family.name
    info = [family for family in ours if family.name.endswith("_info")]
    assert {sample.value for family in info for sample in family.samples} == {1.0}
    assert {"glimpse_model_info", "glimpse_build_info"} <= {family.name for family in info}


def test_metrics_time_every_stage_of_a_drawing(client: TestClient, image_file: bytes) -> None:
    stages = ("receive", "decode", "queue", "inference", "render")
    before = samples(client)
    assert client.post("/attention?format=png", files=good(image_file)).status_code == 200
    after = samples(client)
    for stage in stages:
        key = (f"glimpse_{stage}_seconds_count", ())
        assert after[key] - before.get(key, 0.0) == 1.0, stage


def test_fault_of_a_decoder_is_counted_among_the_pictures_that_were_not_decoded(
    client: TestClient, image_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise DecoderFailedError("a decoder process answered with Hello")

    monkeypatch.setattr("app.engine.decode_pool.DecodePool.prepare", fails)
    assert client.post("/caption", files=good(image_file)).status_code == 500
    counted = 'glimpse_decode_failures_total{problem="internal-error"} 1.0'
    assert counted in client.get("/metrics").text
