"""`POST /attention`: an image in, its caption out, and where the model looked for each word."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.api import examples
from app.api.answers import attention_response
from app.api.deps import AttentionCallDep, EngineDep, unless_client_goes
from app.api.openapi import UPLOAD_ERRORS, json_example, problems
from app.api.openapi_bodies import upload_body
from app.api.options import AttentionOptions
from app.api.schemas import AttentionResponse

__all__ = ["router"]

router = APIRouter(tags=["captions"])

_ANSWER: dict[str, Any] = json_example(
    examples.ATTENTION, "The caption, with a map for each word; or the drawing."
)
_ANSWER["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
_ANSWER["headers"] = {
    "Vary": {"description": "Accept: it chooses between the two", "schema": {"type": "string"}}
}


@router.post(
    "/attention",
    summary="Caption a picture and show where the model looked",
    response_model=AttentionResponse,
    response_model_exclude_none=True,
    responses={200: _ANSWER, **problems(*UPLOAD_ERRORS)},
    openapi_extra=upload_body(AttentionOptions),
)
async def attention(
    request: Request, call: AttentionCallDep, engine: EngineDep, response: Response
) -> Any:
    """Caption a picture, and say for each word where in the picture the model looked.

    JSON: each word's `alpha` is a grid of weights that sum to 1; `grid.box` places it on the
    picture, and `maps` says what the weights are in this model. PNG (`format=png`, or `Accept:
    image/png`): the maps drawn over the picture, all of them or that of one `word`; beside each
    word its `probability`.

    `curl -F image=@photo.jpg 'http://localhost:8000/attention?format=png' -o attention.png`
    """
    response.headers["Vary"] = "Accept"
    asked = call.caption
    answering = engine.caption(asked.model, asked.image, asked.decoding, deadline=asked.deadline)
    answer = await unless_client_goes(request, answering)
    if not call.wants_png:
        return attention_response(answer, objects=asked.include_objects)
    call.options.check_word(len(answer.caption.best.words))
    drawing = engine.overlay(
        asked.image, answer.caption, word=call.options.word, deadline=asked.deadline
    )
    return Response(
        await unless_client_goes(request, drawing),
        media_type="image/png",
        headers={"Vary": "Accept"},
    )
