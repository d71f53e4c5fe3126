"""`jobs/submit.py`, `jobs/sweep.py` and `jobs/oversee.py` on a real store: what they send, wake, store and remove."""

import hashlib
import os
import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import RFC_4122, UUID

import pytest

from limner.adapters.disk_blobs import DiskBlobs
from limner.adapters.local_bus import LocalBus
from limner.context import Context
from limner.domain.blob import BlobState
from limner.domain.errors import InvalidRequestError, JobFinishedError, NotFoundError, QueueFullError, UnavailableError
from limner.domain.event import EventType
from limner.domain.job import Job, Outcome, Status
from limner.domain.lane import Lane
from limner.image_ref import ImageRef
from limner.jobs.ids import JobIds
from limner.jobs.oversee import JobOverseer
from limner.jobs.submit import Submissions
from limner.jobs.sweep import AT_ONCE, ORPHAN_AGE, REMOVAL_AGE, Sweep
from limner.operation import Choices, PhotoParams, Result, operation
from limner.ports import Transaction, Waiting
from tests.contract.databases import SQLITE_ONLY
from tests.contract.machine import DAY, LEASE, Machine, new_job, open_machine
from tests.contract.rival import act, sha256_of

LANES = {"cpu": Lane(1, 4, 30), "gpu": Lane(1, 4, 30), "remote": Lane(0, 4, 30)}


@operation(version=1, lanes=("gpu",))
def plain(params: PhotoParams, ctx: Context) -> Result:
    """Nothing."""
    return Result()


@dataclass
class Line:
    """An engine that only records what was sent."""

    sent: list[tuple[str, str]] = field(default_factory=list)

    def send(self, job_id: str, lane: str) -> None:
        self.sent.append((job_id, lane))

    def resend(self, waiting: Sequence[Waiting], now: datetime) -> list[str]:
        del now
        self.sent += [(each.job_id, each.lane) for each in waiting]
        return [each.job_id for each in waiting]

    def start(self) -> None:
        raise AssertionError

    def stop(self, timeout_s: float) -> None:
        raise AssertionError(timeout_s)


@dataclass
class Service:
    """Submissions, sweep and overseer on one store, without web and workers."""

    machine: Machine
    blobs: DiskBlobs
    line: Line
    submissions: Submissions
    sweep: Sweep
    overseer: JobOverseer
    wakes: list[None]

    def submit(self, photo: str = "photo", key: str | None = None) -> Job:
        data = photo.encode()
        ref = ImageRef(
            sha256=hashlib.sha256(data).hexdigest(), media_type="image/png", size=len(data), width=1, height=1
        )
        return self.submissions.submit(plain, PhotoParams(image=ref), {"image": data}, idempotency_key=key)

    def lucky(self, photo: str = "photo", key: str | None = None, **values: Any) -> Job:
        data = photo.encode()
        sha256 = hashlib.sha256(data).hexdigest()
        ref = ImageRef(sha256=sha256, media_type="image/png", size=len(data), width=1, height=1)
        params = LuckyParams(image=ref, **values)
        return self.submissions.submit(lucky, params, {"image": data}, idempotency_key=key)

    def done(self, photo: str = "photo") -> Job:
        job = self.submit(photo)
        self.machine.start(job)
        assert act(self.machine, self.blobs, lambda _: None, "finish", job.id, f"artifact of {photo}") == "finish"
        return self.machine.known(job)


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    machine = open_machine(database_url)
    blobs, line, bus = DiskBlobs(tmp_path / "blobs", durable=False), Line(), LocalBus()
    store, reader = machine.store, machine.reader
    wakes: list[None] = []
    bus.subscribe(lambda: wakes.append(None))
    yield Service(
        machine,
        blobs,
        line,
        Submissions(store, reader, blobs, line, bus, fingerprint=lambda _: "models", lanes=LANES, cache_for=DAY),
        Sweep(store, reader, blobs, line, bus, max_attempts=2, max_queued=4, keep=DAY, every_s=1, lease=LEASE),
        JobOverseer(store, reader, bus, max_attempts=2),
        wakes,
    )
    machine.close()


