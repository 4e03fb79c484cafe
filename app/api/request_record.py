"""What is known of one request when it is over: for its log line, its metrics and its trace.

It travels in the request's ASGI scope, so that whoever answers can add to it. Knows no engine.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from starlette.types import Message, Receive, Scope

__all__ = [
    "KEY_IN_SCOPE",
    "OPERATIONS",
    "PROBES",
    "REFUSED_IN_SCOPE",
    "Refused",
    "RequestRecord",
    "key_name_of",
    "method_of",
    "route_of",
    "route_path",
]

KEY_IN_SCOPE = "glimpse.key"
"""Where a request's scope has the API key that it came with, once it is found good."""

PROBES = frozenset({"/healthz", "/readyz"})
"""The addresses for what restarts the service."""

OPERATIONS = PROBES | {"/metrics"}
"""Those, and the one for what watches it."""

REFUSED_IN_SCOPE = "glimpse.refused"
"""Where a request's scope has the `Refused` that its connection answered in the middle of it."""

_SCOPE_KEY = "glimpse.record"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Refused(NamedTuple):
    """What a client was told by its connection, in place of what the application would say."""

    status: int
    problem: str
    request_id: str


@dataclass(slots=True)
class RequestRecord:
    """One request, from its head to the end of its answer.

    path: as the routes see it.
    status: of its answer; 499 until there is one, as the client may go away before.
    received_bytes: of its body, so far.
    receive_seconds: from its head to the last byte of its body; None without a whole body.
    problem: the slug of the problem document that answered it, or None.
    image_problem: whether that problem is the image's, found as it was decoded.
    on_received: called with `receive_seconds` when the body is whole.
    """

    request_id: str
    path: str = ""
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

    def settle(self, scope: Scope) -> None:
        """Note what the connection answered, if it did: the application could not any more."""
        refused = scope.get(REFUSED_IN_SCOPE)
        if isinstance(refused, Refused):
            self.status, self.problem, self.image_problem = refused.status, refused.problem, False

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
    """Give the template of the request's route, of which there are few; not its path.

    Where there is none: `unmatched` by the routes, or answered before it came to them, `preflight`
    or `refused`.
    """
    if "router" in scope:  # Starlette puts it there as the routes begin
        return str(getattr(scope.get("route"), "path", "unmatched"))
    record = RequestRecord.of(scope)
    is_refused = record is None or record.problem is not None
    return "refused" if is_refused or scope["method"] != "OPTIONS" else "preflight"


def method_of(scope: Scope) -> str:
    """Give the request's method, or `other`: a client may invent any."""
    return scope["method"] if scope["method"] in _METHODS else "other"


def key_name_of(scope: Scope) -> str | None:
    """Give the name of the API key that the request was let in with, or None; never the key."""
    name = getattr(scope.get(KEY_IN_SCOPE), "name", None)
    return None if name is None else str(name)


def route_path(scope: Scope) -> str:
    """Give the path as the routes see it: without the prefix that the service is mounted under."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    is_below = bool(root) and path.startswith(f"{root}/")
    return path[len(root) :] if is_below else path
