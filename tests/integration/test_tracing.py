"""Traces: which spans a request leaves, how they hang together, what is never in them; and what
happens where tracing is asked for and cannot be."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.core.settings import Settings
from app.core.tracing import Tracing, current_trace, past_stage, stage, tracing_from_environment
from app.main import create_app

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


class Traced:
    """A service whose spans are kept in memory."""

    def __init__(self, client: TestClient, exporter: InMemorySpanExporter) -> None:
        self.client = client
        self.exporter = exporter

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())


@pytest.fixture(scope="module")
def service() -> Iterator[Traced]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = create_app(
        Settings(captioner="fake", max_batch_wait_seconds=0.2, max_batch_size=2),
        tracing=Tracing(provider),
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            pass
        yield Traced(client, exporter)


@pytest.fixture
def traced(service: Traced) -> Traced:
    service.exporter.clear()
    return service


def form(image_file: bytes) -> dict[str, Any]:
    return {"image": ("photo.jpg", image_file, "image/jpeg")}


def test_request_and_its_stages_are_one_trace_under_the_request_id(
    traced: Traced, image_file: bytes
) -> None:
    traced.client.post(
        "/attention?format=png", files=form(image_file), headers={"X-Request-ID": "one"}
    )
    spans = {span.name: span for span in traced.spans()}
    request = spans["POST /attention"]
    assert set(spans) == {
        *("POST /attention", "receive", "decode", "queue", "inference", "render", "batch"),
    }
    assert request.attributes is not None
    assert dict(request.attributes) == {
        "glimpse.request_id": "one",
        "http.request.method": "POST",
        "http.route": "/attention",
        "http.response.status_code": 200,
        "http.request.body.size": request.attributes["http.request.body.size"],
    }
    stages = [spans[name] for name in ("receive", "decode", "queue", "inference", "render")]
    starts = [span.start_time for span in stages]
    assert starts == sorted(starts, key=lambda time: time or 0)
    for span in stages:
        assert span.parent is not None
        assert span.parent.span_id == request.context.span_id
        assert span.context.trace_id == request.context.trace_id
        assert span.end_time is not None
        assert span.start_time is not None
        assert span.end_time >= span.start_time


def test_batch_is_linked_to_each_request_that_it_is_for(traced: Traced, image_file: bytes) -> None:
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda _: traced.client.post("/caption", files=form(image_file)), "ab")
        assert [answer.status_code for answer in answers] == [200, 200]
    batches = [span for span in traced.spans() if span.name == "batch"]
    requests = {span.context.span_id for span in traced.spans() if span.name == "POST /caption"}
    assert {link.context.span_id for span in batches for link in span.links} == requests
    assert len(requests) == 2
    assert sum(int(str((span.attributes or {})["glimpse.batch_size"])) for span in batches) == 2


def test_traceparent_of_the_client_is_taken_up(traced: Traced, image_file: bytes) -> None:
    traced.client.post("/caption", files=form(image_file), headers={"traceparent": TRACEPARENT})
    (request,) = (span for span in traced.spans() if span.name == "POST /caption")
    assert f"{request.context.trace_id:032x}" == TRACE_ID
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == PARENT_ID


def test_client_that_wants_no_trace_gets_none(traced: Traced, image_file: bytes) -> None:
    headers = {"traceparent": TRACEPARENT.removesuffix("1") + "0"}
    assert traced.client.post("/caption", files=form(image_file), headers=headers).is_success
    assert [span for span in traced.spans() if span.name == "POST /caption"] == []


@settings(max_examples=50)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200))
def test_traceparent_whatever_it_is_is_harmless(service: Traced, text: str) -> None:
    headers = {"traceparent": text, "tracestate": text}
    assert service.client.get("/models", headers=headers).status_code == 200


def test_spans_hold_nothing_of_the_picture_the_caption_the_address_or_a_key(
    traced: Traced, image_file: bytes
) -> None:
    answer = traced.client.post(
        "/caption?model=glimpse",
        files=form(image_file),
        headers={"Authorization": "Bearer secret-key", "X-API-Key": "secret-key"},
    )
    traced.client.get("/models/private-name?token=secret-key")
    written = "".join(span.to_json() for span in traced.spans())
    for private in ("secret-key", "private-name", answer.json()["caption"], "photo.jpg"):
        assert private not in written
    assert "testclient" not in written


def test_refused_request_names_its_problem_and_probes_are_not_traced(traced: Traced) -> None:
    traced.client.post("/caption", files={"image": ("a", b"none")})
    for path in ("/healthz", "/readyz", "/metrics"):
        traced.client.get(path)
    (request,) = (span for span in traced.spans() if span.name.startswith(("POST", "GET")))
    assert (request.attributes or {})["glimpse.problem"] == "unreadable-image"


def test_stages_outside_a_request_do_nothing() -> None:
    assert current_trace() is None
    with stage("decode"):
        past_stage("queue", 1.0)


class _Hanging(SpanExporter):
    """A collector that takes spans and never answers, until the test lets go."""

    let_go = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        self.let_go.wait(60)
        return SpanExportResult.SUCCESS


def test_stop_does_not_wait_for_a_collector_that_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("app.core.tracing._FLUSH_SECONDS", 0.05)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Hanging()))
    tracing = Tracing(provider)
    with tracing.request({}, "one"):
        pass
    tracing.stop()
    assert "the last spans are lost" in caplog.text
    _Hanging.let_go.set()


def test_tracing_off_imports_no_sdk(repository: Path) -> None:
    code = (
        "import sys\n"
        "from app.api.middleware import RequestMiddleware\n"
        "from app.core.metrics import Metrics\n"
        "from app.core.tracing import tracing_from_environment\n"
        "RequestMiddleware(None, Metrics(), tracing_from_environment({}, '1'))\n"
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=repository, check=False).returncode == 0


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, "only otlp is known"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "begins with http://"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, "begins with http://"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "only http/protobuf is known",
        ),
    ],
)
def test_tracing_that_cannot_work_is_warned_of_and_left_off(
    environment: dict[str, str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert tracing_from_environment(environment, "1") is None
    assert "requests are not traced: " in caplog.text
    assert reason in caplog.text


def test_tracing_without_the_extra_is_warned_of_and_left_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with caplog.at_level(logging.WARNING):
        assert tracing_from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, "1") is (
            None
        )
    assert "pip install '.[tracing]'" in caplog.text


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"},
    ],
)
def test_tracing_that_nobody_asks_for_is_off_without_a_word(
    environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert tracing_from_environment(environment, "1") is None
    assert caplog.text == ""