# --- submissions -----------------------------------------------------------------------------------------------------


def test_new_work_is_stored_and_sent(service: Service) -> None:
    job = service.submit()
    assert service.machine.known(job) == job
    assert (job.operation, job.lane, job.status) == ("plain", "gpu", Status.QUEUED)
    assert [service.blobs.get(file.sha256) for file in job.files] == [b"photo"]
    assert service.line.sent == [(job.id, "gpu")]
    assert len(service.wakes) == 1


class LuckyParams(PhotoParams):
    seed: int | None = None
    lane: str = "cpu"
    fresh: bool = False


@operation(
    version=1,
    lanes=("cpu", "gpu", "remote"),
    choices=Choices(
        lane=lambda params: params.lane,
        settle=lambda params, request: params.model_copy(update={"seed": params.seed or sum(request.encode())}),
        fresh=lambda params: params.fresh,
    ),
)
def lucky(params: LuckyParams, ctx: Context) -> Result:
    """What it does depends on its parameters."""
    return Result()


def test_a_drawn_seed_is_stored_and_is_not_answered_from_the_cache(service: Service) -> None:
    first = service.lucky()
    assert first.params["seed"] > 0
    service.machine.finish(service.machine.start(first))
    second = service.lucky()
    assert (second.cached, second.leader_id) == (None, None)
    assert second.params["seed"] != first.params["seed"]
    assert service.lucky(seed=first.params["seed"]).cached == "exact"
    assert service.lucky(seed=second.params["seed"]).leader_id == second.id


def test_a_repeat_with_the_same_idempotency_key_draws_the_same_seed(service: Service) -> None:
    first, second = service.lucky(key="k"), service.lucky(key="k")
    assert second.id == first.id
    assert service.lucky(key="other").params["seed"] != first.params["seed"]


def test_what_is_to_be_done_anew_neither_uses_nor_fills_the_cache(service: Service) -> None:
    first = service.lucky(seed=5, fresh=True)
    second = service.lucky(seed=5, fresh=True)
    assert second.leader_id is None
    service.machine.finish(service.machine.start(first))
    assert service.lucky(seed=5, fresh=True).cached is None
    repeat = service.lucky(seed=5, fresh=True, key="k")
    assert service.lucky(seed=5, fresh=True, key="k").id == repeat.id


def test_a_full_lane_refuses_its_own_jobs_only(service: Service) -> None:
    for number in range(4):
        service.lucky(f"photo {number}", lane="gpu")
    for photo in ("photo 9", "photo 1"):  # new bytes, and known ones
        with pytest.raises(QueueFullError):
            service.lucky(photo, lane="gpu")
    assert service.lucky(lane="cpu").lane == "cpu"
    assert [lane for _, lane in service.line.sent] == ["gpu"] * 4 + ["cpu"]


def test_followers_count_in_their_lane(service: Service) -> None:
    for _ in range(4):
        service.lucky(seed=5, lane="gpu")
    with pytest.raises(QueueFullError):
        service.lucky(seed=5, lane="gpu")


def test_a_lane_without_workers_takes_no_job(service: Service) -> None:
    with pytest.raises(UnavailableError, match="remote"):
        service.lucky(lane="remote")
    assert service.machine.reader.page(limit=5) == []


def test_only_new_work_is_sent_and_a_repeat_wakes_nobody(service: Service) -> None:
    first = service.submit(key="k")
    shared = service.submit()
    repeat = service.submit(key="k")
    assert (shared.leader_id, repeat.id) == (first.id, first.id)
    service.machine.start(first)
    service.machine.finish(service.machine.known(first))
    assert service.submit().cached == "exact"
    assert service.line.sent == [(first.id, "gpu")]
    assert len(service.wakes) == 3
    with pytest.raises(InvalidRequestError, match="Idempotency-Key"):
        service.submit("another photo", key="k")
    assert not service.blobs.has(sha256_of("another photo"))


