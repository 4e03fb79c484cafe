"""The settings of jobs: where they are kept, how many, how much of them, and how long.

A part of `app.core.settings.Settings`, and never read alone.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

__all__ = ["JobSettings"]


class JobSettings(BaseSettings):
    """Where jobs are kept, how many, and how long."""

    jobs_folder: Annotated[
        Path | None,
        Field(
            description="Folder of the database that jobs are kept in; its owner alone should be "
            "able to read it, as pictures lie there until they are captioned. Each replica needs "
            "one of its own.",
            json_schema_extra={"shown": "none: `POST /jobs` is answered 403"},
        ),
    ] = None
    max_job_images: Annotated[
        int,
        Field(ge=1, le=100_000, description="Most pictures in a job; beyond, it is answered 413."),
    ] = 1000
    max_job_bytes: Annotated[
        int,
        Field(
            ge=1024,
            le=10_000_000_000,
            description="Largest body of a `POST /jobs`, and at most half of "
            "`max_upload_memory_bytes`.",
        ),
    ] = 200_000_000
    max_jobs: Annotated[
        int,
        Field(
            ge=2,
            le=1_000_000,
            description="Jobs that are kept, ended ones too; beyond, new ones are answered 503. "
            "Where keys are needed, each key has at most half of them.",
        ),
    ] = 1000
    max_jobs_bytes: Annotated[
        int,
        Field(
            ge=1024,
            le=10_000_000_000_000,
            description="Bytes of pictures that wait to be captioned in all jobs together, on the "
            "disk; beyond, new jobs are answered 503. Each key has at most half of them.",
        ),
    ] = 2_000_000_000
    job_kept_seconds: Annotated[
        float,
        Field(
            gt=0.0,
            le=31_536_000.0,
            description="How long a job and its captions are kept after its end.",
        ),
    ] = 86_400.0
