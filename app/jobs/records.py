"""What is known of a job and of its images. Knows no database and no HTTP."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Claim", "Done", "Job", "JobLimits", "JobState", "NewImage", "NewJob", "Outcome"]


class JobState(StrEnum):
    """Where a job is in its life."""

    active = "active"
    done = "done"
    canceled = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """How much is kept.

    max_jobs: ended ones too; one owner has at most half of them, where owners are told apart.
    max_bytes: of images that are not captioned yet; of one owner's at most half.
    kept_seconds: how long a job is kept after its end.
    """

    max_jobs: int
    max_bytes: int
    kept_seconds: float


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to caption, and the name of its file."""

    data: bytes
    name: str | None


@dataclass(frozen=True, slots=True)
class NewJob:
    """Images to caption, for whom and how.

    owner: who may see it; empty where nobody needs a key.
    options: how it is captioned, as JSON that its owner can read.
    request_id: of the request that brought it.
    """

    owner: str
    model: str
    options: str
    request_id: str
    images: list[NewImage]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands.

    created, ended: seconds since 1970 in UTC; `ended` is None while it is active.
    captioned, failed: of its images, so far.
    """

    id: str
    state: JobState
    created: float
    ended: float | None
    images: int
    captioned: int
    failed: int


@dataclass(frozen=True, slots=True)
class Claim:
    """An image that is being captioned, by which job's wishes; `tries` counts this one too."""

    job_id: str
    position: int
    name: str | None
    data: bytes
    tries: int
    model: str
    options: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an image: a status, and a JSON document."""

    is_caption: bool
    document: str


@dataclass(frozen=True, slots=True)
class Done:
    """An image of a job that has its outcome: the JSON document."""

    position: int
    document: str
