"""Cancelling and erasing on every store: what is removed, which follower becomes the leader, and the totals."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from limner.domain.blob import BlobState
from limner.domain.errors import JobFinishedError, NotFoundError
from limner.domain.job import Job, Outcome, Role, Status
from limner.ports import Transaction
from tests.contract.machine import DAY, Machine, as_listed, at_once, file_of, new_job, open_sqlite, success, unsent

# --- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_ends_a_queued_or_running_job(machine: Machine) -> None:
    queued, running = machine.submit(new_job()), machine.submit(new_job())
    machine.start(running)
    for job in (queued, running):
        cancelled, promoted = machine.cancel(job.id)
        assert promoted is None
        assert cancelled == machine.known(job)
        assert (cancelled.status, cancelled.worker, cancelled.lease_until) == (Status.CANCELLED, None, None)
        assert cancelled.finished_at is not None
        assert machine.told(job)[-1] == "job.cancelled"
        assert not machine.expire(job.id)
    assert machine.waiting(10) == []


def test_cancel_refuses_what_has_finished_or_is_unknown(machine: Machine) -> None:
    job = machine.done(new_job())
    with pytest.raises(JobFinishedError, match="succeeded"):
        machine.cancel(job.id)
    with pytest.raises(NotFoundError):
        machine.cancel("no such job")
    assert machine.known(job) == job


def test_cancel_and_finish_at_once_have_one_winner(machine: Machine) -> None:
    other = machine.again()
    for _ in range(10):
        started = machine.start(machine.submit(new_job()))

        def cancel(job: Job = started) -> bool:
            try:
                machine.cancel(job.id)
            except JobFinishedError:
                return False
            return True

        ended = at_once([cancel, lambda started=started: other.finish(started)])  # type: ignore[misc]
        assert sorted(ended) == [False, True]
        last = "job.cancelled" if ended[0] else "job.succeeded"
        assert machine.told(started) == ["job.queued", "job.running", last]


def test_a_job_that_no_worker_was_free_for_is_given_up(machine: Machine) -> None:
    job = machine.submit(new_job())
    assert not machine.give_up(job, before=job.created_at)
    assert machine.known(job) == job
    assert machine.give_up(job)
    ended = machine.known(job)
    assert (ended.status, ended.started_at, ended.attempt) == (Status.FAILED, None, 0)
    assert ended.finished_at is not None
    assert ended.error is not None
    assert (ended.error["type"], ended.error["status"]) == ("urn:limner:problem:job-timeout", 504)
    assert machine.told(job) == ["job.queued", "job.failed"]
    assert not machine.give_up(job)
    assert machine.try_start(job.id) is None


def test_what_runs_has_ended_or_is_unknown_is_not_given_up(machine: Machine) -> None:
    running, done = machine.submit(new_job()), machine.done(new_job())
    machine.start(running)
    before = machine.known(running)
    assert not any(machine.give_up(job) for job in (running, done, new_job()))
    assert (machine.known(running), machine.known(done)) == (before, done)


def test_followers_of_a_job_that_is_given_up_go_on(machine: Machine) -> None:
    leader, *followers = (machine.submit(new_job("work")) for _ in range(3))
    assert machine.give_up(leader)
    first, second = (machine.known(each) for each in followers)
    assert (first.status, first.leader_id, second.leader_id) == (Status.QUEUED, None, first.id)
    assert machine.waiting(9) == [(first.id, first.lane)]
    assert machine.give_up(second)
    assert machine.finish(machine.start(first))
    assert machine.known(second).status is Status.FAILED


def test_giving_up_and_a_start_at_once_have_one_winner(machine: Machine) -> None:
    other = machine.again()
    for _ in range(10):
        job = machine.submit(new_job())
        calls = [lambda job=job: machine.give_up(job), lambda job=job: other.try_start(job.id) is not None]  # type: ignore[misc]
        given_up, started = at_once(calls)
        assert given_up != started
        assert machine.told(job) == ["job.queued", "job.failed" if given_up else "job.running"]


@pytest.mark.parametrize("end", ["cancel", "erase"])
@pytest.mark.parametrize("running", [False, True])
def test_when_a_leader_ends_its_oldest_follower_leads_the_others(machine: Machine, end: str, running: bool) -> None:
    leader, second, third, fourth = (machine.submit(new_job("same", lane="gpu")) for _ in range(4))
    if running:
        machine.start(leader)
    promoted = machine.cancel(leader.id)[1] if end == "cancel" else machine.erase(leader.id).promoted
    assert promoted == (second.id, "gpu")
    assert machine.waiting(10) == [(second.id, "gpu")]
    assert {machine.known(job).leader_id for job in (third, fourth)} == {second.id}
    assert machine.reader.stranded(10) == []
    assert machine.submit(new_job("same")).leader_id == second.id
    assert machine.finish(machine.start(second))
    assert machine.known(third).status is Status.SUCCEEDED


@pytest.mark.parametrize("end", ["cancel", "erase"])
def test_removing_a_follower_does_not_change_the_leader(machine: Machine, end: str) -> None:
    leader, second, third = (machine.submit(new_job("same")) for _ in range(3))
    if end == "cancel":
        assert machine.cancel(second.id)[1] is None
        assert machine.known(second).leader_id is None
    else:
        assert machine.erase(second.id).promoted is None
    machine.finish(machine.start(leader))
    assert machine.known(third).status is Status.SUCCEEDED
    if end == "cancel":
        assert machine.known(second).status is Status.CANCELLED
        assert machine.told(second) == ["job.queued", "job.cancelled"]


# --- erase -----------------------------------------------------------------------------------------------------------


def test_erase_leaves_only_empty_events(machine: Machine) -> None:
    job, other = machine.done(new_job(), "marked.jpg"), machine.done(new_job(), "other.jpg")
    log = machine.events()
    erased = machine.erase(job.id)
    assert erased.job.operation == "detect"
    assert sorted(erased.marked) == sorted(each.sha256 for each in job.files)
    assert machine.reader.get(job.id) is None
    assert [machine.reader.file(each.id) for each in job.files] == [None, None]
    assert machine.reader.artifact(job.id, "marked.jpg") is None
    assert machine.reader.page() == [as_listed(other)]
    blanked = [replace(each, content=None) if each.job_id == job.id else each for each in log]
    assert machine.events() == blanked


def test_erase_marks_only_blobs_that_no_other_job_names(machine: Machine) -> None:
    first = machine.done(new_job("same", picture="photo"), "marked.jpg")
    second = machine.submit(new_job("same", picture="photo"))
    third = machine.submit(new_job("other", picture="photo"))
    assert machine.erase(first.id).marked == []
    assert machine.erase(second.id).marked == ["sha of marked.jpg"]
    assert machine.erase(third.id).marked == ["photo"]
    soon = datetime.now(UTC) + DAY
    assert sorted(machine.reader.blobs_in(BlobState.MARKED, soon, 10)) == ["photo", "sha of marked.jpg"]


def test_an_erased_result_is_no_cache_hit(machine: Machine) -> None:
    job = machine.done(new_job("same"))
    machine.erase(job.id)
    again = new_job("same")
    assert unsent(machine.submit(again)) == again


def test_erase_refuses_what_is_unknown(machine: Machine) -> None:
    job = machine.submit(new_job())
    machine.erase(job.id)
    for job_id in (job.id, "no such job"):
        with pytest.raises(NotFoundError):
            machine.erase(job_id)


def test_erased_content_is_not_left_in_the_file(tmp_path: Path) -> None:
    machine = open_sqlite(tmp_path / "jobs.db")
    machine.erase(machine.submit(new_job(params={"who": "Zaphod Beeblebrox"})).id)
    machine.close()  # closing the last connection writes the write-ahead log into the file
    assert b"Zaphod" not in b"".join(each.read_bytes() for each in tmp_path.iterdir())


# --- adopt -----------------------------------------------------------------------------------------------------------


def test_a_job_whose_leader_has_ended_runs_by_itself(machine: Machine) -> None:
    ended = machine.done(new_job())
    behind_ended, behind_nobody = new_job(leader_id=ended.id), new_job(leader_id="no such job")
    for job in (behind_ended, behind_nobody):  # no transition creates such jobs
        assert machine.store.transact(lambda tx, job=job: tx.insert(job))  # type: ignore[misc]
    assert sorted(machine.reader.stranded(10)) == sorted([behind_ended.id, behind_nobody.id])
    assert len(machine.reader.stranded(1)) == 1
    for job in (behind_ended, behind_nobody):
        assert machine.adopt(job.id)
        assert not machine.adopt(job.id)
        assert machine.known(job) == replace(job, leader_id=None)
    assert machine.reader.stranded(10) == []
    assert machine.waiting(10) == [(behind_ended.id, "cpu"), (behind_nobody.id, "cpu")]


def test_a_job_whose_leader_is_running_keeps_waiting(machine: Machine) -> None:
    leader, behind = machine.submit(new_job("same")), machine.submit(new_job("same"))
    assert not machine.adopt(behind.id)
    machine.start(leader)
    assert not machine.adopt(behind.id)
    assert not machine.adopt(leader.id)
    assert not machine.adopt("no such job")
    assert machine.reader.stranded(10) == []
    assert machine.known(behind).leader_id == leader.id


# --- totals ----------------------------------------------------------------------------------------------------------


def test_totals_are_right_after_every_transition(machine: Machine) -> None:
    def assert_totals(results: int, size: int) -> None:
        for _ in range(2):
            assert machine.reader.totals() == (results, size)
            machine.store.transact(lambda tx: tx.fold_totals())

    assert_totals(0, 0)
    first = machine.submit(new_job("one", picture="photo"))
    behind = machine.submit(new_job("one", picture="photo"))
    assert_totals(0, 123)
    machine.finish(machine.start(first), "a.jpg")
    assert_totals(1, 246)  # the follower's answer is no result of its own, and has the same bytes
    cached = machine.submit(new_job("one", picture="photo"))
    assert cached.cached == "exact"
    assert_totals(1, 246)
    similar = machine.submit(new_job("two", picture="like it"))
    ended = replace(success(similar, "a.jpg"), cached="similar", cache_distance=1)
    assert machine.try_finish(machine.start(similar), ended) is True
    assert_totals(1, 369)
    failed = machine.submit(new_job(picture="broken"))
    machine.fail(machine.start(failed))
    cancelled = machine.submit(new_job(picture="unwanted"))
    machine.cancel(cancelled.id)
    assert_totals(1, 615)
    machine.erase(first.id)
    assert_totals(0, 615)  # other jobs use its bytes too
    for job in (behind, cached):
        machine.erase(job.id)
    assert_totals(0, 492)  # the photo went, the artifact is still that of `similar`
    revived = machine.submit(new_job("three", picture="photo"))  # marked, and kept again
    assert_totals(0, 615)
    for job in (revived, similar, failed, cancelled):
        machine.erase(job.id)
    assert_totals(0, 0)
    left = machine.reader.blobs_in(BlobState.MARKED, datetime.now(UTC) + DAY, 10)
    assert sorted(left) == ["broken", "like it", "photo", "sha of a.jpg", "unwanted"]
    assert sorted(machine.claim(*left)) == sorted(left)
    assert_totals(0, 0)
    for sha256 in left:
        assert machine.store.transact(lambda tx, sha256=sha256: tx.drop_blob(sha256))  # type: ignore[misc]
    machine.submit(new_job(picture="photo"))
    assert_totals(0, 123)


def test_an_attempt_that_is_overtaken_changes_no_total(machine: Machine) -> None:
    started = machine.start(machine.submit(new_job(picture="photo")))
    machine.cancel(started.id)
    assert not machine.finish(started, "a.jpg")
    assert machine.reader.totals() == (0, 123)


def test_keeping_what_is_kept_counts_its_bytes_once(machine: Machine) -> None:
    def keep(tx: Transaction) -> None:
        tx.set_blob("photo", BlobState.KEPT, size=123, now=datetime.now(UTC))

    machine.store.transact(keep)
    machine.store.transact(keep)  # like two transactions that have both found no row
    assert machine.reader.totals() == (0, 123)


def test_several_artifacts_with_the_same_bytes_are_counted_once(machine: Machine) -> None:
    started = machine.start(machine.submit(new_job(picture="photo")))
    twins = tuple(file_of(started.id, Role.ARTIFACT, name, "same bytes", size=7) for name in ("a.jpg", "b.jpg"))
    assert machine.try_finish(started, Outcome(result={}, artifacts=twins)) is True
    assert machine.reader.totals() == (1, 130)
    assert sorted(machine.erase(started.id).marked) == ["photo", "same bytes"]
    assert machine.reader.totals() == (0, 0)
