"""What a job's image comes to: the answer or the problem that it would have had alone.

Knows no database and no routes.
"""

import math
from collections.abc import Awaitable, Callable

from pydantic import BaseModel

from app.api.batch import answer_one
from app.api.form_body import NamedImage
from app.core.errors import BusyError, DecoderLostError, GivenUpError
from app.core.metrics import Metrics
from app.engine.engine import CaptionEngine
from app.engine.records import Captioned
from app.jobs.records import Claim, Outcome
from models.config import DecodingOptions
from models.errors import OutOfMemoryError

__all__ = ["JobWishes", "job_captioner"]

_MOST_TRIES = 3


class JobWishes(BaseModel):
    """How a job's images are captioned, as it is kept beside them."""

    decoding: DecodingOptions
    include_objects: bool = False


def job_captioner(
    engine: CaptionEngine, metrics: Metrics, max_bytes: int
) -> Callable[[Claim], Awaitable[Outcome]]:
    """Give what captions the images of jobs, after everybody who waits for an answer.

    It raises BusyError where an image should be tried again later.
    max_bytes: of an image.
    """

    async def caption(claim: Claim) -> Outcome:
        wishes = JobWishes.model_validate_json(claim.options)

        async def ask(data: bytes) -> Captioned:
            return await _caption(engine, claim, wishes.decoding, data)

        picture = await answer_one(
            claim.position,
            NamedImage(claim.data, claim.name),
            ask,
            max_bytes=max_bytes,
            metrics=metrics,
            objects=wishes.include_objects,
            later=(BusyError,),
        )
        is_caption = picture.answer is not None
        return Outcome(is_caption, picture.model_dump_json(exclude_none=True))

    return caption


async def _caption(
    engine: CaptionEngine, claim: Claim, options: DecodingOptions, data: bytes
) -> Captioned:
    if claim.tries > _MOST_TRIES:
        raise GivenUpError(
            "The picture was tried three times, and each time what worked at it ended. Save it "
            "again as JPEG or PNG, or leave it out."
        )
    model = await engine.model(claim.model)
    try:
        return await engine.caption(model, data, options, deadline=math.inf, yields=True)
    except OutOfMemoryError as error:
        raise DecoderLostError(str(error)) from error
