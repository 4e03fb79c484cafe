"""What routes depend on: the engine, and a request that is read and checked before any model
works on it. Knows no torch."""

import asyncio
import math
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Header, Query, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from app.api.access import ACCOUNT_IN_SCOPE, Account
from app.api.form_body import NamedImage
from app.api.options import (
    AttentionOptions,
    CaptionOptions,
    Include,
    check_given_once,
    merge_options,
)
from app.api.upload import ImageUrl, hold, read_upload, read_uploads
from app.core.errors import ClientGoneError, InternalError, RequestTimeoutError
from app.core.metrics import Metrics
from app.core.settings import Settings
from app.engine.engine import CaptionEngine, ModelHandle
from app.fetch.fetcher import ImageFetcher
from models.config import DecodingOptions

__all__ = [
    "AttentionCall",
    "AttentionCallDep",
    "BatchCall",
    "BatchCallDep",
    "CaptionCall",
    "CaptionCallDep",
    "EngineDep",
    "MetricsDep",
    "SettingsDep",
    "SeveralImages",
    "read_several",
    "unless_client_goes",
]

Answer = TypeVar("Answer")


def _engine(request: Request) -> CaptionEngine:
    engine: CaptionEngine = request.app.state.engine
    return engine


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _fetcher(request: Request) -> ImageFetcher | None:
    fetcher: ImageFetcher | None = request.app.state.fetcher
    return fetcher


PatienceHeader = Annotated[
    Annotated[float, Field(gt=0, allow_inf_nan=False)] | SkipJsonSchema[None],
    Header(
        alias="X-Request-Timeout-Seconds",
        description="how long the client will wait, in seconds from the arrival of this header; "
        "then it is answered 503 (timed-out), and what was not computed yet is dropped. Left out, "
        "or longer, the server's own limit holds, from the end of the upload",
    ),
]

