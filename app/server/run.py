"""Runs the server around the application: sockets first, then the models, then the answers.

Knows no routes.
"""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.api.base_address import BaseAddress, base_address_context
from app.api.request_record import OPERATIONS
from app.core.addresses import TrustedProxies, split_addresses
from app.core.metrics import Metrics
from app.core.settings import Settings
from app.core.tracing import tracing_from_environment
from app.jobs.build import check_jobs_folder
from app.server.connections import Connections
from app.server.fatal import FatalEnd
from app.server.listener import Acceptor, check_weights, open_sockets, raise_descriptor_limit
from app.server.protocol import ConnectionTimes, GuardedProtocol

__all__ = ["run_server"]

_logger = logging.getLogger(__name__)
_CLEANUP_SECONDS = 8.0  # decoders, and a collector of traces that does not answer
_CANNOT_START = 2


def run_server(settings: Settings) -> None:
    """Serve until a signal (SIGTERM, SIGINT), then answer what is in flight.

    What can be known to fail is looked at first: raises SettingsError before any model is loaded. A
    start that fails later ends the process. So does `app.state.on_fatal`, with 1: at once if what
    is in flight does not end in time.
    """
    check_weights(settings)
    check_jobs_folder(settings)
    sockets = open_sockets(settings.host, settings.port)
    connections = Connections(
        max_connections=raise_descriptor_limit(settings.max_connections),
        max_per_client=settings.max_connections_per_client,
        proxies=TrustedProxies(split_addresses(settings.trusted_proxies)),
    )
    # Imports PyTorch: what is wrong with the sockets is said without waiting for it.
    from app.main import create_app

    # For what is answered outside a request; a request has its own.
    port, root_path = sockets[0].getsockname()[1], settings.root_path
    base_address_context.set(BaseAddress(f"http://localhost:{port}{root_path}", root_path))
    fatal_end = FatalEnd(settings.shutdown_timeout_seconds + _CLEANUP_SECONDS)
    tracing = tracing_from_environment(os.environ, __version__)
    app = create_app(settings, on_fatal=fatal_end, tracing=tracing)

    def begin_to_stop() -> None:
        fatal_end.begins()
        app.state.begin_to_stop()

    server = _Server(settings, _Quiet(app), connections, app.state.metrics, begin_to_stop)
    fatal_end.stops(server.stop)
    # At its end uvicorn raises the signal that stopped it again, for the handler of before: with
    # this one a drained service ends with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    code = 0
    try:
        server.run(sockets=sockets)
    except SystemExit as end:  # the start failed
        code = end.code if isinstance(end.code, int) else 1
    if app.state.engine.has_left_threads_behind:
        fatal_end.leave_threads_behind(code)
    if code:
        raise SystemExit(code)
    if fatal_end.reason is not None:
        raise SystemExit(1)


class _Server(uvicorn.Server):
    """Uvicorn's server on sockets that are bound already, with our own way of accepting."""

    def __init__(
        self,
        settings: Settings,
        app: ASGIApp,
        connections: Connections,
        metrics: Metrics,
        begin_to_stop: Callable[[], None],
    ) -> None:
        super().__init__(_config(settings, app))
        self._begin_to_stop = begin_to_stop
        self._settings = settings
        self._connections = connections
        self._metrics = metrics

    def stop(self) -> None:
        """Begin to stop, as the first signal does; may be called from any thread."""
        self._begin_to_stop()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: the first one drains, a second one, of either kind, ends at once."""
        if self.should_exit:
            self.force_exit = True
        self._begin_to_stop()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the models, then listen."""
        await super().startup(sockets=[])
        listening = sockets or []
        for sock in listening:
            acceptor = Acceptor(sock, self._make_protocol, self._connections, self._metrics)
            try:
                acceptor.start()
            except OSError as error:
                _logger.critical(
                    "cannot start: GLIMPSE_PORT=%d: %s", self._settings.port, error.strerror
                )
                await self.lifespan.shutdown()
                sys.exit(_CANNOT_START)
            self.servers.append(acceptor)  # type: ignore[arg-type]
        host, port = self._settings.host, listening[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        _logger.info("running on http://%s:%d (Ctrl-C stops it)", shown, port)

    def _make_protocol(self, is_for_probes: bool) -> GuardedProtocol:
        settings = self._settings
        probes = frozenset(
            f"{prefix}{path}".encode() for prefix in ("", settings.root_path) for path in OPERATIONS
        )
        return GuardedProtocol(
            connections=self._connections,
            times=ConnectionTimes(
                head_timeout_seconds=settings.head_timeout_seconds,
                write_timeout_seconds=settings.write_timeout_seconds,
            ),
            metrics=self._metrics,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            only=probes if is_for_probes else None,
        )


def _config(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
        loop="asyncio",  # what the tests ran with, also where another package has brought uvloop
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_timeout_seconds,
        timeout_graceful_shutdown=settings.shutdown_timeout_seconds,
    )


class _Quiet:
    """Keeps the traceback of a failed start out of the log, which has the reason already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_quietly(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                message = {**message, "message": ""}
            await send(message)

        await self._app(scope, receive, send_quietly if scope["type"] == "lifespan" else send)
