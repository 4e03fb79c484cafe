"""What is known of one request when it is over: for its log line, its metrics and its trace.

It travels in the request's ASGI scope, so that whoever answers can add to it. Knows no engine.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from starlette.types import Message, Receive, Scope

__all__ = ["RequestRecord", "key_name_of", "method_of", "route_of"]

_SCOPE_KEY = "glimpse.record"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(slots=True)
class RequestRecord:
    """One request, from its head to the end of its answer.

    status: of its answer; 499 until there is one, as the client may go away before.
    received_bytes: of its body, so far.
    receive_seconds: from its head to the last byte of its body; None without a whole body.
    problem: the slug of the problem document that answered it, or None.
    image_problem: whether that problem is the image's, found as it was decoded.
    on_received: called with `receive_seconds` when the body is whole.
    """

    request_id: str
    status: int = 499
    started: float = field(default_factory=perf_counter)
    received_bytes: int = 0
    receive_seconds: float | None = None
    problem: str | None = None
    image_problem: bool = False
    on_received: Callable[[float], None] = field(default=lambda _: None)

    @property
    def seconds(self) -> float:
        """The time since the request's head."""
        return perf_counter() - self.started

    def enter(self, scope: Scope) -> None:
        """Put this record into the request's scope."""
        scope[_SCOPE_KEY] = self

    @staticmethod
    def of(scope: Scope) -> "RequestRecord | None":
        """Find the record of the request with this scope; None where nobody put one there."""
        record = scope.get(_SCOPE_KEY)
        return record if isinstance(record, RequestRecord) else None

    def counting(self, receive: Receive) -> Receive:
        """Count the body's bytes and its time as they are received."""

        async def receive_and_count() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self.received_bytes += len(message.get("body", b""))
                is_whole = not message.get("more_body", False)
                if is_whole and self.received_bytes and self.receive_seconds is None:
                    self.receive_seconds = self.seconds
                    self.on_received(self.receive_seconds)
            return message

        return receive_and_count


def route_of(scope: Scope) -> str:
    """Give the template of the request's route, of which there are few; not its path."""
    return str(getattr(scope.get("route"), "path", "unmatched"))


def method_of(scope: Scope) -> str:
    """Give the request's method, or `other`: a client may invent any."""
    return scope["method"] if scope["method"] in _METHODS else "other"


def key_name_of(scope: Scope) -> str | None:
    """Give the name of the API key that the request was let in with, or None; never the key."""
    name = getattr(scope.get("glimpse.key"), "name", None)
    return None if name is None else str(name)
