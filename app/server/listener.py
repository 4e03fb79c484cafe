"""The sockets that the service listens on, and who is let in: checked before models are loaded.

Knows no HTTP but for the one answer to those who are turned away.
"""

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from app.core.errors import SettingsError, TooManyConnectionsError
from app.core.metrics import Metrics
from app.core.settings import Settings
from app.server.connections import Connections
from app.server.refusals import refuse_connection

__all__ = ["Acceptor", "check_weights", "open_sockets", "raise_descriptor_limit"]

_logger = logging.getLogger(__name__)
_BACKLOG = 1024
_MOST_RESERVED = (
    128  # descriptors for the models' files, threads, decoders, and turned-away clients
)
_SPENT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SPENT_PAUSE_SECONDS = 0.05
_SPENT_LOG_SECONDS = 10.0
_MOST_PARTING = 32
_PARTING_SECONDS = 1.0


def check_weights(settings: Settings) -> None:
    """Raise SettingsError where the weights of the default model are not there at all."""
    if settings.captioner == "fake":
        return
    folder: Path = settings.weights_folder
    if not folder.is_dir():
        raise SettingsError(
            f"GLIMPSE_WEIGHTS_FOLDER={folder} cannot work: there is no such folder. It holds one "
            "folder for each model."
        )


def open_sockets(host: str, port: int) -> list[socket.socket]:
    """Bind each address of the host, not yet listening; port 0 takes a free one.

    Raises SettingsError with a sentence that names the setting.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise SettingsError(_cannot_bind(host, port, errno.EADDRNOTAVAIL)) from error
    sockets: list[socket.socket] = []
    for family, address in sorted({(each[0], each[4]) for each in found}, key=str):
        taken = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(_bind(family, (address[0], taken, *address[2:])))
        except OSError as error:
            # Of a name with two addresses, one is enough: not every machine has IPv6.
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            for sock in sockets:
                sock.close()
            raise SettingsError(_cannot_bind(host, port, error.errno)) from error
    if not sockets:
        raise SettingsError(_cannot_bind(host, port, errno.EADDRNOTAVAIL))
    return sockets


def raise_descriptor_limit(max_connections: int) -> int:
    """Raise this process' limit of open files as far as it may go.

    Gives how many connections fit: at most `max_connections`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems have a ceiling below what they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != soft:
        _logger.info("raised the limit of open files from %d to %d", soft, limit)
    if limit == resource.RLIM_INFINITY:
        return max_connections
    fitting = limit - min(_MOST_RESERVED, limit // 2)
    if fitting < max_connections:
        _logger.warning(
            "GLIMPSE_MAX_CONNECTIONS=%d is lowered to %d: this process may open %d files at most. "
            "Raise that limit (ulimit -n), or lower the setting.",
            max_connections,
            fitting,
            limit,
        )
    return min(fitting, max_connections)


class Acceptor:
    """Accepts the connections of one listening socket, one at a time.

    So no more are taken than there may be, however many arrive at once; the others wait in the
    system's backlog. It has the two methods of an asyncio server that uvicorn calls as it stops.

    make_protocol: makes one for a connection; True for one that may ask for probes alone.
    """

    def __init__(
        self,
        sock: socket.socket,
        make_protocol: Callable[[bool], asyncio.Protocol],
        connections: Connections,
        metrics: Metrics,
    ) -> None:
        self._sock = sock
        self._make_protocol = make_protocol
        self._connections = connections
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._parting = 0
        self._said_at = -_SPENT_LOG_SECONDS
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen. Raises OSError where the port is taken meanwhile."""
        self._sock.setblocking(False)
        self._sock.listen(_BACKLOG)
        self._task = self._loop.create_task(self._accept())

    def close(self) -> None:
        """Accept no more."""
        if self._task is not None:
            self._task.cancel()

    async def wait_closed(self) -> None:
        """Return when nothing is accepted any more."""
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                sock, address = await self._loop.sock_accept(self._sock)
            except OSError as error:
                await self._wait_after(error)
                continue
            try:
                await self._admit(sock, address[0])
            except OSError as error:  # it is gone already
                _logger.debug("a connection ended as it began: %s", error)
                sock.close()
            except asyncio.CancelledError:
                sock.close()
                raise
            except Exception:  # one connection's fault must not keep all later ones out
                _logger.exception("a connection could not be taken")
                sock.close()

    async def _admit(self, sock: socket.socket, host: str) -> None:
        is_for_probes = not self._connections.make_room_for(host)
        if is_for_probes and not self._connections.make_room_for_probe(host):
            self._turn_away(sock)
            return
        await self._loop.connect_accepted_socket(partial(self._make_protocol, is_for_probes), sock)

    def _turn_away(self, sock: socket.socket) -> None:
        """Answer 503 without reading; keep a few of them for a moment, so that they can read it."""
        self._metrics.connections_cut.labels("refused").inc()
        refusal = refuse_connection(
            TooManyConnectionsError(
                "Too many connections are open already. Try again in a few seconds."
            ),
            self._metrics,
        )
        with suppress(OSError):
            sock.setblocking(False)
            sock.send(refusal.answer)
            sock.shutdown(socket.SHUT_WR)
        if self._parting >= _MOST_PARTING:
            sock.close()
            return
        self._parting += 1
        self._loop.call_later(_PARTING_SECONDS, self._part, sock)

    def _part(self, sock: socket.socket) -> None:
        self._parting -= 1
        sock.close()

    async def _wait_after(self, error: OSError) -> None:
        """Make room where the system has none, say so now and then, and go on."""
        pause_seconds = _SPENT_PAUSE_SECONDS
        if error.errno in _SPENT:
            if self._connections.close_longest_idle():
                pause_seconds = 0  # it is closed in the loop's next turn
            now = self._loop.time()
            if now - self._said_at >= _SPENT_LOG_SECONDS:
                self._said_at = now
                _logger.error(
                    "cannot accept a connection: %s. Raise the limit of open files (ulimit -n), or "
                    "lower GLIMPSE_MAX_CONNECTIONS.",
                    error.strerror,
                )
        await asyncio.sleep(pause_seconds)


def _bind(family: int, address: tuple[str | int, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A service that is started again does not wait for its last connections to be forgotten.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _cannot_bind(host: str, port: int, number: int | None) -> str:
    """Say which setting cannot work, and what would."""
    if number == errno.EADDRINUSE:
        return (
            f"GLIMPSE_PORT={port} cannot work: another program listens on this port of {host} "
            "already. Stop it, or choose another port."
        )
    if number in (errno.EACCES, errno.EPERM):
        return (
            f"GLIMPSE_PORT={port} cannot work: this user may not listen on it. Choose a port of "
            "1024 or above."
        )
    return (
        f"GLIMPSE_HOST={host} cannot work: it is no address of this machine. Choose 127.0.0.1, or "
        "0.0.0.0 for every network."
    )
