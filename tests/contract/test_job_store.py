"""Every adapter of `ports.JobStore`, held to each sentence of its contract."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uuid_utils import uuid7

from limner.domain.errors import (
    InvalidRequestError,
    JobFinishedError,
    NotFoundError,
    QueueFullError,
)
from limner.domain.event import Event, EventType
from limner.domain.job import File, Job, Outcome, Role, Status
from limner.ports import JobStore
from tests.contract.conftest import sql_jobs

DAY = timedelta(days=1)
LEASE = timedelta(minutes=1)
NOTHING = timedelta(0)
FAR = timedelta(days=365)
RESULT = {"faces": [{"score": 0.9}], "image": {"width": 10, "height": 20}}

_numbers = count()


def new_job(key: str | None = None, *, picture: str | None = None, **changes: Any) -> Job:
    """A job as it is handed in; work of its own unless `key` says otherwise."""
    number = next(_numbers)
    job_id = str(uuid7())
    job = Job(
        id=job_id,
        operation="detect",
        lane="cpu",
        params={"min_score": 0.5, "image": {"sha256": "ü", "n": [1, 2.5, None, True]}},
        cache_key=key or f"work {number}",
        created_at=datetime.now(UTC),
        files=(_file(job_id, Role.INPUT, "image", picture or f"input {number}"),),
    )
    return replace(job, **changes)


def _file(job_id: str, role: Role, name: str, sha256: str) -> File:
    media_type = "image/png" if role is Role.INPUT else "image/jpeg"
    return File(str(uuid7()), job_id, role, name, sha256, media_type, size=123, width=10, height=20)


def outcome(job: Job, *names: str) -> Outcome:
    """A success with an artifact of each name."""
    made = tuple(_file(job.id, Role.ARTIFACT, name, f"sha of {name}") for name in names)
    return Outcome(result=RESULT, faces_count=1, artifacts=made)


def submit(store: JobStore, job: Job, *, max_queued: int = 100, cache_for: timedelta = DAY, **more: Any) -> Job:
    return store.submit(job, max_queued=max_queued, cache_for=cache_for, **more)


def start(store: JobStore, job: Job) -> Job:
    started = store.start(job.id, lease=LEASE)
    assert started is not None
    return started


def done(store: JobStore, job: Job, *names: str) -> Job:
    """Submit, start and finish."""
    submit(store, job)
    attempt = start(store, job).attempt
    assert store.finish(job.id, attempt, outcome(job, *names))
    return known(store, job)


def known(store: JobStore, job: Job) -> Job:
    found = store.get(job.id)
    assert found is not None
    return found


def told(store: JobStore, job: Job | None = None) -> list[str]:
    """Types of the events so far, of one job or of all."""
    return [event.type for event in events(store, job)]


def events(store: JobStore, job: Job | None = None) -> list[Event]:
    return store.events(0, limit=1000, job_id=job.id if job else None)


def nothing_deleted(sha256: str) -> None:
    raise AssertionError(f"{sha256} must not be deleted")


# --- submit: the first case that applies -----------------------------------------------------------------------------


def test_a_new_job_is_stored_as_queued_with_all_it_carries(store: JobStore) -> None:
    job = new_job()
    assert submit(store, job) == job
    assert store.get(job.id) == job
    assert store.waiting(10) == [(job.id, "cpu")]
    assert told(store) == ["job.queued"]


def test_case_1_a_known_idempotency_key_gives_the_first_job_back_unchanged(store: JobStore) -> None:
    first, again = new_job("same"), new_job("same")
    submit(store, first, idempotency_key="k")
    assert submit(store, again, idempotency_key="k") == first
    start(store, first)
    assert submit(store, again, idempotency_key="k") == known(store, first)
    assert store.get(again.id) is None
    assert told(store) == ["job.queued", "job.running"]


def test_case_1_comes_before_all_others(store: JobStore) -> None:
    first = new_job("same")
    submit(store, first, idempotency_key="k")
    assert submit(store, new_job("same"), idempotency_key="k", max_queued=1).id == first.id  # the queue is full
    assert store.finish(first.id, start(store, first).attempt, outcome(first))
    assert submit(store, new_job("same"), idempotency_key="k").id == first.id  # a cached answer is there


def test_case_1_refuses_a_key_that_was_used_for_other_work(store: JobStore) -> None:
    submit(store, new_job("one"), idempotency_key="k")
    other = new_job("two")
    with pytest.raises(InvalidRequestError, match="Idempotency-Key"):
        submit(store, other, idempotency_key="k")
    assert store.get(other.id) is None
    assert submit(store, other, idempotency_key="another").id == other.id


def test_an_erased_jobs_idempotency_key_is_free_again(store: JobStore) -> None:
    first = new_job("one")
    submit(store, first, idempotency_key="k")
    store.erase(first.id, lambda _: None)
    second = new_job("two")
    assert submit(store, second, idempotency_key="k").id == second.id


def test_case_2_a_cached_result_answers_at_once_and_shares_the_artifacts(store: JobStore) -> None:
    source = done(store, new_job("same"), "marked.jpg", "other.svg")
    job = new_job("same")
    answer = submit(store, job)
    assert answer == known(store, job)
    assert (answer.id, answer.status, answer.cached, answer.progress) == (job.id, Status.SUCCEEDED, "exact", 1.0)
    assert (answer.result, answer.faces_count, answer.attempt) == (source.result, 1, 0)
    assert answer.computed_at == source.computed_at
    assert answer.inputs == job.files
    assert [(each.name, each.sha256) for each in answer.artifacts] == [
        (each.name, each.sha256) for each in source.artifacts
    ]
    assert {each.job_id for each in answer.artifacts} == {job.id}
    assert not {each.id for each in answer.artifacts} & {each.id for each in source.artifacts}
    assert told(store, job) == ["job.succeeded"]
    assert store.waiting(10) == []


def test_case_2_comes_before_a_full_queue(store: JobStore) -> None:
    done(store, new_job("same"))
    submit(store, new_job())
    assert submit(store, new_job("same"), max_queued=1).cached == "exact"


def test_case_2_only_within_its_time_counted_from_when_it_was_computed(store: JobStore) -> None:
    done(store, new_job("same"))
    assert submit(store, new_job("same"), cache_for=DAY).cached == "exact"
    late = new_job("same")
    assert submit(store, late, cache_for=NOTHING).status is Status.QUEUED  # also what the cache itself answered
    assert known(store, late).leader_id is None


def test_case_2_failures_and_cancellations_answer_nobody(store: JobStore) -> None:
    failed, cancelled = new_job("same"), new_job("same")
    submit(store, failed)
    store.finish(failed.id, start(store, failed).attempt, Outcome(error={"title": "broken"}))
    submit(store, cancelled)
    store.cancel(cancelled.id)
    job = new_job("same")
    assert submit(store, job) == job


def test_case_3_a_full_queue_stores_nothing(store: JobStore) -> None:
    first = new_job("same")
    submit(store, first, max_queued=1)
    for job in (new_job(), new_job("same")):
        with pytest.raises(QueueFullError):
            submit(store, job, max_queued=1, idempotency_key="k")
        assert store.get(job.id) is None
    assert told(store) == ["job.queued"]
    start(store, first)
    assert submit(store, new_job(), max_queued=1, idempotency_key="k").status is Status.QUEUED


def test_case_4_the_same_work_in_flight_is_waited_for(store: JobStore) -> None:
    leader, second, third = new_job("same"), new_job("same"), new_job("same")
    submit(store, leader)
    assert submit(store, second) == replace(second, leader_id=leader.id)
    start(store, leader)
    assert submit(store, third).leader_id == leader.id  # the leader itself, never one that waits
    assert store.waiting(10) == []
    assert store.start(second.id, lease=LEASE) is None
    assert store.queued() == 2
    assert told(store, second) == ["job.queued"]


def test_same_work_handed_in_by_many_at_once_has_one_leader(store: JobStore) -> None:
    handed_in = [new_job("same") for _ in range(16)]
    stored = _at_once([lambda job=job: submit(store, job) for job in handed_in])  # type: ignore[misc]
    leaders = [job for job in stored if job.leader_id is None]
    assert len(leaders) == 1
    assert {job.leader_id for job in stored} == {None, leaders[0].id}
    assert store.waiting(100) == [(leaders[0].id, "cpu")]


def test_one_idempotency_key_used_by_many_at_once_is_one_job(store: JobStore) -> None:
    stored = _at_once([lambda: submit(store, new_job("same"), idempotency_key="k") for _ in range(16)])
    assert len({job.id for job in stored}) == 1
    assert told(store) == ["job.queued"]


def test_the_queue_is_never_overfilled_by_many_at_once(store: JobStore) -> None:
    def try_it() -> bool:
        try:
            submit(store, new_job(), max_queued=5)
        except QueueFullError:
            return False
        return True

    assert sum(_at_once([try_it] * 16)) == 5
    assert store.queued() == 5


# --- start, alive, renew, progress, finish, release ------------------------------------------------------------------


def test_start_makes_a_queued_job_running_and_counts_the_attempt(store: JobStore) -> None:
    job = new_job()
    submit(store, job)
    started = start(store, job)
    assert started == known(store, job)
    assert (started.status, started.attempt, started.progress) == (Status.RUNNING, 1, 0.0)
    assert started.started_at is not None
    assert told(store) == ["job.queued", "job.running"]


def test_only_one_of_many_starts_wins(store: JobStore) -> None:
    job = new_job()
    submit(store, job)
    started = _at_once([lambda: store.start(job.id, lease=LEASE)] * 16)
    assert [each.attempt for each in started if each is not None] == [1]
    assert told(store) == ["job.queued", "job.running"]


def test_start_gives_none_for_what_cannot_start(store: JobStore) -> None:
    finished, cancelled = done(store, new_job()), new_job()
    submit(store, cancelled)
    store.cancel(cancelled.id)
    for job_id in (finished.id, cancelled.id, "no such job"):
        assert store.start(job_id, lease=LEASE) is None


def test_an_attempt_is_alive_until_it_ends_or_is_overtaken(store: JobStore) -> None:
    job = new_job()
    submit(store, job)
    assert not store.alive(job.id, 0)
    attempt = start(store, job).attempt
    assert store.alive(job.id, attempt)
    assert not store.alive(job.id, attempt + 1)
    assert not store.alive("no such job", attempt)
    store.cancel(job.id)
    assert not store.alive(job.id, attempt)


def test_progress_is_recorded_and_told(store: JobStore) -> None:
    job = new_job()
    submit(store, job)
    attempt = start(store, job).attempt
    assert store.progress(job.id, attempt, 0.25)
    assert known(store, job).progress == 0.25
    event = events(store, job)[-1]
    assert event.type is EventType.PROGRESS
    assert event.content is not None
    assert (event.content["status"], event.content["progress"]) == ("running", 0.25)


def test_success_is_stored_whole(store: JobStore) -> None:
    job = new_job()
    submit(store, job)
    attempt = start(store, job).attempt
    ended = outcome(job, "b.jpg", "a.jpg", "c.jpg")
    assert store.finish(job.id, attempt, ended)
    found = known(store, job)
    assert (found.status, found.progress, found.result, found.error) == (Status.SUCCEEDED, 1.0, RESULT, None)
    assert found.artifacts == ended.artifacts  # in the order in which they were made
    assert found.inputs == job.files
    assert found.faces_count == 1
    assert found.cached is None
    assert found.finished_at == found.computed_at
    assert told(store) == ["job.queued", "job.running", "job.succeeded"]


def test_failure_is_stored_with_its_problem(store: JobStore) -> None:
    job = new_job()
    submit(store, job)
    problem = {"type": "urn:x", "title": "Broken", "status": 422, "detail": "ä", "retryable": False}
    assert store.finish(job.id, start(store, job).attempt, Outcome(error=problem))
    found = known(store, job)
    assert (found.status, found.error, found.result, found.artifacts) == (Status.FAILED, problem, None, ())
    event = events(store, job)[-1]
    assert event.type is EventType.FAILED
    assert event.content is not None
    assert event.content["error"] == problem


@pytest.mark.parametrize("overtake", ["cancel", "erase", "expire", "finish", "release"])
def test_an_overtaken_attempt_can_do_nothing_more(store: JobStore, overtake: str) -> None:
    job = new_job()
    submit(store, job)
    attempt = start(store, job).attempt
    ways: dict[str, Callable[[], object]] = {
        "cancel": lambda: store.cancel(job.id),
        "erase": lambda: store.erase(job.id, lambda _: None),
        "expire": lambda: store.expire(max_attempts=5, now=datetime.now(UTC) + FAR),
        "finish": lambda: store.finish(job.id, attempt, outcome(job)),
        "release": lambda: store.release(job.id, attempt),
    }
    ways[overtake]()
    if overtake in ("expire", "release"):
        assert start(store, job).attempt == attempt + 1  # by another worker
    before, log = store.get(job.id), events(store)
    assert not store.alive(job.id, attempt)
    assert not store.progress(job.id, attempt, 0.5)
    assert not store.release(job.id, attempt)
    assert not store.finish(job.id, attempt, outcome(job, "late.jpg"))
    store.renew([(job.id, attempt)], lease=FAR)
    assert store.get(job.id) == before
    assert events(store) == log
    if overtake in ("expire", "release"):
        assert store.expire(max_attempts=5, now=datetime.now(UTC) + DAY) == 1  # its lease was not renewed


def test_only_one_of_many_finishes_wins(store: JobStore) -> None:
    job = new_job()
    submit(store, job)
    attempt = start(store, job).attempt
    assert sum(_at_once([lambda: store.finish(job.id, attempt, outcome(job, "a.jpg"))] * 8)) == 1
    assert told(store).count("job.succeeded") == 1
    assert len(known(store, job).artifacts) == 1


def test_cancel_and_finish_at_once_have_one_winner(store: JobStore) -> None:
    for _ in range(10):
        job = new_job()
        submit(store, job)
        attempt = start(store, job).attempt

        def cancel(job: Job = job) -> bool:
            try:
                store.cancel(job.id)
            except JobFinishedError:
                return False
            return True

        ended = _at_once([cancel, lambda job=job, attempt=attempt: store.finish(job.id, attempt, outcome(job))])  # type: ignore[misc]
        assert sorted(ended) == [False, True]
        last = "job.cancelled" if ended[0] else "job.succeeded"
        assert told(store, job) == ["job.queued", "job.running", last]


def test_a_released_job_waits_again(store: JobStore) -> None:
    job = new_job()
    submit(store, job)
    attempt = start(store, job).attempt
    store.progress(job.id, attempt, 0.5)
    assert store.release(job.id, attempt)
    assert known(store, job) == replace(job, attempt=1)
    assert store.waiting(10) == [(job.id, "cpu")]
    assert told(store) == ["job.queued", "job.running", "job.progress", "job.queued"]


def test_those_that_wait_behind_get_the_leaders_result(store: JobStore) -> None:
    leader, second, third = new_job("same"), new_job("same"), new_job("same")
    for job in (leader, second, third):
        submit(store, job)
    assert store.finish(leader.id, start(store, leader).attempt, outcome(leader, "marked.jpg"))
    source = known(store, leader)
    for job in (second, third):
        follower = known(store, job)
        assert (follower.status, follower.cached, follower.leader_id) == (Status.SUCCEEDED, "exact", None)
        assert (follower.result, follower.progress, follower.computed_at) == (RESULT, 1.0, source.computed_at)
        assert [each.sha256 for each in follower.artifacts] == [each.sha256 for each in source.artifacts]
        assert follower.inputs == job.files
        assert told(store, job) == ["job.queued", "job.succeeded"]
    assert store.queued() == 0


def test_those_that_wait_behind_fail_with_the_leader(store: JobStore) -> None:
    leader, second = new_job("same"), new_job("same")
    submit(store, leader)
    submit(store, second)
    store.finish(leader.id, start(store, leader).attempt, Outcome(error={"title": "broken"}))
    assert known(store, second).status is Status.FAILED
    assert known(store, second).error == {"title": "broken"}
    assert told(store, second) == ["job.queued", "job.failed"]


# --- expire ----------------------------------------------------------------------------------------------------------


def test_expire_hands_on_only_what_has_lost_its_lease(store: JobStore) -> None:
    job = new_job()
    submit(store, job)
    start(store, job)
    assert store.expire(max_attempts=5, now=datetime.now(UTC)) == 0
    assert known(store, job).status is Status.RUNNING
    assert store.expire(max_attempts=5, now=datetime.now(UTC) + 2 * LEASE) == 1
    assert known(store, job) == replace(job, attempt=1)
    assert store.expire(max_attempts=5, now=datetime.now(UTC) + 2 * LEASE) == 0


def test_a_renewed_lease_holds(store: JobStore) -> None:
    held, lost = new_job(), new_job()
    for job in (held, lost):
        submit(store, job)
        start(store, job)
    store.renew([(held.id, 1), ("no such job", 1)], lease=FAR)
    store.renew([], lease=FAR)
    assert store.expire(max_attempts=5, now=datetime.now(UTC) + 2 * LEASE) == 1
    assert known(store, held).status is Status.RUNNING
    assert known(store, lost).status is Status.QUEUED


def test_a_job_that_never_finishes_counts_as_crashed_and_so_do_those_behind_it(store: JobStore) -> None:
    job, behind = new_job("same"), new_job("same")
    submit(store, job)
    submit(store, behind)
    for attempt in (1, 2, 3):
        assert known(store, job).status is Status.QUEUED
        assert start(store, job).attempt == attempt
        assert store.expire(max_attempts=3, now=datetime.now(UTC) + FAR) == 1
    for each in (job, behind):
        crashed = known(store, each)
        assert crashed.status is Status.FAILED
        assert crashed.error is not None
        assert crashed.error["type"] == "urn:limner:problem:job-crashed"
    assert told(store, job) == ["job.queued", "job.running"] * 3 + ["job.failed"]


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_ends_a_queued_or_running_job(store: JobStore) -> None:
    queued, running = new_job(), new_job()
    submit(store, queued)
    submit(store, running)
    start(store, running)
    for job in (queued, running):
        cancelled = store.cancel(job.id)
        assert cancelled == known(store, job)
        assert cancelled.status is Status.CANCELLED
        assert cancelled.finished_at is not None
        assert told(store, job)[-1] == "job.cancelled"
    assert store.waiting(10) == []
    assert store.expire(max_attempts=5, now=datetime.now(UTC) + FAR) == 0


def test_cancel_refuses_what_has_finished_or_is_unknown(store: JobStore) -> None:
    job = done(store, new_job())
    with pytest.raises(JobFinishedError):
        store.cancel(job.id)
    with pytest.raises(NotFoundError):
        store.cancel("no such job")
    assert known(store, job) == job


@pytest.mark.parametrize("end", ["cancel", "erase"])
@pytest.mark.parametrize("running", [False, True])
def test_when_a_leader_goes_the_oldest_behind_it_leads_the_others(store: JobStore, end: str, running: bool) -> None:
    leader, second, third = new_job("same"), new_job("same"), new_job("same")
    for job in (leader, second, third):
        submit(store, job)
    if running:
        start(store, leader)
    if end == "cancel":
        store.cancel(leader.id)
    else:
        store.erase(leader.id, lambda _: None)
    assert store.waiting(10) == [(second.id, "cpu")]
    assert known(store, third).leader_id == second.id
    assert store.finish(second.id, start(store, second).attempt, outcome(second))
    assert known(store, third).status is Status.SUCCEEDED


def test_cancelling_one_that_waits_behind_leaves_the_leader_alone(store: JobStore) -> None:
    leader, second, third = new_job("same"), new_job("same"), new_job("same")
    for job in (leader, second, third):
        submit(store, job)
    store.cancel(second.id)
    store.finish(leader.id, start(store, leader).attempt, outcome(leader))
    assert known(store, second).status is Status.CANCELLED
    assert known(store, third).status is Status.SUCCEEDED
    assert told(store, second) == ["job.queued", "job.cancelled"]


# --- erase, forget, outdated, drop_events ----------------------------------------------------------------------------


def test_erase_leaves_nothing_but_blank_events(store: JobStore) -> None:
    job, other = done(store, new_job(), "marked.jpg"), done(store, new_job(), "other.jpg")
    log = events(store)
    gone: list[str] = []
    store.erase(job.id, gone.append)
    assert sorted(gone) == sorted(each.sha256 for each in job.files)
    assert store.get(job.id) is None
    assert store.file(job.artifacts[0].id) is None
    assert store.page() == [other]
    blanked = [replace(each, content=None) if each.job_id == job.id else each for each in log]
    assert events(store) == blanked


def test_erase_deletes_only_blobs_that_no_other_job_names(store: JobStore) -> None:
    first = done(store, new_job("same", picture="photo"), "marked.jpg")
    second = submit(store, new_job("same", picture="photo"))
    third = submit(store, new_job("other", picture="photo"))
    store.erase(first.id, nothing_deleted)
    gone: list[str] = []
    store.erase(second.id, gone.append)
    assert gone == ["sha of marked.jpg"]
    store.erase(third.id, gone.append)
    assert gone == ["sha of marked.jpg", "photo"]


def test_an_erased_result_answers_nobody(store: JobStore) -> None:
    job = done(store, new_job("same"))
    store.erase(job.id, lambda _: None)
    again = new_job("same")
    assert submit(store, again) == again


def test_erase_refuses_what_is_unknown(store: JobStore) -> None:
    with pytest.raises(NotFoundError):
        store.erase("no such job", nothing_deleted)


def test_forget_deletes_what_no_job_names(store: JobStore) -> None:
    submit(store, new_job(picture="named"))
    gone: list[str] = []
    store.forget(["named", "forgotten"], gone.append)
    store.forget([], nothing_deleted)
    assert gone == ["forgotten"]


def test_outdated_lists_finished_jobs_oldest_first(store: JobStore) -> None:
    finished = [done(store, new_job()) for _ in range(3)]
    waiting = new_job(created_at=datetime.now(UTC) - FAR)
    submit(store, waiting)
    soon = datetime.now(UTC) + DAY
    assert store.outdated(soon, 10) == [job.id for job in finished]
    assert store.outdated(soon, 2) == [job.id for job in finished[:2]]
    assert store.outdated(finished[1].created_at, 10) == [finished[0].id]


def test_event_ids_are_never_used_again(store: JobStore) -> None:
    done(store, new_job())
    last = store.last_event_id()
    store.drop_events(datetime.now(UTC) + DAY)
    assert events(store) == []
    assert store.last_event_id() == last
    submit(store, new_job())
    assert [event.id for event in events(store)] == [last + 1]


def test_drop_events_keeps_the_young(store: JobStore) -> None:
    submit(store, new_job())
    store.drop_events(datetime.now(UTC) - DAY)
    assert told(store) == ["job.queued"]


# --- reading ---------------------------------------------------------------------------------------------------------


def test_an_empty_store_has_nothing(store: JobStore) -> None:
    assert store.get("no such job") is None
    assert store.file("no such file") is None
    assert (store.page(), store.waiting(10), store.queued(), store.last_event_id()) == ([], [], 0, 0)
    assert store.outdated(datetime.now(UTC) + DAY, 10) == []
    store.ping()


def test_pages_are_newest_first_and_follow_one_another(store: JobStore) -> None:
    stored = [submit(store, new_job()) for _ in range(7)]
    newest_first = stored[::-1]
    seen: list[Job] = []
    before = None
    while page := store.page(before=before, limit=3):
        assert len(page) <= 3
        seen += page
        before = page[-1].id
        submit(store, new_job())  # what is new meanwhile does not shift the pages
    assert seen == newest_first


def test_pages_by_operation_and_status(store: JobStore) -> None:
    one = submit(store, new_job(operation="contours"))
    two = done(store, new_job(), "marked.jpg")
    assert store.page(operation="contours") == [one]
    assert store.page(status=Status.SUCCEEDED) == [two]
    assert store.page(operation="contours", status=Status.SUCCEEDED) == []


def test_files_are_found_by_their_own_id(store: JobStore) -> None:
    job = done(store, new_job(), "marked.jpg")
    for file in job.files:
        assert store.file(file.id) == file


def test_waiting_is_oldest_first_and_bounded(store: JobStore) -> None:
    stored = [submit(store, new_job(lane="gpu")) for _ in range(4)]
    assert store.waiting(3) == [(job.id, "gpu") for job in stored[:3]]


def test_events_come_in_order_by_pages_and_filters(store: JobStore) -> None:
    one, two = done(store, new_job()), new_job(operation="contours")
    submit(store, two)
    everything = events(store)
    ids = [event.id for event in everything]
    assert ids == sorted(set(ids))
    assert store.last_event_id() == ids[-1]
    assert store.events(ids[0], limit=2) == everything[1:3]
    assert [event.job_id for event in store.events(0, limit=9, job_id=one.id)] == [one.id] * 3
    assert [event.job_id for event in store.events(0, limit=9, operation="contours")] == [two.id]
    assert store.events(0, limit=9, job_id=one.id, operation="contours") == []
    assert store.events(ids[-1], limit=9) == []


def test_an_event_tells_what_was_true_then(store: JobStore) -> None:
    job = done(store, new_job(), "marked.jpg")
    contents = [event.content or {} for event in events(store)]
    assert [each["status"] for each in contents] == ["queued", "running", "succeeded"]
    assert [each["progress"] for each in contents] == [0.0, 0.0, 1.0]
    assert [len(each["artifacts"]) for each in contents] == [0, 0, 1]
    assert contents[-1]["artifacts"][0]["id"] == job.artifacts[0].id
    assert contents[-1]["faces_count"] == 1
    assert "result" not in contents[-1]  # no landmark in the log of events


def test_a_reader_that_goes_on_from_the_last_never_skips_an_event(store: JobStore) -> None:
    writers, each = 4, 25
    ended = threading.Event()
    seen: list[int] = []

    def read() -> None:
        last = 0
        while True:
            over = ended.is_set()
            while rows := store.events(last, limit=7):
                seen.extend(row.id for row in rows)
                last = rows[-1].id
            if over:
                return
            ended.wait(0.001)

    reader = threading.Thread(target=read)
    reader.start()
    _at_once([lambda: [submit(store, new_job()) for _ in range(each)]] * writers)
    ended.set()
    reader.join()
    assert seen == [event.id for event in events(store)]
    assert len(seen) == writers * each


def test_work_by_many_at_once_runs_every_job_once(store: JobStore) -> None:
    stored = [submit(store, new_job()) for _ in range(40)]

    def work() -> list[str]:
        finished = []
        for job in stored:
            started = store.start(job.id, lease=LEASE)
            if started is not None and store.finish(job.id, started.attempt, outcome(job, "a.jpg")):
                finished.append(job.id)
        return finished

    finished = [job_id for ids in _at_once([work] * 4) for job_id in ids]
    assert sorted(finished) == sorted(job.id for job in stored)
    assert told(store).count("job.succeeded") == 40


@pytest.fixture(scope="module")
def lasting_store() -> Iterator[JobStore]:
    made = sql_jobs("memory:")
    yield made
    made.close()


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))


@given(
    params=st.dictionaries(st.text(), _json, max_size=4), created_at=_moments, result=st.dictionaries(st.text(), _json)
)
def test_what_comes_out_is_what_went_in(
    lasting_store: JobStore, params: dict[str, Any], created_at: datetime, result: dict[str, Any]
) -> None:
    job = new_job(params=params, created_at=created_at)
    submit(lasting_store, job)
    assert lasting_store.get(job.id) == job
    lasting_store.finish(job.id, start(lasting_store, job).attempt, Outcome(result=result))
    assert known(lasting_store, job).result == result
    lasting_store.erase(job.id, lambda _: None)


def _at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """The results of calls made from as many threads at the same moment."""
    barrier = threading.Barrier(len(calls))

    def wait_and(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(wait_and, calls))
