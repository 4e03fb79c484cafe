"""`/jobs`: many images in, to be captioned while nobody waits; progress and captions out."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from app.api import examples
from app.api.base_address import base_address_context
from app.api.deps import EngineDep, SettingsDep, read_several
from app.api.job_images import JobWishes
from app.api.openapi import SEVERAL_ERRORS, json_example, problems
from app.api.openapi_bodies import batch_body
from app.api.options import CaptionOptions
from app.api.request_record import KEY_IN_SCOPE
from app.api.schemas import BatchResponse, JobDescription
from app.core import errors as service
from app.core.keys import ApiKey
from app.core.logging import request_id_context
from app.jobs.keeper import JobKeeper
from app.jobs.records import Job, JobState, NewImage, NewJob
from models.errors import OptionsError

__all__ = ["router"]

router = APIRouter(prefix="/jobs", tags=["jobs"])

_OFF = (
    "This service keeps no jobs: its operator turns them on with GLIMPSE_JOBS_FOLDER. Send fewer "
    "pictures at a time to /caption/batch."
)
_READ_ERRORS: tuple[type[Exception], ...] = (
    service.JobsOffError,
    service.UnknownJobError,
    service.JobsUnavailableError,
    service.StoppingError,
)


def _keeper(request: Request) -> JobKeeper:
    """Raise JobsOffError where the operator has not turned jobs on."""
    keeper: JobKeeper | None = request.app.state.jobs
    if keeper is None:
        raise service.JobsOffError(_OFF)
    return keeper


def _owner(request: Request) -> str:
    """Name whose jobs may be seen: a key's, also where another one took its name later."""
    key: ApiKey | None = request.scope.get(KEY_IN_SCOPE)
    return key.digest if key else ""


KeeperDep = Annotated[JobKeeper, Depends(_keeper)]
OwnerDep = Annotated[str, Depends(_owner)]


async def _job(job_id: str, keeper: KeeperDep, owner: OwnerDep) -> Job:
    """Raise UnknownJobError where there is none."""
    job = await keeper.find(job_id, owner)
    if job is None:
        raise _unknown(job_id)
    return job


JobDep = Annotated[Job, Depends(_job)]

_ACCEPTED = json_example(examples.JOB, "The job is on the disk: it outlives a restart.")
_ACCEPTED["headers"] = {
    "Location": {"description": "the job's address", "schema": {"type": "string"}}
}


@router.post(
    "",
    summary="Caption many pictures while nobody waits",
    status_code=202,
    response_model=JobDescription,
    responses={
        202: _ACCEPTED,
        **problems(
            service.JobsOffError,
            service.JobsFullError,
            service.JobsUnavailableError,
            *SEVERAL_ERRORS,
        ),
    },
    openapi_extra=batch_body(CaptionOptions),
)
async def add_job(
    request: Request,
    keeper: KeeperDep,
    owner: OwnerDep,
    engine: EngineDep,
    settings: SettingsDep,
    query: Annotated[CaptionOptions, Query()],
) -> JSONResponse:
    """Take many pictures, and caption them one after another while nobody waits for an answer.

    The job is kept until a time after its end, also over a restart. A key sees its own jobs alone;
    without keys, whoever knows a job's id does.

    `curl -F image=@a.jpg -F image=@b.jpg http://localhost:8000/jobs`
    """
    asked = await read_several(request, engine, query, max_images=settings.max_job_images)
    job = await keeper.add(
        NewJob(
            owner=owner,
            model=asked.model.name,
            options=JobWishes(
                decoding=asked.decoding, include_objects=asked.include_objects
            ).model_dump_json(),
            request_id=request_id_context.get() or "",
            images=[NewImage(image.data, image.name) for image in asked.images],
        )
    )
    address = f"{base_address_context.get().root_path}/jobs/{job.id}"
    return JSONResponse(_describe(job), 202, headers={"Location": address})


@router.get(
    "/{job_id}",
    summary="How far is a job?",
    response_model=JobDescription,
    responses={
        200: json_example(examples.job(), "The job, and what there is of it so far."),
        **problems(OptionsError, *_READ_ERRORS),
    },
)
async def show_job(
    job: JobDep,
    keeper: KeeperDep,
    pictures: Annotated[
        bool, Query(description="whether to list the pictures that are done")
    ] = True,
) -> JSONResponse:
    """Say how far a job is, with the answers and problems that there are so far."""
    content = _describe(job)
    if pictures:
        content["pictures"] = await _pictures(job, keeper)
        content.update(_counted(content["pictures"]))
    return JSONResponse(content)


@router.get(
    "/{job_id}/result",
    summary="What did a job come to?",
    response_model=BatchResponse,
    responses={
        200: json_example(examples.batch(), "Each picture's answer or problem, in order."),
        **problems(service.JobNotDoneError, *_READ_ERRORS),
    },
)
async def show_result(job: JobDep, keeper: KeeperDep) -> JSONResponse:
    """Give what `POST /caption/batch` would have answered, once the job has ended; of a canceled
    one, what there was."""
    if job.state is JobState.active:
        done = job.captioned + job.failed
        raise service.JobNotDoneError(
            f"The job is not done: {done} of {job.images} pictures are. GET /jobs/{job.id} shows "
            "what there is so far."
        )
    pictures = await _pictures(job, keeper)
    return JSONResponse({"pictures": pictures, **_counted(pictures)})


@router.delete(
    "/{job_id}",
    summary="Cancel a job, or forget it",
    status_code=204,
    responses={204: {"description": "It is done."}, **problems(*_READ_ERRORS)},
)
async def delete_job(job_id: str, keeper: KeeperDep, owner: OwnerDep) -> Response:
    """Cancel an active job: its pictures that wait are deleted, and what was captioned stays to be
    read. Forget a job that has ended: nothing of it stays."""
    if await keeper.cancel(job_id, owner) is None:
        raise _unknown(job_id)
    return Response(status_code=204)


def _unknown(job_id: str) -> service.UnknownJobError:
    return service.UnknownJobError(
        f"There is no job '{job_id[:100]}'. It may have been deleted, or be too old, or another "
        "key's."
    )


def _describe(job: Job) -> dict[str, Any]:
    description = {
        "id": job.id,
        "state": job.state.value,
        "created": _time(job.created),
        "total": job.images,
        "captioned": job.captioned,
        "failed": job.failed,
    }
    return description if job.ended is None else description | {"ended": _time(job.ended)}


async def _pictures(job: Job, keeper: JobKeeper) -> list[dict[str, Any]]:
    return [json.loads(done.document) for done in await keeper.outcomes(job.id)]


def _counted(pictures: list[dict[str, Any]]) -> dict[str, int]:
    captioned = sum("answer" in picture for picture in pictures)
    return {"captioned": captioned, "failed": len(pictures) - captioned}


def _time(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
