"""The jobs' database: what it keeps, for whom, how much, and what of it is left on the disk."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import JobsFullError, SettingsError
from app.jobs.database import JobDatabase
from app.jobs.records import Claim, JobLimits, JobState, NewImage, NewJob, Outcome

LIMITS = JobLimits(max_jobs=10, max_bytes=1000, kept_seconds=100.0)
GOOD = Outcome(True, '{"good": 1}')
SECRET = b"a secret that is in a picture "


def job(owner: str = "", *images: bytes) -> NewJob:
    named = [NewImage(data, f"{at}.png") for at, data in enumerate(images or (b"one", b"two"))]
    return NewJob(owner, "glimpse", "{}", "request", named)


def take(database: JobDatabase, after_owner: str = "", *, alone: bool = False) -> Claim:
    found = database.claim(after_owner, alone=alone)
    assert found is not None
    return found[1]


@pytest.fixture
def database(tmp_path: Path) -> JobDatabase:
    return JobDatabase(tmp_path, LIMITS)


def killed(database: JobDatabase, folder: Path) -> JobDatabase:
    """What another process finds after this one was killed: nothing is given back or closed."""
    database._connection.close()
    os.close(database._lock)
    return JobDatabase(folder, LIMITS)


def test_job_is_captioned_image_by_image_and_ends_with_its_last_one(database: JobDatabase) -> None:
    added = database.add(job(), now=5.0)
    first, second = take(database), take(database)
    assert (first.data, second.data) == (b"one", b"two")
    assert (first.name, first.model, first.options, first.tries) == ("0.png", "glimpse", "{}", 1)
    assert database.claim("", alone=False) is None
    assert database.finish(second, Outcome(False, '{"bad": 1}'), now=6.0)
    found = database.find(added.id, "")
    assert found is not None
    assert (found.state, found.captioned, found.failed) == (JobState.active, 0, 1)
    assert database.finish(first, GOOD, now=7.0)
    found = database.find(added.id, "")
    assert found is not None
    assert (found.state, found.ended, found.captioned) == (JobState.done, 7.0, 1)
    assert [done.position for done in database.outcomes(added.id)] == [0, 1]
    assert database.waiting() == (0, 0)


def test_killed_process_loses_nothing_and_repeats_nothing_that_was_finished(
    database: JobDatabase, tmp_path: Path
) -> None:
    added = database.add(job("", b"one", b"two", b"three"), now=0.0)
    database.finish(take(database), GOOD, now=1.0)
    in_hand = take(database)
    again = killed(database, tmp_path)
    assert len(again.outcomes(added.id)) == 1
    assert again.waiting() == (2, len(b"two") + len(b"three"))
    untried = take(again)  # one that was in hand may have been the reason: it goes alone
    assert untried.data == b"three"
    assert again.claim("", alone=False) is None
    again.finish(untried, GOOD, now=2.0)
    tried = take(again, alone=True)
    assert (tried.position, tried.tries) == (in_hand.position, 2)
    again.finish(tried, GOOD, now=3.0)
    assert [done.position for done in again.outcomes(added.id)] == [0, 1, 2]
    again.close()


def test_stopped_process_gives_back_what_it_had_as_if_untried(
    database: JobDatabase, tmp_path: Path
) -> None:
    database.add(job(), now=0.0)
    take(database)
    database.close()
    again = JobDatabase(tmp_path, LIMITS)
    assert take(again).tries == 1


def test_released_image_counts_its_try_only_where_that_is_said(database: JobDatabase) -> None:
    database.add(job("", b"one"), now=0.0)
    database.release(take(database), counts=False)
    database.release(take(database), counts=True)
    assert database.claim("", alone=False) is None
    assert take(database, alone=True).tries == 2


def test_owners_take_turns_and_see_their_own_jobs_alone(database: JobDatabase) -> None:
    of_a = database.add(job("a", b"a1", b"a2"), now=0.0)
    of_b = database.add(job("b", b"b1"), now=0.0)
    owner, taken = "", []
    for _ in range(3):
        found = database.claim(owner, alone=False)
        assert found is not None
        owner = found[0]
        taken.append(found[1].data)
    assert taken == [b"a1", b"b1", b"a2"]
    assert database.find(of_a.id, "b") is None
    assert database.cancel(of_b.id, "a", now=1.0) is None
    assert database.find(of_b.id, "b") is not None


def test_canceled_job_keeps_its_outcomes_and_takes_no_more(database: JobDatabase) -> None:
    added = database.add(job("", b"one", b"two", b"three"), now=0.0)
    database.finish(take(database), GOOD, now=1.0)
    in_hand = take(database)
    assert database.cancel(added.id, "", now=2.0) is not None
    assert not database.finish(in_hand, GOOD, now=3.0)
    found = database.find(added.id, "")
    assert found is not None
    assert (found.state, found.ended, found.captioned) == (JobState.canceled, 2.0, 1)
    assert len(database.outcomes(added.id)) == 1
    assert database.claim("", alone=True) is None
    assert database.cancel(added.id, "", now=4.0) is not None  # and now it is forgotten
    assert database.find(added.id, "") is None
    assert database.outcomes(added.id) == []


def test_job_is_forgotten_a_time_after_its_end_and_never_before(database: JobDatabase) -> None:
    active = database.add(job(), now=0.0)
    ended = database.add(job(), now=0.0)
    database.cancel(ended.id, "", now=50.0)
    assert database.forget_old(now=149.0) == 0
    assert database.forget_old(now=150.0) == 1
    assert database.find(ended.id, "") is None
    assert database.find(active.id, "") is not None


@pytest.mark.parametrize(
    ("owner", "most"), [("", 10), ("a", 5)], ids=["all together", "half for one key"]
)
def test_jobs_kept_are_bounded(database: JobDatabase, owner: str, most: int) -> None:
    for _ in range(most):
        database.add(job(owner, b"x"), now=0.0)
    with pytest.raises(JobsFullError):
        database.add(job(owner, b"x"), now=0.0)
    assert database.jobs() == most
    if owner:
        database.add(job("b", b"x"), now=0.0)


@pytest.mark.parametrize(("owner", "most"), [("", 1000), ("a", 500)])
def test_bytes_that_wait_are_bounded_and_free_again_once_captioned(
    database: JobDatabase, owner: str, most: int
) -> None:
    database.add(job(owner, bytes(most)), now=0.0)
    with pytest.raises(JobsFullError):
        database.add(job(owner, b"x"), now=0.0)
    database.finish(take(database), GOOD, now=1.0)
    database.add(job(owner, b"x"), now=0.0)


def test_image_is_nowhere_on_the_disk_once_its_outcome_is(tmp_path: Path) -> None:
    limits = JobLimits(max_jobs=10, max_bytes=10_000_000, kept_seconds=1.0)
    database = JobDatabase(tmp_path, limits)
    large = SECRET * 50_000
    database.add(job("", large, b"another"), now=0.0)
    assert SECRET in on_disk(tmp_path)
    database.finish(take(database), GOOD, now=1.0)
    assert SECRET not in on_disk(tmp_path)
    database.finish(take(database), GOOD, now=1.0)
    assert len(on_disk(tmp_path)) < len(large) / 10


def test_images_of_a_canceled_job_are_nowhere_on_the_disk(tmp_path: Path) -> None:
    database = JobDatabase(tmp_path, LIMITS)
    added = database.add(job("", SECRET, SECRET), now=0.0)
    database.cancel(added.id, "", now=1.0)
    assert SECRET not in on_disk(tmp_path)


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())


def test_files_are_for_their_owner_alone(database: JobDatabase, tmp_path: Path) -> None:
    database.add(job(), now=0.0)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def spoil_file(folder: Path) -> None:
    (folder / "jobs.sqlite3").write_bytes(b"no database at all" * 1000)


def spoil_version(folder: Path) -> None:
    database = JobDatabase(folder, LIMITS)
    database._connection.execute("PRAGMA user_version = 7")
    database.close()


def spoil_folder(folder: Path) -> None:
    (folder / "jobs.lock").mkdir()


def hold_folder(folder: Path) -> None:
    HELD.append(JobDatabase(folder, LIMITS))


HELD: list[JobDatabase] = []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_file, "cannot be read or written"),
        (spoil_version, "another version"),
        (spoil_folder, "no file can be written there"),
        (hold_folder, "another process uses it"),
    ],
)
def test_folder_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(tmp_path)
    with pytest.raises(SettingsError, match=said) as caught:
        JobDatabase(tmp_path, LIMITS)
    assert f"GLIMPSE_JOBS_FOLDER={tmp_path}" in str(caught.value)


STEPS = st.lists(
    st.sampled_from(["add", "claim", "finish", "release", "count", "kill", "stop", "cancel"]),
    max_size=25,
)


@settings(max_examples=20)
@given(steps=STEPS)
def test_whatever_happens_each_image_waits_or_has_one_outcome(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("jobs")
    database = JobDatabase(folder, LIMITS)
    claims: list[Claim] = []
    finished: list[tuple[str, int]] = []
    canceled: set[str] = set()
    ids: list[str] = []
    for step in steps:
        if step == "add" and len(ids) < 5:
            ids.append(database.add(job(), now=0.0).id)
        elif step == "claim":
            found = database.claim("", alone=not claims)
            if found is not None:
                assert (found[1].job_id, found[1].position) not in finished
                claims.append(found[1])
        elif step == "finish" and claims:
            claim = claims.pop(0)
            assert database.finish(claim, GOOD, now=0.0) == (claim.job_id not in canceled)
            if claim.job_id not in canceled:
                finished.append((claim.job_id, claim.position))
        elif step in ("release", "count") and claims:
            database.release(claims.pop(0), counts=step == "count")
        elif step == "kill":
            database, claims = killed(database, folder), []
        elif step == "stop":
            database.close()
            database, claims = JobDatabase(folder, LIMITS), []
        elif step == "cancel" and ids and ids[0] not in canceled:
            found_job = database.find(ids[0], "")
            if found_job is not None and found_job.state is JobState.active:
                database.cancel(ids[0], "", now=0.0)
                canceled.add(ids[0])
    outcomes = [(each, done.position) for each in ids for done in database.outcomes(each)]
    assert sorted(outcomes) == sorted(finished)
    assert database.waiting()[0] == 2 * (len(ids) - len(canceled)) - len(
        [each for each in finished if each[0] not in canceled]
    )
    database.close()
