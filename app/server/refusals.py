"""An answer that the application does not give, as the bytes of an HTTP/1.1 response.

Knows no sockets.
"""

import uuid
from http import HTTPStatus
from typing import NamedTuple

from app.api.errors import problem_response
from app.api.pages import SECURITY_HEADERS
from app.api.problem_kinds import kind_of
from app.core.logging import request_id_context
from app.core.metrics import Metrics

__all__ = ["Refusal", "refuse_connection", "refuse_request"]


class Refusal(NamedTuple):
    """What is sent, and what the log and the metrics say of it."""

    answer: bytes
    status: int
    problem: str
    request_id: str


def refuse_connection(error: Exception, metrics: Metrics) -> Refusal:
    """Write the problem document that an error is, after which the connection is closed.

    Counts it among what is refused.
    """
    metrics.refused.labels(kind_of(error).slug).inc()
    return refuse_request(error, None)


def refuse_request(error: Exception, request_id: str | None) -> Refusal:
    """Write the same for a request that the application has already; who counts it is there.

    request_id: the request's own; None gives it a new one.
    """
    request_id = request_id or uuid.uuid4().hex
    token = request_id_context.set(request_id)
    try:
        response = problem_response(error)
    finally:
        request_id_context.reset(token)
    own = SECURITY_HEADERS | {
        "Cache-Control": "no-store",
        "X-Request-ID": request_id,
        "Connection": "close",
    }
    lines = [f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}".encode()]
    lines += [name + b": " + value for name, value in response.raw_headers]
    lines += [f"{name}: {value}".encode() for name, value in own.items()]
    answer = b"\r\n".join([*lines, b"", bytes(response.body)])
    return Refusal(answer, response.status_code, kind_of(error).slug, request_id)
