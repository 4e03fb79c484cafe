"""HTTP/1.1 as h11 reads it, without what two readers of one request could read differently.

Knows no sockets.

Where a proxy and a service disagree on where a request ends, a client can hide a second request in
its first one. So a request that could be read in two ways is refused, though h11 would read it.
"""

import re

import h11

from app.core.errors import (
    HeadTooLargeError,
    MalformedRequestError,
    RequestError,
    ServiceError,
    TooManyConnectionsError,
    TransferEncodingError,
)

__all__ = ["MAX_HEAD_BYTES", "StrictConnection"]

MAX_HEAD_BYTES = 16 * 1024
# Each chunk of a body costs about as much as reading kilobytes of it. Clients send chunks of
# kilobytes; what is written line by line, as base64 may be, has longer ones than these.
_SMALL_CHUNK_BYTES = 64
_MAX_SMALL_CHUNKS = 4_096
_ABSOLUTE_TARGET = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)
_VERSIONS = (b"1.0", b"1.1")
_HEAD_TOO_LARGE = 431
_HEAD_TOO_LARGE_TEXT = (
    f"The request's head is larger than {MAX_HEAD_BYTES} bytes. Send fewer or shorter headers."
)
_NOT_IMPLEMENTED = 501
_HEADS = {
    "Host": "The request has no Host header, or more than one. Send one.",
    "Content-Length": "The request's Content-Length is no number, or there are two of them. Send "
    "one, of digits alone.",
}


class StrictConnection(h11.Connection):
    """An h11 connection that keeps its `refusal` instead of raising it, and then reads no more.

    only: the paths that may be asked for, where there is no place for more; None for all.
    """

    def __init__(self, only: frozenset[bytes] | None = None) -> None:
        super().__init__(h11.SERVER, MAX_HEAD_BYTES)
        self._only = only
        self._small_chunks = 0
        self.refusal: ServiceError | None = None

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Give the next event; NEED_DATA, for good, after what is refused."""
        if self.refusal is not None:
            return h11.NEED_DATA
        is_in_body = self.their_state is h11.SEND_BODY
        try:
            event = super().next_event()
            if isinstance(event, h11.Data):
                self._check_chunk(event)
            return self._admitted(event) if isinstance(event, h11.Request) else event
        except h11.RemoteProtocolError as error:
            self.refusal = _explain(error, is_in_body)
        except ServiceError as error:
            self.refusal = error
        return h11.NEED_DATA

    def _admitted(self, event: h11.Request) -> h11.Request:
        request = _checked(event)
        if self._only is not None and request.target.partition(b"?")[0] not in self._only:
            raise TooManyConnectionsError(
                "Too many connections are open already. Try again in a few seconds."
            )
        self._small_chunks = 0
        return request

    def _check_chunk(self, data: h11.Data) -> None:
        """Refuse a body that comes in thousands of tiny chunks, which would keep others waiting."""
        if data.chunk_start and data.chunk_end and len(data.data) < _SMALL_CHUNK_BYTES:
            self._small_chunks += 1
        if self._small_chunks > _MAX_SMALL_CHUNKS:
            raise MalformedRequestError(
                f"The request's body has more than {_MAX_SMALL_CHUNKS:,} chunks of fewer than "
                f"{_SMALL_CHUNK_BYTES} bytes. Send larger chunks, or Content-Length in place of "
                "Transfer-Encoding."
            )


def _checked(request: h11.Request) -> h11.Request:
    """Refuse a request that can be read in two ways; give one whose target is a path."""
    size_bytes = len(request.target) + sum(
        len(name) + len(value) + len(": \r\n") for name, value in request.headers
    )
    if size_bytes > MAX_HEAD_BYTES:  # h11 looks only at heads that come in pieces
        raise HeadTooLargeError(_HEAD_TOO_LARGE_TEXT)
    names = [name for name, _ in request.headers]
    if request.http_version not in _VERSIONS:
        raise MalformedRequestError("The request is not HTTP/1.1. Send it as HTTP/1.1.")
    if b"transfer-encoding" in names and b"content-length" in names:
        raise MalformedRequestError(
            "The request has both Content-Length and Transfer-Encoding. Send one of them."
        )
    if b"transfer-encoding" in names and request.http_version == b"1.0":
        raise MalformedRequestError(
            "The request has Transfer-Encoding, which HTTP/1.0 does not know. Send Content-Length, "
            "or HTTP/1.1."
        )
    absolute = _ABSOLUTE_TARGET.fullmatch(request.target)
    return _with_path(request, absolute[1], absolute[2]) if absolute else request


def _with_path(request: h11.Request, authority: bytes, rest: bytes) -> h11.Request:
    """Put the target's authority into Host, where it belongs (RFC 9112, section 3.2.2)."""
    headers = [(name, value) for name, value in request.headers if name != b"host"]
    return h11.Request(
        method=request.method,
        target=rest if rest.startswith(b"/") else b"/" + rest,
        headers=[(b"host", authority), *headers],
        http_version=request.http_version,
    )


def _explain(error: h11.RemoteProtocolError, is_in_body: bool) -> RequestError:
    """Say in our own words what is wrong: those of h11 tell which library reads here."""
    if error.error_status_hint == _HEAD_TOO_LARGE:
        return HeadTooLargeError(_HEAD_TOO_LARGE_TEXT)
    if error.error_status_hint == _NOT_IMPLEMENTED:
        return TransferEncodingError(
            "The request's Transfer-Encoding is not known here. Send chunked, or Content-Length."
        )
    if is_in_body:
        return MalformedRequestError(
            "The request's body is not chunked as its head says. Send each chunk with its size, or "
            "Content-Length in place of Transfer-Encoding."
        )
    for name, text in _HEADS.items():
        if name in str(error):
            return MalformedRequestError(text)
    return MalformedRequestError(
        "The request's head is no HTTP/1.1 that can be read. Send a request line and headers as "
        "RFC 9112 has them."
    )
