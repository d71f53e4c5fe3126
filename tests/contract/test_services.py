"""`jobs/submit.py`, `jobs/sweep.py` and `jobs/oversee.py` on a real store: what they send, wake, store and remove."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from limner.adapters.disk_blobs import DiskBlobs
from limner.adapters.local_bus import LocalBus
from limner.domain.blob import BlobState
from limner.domain.errors import InvalidRequestError, JobFinishedError, NotFoundError, QueueFullError, UnavailableError
from limner.domain.job import Job, Status
from limner.jobs.oversee import JobOverseer
from limner.jobs.submit import Submissions
from limner.jobs.sweep import ORPHAN_AGE, REMOVAL_AGE, Sweep
from limner.operation import Context, ImageRef, Params, Result, operation
from limner.telemetry import CACHE_RESULTS, JOBS_RUNNING, QUEUE_DEPTH, STORED_BYTES
from tests.contract.machine import DAY, Machine, new_job, open_sqlite
from tests.contract.rival import act, sha256_of


@operation(version=1, lane="gpu")
def plain(params: Params, ctx: Context) -> Result:
    """Nothing."""
    return Result()


@dataclass
class Line:
    """An engine that only records what was sent."""

    sent: list[tuple[str, str]] = field(default_factory=list)

    def send(self, job_id: str, lane: str) -> None:
        self.sent.append((job_id, lane))

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
        return self.submissions.submit(plain, Params(image=ref), {"image": data}, idempotency_key=key)

    def done(self, photo: str = "photo") -> Job:
        job = self.submit(photo)
        self.machine.start(job)
        assert act(self.machine, self.blobs, lambda _: None, "finish", job.id, f"artifact of {photo}") == "finish"
        return self.machine.known(job)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    machine = open_sqlite(tmp_path / "jobs.db")
    blobs, line, bus = DiskBlobs(tmp_path / "blobs", durable=False), Line(), LocalBus()
    store, reader = machine.store, machine.reader
    wakes: list[None] = []
    bus.subscribe(lambda: wakes.append(None))
    yield Service(
        machine,
        blobs,
        line,
        Submissions(store, reader, blobs, line, bus, fingerprint=lambda _: "models", max_queued=4, cache_for=DAY),
        Sweep(store, reader, blobs, line, bus, max_attempts=2, max_queued=4, keep=DAY, every_s=1),
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
    service.machine.start(lost, lease=timedelta(seconds=-1))
    service.sweep.once()
    crashed = service.machine.known(lost)
    assert crashed.error is not None
    assert crashed.error["type"].endswith("job-crashed")


def test_a_round_goes_on_with_old_removals_only_and_measures(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
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
    measured = [gauge._value.get() for gauge in (CACHE_RESULTS, STORED_BYTES, QUEUE_DEPTH, JOBS_RUNNING)]
    assert measured == [1, size, 0, 0]


def test_a_blob_that_cannot_be_removed_holds_up_nothing_else(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(DiskBlobs):
        """Cannot remove one of its blobs."""

        def delete(self, sha256: str) -> None:
            if sha256 == sha256_of("stuck"):
                raise PermissionError("no")
            super().delete(sha256)

    monkeypatch.setattr("limner.jobs.sweep.REMOVAL_AGE", -REMOVAL_AGE)
    for photo in ("stuck", "other"):
        service.machine.erase(service.submit(photo).id)
    waiting = service.submit("waiting")
    service.line.sent.clear()
    sweep = replace(service.sweep, blobs=Stuck(service.blobs._folder, durable=False))
    for _ in range(2):
        with pytest.raises(PermissionError):
            sweep.once()
    assert QUEUE_DEPTH._value.get() == 1
    assert service.line.sent == [(waiting.id, "gpu")] * 2
    assert not service.blobs.has(sha256_of("other"))


def test_a_start_takes_up_what_a_crash_has_left(service: Service) -> None:
    running, worn_out = service.submit("one"), service.submit("two")
    service.machine.start(running)
    service.machine.requeue(service.machine.start(worn_out).id, 1)
    service.machine.start(worn_out)
    erased = service.submit("three")
    service.machine.erase(erased.id)
    service.sweep.recover()
    assert service.machine.known(running).status is Status.QUEUED
    assert service.machine.known(worn_out).status is Status.FAILED
    assert not service.blobs.has(sha256_of("three"))


def test_tidying_erases_what_is_past_its_time_with_its_bytes_and_events(service: Service) -> None:
    old = service.done("old")
    waiting = service.submit("waiting")
    service.sweep.tidy(datetime.now(UTC))
    assert service.machine.known(old) == old
    service.sweep.tidy(datetime.now(UTC) + DAY)
    assert service.machine.reader.get(old.id) is None
    assert service.machine.known(waiting) == waiting
    assert not any(service.blobs.has(file.sha256) for file in old.files)
    assert service.machine.events() == []


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
