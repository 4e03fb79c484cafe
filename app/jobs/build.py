"""Builds the keeper of jobs that the settings describe."""

from app.core.errors import SettingsError
from app.core.metrics import Metrics
from app.core.settings import Settings
from app.jobs.database import JobDatabase
from app.jobs.keeper import JobKeeper
from app.jobs.records import JobLimits

__all__ = ["build_job_keeper", "check_jobs_folder"]


def build_job_keeper(settings: Settings, metrics: Metrics) -> JobKeeper | None:
    """Build the keeper, not yet opened; None where jobs are off."""
    if settings.jobs_folder is None:
        return None
    return JobKeeper(settings.jobs_folder, _limits(settings), metrics=metrics)


def check_jobs_folder(settings: Settings) -> None:
    """Raise SettingsError where jobs are on and cannot be kept."""
    folder = settings.jobs_folder
    if folder is None:
        return
    if not folder.is_dir():
        raise SettingsError(
            f"GLIMPSE_JOBS_FOLDER={folder} cannot work: there is no such folder. Make one that "
            "the service may write to."
        )
    JobDatabase(folder, _limits(settings)).close()


def _limits(settings: Settings) -> JobLimits:
    return JobLimits(
        max_jobs=settings.max_jobs,
        max_bytes=settings.max_jobs_bytes,
        kept_seconds=settings.job_kept_seconds,
    )