def test_a_full_queue_and_a_stop_store_no_bytes(service: Service) -> None:
    for number in range(4):
        service.submit(str(number))
    with pytest.raises(QueueFullError):
        service.submit("too much")
    service.submissions.open = False
    with pytest.raises(UnavailableError, match="stopping"):
        service.submit("too late")
    assert not service.blobs.has(sha256_of("too much"))
    assert not service.blobs.has(sha256_of("too late"))


def test_missing_bytes_of_a_known_job_are_stored_again(service: Service) -> None:
    service.done()
    service.blobs.delete(sha256_of("photo"))
    service.submissions.cache_for = timedelta(0)
    service.submit()
    assert service.blobs.has(sha256_of("photo"))


@pytest.mark.parametrize("size", [None, 0, 3])
def test_a_result_whose_artifact_is_gone_or_truncated_is_made_anew(service: Service, size: int | None) -> None:
    done = service.done()
    path = service.blobs.local_path(done.artifacts[0].sha256)
    if size is None:
        path.unlink()
    else:
        os.truncate(path, size)
    anew = service.submit()
    assert anew.status is Status.QUEUED
    service.machine.start(anew)
    assert act(service.machine, service.blobs, lambda _: None, "finish", anew.id, "artifact of photo") == "finish"
    anew = service.machine.known(anew)
    assert service.blobs.get(anew.artifacts[0].sha256) == b"artifact of photo"
    assert service.submit().cached == "exact"


def test_a_truncated_photo_is_stored_again(service: Service) -> None:
    job = service.submit()
    os.truncate(service.blobs.local_path(job.files[0].sha256), 2)
    service.submit()
    assert service.blobs.get(job.files[0].sha256) == b"photo"


def test_where_nothing_can_be_removed_nothing_is_erased(service: Service) -> None:
    job = service.done()
    folder = service.blobs._folder
    folder.rename(folder.with_name("away"))
    for erase in (lambda: service.submissions.erase(job.id), lambda: service.sweep.tidy(datetime.now(UTC) + 2 * DAY)):
        with pytest.raises(UnavailableError, match="nothing was erased"):
            erase()
    folder.with_name("away").rename(folder)
    assert service.machine.known(job) == job
    service.submissions.erase(job.id)
    assert list(service.blobs.written(before=datetime.now(UTC) + DAY)) == []


