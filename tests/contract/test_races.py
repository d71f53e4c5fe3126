"""Races: one action stops in the middle, and another one on the same jobs and bytes runs in between.

Each pair of actions is tested at each point, in two threads with two stores and in two processes. Whichever wins, every
job ends once, no job waits for ever, and bytes are on the disk if and only if a job refers to them.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from limner.adapters.disk_blobs import DiskBlobs
from limner.adapters.local_bus import LocalBus
from limner.domain.blob import BlobState
from limner.domain.job import Job, Status
from limner.jobs import blobs as bytes_of_jobs
from limner.jobs.sweep import Sweep
from limner.ports import Waiting
from tests.contract.databases import Databases
from tests.contract.machine import DAY, Machine, new_job, open_machine
from tests.contract.rival import POINTS, ProcessRival, Rival, ThreadRival, act, sha256_of, worker_of

ARENAS = [("sqlite", "threads"), ("sqlite", "processes"), ("postgresql", "processes")]
BLOCKED_S = 0.015  # how long a stopped transaction may delay the other action
FINAL = {"job.succeeded", "job.failed", "job.cancelled"}

_numbers = count()


@dataclass
class Arena:
    """A store and a folder of bytes, the rival that works on them, and the bytes that existed at the start."""

    machine: Machine
    blobs: DiskBlobs
    rival: Rival


@dataclass
class World:
    """Jobs for a race: one has run, one runs and one waits for it, one is queued; and bytes that no job names."""

    ended: Job
    leader: Job
    behind: Job
    queued: Job
    old: str
    made: str
    stray: str

    def aim(self, action: str, number: int) -> tuple[str, str]:
        """The job (or the key of a new one) and the bytes that an action takes."""
        return {
            "submit": (f"new work {number} {self.leader.id}", self.old),
            "submit same": (self.leader.cache_key, "photo of the leader"),
            "submit stray": (f"stray work {number} {self.leader.id}", self.stray),
            "finish": (self.leader.id, self.made),
            "cancel": (self.leader.id, ""),
            "cancel queued": (self.queued.id, ""),
            "cancel behind": (self.behind.id, ""),
            "give_up": (self.queued.id, ""),
            "give_up behind": (self.behind.id, ""),
            "erase": (self.ended.id, ""),
            "erase leader": (self.leader.id, ""),
            "erase behind": (self.behind.id, ""),
            "remove": ("", self.old),
            "remove stray": ("", self.stray),
            "expire": (self.leader.id, ""),
            "lose": (self.leader.id, ""),
            "renew": (self.leader.id, ""),
            "start": (self.queued.id, ""),
        }[action]


ACTIONS = (
    "submit",
    "submit same",
    "submit stray",
    "finish",
    "cancel",
    "cancel queued",
    "cancel behind",
    "give_up",
    "give_up behind",
    "erase",
    "erase leader",
    "erase behind",
    "remove",
    "remove stray",
    "expire",
    "lose",
    "renew",
    "start",
)


def _verb(action: str) -> str:
    return action if action in POINTS else action.partition(" ")[0]


@pytest.fixture(scope="module", params=ARENAS, ids=" ".join)
def arena(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Arena]:
    kind, rivals = request.param
    folder = tmp_path_factory.mktemp("races")
    with databases.one(kind, folder) as url:
        machine = open_machine(url)
        blobs = DiskBlobs(folder / "blobs", durable=False)
        rival = (
            ThreadRival(machine.again(), DiskBlobs(folder / "blobs", durable=False))
            if rivals == "threads"
            else ProcessRival(url, folder / "blobs")
        )
        yield Arena(machine, blobs, rival)
        rival.close()
        machine.close()


@pytest.fixture(autouse=True)
def _promises_hold_afterwards(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "arena" in request.fixturenames:
        arena = request.getfixturevalue("arena")
        settle(arena.machine, arena.blobs)
        check(arena.machine, arena.blobs)


def world(arena: Arena) -> World:
    """New jobs and bytes that no other race uses."""
    number = next(_numbers)
    old, made, stray = (f"{name} {number}" for name in ("old photo", "artifact", "stray photo"))
    ended = new_job(f"ended {number}", picture=_put(arena, old))
    arena.machine.submit(ended)
    arena.machine.start(ended)
    assert act(arena.machine, arena.blobs, _on, "finish", ended.id, made) == "finish"
    photo = _put(arena, "photo of the leader")
    leader, behind, queued = (
        arena.machine.submit(new_job(key, picture=photo))
        for key in (f"same {number}", f"same {number}", f"queued {number}")
    )
    started = arena.machine.start(leader, worker=worker_of(leader.id))
    _put(arena, stray)
    return World(ended, started, behind, queued, old, made, stray)


def race(arena: Arena, point: str, first: str, second: str) -> tuple[World, str, str]:
    """`first` stops at the point, then `second` begins; returns the results of both."""
    jobs = world(arena)
    arena.rival.begin(point, _verb(first), *jobs.aim(first, 1))
    with ThreadPoolExecutor(1) as pool:
        mine = pool.submit(act, arena.machine, arena.blobs, _on, _verb(second), *jobs.aim(second, 2))
        _wait(mine.done)
        theirs = arena.rival.go_on()
        answer = mine.result(30)
    return jobs, theirs, answer


@pytest.mark.parametrize("first", ACTIONS)
def test_interrupted_and_interrupting_actions_keep_all_guarantees(arena: Arena, first: str) -> None:
    for point in POINTS[_verb(first)]:
        for second in ACTIONS:
            _, theirs, mine = race(arena, point, first, second)
            # If two actions end the same attempt or job, one takes effect, and the other reports that it did not.
            if {first, second} <= {"finish", "cancel", "expire", "lose"} and "renew" not in (first, second):
                took = [each for each in (theirs, mine) if each not in ("overtaken", "job-finished")]
                assert 1 <= len(took) <= 2, (first, point, second, theirs, mine)
                if {first, second} in ({"finish"}, {"finish", "cancel"}, {"cancel"}):
                    assert len(took) == 1, (first, point, second, theirs, mine)


# --- single races ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["before delete", "after delete"])
def test_bytes_that_are_being_removed_are_stored_again_afterwards(arena: Arena, point: str) -> None:
    jobs = world(arena)
    arena.rival.begin(point, "erase", jobs.ended.id, "")
    with ThreadPoolExecutor(1) as pool:
        mine = pool.submit(act, arena.machine, arena.blobs, _on, *("submit", *jobs.aim("submit", 2)))
        time.sleep(BLOCKED_S)
        assert not mine.done(), "it must wait for the removal"
        assert arena.rival.go_on() == "erase"
        assert mine.result(30) == "new"
    assert arena.blobs.get(sha256_of(jobs.old)) == jobs.old.encode()


@pytest.mark.parametrize("removal", ["erase", "remove stray"])
def test_bytes_that_are_removed_after_they_were_stored_are_stored_again(arena: Arena, removal: str) -> None:
    first = "submit" if removal == "erase" else "submit stray"
    jobs = world(arena)
    if removal == "erase":
        arena.machine.erase(jobs.ended.id)  # marked, so that the rival stores them again
    arena.rival.begin("after put", "submit", *jobs.aim(first, 1))
    data = jobs.old if removal == "erase" else jobs.stray
    assert act(arena.machine, arena.blobs, _on, "remove", "", data) == "remove"
    assert not arena.blobs.has(sha256_of(data))
    assert arena.rival.go_on() == "new"
    assert arena.blobs.get(sha256_of(data)) == data.encode()


def test_an_artifact_whose_bytes_were_erased_with_another_job_is_stored_again(arena: Arena) -> None:
    jobs = world(arena)
    arena.rival.begin("after put", "finish", jobs.leader.id, jobs.made)
    assert act(arena.machine, arena.blobs, _on, "erase", jobs.ended.id) == "erase"
    assert not arena.blobs.has(sha256_of(jobs.made))
    assert arena.rival.go_on() == "finish"
    assert arena.blobs.get(sha256_of(jobs.made)) == jobs.made.encode()


def test_only_one_of_two_removals_takes_effect(arena: Arena) -> None:
    jobs = world(arena)
    arena.rival.begin("before delete", "erase", jobs.ended.id, "")
    assert act(arena.machine, arena.blobs, _on, "remove", "", jobs.old) == "remove"
    assert arena.blobs.has(sha256_of(jobs.old)), "what another removes is left to it"
    assert arena.rival.go_on() == "erase"
    assert not arena.blobs.has(sha256_of(jobs.old))


def test_a_follower_added_while_its_leader_ends_is_finished(arena: Arena) -> None:
    _, theirs, mine = race(arena, "inside", "finish", "submit same")
    assert (theirs, mine) == ("finish", "exact")
    _, theirs, mine = race(arena, "inside", "submit same", "finish")
    assert (theirs, mine) == ("shared", "finish")


def test_two_submissions_of_the_same_new_work_have_one_leader(arena: Arena) -> None:
    jobs = world(arena)
    key = f"the very same work {jobs.leader.id}"
    arena.rival.begin("inside", "submit", key, jobs.old)
    with ThreadPoolExecutor(1) as pool:
        mine = pool.submit(act, arena.machine, arena.blobs, _on, "submit", key, jobs.old)
        _wait(mine.done)
        assert [arena.rival.go_on(), mine.result(30)] == ["new", "shared"]


def test_a_lease_that_is_renewed_in_between_holds(arena: Arena) -> None:
    _, theirs, mine = race(arena, "inside", "renew", "expire")  # a year later
    if arena.machine.writers == 1:
        assert (theirs, mine) == ("renew", "expire")
    else:  # neither waits for the other: one takes effect, or one after the other, as a year is longer than a lease
        assert (theirs, mine) in {("overtaken", "expire"), ("renew", "overtaken"), ("renew", "expire")}
    jobs = world(arena)
    arena.rival.begin("inside", "renew", jobs.leader.id, "")
    soon = timedelta(seconds=59.9)  # the first lease ends before, the renewed one after
    time.sleep(0.2)
    with ThreadPoolExecutor(1) as pool:
        mine_expired = pool.submit(arena.machine.expire, jobs.leader.id, after=soon)
        _wait(mine_expired.done)
        renewed = arena.rival.go_on() == "renew"
        assert mine_expired.result(30) is not renewed
    assert renewed or arena.machine.writers > 1
    assert arena.machine.known(jobs.leader).status is (Status.RUNNING if renewed else Status.QUEUED)


@pytest.mark.parametrize(("action", "point"), [(action, point) for action in POINTS for point in POINTS[action]])
def test_a_start_repairs_what_a_killed_process_has_left(
    database_url: str, tmp_path: Path, action: str, point: str
) -> None:
    machine, blobs = open_machine(database_url), DiskBlobs(tmp_path / "blobs", durable=False)
    rival = ProcessRival(database_url, tmp_path / "blobs")
    jobs = world(Arena(machine, blobs, rival))
    if action == "submit":
        machine.erase(jobs.ended.id)  # so that it stores the bytes again
    rival.begin(point, action, *jobs.aim("remove stray" if action == "remove" else action, 1))
    rival.kill()
    sweep = Sweep(
        machine.store,
        machine.reader,
        blobs,
        _Nobody(),
        LocalBus(),
        max_attempts=5,
        max_queued=9,
        keep=None,
        every_s=1,
        lease=timedelta(minutes=1),
    )
    sweep.recover()
    settle(machine, blobs)
    check(machine, blobs)
    machine.close()


class _Nobody:
    """An engine that ignores what is sent."""

    def send(self, job_id: str, lane: str) -> None:
        raise AssertionError((job_id, lane))

    def resend(self, waiting: Sequence[Waiting], now: datetime) -> list[str]:
        raise AssertionError((waiting, now))

    def start(self) -> None:
        raise AssertionError

    def stop(self, timeout_s: float) -> None:
        raise AssertionError(timeout_s)


def test_many_at_once_on_few_jobs_and_bytes(database_url: str, tmp_path: Path) -> None:
    machine, blobs = open_machine(database_url), DiskBlobs(tmp_path / "blobs", durable=False)
    stop = time.monotonic() + 3

    def hurry(seed: int) -> int:
        mine, rounds = machine.again(), 0
        while time.monotonic() < stop:
            rounds += 1
            key, data = f"work {(seed + rounds) % 3}", f"photo {rounds % 2}"
            act(mine, blobs, _hesitate, "submit", key, data)
            jobs = mine.reader.page(limit=6)
            job = jobs[(seed * rounds) % len(jobs)]
            action = ("start", "finish", "cancel", "give_up", "erase", "expire", "remove", "lose", "finish")[rounds % 9]
            data = f"artifact {rounds % 2}" if action == "finish" else data
            act(mine, blobs, _hesitate, action, job.id, data)
        return rounds

    with ThreadPoolExecutor(4) as pool:
        rounds = list(pool.map(hurry, range(4)))
    assert min(rounds) > 5
    settle(machine, blobs)
    check(machine, blobs)
    machine.close()


# --- what must be true at the end ------------------------------------------------------------------------------------


def settle(machine: Machine, blobs: DiskBlobs) -> None:
    """Finish all open jobs and removals, after all other actions have ended."""
    later = datetime.now(UTC) + 2 * DAY
    for job_id in machine.reader.overdue(later, 1000):
        machine.expire(job_id)
    while waiting := machine.waiting(1000):
        for job_id, _ in waiting:
            assert machine.try_start(job_id) is not None
            assert act(machine, blobs, _on, "finish", job_id, f"artifact of {job_id}") == "finish"
    bytes_of_jobs.remove(machine.store, blobs, machine.reader.blobs_in(BlobState.MARKED, later, 1000))
    strays = machine.reader.without_row(list(blobs.written(before=later)))
    bytes_of_jobs.remove(machine.store, blobs, strays)


def check(machine: Machine, blobs: DiskBlobs) -> None:
    """Check all guarantees over all jobs, events and bytes of the store."""
    jobs = machine.reader.page(limit=100_000)
    assert [job.id for job in jobs if not job.status.final] == []
    events = machine.events()
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))
    assert machine.log.last_id() == ids[-1]
    ends: dict[str, int] = {}
    for event in events:
        if event.type in FINAL:
            ends[event.job_id] = ends.get(event.job_id, 0) + 1
    assert {job_id: number for job_id, number in ends.items() if number != 1} == {}
    assert {job.id for job in jobs} <= ends.keys()
    sizes = {file.sha256: file.size for job in jobs for file in job.files}
    on_disk = set(blobs.written(before=datetime.now(UTC) + DAY))
    assert set(sizes) == on_disk, "bytes without a job, or a job without its bytes"
    states = machine.store.transact(lambda tx: {tx.blob_state(sha256) for sha256 in sizes})
    assert states <= {BlobState.KEPT}
    later = datetime.now(UTC) + DAY
    assert [machine.reader.blobs_in(state, later, 9) for state in (BlobState.MARKED, BlobState.REMOVING)] == [[], []]
    results = sum(job.status is Status.SUCCEEDED and job.cached is None for job in jobs)
    assert machine.reader.totals()[0] == results
    for job in jobs:
        if job.status is Status.SUCCEEDED:
            assert len(job.artifacts) == 1


def _put(arena: Arena, data: str) -> str:
    return arena.blobs.put(data.encode())


def _on(point: str) -> None:
    """Does not stop."""


def _hesitate(point: str) -> None:
    if point != "inside" and threading.get_ident() % 3:
        time.sleep(0.001)


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + BLOCKED_S
    while not done() and time.monotonic() < until:
        time.sleep(0.001)
