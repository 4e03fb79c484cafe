"""Bounds the bodies of requests as they arrive. Knows no forms and no models.

Plain ASGI: it sees bytes as they come and holds nothing back.
"""

import asyncio
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.base64_image import base64_length
from app.api.errors import problem_response
from app.api.request_record import route_path
from app.api.upload_places import PLACE_IN_SCOPE, Place, UploadPlaces
from app.core.errors import BodyTimeoutError, BodyTooLargeError, ServiceError

__all__ = ["BodyLimits", "Refuse", "UploadMiddleware"]

_LINGER_SECONDS = 2.0
_JSON_BESIDE_BYTES = 64_000
_SMALLER = "Send a smaller copy of the picture, or fewer pictures."


class Lingerers:
    """How many connections linger after an early answer: a bounded number, so that a flood of bad
    requests holds no places."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._count = 0

    @contextmanager
    def one_more(self) -> Iterator[bool]:
        """Tell whether one more may linger, for the length of the block."""
        may_linger = self._count < self._most
        self._count += may_linger
        try:
            yield may_linger
        finally:
            self._count -= may_linger


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much, for how long, and how slowly a request's body may arrive.

    max_bytes: of a body that is an image, or a form with one.
    max_bytes_at: the same for the addresses that take several images, by their paths.
    max_json_bytes: of JSON, whatever it is sent to: more has no room beside the images in it.
    min_bytes_per_second: on average, judged after `idle_timeout_seconds`; 0 for no limit.
    """

    max_bytes: int
    idle_timeout_seconds: float
    timeout_seconds: float
    min_bytes_per_second: int = 0
    max_bytes_at: Mapping[str, int] = field(default_factory=dict)
    max_json_bytes: int = 10**12
    lingerers: Lingerers = field(default_factory=Lingerers)

    def most_bytes(self, path: str, media_type: str) -> int:
        """Say how large a body may be: JSON has its images in base64, which is a third longer."""
        most = self.max_bytes_at.get(path, self.max_bytes)
        if media_type == "application/json":
            most = min(base64_length(most) + _JSON_BESIDE_BYTES, self.max_json_bytes)
        return most


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answers a request with a problem before its body is read.

    A client that sends its body at once can still read the answer; what comes of the body
    meanwhile is forgotten.
    """

    limits: BodyLimits

    async def __call__(
        self, error: ServiceError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer with the error."""
        headers = Headers(scope=scope)
        if _has_body(headers):
            body = _Body(receive, self.limits, self.limits.max_bytes)
            receive, send = body.receive, _lingering(send, body, headers)
        await problem_response(error)(scope, receive, send)


class UploadMiddleware:
    """Bounds request bodies as they arrive, and lets a client that still sends read its answer.

    A body that is announced as too large is refused before a byte of it is read. One that grows too
    large, or comes too slowly, raises in whoever reads it, and no more of it is read.
    """

    def __init__(self, app: ASGIApp, *, limits: BodyLimits, places: UploadPlaces) -> None:
        self._app = app
        self._limits = limits
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; those without a body pass through."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if not _has_body(headers):
            await self._app(scope, receive, send)
            return
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        max_bytes = self._limits.most_bytes(route_path(scope), media_type)
        body = _Body(receive, self._limits, max_bytes)
        lingering = _lingering(send, body, headers)
        try:
            body.place = self._take_place(headers, max_bytes, (scope.get("client") or [""])[0])
        except ServiceError as refusal:
            await problem_response(refusal)(scope, body.receive, lingering)
            return
        scope[PLACE_IN_SCOPE] = body.place
        try:
            await self._app(scope, body.receive, lingering)
        finally:
            body.place.leave()

    def _take_place(self, headers: Headers, max_bytes: int, host: str) -> Place:
        """Take a place before the body is read. Raises BodyTooLargeError, TooManyUploadsError or
        UploadMemoryFullError."""
        length = headers.get("content-length", "0")
        announced_bytes = int(length) if length.isdecimal() else 0
        if announced_bytes > max_bytes:
            raise BodyTooLargeError(
                f"The request is {length} bytes; at most {max_bytes} are accepted. {_SMALLER}"
            )
        return self._places.take(host, announced_bytes)


