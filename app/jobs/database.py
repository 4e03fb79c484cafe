"""The jobs' SQLite database. Every method blocks: one thread at a time calls it.

An image lies in it from its job's arrival until its outcome is written, in one transaction; so a
process that is killed loses nothing, and repeats no image that has its outcome. What is deleted is
overwritten (`secure_delete`), and the file shrinks again.

Knows no HTTP, no event loop and no clock.
"""

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.core.errors import JobsFullError, SettingsError
from app.jobs.records import Claim, Done, Job, JobLimits, JobState, NewJob, Outcome

__all__ = ["JobDatabase"]

_VERSION = 1
_FILE = "jobs.sqlite3"
_LOCK = "jobs.lock"
_ID_BYTES = 16
_BUSY_SECONDS = 5.0

_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    ended REAL,
    model TEXT NOT NULL,
    options TEXT NOT NULL,
    request_id TEXT NOT NULL,
    images INTEGER NOT NULL,
    captioned INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_by_owner ON jobs (state, owner, number);
CREATE TABLE waiting (
    job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT,
    size_bytes INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    claimed INTEGER NOT NULL DEFAULT 0,
    data BLOB NOT NULL,
    PRIMARY KEY (job, position)
);
CREATE INDEX waiting_sizes ON waiting (job, size_bytes);
CREATE TABLE outcomes (
    job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (job, position)
) WITHOUT ROWID;
"""
_JOB = "SELECT id, state, created, ended, images, captioned, failed FROM jobs "


class JobDatabase:
    """The jobs in a folder, which one process at a time may have open."""

    def __init__(self, folder: Path, limits: JobLimits) -> None:
        """Open the database, or make it; what a killed process had in hand waits again.

        Raises SettingsError where the folder cannot be used.
        """
        self._limits = limits
        self._lock = _lock(folder)
        try:
            self._connection = _connect(folder / _FILE)
            with self._changing():
                self._connection.execute("UPDATE waiting SET claimed = 0")
        except (sqlite3.Error, SettingsError) as error:
            os.close(self._lock)
            if isinstance(error, SettingsError):
                raise
            raise _unusable(folder, f"{_FILE} in it cannot be read or written ({error})") from error

    def close(self) -> None:
        """Give back what is claimed, as if it had not been tried, and write all into one file."""
        with self._changing() as connection:
            connection.execute("UPDATE waiting SET claimed = 0, tries = tries - 1 WHERE claimed")
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()
        os.close(self._lock)

    def add(self, job: NewJob, now: float) -> Job:
        """Keep a new job: when this returns, it is on the disk.

        Raises JobsFullError.
        """
        size_bytes = sum(len(image.data) for image in job.images)
        job_id = secrets.token_hex(_ID_BYTES)
        with self._changing() as connection:
            self._check_room(job.owner, size_bytes)
            cursor = connection.execute(
                "INSERT INTO jobs (id, owner, state, created, model, options, request_id, images) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job_id,
                    job.owner,
                    JobState.active,
                    now,
                    job.model,
                    job.options,
                    job.request_id,
                    len(job.images),
                ),
            )
            connection.executemany(
                "INSERT INTO waiting (job, position, name, size_bytes, data) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (cursor.lastrowid, position, image.name, len(image.data), image.data)
                    for position, image in enumerate(job.images)
                ],
            )
        return Job(job_id, JobState.active, now, None, len(job.images), 0, 0)

    def find(self, job_id: str, owner: str) -> Job | None:
        """Find a job of this owner."""
        row = self._connection.execute(
            _JOB + "WHERE id = ? AND owner = ?", (job_id, owner)
        ).fetchone()
        return None if row is None else Job(row[0], JobState(row[1]), *row[2:])

    def outcomes(self, job_id: str) -> list[Done]:
        """List what a job's images came to so far, in their order."""
        rows = self._connection.execute(
            "SELECT position, document FROM outcomes "
            "WHERE job = (SELECT number FROM jobs WHERE id = ?) ORDER BY position",
            (job_id,),
        )
        return [Done(*row) for row in rows]

    def claim(self, after_owner: str, *, alone: bool) -> tuple[str, Claim] | None:
        """Take the next image, of the next owner after this one, in turn; of its oldest job first.

        alone: nothing else is claimed now. An image that was tried before, and perhaps ended the
        process, is given only then.
        Gives the owner too; None where there is none to take.
        """
        for owner in self._owners_after(after_owner):
            row = self._next_of(owner, alone=alone)
            if row is not None:
                with self._changing() as connection:
                    connection.execute(
                        "UPDATE waiting SET claimed = 1, tries = tries + 1 WHERE rowid = ?",
                        (row[0],),
                    )
                return owner, Claim(*row[1:])
        return None

    def release(self, claim: Claim, *, counts: bool) -> None:
        """Give an image back, to be tried again; one whose try does not count is as before."""
        with self._changing() as connection:
            connection.execute(
                "UPDATE waiting SET claimed = 0, tries = tries - ? "
                "WHERE job = (SELECT number FROM jobs WHERE id = ?) AND position = ?",
                (0 if counts else 1, claim.job_id, claim.position),
            )

    def finish(self, claim: Claim, outcome: Outcome, now: float) -> bool:
        """Write an image's outcome and forget the image; the job's last one ends the job.

        Gives whether the outcome counted: not where the job was canceled meanwhile.
        """
        with self._changing() as connection:
            deleted = connection.execute(
                "DELETE FROM waiting "
                "WHERE job = (SELECT number FROM jobs WHERE id = ?) AND position = ?",
                (claim.job_id, claim.position),
            )
            if not deleted.rowcount:
                return False
            connection.execute(
                "INSERT INTO outcomes SELECT number, ?, ? FROM jobs WHERE id = ?",
                (claim.position, outcome.document, claim.job_id),
            )
            connection.execute(
                "UPDATE jobs SET captioned = captioned + ?, failed = failed + ? WHERE id = ?",
                (int(outcome.is_caption), int(not outcome.is_caption), claim.job_id),
            )
            ended = connection.execute(
                "UPDATE jobs SET state = ?, ended = ? WHERE id = ? AND captioned + failed = images",
                (JobState.done, now, claim.job_id),
            )
        if ended.rowcount:
            self._shrink()
        else:
            self._overwrite()
        return True

    def cancel(self, job_id: str, owner: str, now: float) -> Job | None:
        """Cancel an active job, forgetting its images that wait; forget an ended one altogether.

        Gives the job as it was before; None where this owner has none of that id.
        """
        job = self.find(job_id, owner)
        if job is None:
            return None
        with self._changing() as connection:
            if job.state is JobState.active:
                connection.execute(
                    "DELETE FROM waiting WHERE job = (SELECT number FROM jobs WHERE id = ?)",
                    (job_id,),
                )
                connection.execute(
                    "UPDATE jobs SET state = ?, ended = ? WHERE id = ?",
                    (JobState.canceled, now, job_id),
                )
            else:
                connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        self._shrink()
        return job

    def forget_old(self, now: float) -> int:
        """Forget the jobs that ended too long ago; give how many."""
        with self._changing() as connection:
            deleted = connection.execute(
                "DELETE FROM jobs WHERE ended IS NOT NULL AND ended <= ?",
                (now - self._limits.kept_seconds,),
            )
        if deleted.rowcount:
            self._shrink()
        return deleted.rowcount

    def waiting(self) -> tuple[int, int]:
        """Count the images that wait for their outcome, and their bytes."""
        return self._waiting_of("")

    def jobs(self) -> int:
        """Count the jobs that are kept."""
        return int(self._connection.execute("SELECT COUNT(*) FROM jobs").fetchone()[0])

    def _check_room(self, owner: str, size_bytes: int) -> None:
        jobs, waiting_bytes = self.jobs(), self.waiting()[1]
        limits = self._limits
        if jobs >= limits.max_jobs or waiting_bytes + size_bytes > limits.max_bytes:
            raise JobsFullError(
                "There is no room for another job now. Try again later, or send fewer pictures."
            )
        if not owner:
            return
        row = self._connection.execute(
            "SELECT COUNT(*) FROM jobs WHERE owner = ?", (owner,)
        ).fetchone()
        own_bytes = self._waiting_of(owner)[1]
        if 2 * row[0] >= limits.max_jobs or 2 * (own_bytes + size_bytes) > limits.max_bytes:
            raise JobsFullError(
                "This key has as many jobs as it may. Delete one that is not needed any more, or "
                "try again later."
            )

    def _waiting_of(self, owner: str) -> tuple[int, int]:
        row = self._connection.execute(
            "SELECT COUNT(*), COALESCE(SUM(size_bytes), 0) FROM waiting "
            "WHERE ? = '' OR job IN (SELECT number FROM jobs WHERE owner = ? AND state = ?)",
            (owner, owner, JobState.active),
        ).fetchone()
        return int(row[0]), int(row[1])

    def _owners_after(self, after_owner: str) -> list[str]:
        rows = self._connection.execute(
            "SELECT DISTINCT owner FROM jobs WHERE state = ? ORDER BY owner <= ?, owner",
            (JobState.active, after_owner),
        )
        return [row[0] for row in rows]

    def _next_of(self, owner: str, *, alone: bool) -> Any:
        most_tries = 10**9 if alone else 0
        return self._connection.execute(
            "SELECT waiting.rowid, id, position, name, data, tries + 1, model, options, request_id "
            "FROM jobs JOIN waiting ON job = number "
            "WHERE state = ? AND owner = ? AND NOT claimed AND tries <= ? "
            "ORDER BY number, position LIMIT 1",
            (JobState.active, owner, most_tries),
        ).fetchone()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of the block is on the disk after it, or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _shrink(self) -> None:
        """Give the disk back what was deleted."""
        # As a script: `execute` would give back one page alone.
        self._connection.executescript("PRAGMA incremental_vacuum")
        self._overwrite()

    def _overwrite(self) -> None:
        """Leave nothing of what was deleted in the write-ahead log."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _unusable(folder: Path, reason: str) -> SettingsError:
    return SettingsError(f"GLIMPSE_JOBS_FOLDER={folder} cannot work: {reason}.")


def _lock(folder: Path) -> int:
    """Take the folder for this process, until the descriptor is closed or the process ends."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(folder, f"no file can be written there ({error.strerror})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise _unusable(
            folder, "another process uses it; each replica needs a folder of its own"
        ) from error
    return descriptor


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file, for its owner alone, and make the tables of a new one."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    # Called from one thread at a time, though not always the same one.
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        for pragma in (
            "auto_vacuum = INCREMENTAL",  # before there is a table
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            script = f"BEGIN;{_SCHEMA}PRAGMA user_version = {_VERSION};COMMIT;"
            connection.executescript(script)
        elif version != _VERSION:
            raise _unusable(path.parent, f"{path.name} in it is of another version of Glimpse")
    except BaseException:
        connection.close()
        raise
    return connection
