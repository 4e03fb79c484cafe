"""Traces requests as OpenTelemetry spans, where the environment asks for it. Knows no HTTP routes
and no models.

The SDK is an extra (`pip install .[tracing]`), imported only where tracing is on. A span says where
time went, under the request's id; no image, no caption, no address and no key goes into one.

    request ──> receive, decode, queue, inference, render      one trace a request
    batch                                                      one a batch, linked to its requests
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

__all__ = [
    "Trace",
    "Tracing",
    "current_trace",
    "past_stage",
    "stage",
    "trace_batch",
    "tracing_from_environment",
]

_logger = logging.getLogger(__name__)
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_FLUSH_SECONDS = 3.0
_NANOSECONDS = 1_000_000_000
_trace: ContextVar["Trace | None"] = ContextVar("trace", default=None)

Attribute = str | int | float


class Trace:
    """The trace of one request that is being answered."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self.tracer = tracer
        self.span = span

    def describe(self, **attributes: Attribute | None) -> None:
        """Add attributes to the request's span; `a__b` stands for a.b, and None is left out."""
        for name, value in attributes.items():
            if value is not None:
                self.span.set_attribute(name.replace("__", "."), value)

    def add(self, name: str, start: int, end: int) -> None:
        """Add a stage that began and ended at these times, in nanoseconds since 1970."""
        from opentelemetry.trace import set_span_in_context

        child = self.tracer.start_span(
            name, context=set_span_in_context(self.span), start_time=start
        )
        child.end(end)


class Tracing:
    """Begins the traces of requests, and hands finished spans to an exporter."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("glimpse")

    @contextmanager
    def request(self, headers: Mapping[str, str], request_id: str) -> Iterator[Trace]:
        """Trace a request, as part of the client's own trace where `traceparent` names one."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(
            {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        )
        span = self._tracer.start_span("request", context=parent, kind=SpanKind.SERVER)
        trace = Trace(self._tracer, span)
        trace.describe(glimpse__request_id=request_id)
        token = _trace.set(trace)
        try:
            yield trace
        finally:
            _trace.reset(token)
            span.end()

    def stop(self) -> None:
        """Send what has not been sent, for a few seconds at most, and end. Blocks.

        A collector that is gone or hangs would hold the SDK for longer: it is left behind.
        """
        ending = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        ending.start()
        ending.join(_FLUSH_SECONDS)
        if ending.is_alive():
            _logger.warning("the collector of traces does not answer: the last spans are lost")


def current_trace() -> Trace | None:
    """Give the trace of the running request; None where it is not traced."""
    return _trace.get()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Trace the block as a stage of the running request; do nothing where it is not traced."""
    trace = _trace.get()
    started = time.time_ns()
    try:
        yield
    finally:
        if trace is not None:
            trace.add(name, started, time.time_ns())


def past_stage(name: str, seconds: float, *, ended_seconds_ago: float = 0.0) -> None:
    """Trace a stage of the running request that is over; do nothing where it is not traced."""
    trace = _trace.get()
    if trace is not None:
        end = time.time_ns() - int(ended_seconds_ago * _NANOSECONDS)
        trace.add(name, end - int(seconds * _NANOSECONDS), end)


@contextmanager
def trace_batch(traces: Iterable[Trace | None], size: int) -> Iterator[None]:
    """Trace the block as a batch of `size` images, linked to the requests that it is for."""
    known = [trace for trace in traces if trace is not None]
    if not known:
        yield
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import Link

    links = [Link(trace.span.get_span_context()) for trace in known]
    span = known[0].tracer.start_span(
        "batch", context=Context(), links=links, attributes={"glimpse.batch_size": size}
    )
    try:
        yield
    finally:
        span.end()


def tracing_from_environment(environment: Mapping[str, str], version: str) -> Tracing | None:
    """Build the tracing that OpenTelemetry's own variables ask for; None where they ask for none.

    It is on where OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT) is set, or
    OTEL_TRACES_EXPORTER is `otlp`. What cannot work is logged, and the service runs without.
    version: what runs, for `service.version`.
    """
    endpoint = next((environment[name] for name in _ENDPOINTS if environment.get(name)), "")
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if is_disabled or exporter == "none" or not (endpoint or exporter):
        return None
    wrong = _what_is_wrong(environment, endpoint, exporter)
    if wrong:
        _logger.warning("requests are not traced: %s", wrong)
        return None
    try:
        provider = _provider(environment, version)
    except ImportError:
        _logger.warning(
            "requests are not traced: the environment asks for it, but OpenTelemetry is not "
            "installed. Install the extra: pip install '.[tracing]'"
        )
        return None
    _logger.info("requests are traced")
    return Tracing(provider)


def _what_is_wrong(environment: Mapping[str, str], endpoint: str, exporter: str) -> str | None:
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), "")
    if exporter not in ("", "otlp"):
        return f"OTEL_TRACES_EXPORTER is '{exporter}'; only otlp is known"
    if protocol not in ("", "http/protobuf"):
        return f"the protocol of OTLP is '{protocol}'; only http/protobuf is known"
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return "the endpoint of OTLP is no address; it begins with http:// or https://"
    if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
        return "the endpoint of OTLP is no address; it begins with http:// or https://"
    return None


def _provider(environment: Mapping[str, str], version: str) -> "TracerProvider":
    """Raises ImportError where the extra is not installed."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = environment.get("OTEL_SERVICE_NAME") or "glimpse"
    resource = Resource.create({"service.name": name, "service.version": version})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
