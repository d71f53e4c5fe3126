"""The place of a queued job: bounded, per lane, for leaders and followers; the estimate from recent runs."""

from datetime import UTC, datetime, timedelta

import pytest

from limner.jobs.queue import FARTHEST, Queue, remaining_s
from tests.contract.machine import Machine, new_job


def submitted(machine: Machine, count: int, **changes: str) -> list[str]:
    return [machine.submit(new_job(**changes)).id for _ in range(count)]


def place(machine: Machine, job_id: str) -> tuple[int | None, float | None]:
    job = machine.reader.get(job_id)
    assert job is not None
    found = Queue(machine.reader).place(job)
    assert found is not None
    return found.position, found.eta_s


def test_positions_count_the_lane_only(machine: Machine) -> None:
    cpu = submitted(machine, 3)
    gpu = submitted(machine, 2, lane="gpu")
    cpu += submitted(machine, 1)
    assert [place(machine, each)[0] for each in cpu] == [1, 2, 3, 4]
    assert [place(machine, each)[0] for each in gpu] == [1, 2]
    assert machine.try_start(cpu[0]) is not None
    machine.cancel(cpu[1])
    assert [place(machine, each)[0] for each in cpu[2:]] == [1, 2]
    job = machine.reader.get(cpu[0])
    assert job is not None
    assert Queue(machine.reader).place(job) is None  # it runs


def test_a_follower_stands_where_its_leader_does(machine: Machine) -> None:
    first = submitted(machine, 1)[0]
    leader = machine.submit(new_job("same"))
    follower = machine.submit(new_job("same"))
    behind = submitted(machine, 1)[0]
    assert follower.leader_id == leader.id
    assert [place(machine, each)[0] for each in (first, leader.id, follower.id, behind)] == [1, 2, 2, 3]
    machine.start(leader)
    assert place(machine, follower.id)[0] == 0


def test_the_end_of_a_long_queue_is_not_counted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.jobs.queue.FARTHEST", 3)
    jobs = submitted(machine, 5)
    assert [place(machine, each)[0] for each in jobs] == [1, 2, 3, None, None]
    assert FARTHEST == 1000


def test_the_estimate_follows_recent_runs(machine: Machine) -> None:
    jobs = submitted(machine, 4)
    assert place(machine, jobs[0]) == (1, None)  # nothing has run yet
    for _ in range(3):
        done = machine.done(new_job())
        started = datetime.now(UTC) - timedelta(seconds=2)
        machine.store.transact(
            lambda tx, job=done, at=started: tx.change(job, started_at=at, finished_at=at + timedelta(seconds=2))
        )
    machine.done(new_job(lane="gpu"))
    machine.submit(new_job("cached"))
    assert machine.try_start(jobs[0]) is not None
    assert machine.try_start(jobs[1]) is not None
    assert place(machine, jobs[2]) == (1, pytest.approx(2 * (0.5 / 2 + 1)))
    assert place(machine, jobs[3]) == (2, pytest.approx(2 * (1.5 / 2 + 1)))


def test_the_arithmetic() -> None:
    assert remaining_s(0, 3, 2.0) == 1.0
    assert remaining_s(1, 0, 2.0) == 2.0  # no worker is busy: it is about to start
    assert remaining_s(1, 1, 2.0) == 3.0
    assert remaining_s(10, 2, 1.0) == pytest.approx(5.75)


def test_durations_are_remembered_for_a_moment(machine: Machine) -> None:
    machine.done(new_job())
    job = machine.submit(new_job())
    now = 0.0
    queue = Queue(machine.reader, clock=lambda: now)
    first = queue.place(job)
    slow = machine.done(new_job())
    machine.store.transact(lambda tx: tx.change(slow, started_at=datetime(2020, 1, 1, tzinfo=UTC)))
    again = queue.place(job)
    assert first is not None
    assert again is not None
    assert first.eta_s == again.eta_s
    now = 2.1
    later = queue.place(job)
    assert later is not None
    assert later.eta_s is not None
    assert later.eta_s > 1000