EngineDep = Annotated[CaptionEngine, Depends(_engine)]
FetcherDep = Annotated[ImageFetcher | None, Depends(_fetcher)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
SettingsDep = Annotated[Settings, Depends(_settings)]


@dataclass(frozen=True, slots=True)
class CaptionCall:
    """A request for a caption, whole and valid; only the image's own content is unchecked.

    deadline: when its time is over, as `CaptionEngine.deadline` gives it.
    include_objects: whether the answer lists what the model found beside the caption.
    """

    model: ModelHandle
    image: bytes
    decoding: DecodingOptions
    deadline: float
    include_objects: bool = False


@dataclass(frozen=True, slots=True)
class SeveralImages:
    """Several images to caption, by whom and how; nothing of the images themselves is checked."""

    model: ModelHandle
    images: list[NamedImage]
    decoding: DecodingOptions
    include_objects: bool


@dataclass(frozen=True, slots=True)
class BatchCall:
    """A request for the captions of several images, and when its time is over."""

    asked: SeveralImages
    deadline: float


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """A request for a caption with its maps, as JSON or as a drawing."""

    caption: CaptionCall
    options: AttentionOptions
    wants_png: bool


Options = TypeVar("Options", bound=CaptionOptions)


async def _caption_call(
    request: Request,
    engine: EngineDep,
    fetcher: FetcherDep,
    query: Annotated[CaptionOptions, Query()],
    patience_seconds: PatienceHeader = None,
) -> CaptionCall:
    asked = await _read(request, engine, fetcher, query, patience_seconds)
    return await _with_image(request, engine, fetcher, asked)


async def _attention_call(
    request: Request,
    engine: EngineDep,
    fetcher: FetcherDep,
    query: Annotated[AttentionOptions, Query()],
    patience_seconds: PatienceHeader = None,
) -> AttentionCall:
    asked = await _read(request, engine, fetcher, query, patience_seconds)
    wants_png = asked.options.wants_png(request.headers.get("accept", ""))
    call = await _with_image(request, engine, fetcher, asked)
    return AttentionCall(caption=call, options=asked.options, wants_png=wants_png)


async def _batch_call(
    request: Request,
    engine: EngineDep,
    query: Annotated[CaptionOptions, Query()],
    patience_seconds: PatienceHeader = None,
) -> BatchCall:
    settings = _settings(request)
    own_deadline = _own_deadline(patience_seconds)
    async with _until(own_deadline):
        read = await read_several(
            request,
            engine,
            query,
            max_images=settings.max_batch_images,
            own_deadline=own_deadline,
        )
    return BatchCall(read, _deadline(engine, own_deadline))


async def read_several(
    request: Request,
    engine: CaptionEngine,
    query: CaptionOptions,
    *,
    max_images: int,
    own_deadline: float = math.inf,
) -> SeveralImages:
    """Read and check a request with several images, and count each of them for its client.

    Raises what a single image's request raises, TooManyImagesError and TooManyRequestsError.
    """
    check_given_once(name for name, _ in request.query_params.multi_items())
    model = await engine.model(query.model, deadline=_deadline(engine, own_deadline))
    field_names = frozenset(type(query).model_fields)
    uploads = await read_uploads(request, field_names, max_images=max_images)
    options = merge_options(query, uploads.fields, are_typed=uploads.are_typed)
    if options.model not in (query.model, model.name):
        model = await engine.model(options.model, deadline=_deadline(engine, own_deadline))
    decoding = options.decoding(model.decoding)
    account: Account | None = request.scope.get(ACCOUNT_IN_SCOPE)
    if account is not None:
        account.take_images(len(uploads.images))
    return SeveralImages(model, uploads.images, decoding, options.include is Include.objects)


BatchCallDep = Annotated[BatchCall, Depends(_batch_call)]
CaptionCallDep = Annotated[CaptionCall, Depends(_caption_call)]
AttentionCallDep = Annotated[AttentionCall, Depends(_attention_call)]


@dataclass(frozen=True, slots=True)
class _Asked(Generic[Options]):
    """A request that is read and valid; its image may still lie elsewhere."""

    model: ModelHandle
    image: bytes | ImageUrl
    decoding: DecodingOptions
    options: Options
    own_deadline: float


async def _read(
    request: Request,
    engine: CaptionEngine,
    fetcher: ImageFetcher | None,
    query: Options,
    patience_seconds: float | None,
) -> _Asked[Options]:
    """Read and check a request.

    The model is looked up before the upload is read, so that what the address alone shows to be
    wrong is refused at once; and again only where the body names another model.
    """
    own_deadline = _own_deadline(patience_seconds)
    check_given_once(name for name, _ in request.query_params.multi_items())
    model = await engine.model(query.model, deadline=_deadline(engine, own_deadline))
    field_names = frozenset(type(query).model_fields)
    async with _until(own_deadline):
        upload = await read_upload(
            request,
            field_names,
            accepts_urls=fetcher is not None,
            max_bytes=_settings(request).max_upload_bytes,
        )
    options = merge_options(query, upload.fields, are_typed=upload.are_typed)
    if options.model not in (query.model, model.name):
        model = await engine.model(options.model, deadline=_deadline(engine, own_deadline))
    decoding = options.decoding(model.decoding)
    return _Asked(model, upload.image, decoding, options, own_deadline)


async def _with_image(
    request: Request, engine: CaptionEngine, fetcher: ImageFetcher | None, asked: _Asked[Options]
) -> CaptionCall:
    """Fetch the image of a valid request where it was sent as a URL."""
    image = asked.image
    if isinstance(image, ImageUrl):
        if fetcher is None:
            raise InternalError("a URL was read though none is accepted")
        async with _until(asked.own_deadline):
            image = await unless_client_goes(request, fetcher.fetch(image.url))
        hold(request, image)
    deadline = _deadline(engine, asked.own_deadline)
    include_objects = asked.options.include is Include.objects
    return CaptionCall(asked.model, image, asked.decoding, deadline, include_objects)


def _deadline(engine: CaptionEngine, own_deadline: float) -> float:
    """Give when a step that begins now must have ended: the server's own limit holds too."""
    return min(own_deadline, engine.deadline())


def _own_deadline(patience_seconds: float | None) -> float:
    return asyncio.get_running_loop().time() + (patience_seconds or math.inf)


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    """Raise RequestTimeoutError where the block takes longer."""
    try:
        async with asyncio.timeout_at(None if math.isinf(deadline) else deadline) as clock:
            yield
    except TimeoutError as error:
        if not clock.expired():
            raise
        raise RequestTimeoutError(
            "The picture took longer to arrive than the request's own X-Request-Timeout-Seconds. "
            "Allow it more time, or send a smaller one."
        ) from error


async def unless_client_goes(request: Request, answer: Coroutine[Any, Any, Answer]) -> Answer:
    """Wait for the answer; as soon as the client hangs up, drop the work.

    Raises ClientGoneError.
    """
    working = asyncio.ensure_future(answer)
    watching = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError("The client hung up before its answer was ready.")
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    """Return when the client is gone; the whole body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
