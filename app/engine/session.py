"""An engine without a server, for the length of a block. Knows no HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.core.metrics import Metrics
from app.core.settings import Settings
from app.engine.build import build_engine
from app.engine.engine import CaptionEngine

__all__ = ["open_engine"]


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[CaptionEngine]:
    """Give a ready engine of these settings.

    Raises UnknownModelError or CheckpointError where its default model cannot be loaded, and
    NotReadyError where it does not work. At the end what waits is given up, and the batch that runs
    is waited for as long as one may take.
    """
    engine = build_engine(settings, Metrics())
    await engine.start()
    try:
        await engine.warm_up()
        engine.check_ready()
        yield engine
    finally:
        await engine.stop(drain_seconds=settings.batch_timeout_seconds)