class _Body:
    """A request's body, counted and timed as it is read."""

    def __init__(self, receive: Receive, limits: BodyLimits, max_bytes: int) -> None:
        self._receive = receive
        self._limits = limits
        self._max_bytes = max_bytes
        self._bytes = 0
        self._waited_seconds = 0.0
        self._deadline = asyncio.get_running_loop().time() + limits.timeout_seconds
        self._refused: ServiceError | None = None
        self.place: Place | None = None
        self.complete = False
        self.asked = False  # somebody reads it: a client that waited to be asked sends it now

    async def receive(self) -> Message:
        """Give the next ASGI message. Raises BodyTooLargeError, BodyTimeoutError or
        UploadMemoryFullError, and raises it again at every further call."""
        self.asked = True
        if self._refused is not None:
            raise self._refused
        if self.complete:
            return await self._receive()  # the client's hanging up, some day
        message = await self._next_in_time()
        size_bytes = len(message.get("body", b""))
        self._bytes += size_bytes
        self.complete = not message.get("more_body", False)
        try:
            self._check_and_hold(size_bytes)
        except ServiceError as error:
            self._refused = error
            raise
        if self.complete and self.place is not None:
            self.place.arrived()
        return message

    def _check_and_hold(self, size_bytes: int) -> None:
        if self._bytes > self._max_bytes:
            raise BodyTooLargeError(
                f"The request is larger than {self._max_bytes} bytes, which is the most that is "
                f"accepted. {_SMALLER}"
            )
        if self.place is not None:
            self.place.hold(size_bytes)

    async def linger(self) -> None:
        """Read and forget what still comes, until it ends, the client leaves, or time is up."""
        if self.place is not None:
            self.place.arrived()
        with suppress(TimeoutError), self._limits.lingerers.one_more() as may_linger:
            async with asyncio.timeout(_LINGER_SECONDS if may_linger else 0.0):
                while not self.complete:
                    message = await self._receive()
                    self.complete = not message.get("more_body", False)

    async def _next_in_time(self) -> Message:
        now = asyncio.get_running_loop().time
        started = now()
        left_seconds = self._deadline - started
        enough_seconds = self._enough_seconds() - self._waited_seconds
        idle_seconds = self._limits.idle_timeout_seconds
        try:
            async with asyncio.timeout(min(idle_seconds, left_seconds, enough_seconds)):
                message = await self._receive()
        except TimeoutError as error:
            self._refused = BodyTimeoutError(self._say_what_was_late(left_seconds, enough_seconds))
            raise self._refused from error
        # Only what the client lets us wait for counts: not while nobody reads.
        self._waited_seconds += now() - started
        return message

    def _enough_seconds(self) -> float:
        """How long the bytes that came may have been waited for."""
        rate = self._limits.min_bytes_per_second
        if rate == 0:
            return math.inf
        return max(self._limits.idle_timeout_seconds, self._bytes / rate)

    def _say_what_was_late(self, left_seconds: float, enough_seconds: float) -> str:
        idle_seconds = self._limits.idle_timeout_seconds
        # A pause that began with the body is told as a pause.
        if min(left_seconds, enough_seconds) > 0.9 * idle_seconds:
            return f"Nothing of the request's body arrived for {idle_seconds:g} seconds."
        if enough_seconds < left_seconds:
            return (
                "The request's body arrived more slowly than "
                f"{self._limits.min_bytes_per_second} bytes a second."
            )
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
            if self._body.asked or not self._client_waits:
                await self._body.linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _lingering(send: Send, body: _Body, headers: Headers) -> _LingeringSend:
    client_waits = headers.get("expect", "").lower() == "100-continue"
    return _LingeringSend(send, body, client_waits=client_waits)
