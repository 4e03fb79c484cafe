"""From one photo to what comes of it, through the service's engine: same limits, same captions.

A bad photo harms no other: its error is its outcome. What is not the photo's fault is tried again.
Knows no output.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from app.api.options import CaptionOptions
from app.bulk.reader import Photo
from app.bulk.rows import Row, captioned_row, problem_row
from app.bulk.sources import read_place
from app.core.errors import BusyError, InferenceLostError
from app.core.settings import Settings
from app.engine.engine import CaptionEngine, EngineState, ModelHandle
from app.engine.records import Captioned
from app.engine.session import open_engine
from app.xmp.embedding import XmpEmbedding
from models.config import DecodingOptions
from models.errors import OutOfMemoryError

__all__ = ["Outcome", "PhotoMapper", "open_mapper"]

_TRIES = 3

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a photo: an answer or an error.

    xmp: as `Row.xmp`.
    """

    photo: Photo
    answer: Captioned | None = None
    error: Exception | None = None
    xmp: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether another run would give the same; what is not is not kept."""
        return not isinstance(self.error, BusyError | OutOfMemoryError)

    @property
    def row(self) -> Row:
        """The outcome as it is kept."""
        if self.answer is not None:
            return captioned_row(self.photo.name, self.answer, self.xmp)
        return problem_row(self.photo.name, self.error or RuntimeError("no outcome"))


class PhotoMapper:
    """Captions photos, many at a time; for one event loop."""

    def __init__(
        self,
        engine: CaptionEngine,
        model: ModelHandle,
        decoding: DecodingOptions,
        *,
        max_file_bytes: int,
        embedding: XmpEmbedding | None = None,
    ) -> None:
        """Take a started engine and what to ask of it.

        max_file_bytes: what a file may have.
        embedding: how captions are put into the files; None leaves them as they are.
        """
        self._engine = engine
        self._model = model
        self._decoding = decoding
        self._max_file_bytes = max_file_bytes
        self._embedding = embedding

    @property
    def digest(self) -> str:
        """SHA-256 of the weights of the model that captions, in hex."""
        return self._model.info.digest

    async def map(self, photo: Photo) -> Outcome:
        """Caption one photo; whatever is wrong with it is its outcome.

        Raises InferenceLostError only where the engine has given up for good.
        """
        try:
            data = await self._with_patience(lambda: self._read(photo))
            answer = await self._with_patience(lambda: self._ask(data))
        except Exception as error:
            if self._engine.state is EngineState.failed:
                raise InferenceLostError("The model does not work any more.") from error
            return Outcome(photo, error=error)
        if self._embedding is None or not isinstance(photo.place, Path):
            return Outcome(photo, answer)
        text = answer.caption.best.text
        xmp = await asyncio.to_thread(self._embedding.embed, photo.place, data, text)
        return Outcome(photo, answer, xmp=xmp)

    async def _with_patience(self, work: Callable[[], Awaitable[Value]]) -> Value:
        """Do a part of the work; try again what is not the photo's fault, after a pause."""
        for _ in range(_TRIES - 1):
            try:
                return await work()
            except (BusyError, OutOfMemoryError) as error:
                if self._engine.state is EngineState.failed:
                    raise
                await asyncio.sleep(getattr(error, "retry_after_seconds", 1))
        return await work()

    async def _read(self, photo: Photo) -> bytes:
        if photo.data is not None:
            return photo.data
        return await asyncio.to_thread(read_place, photo.place, self._max_file_bytes)

    async def _ask(self, data: bytes) -> Captioned:
        return await self._engine.caption(self._model, data, self._decoding, deadline=math.inf)


@asynccontextmanager
async def open_mapper(
    settings: Settings,
    options: Mapping[str, float] | None = None,
    *,
    embedding: XmpEmbedding | None = None,
) -> AsyncIterator[PhotoMapper]:
    """Give a mapper of the settings' default model, for the length of the block.

    options: those of `DecodingOptions` that differ from the model's own.
    Raises UnknownModelError, CheckpointError, OptionsError, or NotReadyError where the model does
    not work.
    """
    async with open_engine(settings) as engine:
        model = await engine.model(None)
        decoding = CaptionOptions.model_validate(options or {}).decoding(model.decoding)
        yield PhotoMapper(
            engine,
            model,
            decoding,
            max_file_bytes=settings.max_upload_bytes,
            embedding=embedding,
        )
