"""An answer to a request that never reaches the application, as the bytes of an HTTP/1.1 response.

Knows no sockets.
"""

import uuid
from http import HTTPStatus

from app.api.errors import problem_response
from app.core.logging import request_id_context

__all__ = ["refusal_bytes"]


def refusal_bytes(error: Exception) -> bytes:
    """Write the problem document that an error is, after which the connection is closed."""
    request_id = uuid.uuid4().hex
    token = request_id_context.set(request_id)
    try:
        response = problem_response(error)
    finally:
        request_id_context.reset(token)
    headers = [
        *response.raw_headers,
        (b"x-request-id", request_id.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),
    ]
    lines = [b"HTTP/1.1 %d %s" % (response.status_code, _phrase(response.status_code))]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"", bytes(response.body)])


def _phrase(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode()
