"""`jobs/transitions.py` relies on more than locks: each write checks again what was read.

In SQLite no other transaction can write between a transaction's reads and writes; in other databases it can. Here the
other's writes are made in the same transaction right after a read, as a database at READ COMMITTED allows.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from limner.domain.blob import BlobState
from limner.domain.errors import UnavailableError
from limner.domain.job import Job, Role, Status
from limner.jobs import transitions
from limner.ports import LossReason, Transaction
from tests.contract.machine import DAY, FAR, LEASE, Machine, file_of, new_job, success, unsent

Other = Callable[[Transaction], object]


class Between:
    """A transaction in which `other` runs right after the `at`th call of `method`."""

    def __init__(self, tx: Transaction, method: str, other: Other, at: int = 1) -> None:
        self._tx = tx
        self._method = method
        self._other = other
        self._left = at

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._tx, name)
        if name != self._method:
            return found

        def call(*args: Any, **more: Any) -> Any:
            answer = found(*args, **more)
            self._left -= 1
            if self._left == 0:
                self._other(self._tx)
            return answer

        return call


def between(
    machine: Machine, work: Callable[[Transaction], Any], other: Other, *, method: str = "job", at: int = 1
) -> Any:
    """Run `work` in a transaction in which `other` runs in between."""
    return machine.store.transact(lambda tx: work(cast("Transaction", Between(tx, method, other, at))))


def started_by_another(job: Job) -> Other:
    return lambda tx: transitions.start(tx, job.id, worker="another", lease=LEASE)


def overtaken(job: Job) -> Other:
    """Requeue the attempt and begin another one."""

    def do(tx: Transaction) -> None:
        assert transitions.lose(tx, str(job.worker), "stopped", max_attempts=5)
        started_by_another(job)(tx)

    return do


def finished(job: Job) -> Other:
    return lambda tx: transitions.finish(tx, job, success(job, "theirs.jpg"), is_stored=lambda _: True)


def cancelled(job: Job) -> Other:
    return lambda tx: transitions.cancel(tx, job.id)


@pytest.mark.parametrize("reason", ["timeout", "stopped"])
def test_the_end_of_a_worker_sees_a_preview_that_was_just_added(machine: Machine, reason: LossReason) -> None:
    job = machine.start(machine.submit(new_job()), worker="w")
    preview = file_of(job.id, Role.PREVIEW, "preview.jpg", "sha of the preview")

    def show(tx: Transaction) -> None:
        assert transitions.show(tx, job, 0.5, preview, is_stored=lambda _: True) == []

    machine.store.transact(
        lambda tx: transitions.lose(
            cast("Transaction", Between(tx, "running_on", show, 1)), "w", reason, max_attempts=5
        )
    )
    assert machine.known(job).previews == ()


@pytest.mark.parametrize("other", [started_by_another, cancelled])
def test_a_start_checks_again_that_the_job_is_queued(machine: Machine, other: Callable[[Job], Other]) -> None:
    job = machine.submit(new_job())
    assert between(machine, lambda tx: transitions.start(tx, job.id, worker="w", lease=LEASE), other(job)) is None
    assert machine.known(job).worker != "w"
    assert len(machine.events(job)) == 2


@pytest.mark.parametrize("other", [overtaken, finished, cancelled])
@pytest.mark.parametrize(
    "work",
    [
        lambda tx, job: transitions.renew(tx, job.id, job.attempt, lease=FAR),
        lambda tx, job: transitions.progress(tx, job.id, job.attempt, 0.5),
        lambda tx, job: transitions.lose(tx, str(job.worker), "stopped", max_attempts=5),
    ],
    ids=["renew", "progress", "lose"],
)
def test_an_attempt_checks_again_that_it_is_current(
    machine: Machine, work: Callable[[Transaction, Job], bool], other: Callable[[Job], Other]
) -> None:
    job = machine.start(machine.submit(new_job()))
    seen: list[Job | None] = []

    def do(tx: Transaction) -> None:
        other(job)(tx)
        seen.append(tx.job(job.id))

    assert not between(machine, lambda tx: work(tx, job), do)
    assert [machine.known(job)] == seen
    log = machine.told(job)
    assert "job.progress" not in log


def test_a_finish_checks_again_and_keeps_no_unused_bytes(machine: Machine) -> None:
    job = machine.start(machine.submit(new_job()))
    mine = success(job, "mine.jpg")
    assert not between(
        machine, lambda tx: transitions.finish(tx, job, mine, is_stored=lambda _: True), overtaken(job), method="job"
    )
    found = machine.known(job)
    assert (found.status, found.attempt, found.artifacts) == (Status.RUNNING, 2, ())
    assert machine.told(job) == ["job.queued", "job.running", "job.queued", "job.running"]
    assert machine.store.transact(lambda tx: tx.blob_state("sha of mine.jpg")) is BlobState.MARKED
    assert machine.reader.totals() == (0, 123)


def test_an_expiry_checks_the_lease_again(machine: Machine) -> None:
    later = datetime.now(UTC) + 2 * LEASE
    for most in (1, 5):  # it would end, it would wait again
        job = machine.start(machine.submit(new_job()))
        expired = between(
            machine,
            lambda tx, job=job, most=most: transitions.expire(tx, job.id, now=later, max_attempts=most),  # type: ignore[misc]
            lambda tx, job=job: transitions.renew(tx, job.id, job.attempt, lease=FAR),  # type: ignore[misc]
            at=2,
        )
        assert not expired
        found = machine.known(job)
        assert found == replace(job, lease_until=found.lease_until)
        assert machine.told(job) == ["job.queued", "job.running"]


def test_a_lost_workers_job_that_ended_meanwhile_stays_ended(machine: Machine) -> None:
    for reason in ("died", "timeout"):
        job = machine.start(machine.submit(new_job()), worker=reason)
        again = between(
            machine,
            lambda tx, reason=reason: transitions.lose(tx, reason, reason, max_attempts=5),  # type: ignore[misc]
            finished(job),
            method="running_on",
        )
        assert again == []
        assert machine.told(job) == ["job.queued", "job.running", "job.succeeded"]


@pytest.mark.parametrize("running", [False, True])
def test_a_cancel_takes_also_what_was_started_or_handed_back_meanwhile(machine: Machine, running: bool) -> None:
    job = machine.submit(new_job())
    if running:
        job = machine.start(job)
    other: Other = overtaken(job) if running else started_by_another(job)
    ended, _ = between(machine, lambda tx: transitions.cancel(tx, job.id), other, at=2)
    assert ended.status is Status.CANCELLED
    assert machine.known(job) == ended
    assert machine.told(job)[-1] == "job.cancelled"


def test_a_follower_that_was_cancelled_meanwhile_is_not_freed(machine: Machine) -> None:
    follower = new_job(leader_id="no such job")
    machine.store.transact(lambda tx: tx.insert(follower))
    assert not between(machine, lambda tx: transitions.adopt(tx, follower.id), cancelled(follower))
    assert machine.known(follower).status is Status.CANCELLED


def test_an_idempotency_key_that_another_took_meanwhile_is_to_be_tried_again(machine: Machine) -> None:
    mine, theirs = new_job(idempotency_key="k"), new_job(idempotency_key="k")

    def submit(tx: Transaction, job: Job) -> object:
        return transitions.submit(
            tx, job, max_queued=9, cache_for=DAY, is_stored=lambda _: True, is_intact=lambda _: True
        )

    with pytest.raises(UnavailableError, match="Idempotency-Key"):
        between(machine, lambda tx: submit(tx, mine), lambda tx: submit(tx, theirs), method="known")
    assert machine.told() == []
    assert unsent(machine.submit(mine)) == mine


def test_a_change_takes_effect_only_on_what_was_read(machine: Machine) -> None:
    queued = machine.submit(new_job())
    running = machine.start(queued)
    stale = (
        queued,
        replace(running, attempt=0),
        replace(running, leader_id="another"),
        replace(running, status=Status.SUCCEEDED),
    )
    for each in stale:
        assert machine.store.transact(lambda tx, each=each: tx.change(each, progress=0.5)) is None  # type: ignore[misc]
    other_lease = replace(running, lease_until=datetime.now(UTC) + timedelta(hours=5))
    assert machine.store.transact(lambda tx: tx.change(other_lease, same_lease=True, progress=0.5)) is None
    assert machine.known(running) == running
    changed = machine.store.transact(lambda tx: tx.change(other_lease, progress=0.5))
    assert changed is not None
    assert machine.known(running).progress == 0.5
    assert machine.store.transact(lambda tx: tx.change(running, same_lease=True, progress=0.75)) is not None
