"""Traces that leave the process: a real collector gets them, and one that is gone or hangs harms
nobody."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.server import WAIT_SECONDS, eventually, serving

pytestmark = pytest.mark.e2e


@contextmanager
def collecting(answer_after: threading.Event) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An OTLP collector that answers once the event is set: its address, and what it was sent."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            answer_after.wait(WAIT_SECONDS)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    collector = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=collector.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{collector.server_port}", received
    finally:
        answer_after.set()
        collector.shutdown()
        thread.join()
        collector.server_close()


def now() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


def test_collector_gets_the_spans_of_a_request(
    tmp_path: Path, repository: Path, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting(now()) as (address, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with serving(tmp_path, repository) as server:
            assert server.caption(png)[0] == 200
            eventually(lambda: b"POST /caption" in b"".join(body for _, body in received))
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(WAIT_SECONDS) == 0
    assert {path for path, _ in received} == {"/v1/traces"}  # no metrics and no logs
    spans: dict[str, Span] = {}
    for _, body in received:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = {each.key: each.value.string_value for each in resource.resource.attributes}
            assert service["service.name"] == "glimpse"
            for scope in resource.scope_spans:
                spans |= {span.name: span for span in scope.spans}
    assert {"POST /caption", "receive", "decode", "queue", "inference", "batch"} <= set(spans)
    assert spans["decode"].parent_span_id == spans["POST /caption"].span_id
    assert spans["batch"].links[0].span_id == spans["POST /caption"].span_id


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gone", "hanging"])
def test_collector_that_does_not_answer_harms_no_request_and_no_stop(
    tmp_path: Path, repository: Path, png: bytes, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with collecting(threading.Event()) as (address, received):
        gone = "http://127.0.0.1:9"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address if kind == "hanging" else gone)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with serving(tmp_path, repository) as server:
            assert server.caption(png)[0] == 200
            if kind == "hanging":
                eventually(lambda: len(received) > 0)
            assert server.caption(png)[0] == 200
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(WAIT_SECONDS) == 0
            assert "Traceback" not in server.log.read_text()
