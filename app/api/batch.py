"""Captions the images of one request beside each other: each gets an answer or a problem of its
own, whatever becomes of the others.

Knows no bodies and no routes.
"""

import asyncio
from collections.abc import Awaitable, Callable

from app.api.answers import caption_response
from app.api.errors import describe_problem
from app.api.form_body import NamedImage
from app.api.schemas import BatchResponse, PictureAnswer
from app.api.upload import check_size
from app.core.metrics import Metrics
from app.engine.records import Captioned

__all__ = ["answer_all", "answer_one"]

_AT_A_TIME = 16  # of one request: it fills a batch, and leaves the queue to others too


async def answer_all(
    images: list[NamedImage],
    caption: Callable[[bytes], Awaitable[Captioned]],
    *,
    max_bytes: int,
    metrics: Metrics,
    objects: bool = False,
) -> BatchResponse:
    """Caption every image, a bounded number at a time.

    max_bytes: of each. objects: whether answers list what the model found beside the caption.
    """
    free = asyncio.Semaphore(_AT_A_TIME)

    async def answer(position: int, image: NamedImage) -> PictureAnswer:
        async with free:
            return await answer_one(
                position, image, caption, max_bytes=max_bytes, metrics=metrics, objects=objects
            )

    async with asyncio.TaskGroup() as group:  # a client that goes cancels all of them
        tasks = [
            group.create_task(answer(position, image)) for position, image in enumerate(images)
        ]
    pictures = [task.result() for task in tasks]
    captioned = sum(picture.answer is not None for picture in pictures)
    return BatchResponse(pictures=pictures, captioned=captioned, failed=len(pictures) - captioned)


async def answer_one(
    position: int,
    image: NamedImage,
    caption: Callable[[bytes], Awaitable[Captioned]],
    *,
    max_bytes: int,
    metrics: Metrics,
    objects: bool = False,
    later: tuple[type[Exception], ...] = (),
) -> PictureAnswer:
    """Caption one image; what is raised becomes its problem.

    later: errors that are no answer: they are raised, for the image to be tried again.
    """
    try:
        check_size(image.data, max_bytes)
        answer = caption_response(await caption(image.data), objects=objects)
    except later:
        raise
    except Exception as error:  # noqa: BLE001  as the handlers of the routes answer every error
        described = describe_problem(error)
        metrics.picture_problems.labels(described.reason).inc()
        if described.is_image_problem:
            metrics.decode_failures.labels(described.reason).inc()
        wait = described.headers.get("Retry-After")
        return PictureAnswer(
            position=position,
            name=image.name,
            status=described.problem.status,
            problem=described.problem,
            retry_after_seconds=None if wait is None else int(wait),
        )
    return PictureAnswer(position=position, name=image.name, status=200, answer=answer)
