"""What routes depend on: the engine, and a request that is read and checked before any model
works on it. Knows no torch."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query, Request

from app.api.options import AttentionOptions, CaptionOptions, check_given_once, merge_options
from app.api.upload import ImageUrl, read_upload
from app.core.errors import ClientGoneError, InternalError
from app.core.metrics import Metrics
from app.engine.engine import CaptionEngine, ModelHandle
from app.fetch.fetcher import ImageFetcher
from models.config import DecodingOptions

__all__ = [
    "AttentionCall",
    "AttentionCallDep",
    "CaptionCall",
    "CaptionCallDep",
    "EngineDep",
    "MetricsDep",
    "unless_client_goes",
]

Answer = TypeVar("Answer")


def _engine(request: Request) -> CaptionEngine:
    engine: CaptionEngine = request.app.state.engine
    return engine


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


def _fetcher(request: Request) -> ImageFetcher | None:
    fetcher: ImageFetcher | None = request.app.state.fetcher
    return fetcher


EngineDep = Annotated[CaptionEngine, Depends(_engine)]
FetcherDep = Annotated[ImageFetcher | None, Depends(_fetcher)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]


@dataclass(frozen=True, slots=True)
class CaptionCall:
    """A request for a caption, whole and valid; only the image's own content is unchecked."""

    model: ModelHandle
    image: bytes
    decoding: DecodingOptions


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
) -> CaptionCall:
    asked = await _read(request, engine, fetcher, query)
    return await _with_image(request, fetcher, asked)


async def _attention_call(
    request: Request,
    engine: EngineDep,
    fetcher: FetcherDep,
    query: Annotated[AttentionOptions, Query()],
) -> AttentionCall:
    asked = await _read(request, engine, fetcher, query)
    wants_png = asked.options.wants_png(request.headers.get("accept", ""))
    call = await _with_image(request, fetcher, asked)
    return AttentionCall(caption=call, options=asked.options, wants_png=wants_png)


CaptionCallDep = Annotated[CaptionCall, Depends(_caption_call)]
AttentionCallDep = Annotated[AttentionCall, Depends(_attention_call)]


@dataclass(frozen=True, slots=True)
class _Asked(Generic[Options]):
    """A request that is read and valid; its image may still lie elsewhere."""

    model: ModelHandle
    image: bytes | ImageUrl
    decoding: DecodingOptions
    options: Options


async def _read(
    request: Request, engine: CaptionEngine, fetcher: ImageFetcher | None, query: Options
) -> _Asked[Options]:
    """Read and check a request.

    The model is looked up before the upload is read, so that what the address alone shows to be
    wrong is refused at once; and again only where the body names another model.
    """
    check_given_once(name for name, _ in request.query_params.multi_items())
    model = await engine.model(query.model)
    field_names = frozenset(type(query).model_fields)
    upload = await read_upload(request, field_names, accepts_urls=fetcher is not None)
    options = merge_options(query, upload.fields)
    if options.model not in (query.model, model.name):
        model = await engine.model(options.model)
    decoding = options.decoding(model.decoding)
    return _Asked(model=model, image=upload.image, decoding=decoding, options=options)


async def _with_image(
    request: Request, fetcher: ImageFetcher | None, asked: _Asked[Options]
) -> CaptionCall:
    """Fetch the image of a valid request where it was sent as a URL."""
    image = asked.image
    if isinstance(image, ImageUrl):
        if fetcher is None:
            raise InternalError("a URL was read though none is accepted")
        image = await unless_client_goes(request, fetcher.fetch(image.url))
    return CaptionCall(model=asked.model, image=image, decoding=asked.decoding)


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
