"""What surrounds every request: its id, its log line, its metrics. Knows no forms and no models.

    ForwardedMiddleware ──> RequestMiddleware ──> HeadMiddleware ──> UploadMiddleware ──> the routes

All are plain ASGI: they see bytes as they come and hold nothing back. `app.api.forwarded` has the
first, `app.api.uploads` the last.
"""

import asyncio
import logging
import re
import uuid
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import problem_response
from app.core.errors import StoppingError
from app.core.logging import request_id_context
from app.core.metrics import Metrics

__all__ = ["HeadMiddleware", "RequestMiddleware"]

_access_logger = logging.getLogger("app.access")
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})


class RequestMiddleware:
    """Gives each request an id, a log line and metrics, and answers unforeseen errors plainly."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other kinds of scope pass through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        token = request_id_context.set(request_id)
        started = perf_counter()
        status = 499  # until there is an answer: the client went away

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        try:
            with self._metrics.requests_in_flight.track_inprogress():
                await self._app_or_500(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, perf_counter() - started)
            request_id_context.reset(token)

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

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request_seconds.labels(method, route).observe(seconds)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        _access_logger.log(
            logging.DEBUG if path in _PROBES and status < 400 else logging.INFO,
            "%s %s",
            scope["method"],
            path,
            extra={
                "status": status,
                "seconds": round(seconds, 4),
                "client": (scope.get("client") or ["unknown"])[0],
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


def _request_id(headers: Headers) -> str:
    """Give the client's own id if it is harmless to log, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
