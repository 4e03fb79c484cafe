"""`POST /caption`: an image in, its caption out."""

from fastapi import APIRouter, Request

from app.api import examples
from app.api.answers import caption_response
from app.api.deps import CaptionCallDep, EngineDep, unless_client_goes
from app.api.openapi import UPLOAD_ERRORS, json_example, problems, upload_body
from app.api.options import CaptionOptions
from app.api.schemas import CaptionResponse

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
