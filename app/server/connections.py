"""The open connections of the service: how many there may be, and which one makes room for another.

Knows no HTTP and opens nothing.

A connection is idle while no request is being answered on it: before its first request's head is
whole, and between requests. When there are as many connections as there may be, the one that has
been idle longest is closed for the new one; so a flood of idle connections keeps nobody out, the
machines that ask for `/healthz` among them. Where every connection has a request in progress, a new
one may ask for the probes alone, in one of a few places kept for that.
"""

from collections import Counter
from typing import Protocol

from app.core.addresses import TrustedProxies, client_key

__all__ = ["PROBE_CONNECTIONS", "Connection", "Connections"]

PROBE_CONNECTIONS = 16


class Connection(Protocol):
    """What the table must know of a connection."""

    @property
    def client_host(self) -> str:
        """The address at the other end; empty where it is unknown."""

    @property
    def is_writing(self) -> bool:
        """Whether some of an answer waits for the client to take it in."""

    def make_room(self) -> None:
        """Close: the place is needed."""


class Connections:
    """Every open connection, by its client, and the idle ones in the order in which they became so.

    max_per_client: what one client may have (see `client_key`); 0 for no limit. A proxy speaks for
    many clients, and has no limit either.
    """

    def __init__(
        self, *, max_connections: int, max_per_client: int, proxies: TrustedProxies
    ) -> None:
        self._max_connections = max_connections
        self._max_per_client = max_per_client
        self._proxies = proxies
        self._clients: dict[Connection, str] = {}
        self._counts: Counter[str] = Counter()
        self._idle: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._clients)

    def add(self, connection: Connection) -> None:
        """Count a connection that is open now, and idle."""
        client = client_key(connection.client_host)
        self._clients[connection] = client
        self._counts[client] += 1
        self._idle[connection] = None

    def discard(self, connection: Connection) -> None:
        """Forget a connection; one that is not known is no error."""
        client = self._clients.pop(connection, None)
        self._idle.pop(connection, None)
        if client is not None:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]

    def becomes_busy(self, connection: Connection) -> None:
        """Note that a request is being answered on a connection."""
        self._idle.pop(connection, None)

    def becomes_idle(self, connection: Connection) -> None:
        """Note that no request is being answered on a connection any more."""
        if connection in self._clients:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def make_room_for(self, host: str) -> bool:
        """Make room for one more connection of a client; False where there is none to be made."""
        client = client_key(host)
        is_limited = self._max_per_client > 0 and host not in self._proxies
        if is_limited and self._counts[client] >= self._max_per_client:
            return self.close_longest_idle(client)
        if len(self._clients) - len(self._idle) >= self._max_connections:
            return False
        while len(self._clients) >= self._max_connections:
            if not self.close_longest_idle():
                return False
        return True

    def make_room_for_probe(self, host: str) -> bool:
        """Make room for a connection that asks for probes alone; False where there is none.

        A client at its own limit has no more than one such connection beside.
        """
        is_limited = self._max_per_client > 0 and host not in self._proxies
        if is_limited and self._counts[client_key(host)] > self._max_per_client:
            return False
        most = self._max_connections + PROBE_CONNECTIONS
        return len(self._clients) < most or self.close_longest_idle()

    def close_longest_idle(self, client: str | None = None) -> bool:
        """Close what has been idle longest, of one client or of all; False where none is idle.

        One whose last answer is still on its way is passed over: it has a time limit of its own.
        """
        for connection in self._idle:
            is_asked_for = client is None or self._clients[connection] == client
            if is_asked_for and not connection.is_writing:
                self.discard(connection)
                connection.make_room()
                return True
        return False