def test_an_erasure_whose_bytes_stay_says_so_and_the_sweep_goes_on(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = service.done()
    path = service.blobs.local_path(job.artifacts[0].sha256)
    path.unlink()
    path.mkdir()  # what cannot be unlinked
    with pytest.raises(UnavailableError, match="erased, but not yet all"):
        service.submissions.erase(job.id)
    assert service.machine.reader.get(job.id) is None
    assert not service.blobs.has(sha256_of("photo"))
    path.rmdir()
    monkeypatch.setattr("limner.jobs.sweep.REMOVAL_AGE", -REMOVAL_AGE)
    service.sweep.once()
    assert service.machine.reader.blobs_in(BlobState.REMOVING, datetime.now(UTC) + DAY, 9) == []


@pytest.mark.parametrize("end", ["cancel", "erase"])
def test_the_follower_of_a_removed_job_is_sent(service: Service, end: str) -> None:
    leader, behind = service.submit(), service.submit()
    getattr(service.submissions, end)(leader.id)
    assert service.line.sent == [(leader.id, "gpu"), (behind.id, "gpu")]
    assert len(service.wakes) == 3
    assert service.blobs.has(sha256_of("photo")), "the other job names it"


def test_erasing_removes_the_bytes_and_refuses_what_is_not_there(service: Service) -> None:
    job = service.done()
    service.submissions.erase(job.id)
    assert list(service.blobs.written(before=datetime.now(UTC) + DAY)) == []
    assert service.machine.reader.without_row([file.sha256 for file in job.files]) == [
        file.sha256 for file in job.files
    ]
    for refuse in (service.submissions.erase, service.submissions.cancel):
        with pytest.raises(NotFoundError):
            refuse(job.id)
    with pytest.raises(JobFinishedError):
        service.submissions.cancel(service.done().id)


# --- the sweep -------------------------------------------------------------------------------------------------------


def test_a_round_requeues_what_is_overdue_sends_what_waits_and_frees_the_stranded(service: Service) -> None:
    lost, held = service.submit("lost"), service.submit("held")
    service.machine.start(lost, lease=timedelta(seconds=-1))
    service.machine.start(held)
    stranded = new_job(leader_id="no such job")
    service.machine.store.transact(lambda tx: tx.insert(stranded))
    service.line.sent.clear()
    service.sweep.once()
    assert service.machine.known(lost).status is Status.QUEUED
    assert service.machine.known(held).status is Status.RUNNING
    assert sorted(service.line.sent) == sorted([(lost.id, "gpu"), (stranded.id, "cpu")])
    assert all(each.sent_at is not None for each in service.machine.reader.waiting(10)), "the engine asked for that"
    service.machine.start(lost, lease=timedelta(seconds=-1))
    service.sweep.once()
    crashed = service.machine.known(lost)
    assert crashed.error is not None
    assert crashed.error["type"].endswith("job-crashed")


def test_a_round_goes_on_with_old_removals_only(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    marked, removing = service.submit("marked"), service.submit("removing")
    for job in (marked, removing):
        service.machine.erase(job.id)
    service.machine.claim(sha256_of("removing"))
    kept = service.done("kept")
    service.sweep.once()
    assert all(service.blobs.has(sha256_of(data)) for data in ("marked", "removing")), "others may be at it"
    monkeypatch.setattr("limner.jobs.sweep.REMOVAL_AGE", -REMOVAL_AGE)
    service.sweep.once()
    assert not any(service.blobs.has(sha256_of(data)) for data in ("marked", "removing"))
    service.sweep.once()
    size = sum(file.size for file in kept.files)
    assert service.machine.reader.totals() == (1, size)


def test_a_blob_that_cannot_be_removed_holds_up_nothing_else(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(DiskBlobs):
        """Cannot remove one of its blobs."""

        def delete(self, sha256: str) -> None:
            if sha256 == sha256_of("stuck"):
                raise UnavailableError("no")
            super().delete(sha256)

    monkeypatch.setattr("limner.jobs.sweep.REMOVAL_AGE", -REMOVAL_AGE)
    for photo in ("stuck", "other"):
        service.machine.erase(service.submit(photo).id)
    waiting = service.submit("waiting")
    service.line.sent.clear()
    sweep = replace(service.sweep, blobs=Stuck(service.blobs._folder, durable=False))
    for _ in range(2):
        with pytest.raises(UnavailableError):
            sweep.once()
    assert service.line.sent == [(waiting.id, "gpu")] * 2
    assert not service.blobs.has(sha256_of("other"))


def test_a_start_takes_up_what_a_crash_has_left(service: Service) -> None:
    running, worn_out = service.submit("one"), service.submit("two")
    service.machine.start(running)
    service.machine.start(worn_out, worker="lost")
    service.machine.lose("lost", "died")
    service.machine.start(worn_out)
    erased = service.submit("three")
    service.machine.erase(erased.id)
    service.sweep.recover()
    assert service.machine.known(running).status is Status.QUEUED
    assert service.machine.known(worn_out).status is Status.FAILED
    assert not service.blobs.has(sha256_of("three"))


def test_tidying_erases_what_is_past_its_time_with_its_bytes_and_events(service: Service) -> None:
    old = service.done("old")
    service.sweep.tidy(datetime.now(UTC))
    assert service.machine.known(old) == old
    service.sweep.tidy(datetime.now(UTC) + DAY)
    assert service.machine.reader.get(old.id) is None
    assert not any(service.blobs.has(file.sha256) for file in old.files)
    assert service.machine.events() == []


def test_tidying_ends_what_has_waited_too_long_and_erases_it_the_next_time(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    leader, follower, running = (service.submit(photo) for photo in ("waits", "waits", "runs"))
    assert follower.leader_id == leader.id
    service.machine.start(running)
    before = service.machine.known(running)
    now = datetime.now(UTC)
    service.sweep.tidy(now)
    assert service.machine.known(leader) == leader
    woken = len(service.wakes)
    service.sweep.tidy(now + DAY + timedelta(minutes=1))
    assert {service.machine.known(job).status for job in (leader, follower)} == {Status.FAILED}
    assert len(service.wakes) > woken
    assert "jobs were given up" in caplog.text
    service.sweep.tidy(now + DAY + timedelta(hours=1))
    assert [service.machine.reader.get(job.id) for job in (leader, follower)] == [None, None]
    assert not any(service.blobs.has(file.sha256) for file in leader.files)
    assert service.machine.known(running) == before


def test_tidying_drops_old_events_behind_those_of_a_clock_that_was_ahead(service: Service) -> None:
    job = service.done("old")

    def log(tx: Transaction, time: datetime) -> None:
        tx.now = lambda: time  # type: ignore[method-assign]
        for _ in range(AT_ONCE + 1):
            tx.log(job, EventType.PROGRESS)

    now = datetime.now(UTC)
    service.machine.store.transact(lambda tx: log(tx, now + 100 * DAY))
    service.machine.store.transact(lambda tx: log(tx, now - timedelta(minutes=1)))
    service.sweep.tidy(now)
    service.sweep.tidy(now + DAY + timedelta(minutes=1))
    assert {event.time for event in service.machine.events()} == {now + 100 * DAY}


def test_tidying_removes_old_bytes_without_a_row_and_no_others(service: Service) -> None:
    kept = service.done("kept")
    service.blobs.put(b"stray")
    service.sweep.keep = None
    service.sweep.tidy(datetime.now(UTC))
    assert service.blobs.has(sha256_of("stray")), "its row may not be committed yet"
    service.sweep.tidy(datetime.now(UTC) + 2 * ORPHAN_AGE)
    assert not service.blobs.has(sha256_of("stray"))
    assert all(service.blobs.has(file.sha256) for file in kept.files)
    assert service.machine.store.transact(lambda tx: tx.blob_state(sha256_of("stray"))) is None
    for file in kept.files:
        assert service.machine.store.transact(lambda tx, file=file: tx.blob_state(file.sha256)) is BlobState.KEPT  # type: ignore[misc]


def test_a_clock_that_jumps_ahead_erases_nothing_at_once(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    now = datetime.now(UTC)
    job, stray = service.done(), sha256_of("stray")
    service.blobs.put(b"stray")
    service.sweep.tidy(now)
    for minutes in range(5):  # a service that starts again and again
        service.sweep.tidy(now + 30 * DAY + timedelta(minutes=minutes))
        assert service.machine.known(job) == job
    assert "clock is far ahead" in caplog.text
    assert not service.blobs.has(stray), "it has no row, whatever the time"
    service.sweep.tidy(now)  # the clock is right again
    assert service.machine.known(job) == job
    service.sweep.tidy(now + DAY / 2)
    assert service.machine.known(job) == job
    service.sweep.tidy(now + DAY + timedelta(minutes=1))
    assert service.machine.reader.get(job.id) is None


def test_after_a_long_stop_old_jobs_are_erased_a_day_an_hour(service: Service) -> None:
    now = datetime.now(UTC)
    old = service.machine.done(new_job(created_at=now - 18 * DAY, picture=sha256_of("old")))
    newer = service.machine.done(new_job(created_at=now - 17 * DAY, picture=sha256_of("newer")))
    left = []
    for hours in range(3):
        service.sweep.tidy(now + timedelta(hours=hours))
        left.append([job for job in (old, newer) if service.machine.reader.get(job.id) is not None])
    assert left == [[old, newer], [newer], []]


@pytest.mark.parametrize("jump", [30 * DAY, -30 * DAY])
def test_a_clock_that_jumps_takes_no_job_from_its_worker(service: Service, jump: timedelta) -> None:
    steady, ahead = 1000.0, timedelta(0)
    sweep = replace(
        service.sweep, clock=lambda: datetime.now(UTC) + ahead, steady_clock=lambda: steady + time.monotonic()
    )
    job = service.submit()
    service.machine.start(job, lease=LEASE)
    sweep.once()
    ahead = jump
    for _ in range(3):
        sweep.once()
        assert service.machine.known(job).status is Status.RUNNING
        steady += LEASE.total_seconds() / 4
        ahead += LEASE / 4
    steady += LEASE.total_seconds()
    ahead += LEASE
    sweep.once()
    assert service.machine.known(job).status is (Status.QUEUED if jump > timedelta(0) else Status.RUNNING)
    sweep.recover()
    assert service.machine.known(job).status is Status.QUEUED


def test_a_start_frees_a_job_whose_lease_was_written_in_a_far_future(service: Service) -> None:
    job = service.submit()
    service.machine.start(job, lease=timedelta(days=50 * 365))
    service.sweep.recover()
    assert service.machine.known(job).status is Status.QUEUED


def test_ids_rise_whatever_the_clock_does() -> None:
    future = "12345678-9abc-7def-8123-456789abcdef"
    ids = JobIds(future)
    given = [future, *(ids.new() for _ in range(1000))]
    assert given == sorted(set(given))
    for each in given[1:]:
        assert (UUID(each).version, UUID(each).variant) == (7, RFC_4122)
    now = [JobIds().new(), *(JobIds(given[0].replace("1234", "0000", 1)).new() for _ in range(9))]
    assert max(now) < future, "it is the time of now as long as that is later"


# --- what is left in the database's files ----------------------------------------------------------------------------


@SQLITE_ONLY
def test_nothing_of_an_erased_job_is_left_in_the_databases_files(service: Service, tmp_path: Path) -> None:
    secret, kept = "left-eye-at-1234.5678", "nose-at-8765.4321"

    def found(text: str) -> int:
        return sum(path.read_bytes().count(text.encode()) for path in tmp_path.glob("jobs.db*"))

    erased = []
    for number in range(120):
        text = kept if number % 4 == 0 else secret
        points = {"faces": [{"points": [f"{text} {number} {each}" for each in range(number)]}]}
        job = new_job(params={"landmarks": text}, picture=sha256_of(str(number)))
        service.machine.submit(job)
        outcome = Outcome(result=points, summary={"points": text})
        assert service.machine.try_finish(service.machine.start(job), outcome) is True
        if text == secret:
            erased.append(job)
    assert found(secret) > len(erased)
    random.Random(1).shuffle(erased)  # noqa: S311  # the same each time
    for job in erased:
        service.submissions.erase(job.id)
    assert found(secret) > 0, "the log still has it"
    service.sweep.once()
    assert found(secret) == 0
    assert found(kept) > 0
    assert (tmp_path / "jobs.db-wal").stat().st_size < 100_000


@pytest.mark.alone
@SQLITE_ONLY
def test_a_reader_puts_off_the_scrubbing_and_holds_up_nobody(service: Service, tmp_path: Path) -> None:
    job = service.done()
    service.sweep.once()
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM jobs").fetchall()
        service.submissions.erase(job.id)
        began = time.monotonic()
        assert not service.machine.store.scrub()
        assert time.monotonic() - began < 2
        reader.execute("COMMIT")
    assert service.machine.store.scrub()
    assert service.machine.store.scrub()


# --- the overseer ----------------------------------------------------------------------------------------------------


def test_a_lost_workers_job_is_to_be_sent_again_and_readers_are_woken(service: Service) -> None:
    job = service.submit()
    service.machine.start(job, worker="w")
    assert service.overseer.wanted("w")
    assert not service.overseer.wanted("another")
    service.wakes.clear()
    assert service.overseer.lost("w", "died") == [(job.id, "gpu")]
    assert len(service.wakes) == 1
    assert not service.overseer.wanted("w")
    service.machine.start(job, worker="w")
    assert service.overseer.lost("w", "died") == []
    assert service.machine.known(job).status is Status.FAILED


def test_a_job_that_was_cancelled_is_not_wanted(service: Service) -> None:
    job = service.submit()
    service.machine.start(job, worker="w")
    service.submissions.cancel(job.id)
    assert not service.overseer.wanted("w")
    assert service.overseer.lost("w", "timeout") == []
    assert service.machine.known(job).status is Status.CANCELLED
