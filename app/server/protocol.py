"""One connection: uvicorn's HTTP/1.1, with limits on what a client may do with it.

Knows no routes and no models.

    nothing, or half a head    ended after `head_timeout_seconds`, with 408 where some of it came
    what cannot be read        answered with a problem document, then closed
    an answer not taken        aborted after `write_timeout_seconds` without progress
    the other half closed      answered all the same; see `eof_received`
"""

import asyncio
import fcntl
import logging
import socket
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from app.api.request_record import REFUSED_IN_SCOPE, Refused, RequestRecord
from app.core.errors import BusyError, HeadTimeoutError, ServiceError
from app.core.metrics import Metrics
from app.server.connections import Connections
from app.server.refusals import refuse_connection, refuse_request
from app.server.strict import StrictConnection

__all__ = ["ConnectionTimes", "GuardedProtocol"]

_access_logger = logging.getLogger("app.access")
_LINGER_SECONDS = 2.0
_RESET_CHECK_SECONDS = 0.1
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ConnectionTimes:
    """How long a client may take.

    head_timeout_seconds: from the connection, or a request's first byte, to the whole head.
    write_timeout_seconds: to take in more of its answer.
    """

    head_timeout_seconds: float
    write_timeout_seconds: float


class GuardedProtocol(H11Protocol):
    """Uvicorn's connection, counted and timed."""

    conn: StrictConnection

    def __init__(
        self,
        *,
        connections: Connections,
        times: ConnectionTimes,
        metrics: Metrics,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        only: frozenset[bytes] | None = None,
    ) -> None:
        """Take what all connections share; `only` has the paths that this one may ask for."""
        super().__init__(config=config, server_state=server_state, app_state=app_state)
        self.conn = StrictConnection(only)
        self._table = connections
        self._times = times
        self._metrics = metrics
        self._has_half_closed = False
        self._is_leaving = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._last_timer: asyncio.TimerHandle | None = None

    @property
    def client_host(self) -> str:
        """The address at the other end; empty where it is unknown."""
        return self.client[0] if self.client else ""

    @property
    def is_writing(self) -> bool:
        """Whether some of an answer waits for the client to take it in."""
        return self.transport.get_write_buffer_size() > 0

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    # -- what comes ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and begin to wait for its first request."""
        super().connection_made(transport)
        self._table.add(self)
        self._metrics.connections.inc()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._table.discard(self)
        self._metrics.connections.dec()
        self._unset_keepalive_if_required()
        for timer in (self._head_timer, self._write_timer, self._last_timer):
            _cancel(timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; forget it once the connection is on its way out."""
        if not self._is_leaving:
            super().data_received(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer a client that has sent its whole request and closed its sending half.

        A client that hung up looks the same, until something is written to it: then its machine
        answers with a reset, and its work is dropped. So an empty interim answer is sent, which
        every HTTP/1.1 client passes over. HTTP/1.0 knows none: there it is the answer that finds
        out.
        """
        if self._is_leaving or not self.is_busy or self.cycle.more_body:
            return None
        if not self._has_half_closed:
            self._has_half_closed = True
            if self.scope["http_version"] == "1.1" and not self.cycle.response_started:
                self.transport.write(_CONTINUE)
            self._look_for_reset()
        return True

    def handle_events(self) -> None:
        """Start the requests that have come whole, and watch over the one that has not."""
        super().handle_events()
        if self.conn.refusal is not None:
            is_full = isinstance(self.conn.refusal, BusyError)
            self._refuse(self.conn.refusal, "refused" if is_full else "malformed")
        elif self.is_busy:
            self._table.becomes_busy(self)
            _cancel(self._head_timer)
            self._head_timer = None
        elif self.conn.trailing_data[0]:
            self._unset_keepalive_if_required()
            self._await_head()

    # -- what goes ----

    def on_response_complete(self) -> None:
        """Wait for the next request, or leave."""
        super().on_response_complete()
        if self.is_busy:  # the next one had come already
            return
        self._table.becomes_idle(self)
        if self._has_half_closed:
            self.transport.close()
        if self.transport.is_closing():
            self._await_taking()

    def pause_writing(self) -> None:
        """Give the client a while to take in more of what was written."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """Note that the client took it in."""
        super().resume_writing()
        _cancel(self._write_timer)
        self._write_timer = None
        if self.transport.is_closing():
            self._await_taking()

    # -- the end ----

    def make_room(self) -> None:
        """Close this idle connection: the place is needed."""
        self._is_leaving = True
        self._cut("made-room")

    def shutdown(self) -> None:
        """End after the answer in progress, as the service stops."""
        if self._is_leaving:
            self.transport.abort()
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which no further request came."""
        super().timeout_keep_alive_handler()
        self._await_taking()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: the request is answered as if it asked for no other protocol."""

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(
                self._times.head_timeout_seconds, self._head_is_late
            )

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._is_leaving or self.is_busy:
            return
        if not self.conn.trailing_data[0]:
            self._cut("head-timeout")
            return
        seconds = self._times.head_timeout_seconds
        late = HeadTimeoutError(
            f"The request's head was not complete within {seconds:g} seconds. Send it at once."
        )
        self._refuse(late, "head-timeout")

    def _refuse(self, error: ServiceError, reason: str) -> None:
        """Answer with a problem and leave; cut an answer short that is half out."""
        if self._is_leaving or self.transport.is_closing():
            return
        self._is_leaving = True
        if self.is_busy:
            self._refuse_in_body(error, reason)
            return
        refusal = refuse_connection(error, self._metrics)
        self._metrics.connections_cut.labels(reason).inc()
        _access_logger.info(
            "(no request for the application)",
            extra={
                "status": refusal.status,
                "client": self.client_host,
                "reason": reason,
                "request_id": refusal.request_id,
            },
        )
        self._leave_with(refusal.answer)

    def _refuse_in_body(self, error: ServiceError, reason: str) -> None:
        """Answer in place of the application, which reads the body and is told to stop.

        The request's own log line and metrics say what was answered.
        """
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        if self.cycle.response_started:
            self._cut(reason)
            return
        scope: Any = self.cycle.scope  # the application's too, which adds what the type lacks
        record = RequestRecord.of(scope)  # None: the application has not begun
        refusal = refuse_request(error, None if record is None else record.request_id)
        scope[REFUSED_IN_SCOPE] = Refused(refusal.status, refusal.problem, refusal.request_id)
        self._metrics.connections_cut.labels(reason).inc()
        self._leave_with(refusal.answer)

    def _leave_with(self, answer: bytes) -> None:
        """Write a last answer; read and forget what still comes, so that it can be read."""
        self._unset_keepalive_if_required()
        self.conn = StrictConnection()  # lets go of what could not be read
        self.transport.write(answer)
        self.flow.resume_reading()
        if not self._has_half_closed:
            self.transport.write_eof()
            self._end_within(_LINGER_SECONDS)
        else:
            self.transport.close()
            self._await_taking()

    def _look_for_reset(self) -> None:
        """Notice that a half-closed connection is gone: nothing is read from it any more."""
        if self.transport.is_closing():
            return
        sock: socket.socket = self.transport.get_extra_info("socket")
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
        else:
            self._last_timer = self.loop.call_later(_RESET_CHECK_SECONDS, self._look_for_reset)

    def _cut(self, reason: str) -> None:
        """Close now, whatever the client has not taken in."""
        self._metrics.connections_cut.labels(reason).inc()
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _await_taking(self) -> None:
        """Cut the connection if its client takes in nothing of what is written for that long."""
        _cancel(self._write_timer)
        self._write_timer = self.loop.call_later(
            self._times.write_timeout_seconds,
            self._judge_taking,
            self._untaken_bytes(),
        )

    def _judge_taking(self, before_bytes: int) -> None:
        if self._untaken_bytes() < before_bytes:
            self._await_taking()
        else:
            self._cut("write-timeout")

    def _untaken_bytes(self) -> int:
        """Count what was written and not taken in yet, here and in the system's own buffer.

        The second may be megabytes, and while it empties nothing changes here.
        """
        queued = bytes(4)
        with suppress(OSError, ValueError):  # not every system tells; a closed one has no number
            sock: socket.socket = self.transport.get_extra_info("socket")
            queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)

    def _end_within(self, seconds: float) -> None:
        """Let go of a connection that lingers, whatever its client does."""
        _cancel(self._last_timer)
        self._last_timer = self.loop.call_later(seconds, self.transport.abort)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
