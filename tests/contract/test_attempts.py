"""Start, renewal, progress and end of an attempt, on every store."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from limner.domain.blob import BlobState
from limner.domain.event import EventType
from limner.domain.job import Outcome, Status
from limner.jobs.transitions import Missing
from tests.contract.machine import DAY, FAR, LEASE, RESULT, SUMMARY, Machine, at_once, new_job, success

# --- start -----------------------------------------------------------------------------------------------------------


def test_start_makes_a_queued_job_running_and_counts_the_attempt(machine: Machine) -> None:
    job = machine.submit(new_job())
    before = datetime.now(UTC)
    started = machine.start(job, worker="w 1", lease=LEASE)
    assert started == machine.known(job)
    assert (started.status, started.attempt, started.progress, started.worker) == (Status.RUNNING, 1, 0.0, "w 1")
    assert started.started_at is not None
    assert started.lease_until is not None
    assert before <= started.started_at <= datetime.now(UTC)
    assert started.lease_until - started.started_at == LEASE
    assert machine.told() == ["job.queued", "job.running"]


def test_only_one_of_many_starts_wins(machine: Machine) -> None:
    job = machine.submit(new_job())
    other = machine.again()
    started = at_once([lambda each=each: each.try_start(job.id) for each in [machine, other] * 8])  # type: ignore[misc]
    assert [each.attempt for each in started if each is not None] == [1]
    assert machine.told() == ["job.queued", "job.running"]


def test_start_gives_none_for_what_cannot_start(machine: Machine) -> None:
    finished, cancelled, running = machine.done(new_job()), new_job(), new_job()
    machine.submit(cancelled)
    machine.cancel(cancelled.id)
    machine.submit(running)
    machine.start(running)
    for job_id in (finished.id, cancelled.id, running.id, "no such job"):
        assert machine.try_start(job_id) is None


# --- renew, progress -------------------------------------------------------------------------------------------------


def test_an_attempt_is_current_until_it_ends_or_is_overtaken(machine: Machine) -> None:
    job = machine.submit(new_job())
    assert not machine.reader.is_current(job.id, 0)
    attempt = machine.start(job).attempt
    assert machine.reader.is_current(job.id, attempt)
    assert not machine.reader.is_current(job.id, attempt + 1)
    assert not machine.reader.is_current("no such job", attempt)
    machine.cancel(job.id)
    assert not machine.reader.is_current(job.id, attempt)


def test_renewing_extends_the_lease_from_now_and_tells_nobody(machine: Machine) -> None:
    started = machine.start(machine.submit(new_job()), lease=timedelta(seconds=1))
    assert machine.renew(started.id, started.attempt, timedelta(hours=1))
    renewed = machine.known(started)
    assert renewed == replace(started, lease_until=renewed.lease_until)
    assert renewed.lease_until is not None
    assert timedelta(minutes=59) < renewed.lease_until - datetime.now(UTC) <= timedelta(hours=1)
    assert not machine.renew("no such job", 1)
    assert machine.told() == ["job.queued", "job.running"]


def test_progress_is_recorded_and_told(machine: Machine) -> None:
    job = machine.submit(new_job())
    attempt = machine.start(job).attempt
    assert machine.progress(job.id, attempt, 0.25)
    assert machine.known(job).progress == 0.25
    event = machine.events(job)[-1]
    assert event.type is EventType.PROGRESS
    assert event.content is not None
    assert (event.content["status"], event.content["progress"]) == ("running", 0.25)


# --- finish ----------------------------------------------------------------------------------------------------------


def test_success_is_stored_whole(machine: Machine) -> None:
    job = machine.submit(new_job())
    started = machine.start(job)
    ended = success(job, "b.jpg", "a.jpg", "c.jpg")
    assert machine.try_finish(started, replace(ended, phash="0123456789abcdef")) is True
    found = machine.known(job)
    assert (found.status, found.progress, found.result, found.error) == (Status.SUCCEEDED, 1.0, RESULT, None)
    assert (found.worker, found.lease_until, found.attempt) == (None, None, 1)
    assert found.artifacts == ended.artifacts  # in the order in which they were made
    assert found.inputs == job.files
    assert (found.summary, found.phash, found.cached) == (SUMMARY, "0123456789abcdef", None)
    assert found.started_at == started.started_at
    assert found.finished_at == found.computed_at
    assert machine.told() == ["job.queued", "job.running", "job.succeeded"]
    for file in found.artifacts:
        assert machine.store.transact(lambda tx, file=file: tx.blob_state(file.sha256)) is BlobState.KEPT  # type: ignore[misc]


def test_failure_is_stored_with_its_problem_and_the_progress_so_far(machine: Machine) -> None:
    job = machine.submit(new_job())
    started = machine.start(job)
    machine.progress(job.id, started.attempt, 0.5)
    problem = {"type": "urn:x", "title": "Broken", "status": 422, "detail": "ä", "retryable": False}
    assert machine.fail(started, problem)
    found = machine.known(job)
    assert (found.status, found.error, found.result, found.artifacts) == (Status.FAILED, problem, None, ())
    assert (found.progress, found.computed_at) == (0.5, None)
    event = machine.events(job)[-1]
    assert event.type is EventType.FAILED
    assert event.content is not None
    assert event.content["error"] == problem


def test_finish_asks_for_artifacts_that_are_not_stored_and_writes_nothing(machine: Machine) -> None:
    started = machine.start(machine.submit(new_job()))
    log = machine.events()
    ended = success(started, "a.jpg")
    assert machine.try_finish(started, ended, lambda _: False) == Missing(("sha of a.jpg",), leaving=False)
    assert machine.known(started) == started
    assert machine.events() == log
    assert machine.try_finish(started, ended) is True


@pytest.mark.parametrize("overtake", ["cancel", "erase", "expire", "finish", "lose", "timeout"])
def test_an_overtaken_attempt_can_do_nothing_more(machine: Machine, overtake: str) -> None:
    job = machine.submit(new_job())
    started = machine.start(job)
    attempt = started.attempt
    ways: dict[str, Callable[[], object]] = {
        "cancel": lambda: machine.cancel(job.id),
        "erase": lambda: machine.erase(job.id),
        "expire": lambda: machine.expire(job.id),
        "finish": lambda: machine.finish(started),
        "lose": lambda: machine.lose("worker", "died"),
        "timeout": lambda: machine.lose("worker", "timeout"),
    }
    ways[overtake]()
    runs_again = overtake in ("expire", "lose")
    if runs_again:
        assert machine.start(job, worker="another").attempt == attempt + 1
    before, log = machine.reader.get(job.id), machine.events()
    assert not machine.reader.is_current(job.id, attempt)
    assert not machine.progress(job.id, attempt, 0.5)
    assert not machine.finish(started, "late.jpg")
    assert not machine.renew(job.id, attempt, FAR)
    assert machine.lose("worker", "died") == []
    assert machine.reader.get(job.id) == before
    assert machine.events() == log
    assert machine.store.transact(lambda tx: tx.blob_state("sha of late.jpg")) is None


def test_only_one_of_many_finishes_wins(machine: Machine) -> None:
    job = machine.submit(new_job())
    started = machine.start(job)
    other = machine.again()
    assert sum(at_once([lambda each=each: each.finish(started, "a.jpg") for each in [machine, other] * 4])) == 1  # type: ignore[misc]
    assert machine.told().count("job.succeeded") == 1
    assert len(machine.known(job).artifacts) == 1


def test_followers_get_the_leaders_result(machine: Machine) -> None:
    leader, second, third = new_job("same"), new_job("same"), new_job("same")
    for job in (leader, second, third):
        machine.submit(job)
    assert machine.finish(machine.start(leader), "marked.jpg")
    source = machine.known(leader)
    for job in (second, third):
        follower = machine.known(job)
        assert (follower.status, follower.cached, follower.leader_id) == (Status.SUCCEEDED, "exact", None)
        assert (follower.result, follower.summary, follower.progress) == (RESULT, SUMMARY, 1.0)
        assert follower.computed_at == source.computed_at
        assert [each.sha256 for each in follower.artifacts] == [each.sha256 for each in source.artifacts]
        assert not {each.id for each in follower.artifacts} & {each.id for each in source.artifacts}
        assert follower.inputs == job.files
        assert machine.told(job) == ["job.queued", "job.succeeded"]
        content = machine.events(job)[-1].content
        assert content is not None
        assert [each["id"] for each in content["artifacts"]] == [each.id for each in follower.artifacts]
    assert machine.reader.count(Status.QUEUED) == 0


def test_followers_fail_with_the_leader(machine: Machine) -> None:
    leader, second = new_job("same"), new_job("same")
    machine.submit(leader)
    machine.submit(second)
    machine.fail(machine.start(leader))
    failed = machine.known(second)
    assert (failed.status, failed.error, failed.leader_id) == (Status.FAILED, {"title": "broken"}, None)
    assert failed.finished_at is not None
    assert machine.told(second) == ["job.queued", "job.failed"]


def test_followers_get_a_similar_photos_result(machine: Machine) -> None:
    source = machine.done(new_job(), "a.jpg")
    leader, behind = new_job("same"), new_job("same")
    machine.submit(leader)
    machine.submit(behind)
    ended = Outcome(
        result=source.result,
        artifacts=success(leader, "a.jpg").artifacts,
        cached="similar",
        cache_distance=3,
        computed_at=source.computed_at,
    )
    assert machine.try_finish(machine.start(leader), ended) is True
    first, second = machine.known(leader), machine.known(behind)
    assert (first.cached, first.cache_distance, first.computed_at) == ("similar", 3, source.computed_at)
    assert (second.cached, second.computed_at) == ("exact", source.computed_at)
    assert machine.reader.totals()[0] == 1  # only one was worked out


# --- lose, expire ----------------------------------------------------------------------------------------------------


def test_a_requeued_job_waits_again(machine: Machine) -> None:
    job = machine.submit(new_job())
    attempt = machine.start(job).attempt
    machine.progress(job.id, attempt, 0.5)
    assert machine.lose("worker", "stopped") == [(job.id, "cpu")]
    assert machine.known(job) == replace(job, attempt=1, sent_at=None)
    assert machine.waiting(10) == [(job.id, "cpu")]
    assert machine.told() == ["job.queued", "job.running", "job.progress", "job.queued"]


@pytest.mark.parametrize("reason", ["died", "stopped"])
def test_what_ran_on_a_lost_worker_runs_again(machine: Machine, reason: Any) -> None:
    lost, other = machine.submit(new_job(lane="gpu")), machine.submit(new_job())
    machine.start(lost, worker="lost")
    running = machine.start(other, worker="other")
    assert machine.reader.is_running_on("lost")
    assert machine.lose("lost", reason) == [(lost.id, "gpu")]
    assert not machine.reader.is_running_on("lost")
    assert machine.known(lost) == replace(lost, attempt=1, sent_at=None)
    assert machine.known(other) == running
    assert machine.told(lost) == ["job.queued", "job.running", "job.queued"]
    assert machine.lose("lost", reason) == []


def test_a_worker_that_dies_each_time_ends_the_job_and_those_behind_it(machine: Machine) -> None:
    job, behind = machine.submit(new_job("same")), machine.submit(new_job("same"))
    for attempt in (1, 2):
        machine.start(job, worker="w")
        assert machine.lose("w", "died", max_attempts=3) == [(job.id, "cpu")], attempt
    machine.start(job, worker="w")
    assert machine.lose("w", "died", max_attempts=3) == []
    _assert_failed_as(machine, "job-crashed", job, behind)
    assert machine.told(job) == ["job.queued", "job.running"] * 3 + ["job.failed"]


def test_a_stop_never_ends_a_job(machine: Machine) -> None:
    job = machine.submit(new_job())
    for _ in range(3):
        machine.start(job, worker="w")
        assert machine.lose("w", "stopped", max_attempts=1) == [(job.id, "cpu")]


@pytest.mark.parametrize("end", ["died", "stopped", "lease"])
def test_what_another_server_does_is_started_once(machine: Machine, end: Any) -> None:
    """That server may charge for each start, whatever becomes of the worker that waits for its answer."""
    job, behind = (machine.submit(new_job("same", lane="remote")) for _ in range(2))
    machine.start(job, worker="w")
    if end == "lease":
        assert machine.expire(job.id)
    else:
        assert machine.lose("w", end) == []
    _assert_failed_as(machine, "job-crashed", job, behind)
    assert "charged" in str(machine.known(job).error)
    assert machine.waiting(10) == []


@pytest.mark.parametrize(("lane", "error"), [("cpu", "job-timeout"), ("remote", "painter-server-timeout")])
def test_a_timeout_ends_the_job_at_once_and_those_behind_it(machine: Machine, lane: str, error: str) -> None:
    job, behind = machine.submit(new_job("same", lane=lane)), machine.submit(new_job("same", lane=lane))
    machine.start(job, worker="w")
    assert machine.lose("w", "timeout") == []
    _assert_failed_as(machine, error, job, behind)
    assert ("charged" in str(machine.known(job).error)) == (lane == "remote")


def test_only_a_lease_that_has_ended_expires(machine: Machine) -> None:
    job = machine.submit(new_job())
    assert not machine.expire(job.id)  # it does not run
    machine.start(job)
    assert not machine.expire(job.id, after=timedelta(0))
    assert machine.reader.overdue(datetime.now(UTC), 10) == []
    assert machine.known(job).status is Status.RUNNING
    assert machine.reader.overdue(datetime.now(UTC) + 2 * LEASE, 10) == [job.id]
    assert machine.expire(job.id, after=2 * LEASE)
    assert machine.known(job) == replace(job, attempt=1, sent_at=None)
    assert not machine.expire(job.id, after=2 * LEASE)
    assert not machine.expire("no such job")


def test_a_lease_that_was_renewed_meanwhile_does_not_expire(machine: Machine) -> None:
    started = machine.start(machine.submit(new_job()))
    assert machine.reader.overdue(datetime.now(UTC) + 2 * LEASE, 10) == [started.id]
    machine.renew(started.id, started.attempt, FAR)
    assert not machine.expire(started.id, after=2 * LEASE)
    assert machine.known(started).status is Status.RUNNING


def test_a_job_that_never_finishes_counts_as_crashed_and_so_do_those_behind_it(machine: Machine) -> None:
    job, behind = machine.submit(new_job("same")), machine.submit(new_job("same"))
    for attempt in (1, 2, 3):
        assert machine.known(job).status is Status.QUEUED
        assert machine.start(job).attempt == attempt
        assert machine.expire(job.id, max_attempts=3)
    _assert_failed_as(machine, "job-crashed", job, behind)
    assert machine.told(job) == ["job.queued", "job.running"] * 3 + ["job.failed"]


def test_work_by_many_at_once_runs_every_job_once(machine: Machine) -> None:
    stored = [machine.submit(new_job()) for _ in range(40)]

    def work(each: Machine) -> list[str]:
        started = [running for job in stored if (running := each.try_start(job.id)) is not None]
        return [running.id for running in started if each.finish(running, "a.jpg")]

    other = machine.again()
    finished = at_once([lambda each=each: work(each) for each in [machine, other] * 2])  # type: ignore[misc]
    assert sorted(job_id for ids in finished for job_id in ids) == sorted(job.id for job in stored)
    assert machine.told().count("job.succeeded") == 40


def _assert_failed_as(machine: Machine, slug: str, *jobs: Any) -> None:
    for job in jobs:
        failed = machine.known(job)
        assert failed.status is Status.FAILED
        assert failed.error is not None
        assert failed.error["type"] == f"urn:limner:problem:{slug}"
        assert (failed.worker, failed.lease_until, failed.leader_id) == (None, None, None)


# --- when a job was sent ----------------------------------------------------------------------------------------------


def test_a_new_job_counts_as_sent_a_requeued_one_does_not(machine: Machine) -> None:
    job = machine.submit(new_job())
    follower = machine.submit(new_job(job.cache_key))
    assert job.sent_at is not None
    assert follower.sent_at is None
    assert [each.sent_at for each in machine.reader.waiting(10)] == [job.sent_at]
    for leave in (
        lambda started: machine.lose(started.worker, "stopped"),
        lambda started: machine.expire(started.id),
    ):
        assert leave(machine.start(job))
        assert [each.sent_at for each in machine.reader.waiting(10)] == [None]
        now = datetime.now(UTC)
        machine.store.transact(lambda tx, now=now: tx.mark_sent([job.id, "no such job"], now))  # type: ignore[misc]
        assert [each.sent_at for each in machine.reader.waiting(10)] == [now]
    machine.cancel(job.id)
    assert [(each.job_id, each.sent_at) for each in machine.reader.waiting(10)] == [(follower.id, None)]


def test_only_a_queued_job_is_marked_as_sent(machine: Machine) -> None:
    job = machine.submit(new_job())
    started = machine.start(job)
    machine.store.transact(lambda tx: tx.mark_sent([job.id], datetime.now(UTC) + DAY))
    assert machine.known(job) == started
