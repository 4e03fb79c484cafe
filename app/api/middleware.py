"""What surrounds every request: its id, its log line, its metrics. Knows no forms and no models.

    app.api.forwarded ──> SecurityHeadersMiddleware ──> RequestMiddleware ──> HeadMiddleware ──>
    WholeMiddleware ──> app.api.pages ──> app.api.access ──> app.api.uploads ──> the routes

All are plain ASGI: they see bytes as they come and hold nothing back.
"""

import asyncio
import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import problem_response
from app.api.request_record import (
    OPERATIONS,
    REFUSED_IN_SCOPE,
    Refused,
    RequestRecord,
    key_name_of,
    method_of,
    route_of,
    route_path,
)
from app.core.errors import StoppingError
from app.core.logging import quoted, request_id_context
from app.core.metrics import Metrics
from app.core.tracing import Tracing, past_stage

__all__ = ["HeadMiddleware", "RequestMiddleware", "WholeMiddleware"]

_access_logger = logging.getLogger("app.access")
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


class RequestMiddleware:
    """Gives each request an id, a log line and metrics, and answers unforeseen errors plainly."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other kinds of scope pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Before the app runs: what is mounted moves its prefix from the path to the root path.
        record = RequestRecord(_request_id(scope), path=route_path(scope))
        record.enter(scope)
        token = request_id_context.set(record.request_id)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = record.request_id
            await send(message)

        try:
            with (
                self._metrics.requests_in_flight.track_inprogress(),
                self._traced(scope, record),
            ):
                await self._app_or_500(scope, record.counting(receive), send_with_headers)
                record.settle(scope)
        finally:
            self._record(scope, record)
            request_id_context.reset(token)

    @contextmanager
    def _traced(self, scope: Scope, record: RequestRecord) -> Iterator[None]:
        """Trace the request, where tracing is on and it is no probe."""
        if self._tracing is None or record.path in OPERATIONS:
            yield
            return
        with self._tracing.request(Headers(scope=scope), record.request_id) as trace:
            record.on_received = lambda seconds: past_stage("receive", seconds)
            try:
                yield
            finally:
                trace.span.update_name(f"{method_of(scope)} {route_of(scope)}")
                trace.describe(
                    http__request__method=method_of(scope),
                    http__route=route_of(scope),
                    http__response__status_code=record.status,
                    http__request__body__size=record.received_bytes,
                    glimpse__problem=record.problem,
                )

    async def _app_or_500(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except asyncio.CancelledError:  # the server stops, and its time to do so is over
            if started:
                raise
            await problem_response(StoppingError())(scope, receive, send)
        except Exception as error:
            if started:  # half an answer is out: only closing the connection is honest
                raise
            await problem_response(error)(scope, receive, send)

    def _record(self, scope: Scope, record: RequestRecord) -> None:
        seconds = record.seconds
        method, route = method_of(scope), route_of(scope)
        self._metrics.requests.labels(method, route, str(record.status)).inc()
        self._metrics.request_seconds.labels(method, route).observe(seconds)
        if record.receive_seconds is not None:
            self._metrics.receive_seconds.observe(record.receive_seconds)
        if record.problem is not None:
            self._metrics.refused.labels(record.problem).inc()
        if record.problem is not None and record.image_problem:
            self._metrics.decode_failures.labels(record.problem).inc()
        optional = {"key": key_name_of(scope), "problem": record.problem}
        _access_logger.log(
            logging.DEBUG if record.path in OPERATIONS and record.status < 400 else logging.INFO,
            "%s %s",
            scope["method"],
            quoted(record.path),
            extra={
                "route": route,
                "status": record.status,
                "seconds": round(seconds, 4),
                "received_bytes": record.received_bytes,
                "client": (scope.get("client") or ["unknown"])[0],
                **{name: value for name, value in optional.items() if value is not None},
            },
        )


class HeadMiddleware:
    """Answers HEAD as GET is answered, without the body (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other methods and kinds of scope pass through."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_without_body)
        finally:
            scope["method"] = "HEAD"  # what the log and the metrics say


class WholeMiddleware:
    """Answers whoever asks for a part of a file with the whole of it (RFC 9110, section 14.2).

    All that is served here is small, and what a part cannot be given of would be told in words that
    are not ours.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other kinds of scope pass through."""
        if scope["type"] == "http":
            scope["headers"] = [header for header in scope["headers"] if header[0] != b"range"]
        await self._app(scope, receive, send)


def _request_id(scope: Scope) -> str:
    """Give the id that the client was told, or its own if it is harmless to log, or a new one."""
    refused = scope.get(REFUSED_IN_SCOPE)
    if isinstance(refused, Refused):
        return refused.request_id
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
