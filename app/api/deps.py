"""What routes depend on: the engine, and a request that is read and checked before any model
works on it. Knows no torch."""

import asyncio
import math
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Query, Request
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from app.api.options import AttentionOptions, CaptionOptions, check_given_once, merge_options
from app.api.upload import read_upload
from app.core.errors import ClientGoneError, RequestTimeoutError
from app.core.metrics import Metrics
from app.engine.engine import CaptionEngine, ModelHandle
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
MetricsDep = Annotated[Metrics, Depends(_metrics)]


@dataclass(frozen=True, slots=True)
class CaptionCall:
    """A request for a caption, whole and valid; only the image's own content is unchecked.

    deadline: when its time is over, as `CaptionEngine.deadline` gives it.
    """

    model: ModelHandle
    image: bytes
    decoding: DecodingOptions
    deadline: float


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """A request for a caption with its maps, as JSON or as a drawing."""

    caption: CaptionCall
    options: AttentionOptions
    wants_png: bool


async def _caption_call(
    request: Request,
    engine: EngineDep,
    query: Annotated[CaptionOptions, Query()],
    patience_seconds: PatienceHeader = None,
) -> CaptionCall:
    return (await _read_call(request, engine, query, patience_seconds))[0]


async def _attention_call(
    request: Request,
    engine: EngineDep,
    query: Annotated[AttentionOptions, Query()],
    patience_seconds: PatienceHeader = None,
) -> AttentionCall:
    call, options = await _read_call(request, engine, query, patience_seconds)
    wants_png = options.wants_png(request.headers.get("accept", ""))
    return AttentionCall(caption=call, options=options, wants_png=wants_png)


CaptionCallDep = Annotated[CaptionCall, Depends(_caption_call)]
AttentionCallDep = Annotated[AttentionCall, Depends(_attention_call)]

Options = TypeVar("Options", bound=CaptionOptions)


async def _read_call(
    request: Request, engine: CaptionEngine, query: Options, patience_seconds: float | None
) -> tuple[CaptionCall, Options]:
    """Read and check a request.

    The model is looked up before the upload is read, so that what the address alone shows to be
    wrong is refused at once; and again only where the form names another model.
    """
    own_deadline = asyncio.get_running_loop().time() + (patience_seconds or math.inf)
    check_given_once(name for name, _ in request.query_params.multi_items())
    model = await engine.model(query.model)
    async with _until(own_deadline):
        upload = await read_upload(request, frozenset(type(query).model_fields))
    options = merge_options(query, upload.fields)
    if options.model not in (query.model, model.name):
        model = await engine.model(options.model)
    decoding = options.decoding(model.decoding)
    deadline = min(own_deadline, engine.deadline())
    return CaptionCall(model, upload.image, decoding, deadline), options


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    """Raise RequestTimeoutError where the block takes longer."""
    try:
        async with asyncio.timeout_at(None if math.isinf(deadline) else deadline):
            yield
    except TimeoutError as error:
        raise RequestTimeoutError(
            "The upload took longer than the request's own X-Request-Timeout-Seconds. Allow it "
            "more time, or send a smaller picture."
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
