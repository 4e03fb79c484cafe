"""What surrounds every request: its id, log line, metrics, and limits on its arriving body.

Knows no forms and no models.

    RequestMiddleware ──> UploadMiddleware ──> the routes

Both are plain ASGI: they see bytes as they come and hold nothing back.
"""

import asyncio
import logging
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import problem_response
from app.core.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    RequestError,
    ServiceError,
    StoppingError,
    TooManyUploadsError,
)
from app.core.logging import request_id_context
from app.core.metrics import Metrics

__all__ = ["BodyLimits", "HeadMiddleware", "RequestMiddleware", "UploadMiddleware"]

_access_logger = logging.getLogger("app.access")
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LINGER_SECONDS = 2.0
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
        _access_logger.log(
            logging.DEBUG if scope["path"] in _PROBES and status < 400 else logging.INFO,
            "%s %s",
            scope["method"],
            scope["path"],
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


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much, and for how long, a request's body may arrive."""

    max_bytes: int
    idle_timeout_seconds: float
    timeout_seconds: float


class UploadMiddleware:
    """Bounds request bodies as they arrive, and lets a client that still sends read its answer.

    A body that is announced as too large is refused before a byte of it is read. One that grows too
    large, or comes too slowly, raises in whoever reads it, and no more of it is read.
    """

    def __init__(self, app: ASGIApp, *, limits: BodyLimits, max_uploads: int) -> None:
        self._app = app
        self._limits = limits
        self._max_uploads = max_uploads
        self._uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; those without a body pass through."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._limits)
        lingering = _LingeringSend(
            send, body, client_waits=headers.get("expect", "").lower() == "100-continue"
        )
        refusal = self._refusal(headers)
        if refusal is not None:
            await problem_response(refusal)(scope, body.receive, lingering)
            return
        self._uploads += 1
        try:
            await self._app(scope, body.receive, lingering)
        finally:
            self._uploads -= 1

    def _refusal(self, headers: Headers) -> ServiceError | None:
        """Say what is wrong before the body is read, or None."""
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._limits.max_bytes:
            return BodyTooLargeError(
                f"The request is {length} bytes; at most {self._limits.max_bytes} are accepted. "
                "Send a smaller copy of the picture."
            )
        if self._uploads >= self._max_uploads:
            return TooManyUploadsError(
                f"{self._max_uploads} uploads are being answered already. Try again in a few "
                "seconds."
            )
        return None


class _Body:
    """A request's body, counted and timed as it is read."""

    def __init__(self, receive: Receive, limits: BodyLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._bytes = 0
        self._deadline = asyncio.get_running_loop().time() + limits.timeout_seconds
        self._refused: RequestError | None = None
        self.complete = False

    async def receive(self) -> Message:
        """Give the next ASGI message. Raises BodyTooLargeError or BodyTimeoutError, and raises it
        again at every further call."""
        if self._refused is not None:
            raise self._refused
        if self.complete:
            return await self._receive()  # the client's hanging up, some day
        message = await self._next_in_time()
        self._bytes += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        if self._bytes > self._limits.max_bytes:
            self._refused = BodyTooLargeError(
                f"The request is larger than {self._limits.max_bytes} bytes, which is the most "
                "that is accepted. Send a smaller copy of the picture."
            )
            raise self._refused
        return message

    async def drain(self, seconds: float) -> None:
        """Read and forget what still comes, until it ends, the client leaves, or time is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.complete:
                    message = await self._receive()
                    self.complete = not message.get("more_body", False)

    async def _next_in_time(self) -> Message:
        left_seconds = self._deadline - asyncio.get_running_loop().time()
        allowed_seconds = min(self._limits.idle_timeout_seconds, left_seconds)
        try:
            async with asyncio.timeout(allowed_seconds):
                return await self._receive()
        except TimeoutError as error:
            self._refused = BodyTimeoutError(self._say_what_was_late(left_seconds))
            raise self._refused from error

    def _say_what_was_late(self, left_seconds: float) -> str:
        idle_seconds = self._limits.idle_timeout_seconds
        if left_seconds > idle_seconds:
            return f"Nothing of the request's body arrived for {idle_seconds:g} seconds."
        whole_seconds = self._limits.timeout_seconds
        return f"The request's body took longer than {whole_seconds:g} seconds to arrive."


class _LingeringSend:
    """Sends an answer that may come before the whole request has arrived.

    If the connection were closed while the client still sends, the client's system would discard
    the answer and report a reset. So the whole answer goes out; then what still comes is read and
    forgotten for a moment; then the connection ends.
    """

    def __init__(self, send: Send, body: _Body, *, client_waits: bool) -> None:
        """Take where to send, and the body.

        client_waits: the client sends nothing until it is asked to go on (Expect: 100-continue).
        """
        self._send = send
        self._body = body
        self._client_waits = client_waits

    async def __call__(self, message: Message) -> None:
        """Send one ASGI message; the last one after the client has finished or time is over."""
        if self._body.complete:
            await self._send(message)
        elif message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Connection"] = "close"
            await self._send(message)
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            if not self._client_waits:
                await self._body.drain(_LINGER_SECONDS)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _request_id(headers: Headers) -> str:
    """Give the client's own id if it is harmless to log, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
