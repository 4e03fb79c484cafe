"""`POST /caption`: an image in, its caption out; and `POST /caption/batch`: several of them."""

from fastapi import APIRouter, Request

from app.api import examples
from app.api.answers import caption_response
from app.api.batch import answer_all
from app.api.deps import (
    BatchCallDep,
    CaptionCallDep,
    EngineDep,
    MetricsDep,
    SettingsDep,
    unless_client_goes,
)
from app.api.openapi import SEVERAL_ERRORS, UPLOAD_ERRORS, json_example, problems
from app.api.openapi_bodies import batch_body, upload_body
from app.api.options import CaptionOptions
from app.api.schemas import BatchResponse, CaptionResponse
from app.engine.engine import Captioned

__all__ = ["router"]

router = APIRouter(tags=["captions"])


@router.post(
    "/caption",
    summary="Caption a picture",
    response_model_exclude_none=True,
    responses={
        200: json_example(examples.CAPTION, "The captions, best first, word by word."),
        **problems(*UPLOAD_ERRORS),
    },
    openapi_extra=upload_body(CaptionOptions),
)
async def caption(request: Request, call: CaptionCallDep, engine: EngineDep) -> CaptionResponse:
    """Say in a sentence what a picture shows.

    `curl -F image=@photo.jpg http://localhost:8000/caption`
    """
    answering = engine.caption(call.model, call.image, call.decoding, deadline=call.deadline)
    answer = await unless_client_goes(request, answering)
    return caption_response(answer, objects=call.include_objects)


@router.post(
    "/caption/batch",
    summary="Caption several pictures",
    response_model_exclude_none=True,
    responses={
        200: json_example(examples.batch(), "Each picture's answer or problem, in order."),
        **problems(*SEVERAL_ERRORS),
    },
    openapi_extra=batch_body(CaptionOptions),
)
async def caption_batch(
    request: Request,
    call: BatchCallDep,
    engine: EngineDep,
    settings: SettingsDep,
    metrics: MetricsDep,
) -> BatchResponse:
    """Say in a sentence what each of several pictures shows.

    A picture that cannot be captioned gets a problem of its own, and the others their answers. The
    options count for all of them. Where requests are counted, each picture counts as one.

    `curl -F image=@a.jpg -F image=@b.jpg http://localhost:8000/caption/batch`
    """
    asked = call.asked

    async def caption(data: bytes) -> Captioned:
        return await engine.caption(asked.model, data, asked.decoding, deadline=call.deadline)

    answering = answer_all(
        asked.images,
        caption,
        max_bytes=settings.max_upload_bytes,
        metrics=metrics,
        objects=asked.include_objects,
    )
    return await unless_client_goes(request, answering)
