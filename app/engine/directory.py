"""Which models there are, and what is known of each. Loads none.

Files are read in a thread of their own.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from app.core.errors import ModelUnavailableError
from app.engine.catalog import Catalog
from app.engine.pool import CaptionerPool
from app.engine.prover import Prover
from app.engine.records import ModelHandle, ModelStatus
from models.caption import ModelInfo
from models.errors import GlimpseError, RuntimeMissingError, UnknownModelError

__all__ = ["ModelDirectory"]

Value = TypeVar("Value")


class ModelDirectory:
    """The models of a catalog, and those in memory, whose files may be gone."""

    def __init__(self, catalog: Catalog, pool: CaptionerPool, prover: Prover) -> None:
        """Take the catalog, who holds those in memory, and who knows what they run on."""
        self._catalog = catalog
        self._pool = pool
        self._prover = prover
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="catalog")

    async def every(self) -> list[ModelStatus]:
        """List every model, by name."""
        loaded = self._pool.loaded
        names = set(await self._read(self._catalog.names)) | loaded.keys()
        return [await self._status(name, loaded) for name in sorted(names)]

    def in_memory(self, name: str) -> ModelHandle | None:
        """Find a model that is loaded."""
        info = self._pool.loaded.get(name)
        return None if info is None else ModelHandle(info)

    async def look_up(self, name: str) -> ModelHandle:
        """Find a model that may have to be loaded.

        Raises UnknownModelError, ModelUnavailableError, and QueueFullError where too many wait for
        loads.
        """
        loaded = self._pool.loaded
        names = await self._read(self._catalog.names)
        if name not in names:
            every = ", ".join(sorted(set(names) | loaded.keys()))
            raise UnknownModelError(f"There is no model named '{name}'. Models: {every}.")
        status = await self._status(name, loaded)
        info = status.info
        if info is None:
            raise ModelUnavailableError(
                status.problem
                or f"The model '{name}' cannot be loaded; the operator finds the reason in the "
                "service's log. Other models are not touched by it."
            )
        self._pool.check_waiting()
        return ModelHandle(info)

    def close(self) -> None:
        """Let go of the thread; what it reads is not waited for."""
        self._reading.shutdown(wait=False, cancel_futures=True)

    async def _status(self, name: str, loaded: Mapping[str, ModelInfo]) -> ModelStatus:
        if name in loaded:
            return ModelStatus(name, True, loaded[name], self._prover.runtime(name))
        try:
            return ModelStatus(name, False, await self._read(partial(self._catalog.describe, name)))
        except RuntimeMissingError as error:
            return ModelStatus(name, False, None, problem=str(error))
        except GlimpseError:  # the catalog has logged it
            return ModelStatus(name, False, None)

    async def _read(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._reading, work)
