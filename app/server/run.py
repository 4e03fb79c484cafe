"""Runs the server around the application: sockets first, then the models, then the answers.

Knows no routes.
"""

import signal

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.settings import Settings
from app.main import create_app
from app.server.fatal import FatalEnd

__all__ = ["run_server"]

_CLEANUP_SECONDS = 5.0


def run_server(settings: Settings) -> None:
    """Serve until a signal (SIGTERM, SIGINT), then answer what is in flight.

    A failed start ends the process. So does `app.state.on_fatal`, with 1: at once if what is in
    flight does not end in time.
    """
    fatal_end = FatalEnd(settings.shutdown_timeout_seconds + _CLEANUP_SECONDS)
    config = uvicorn.Config(
        _Quiet(create_app(settings, on_fatal=fatal_end)),
        host=settings.host,
        port=settings.port,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_timeout_seconds,
    )
    server = uvicorn.Server(config)
    fatal_end.stops(lambda: setattr(server, "should_exit", True))
    # At its end uvicorn raises the signal that stopped it again, for the handler of before: with
    # this one a drained service ends with 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server.run()
    if fatal_end.reason is not None:
        raise SystemExit(1)


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
