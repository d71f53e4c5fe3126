"""`jobs/run.py` on a real store with test operations: every way in which a run can end."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from limner.adapters.disk_blobs import DiskBlobs
from limner.adapters.local_bus import LocalBus
from limner.context import Context
from limner.domain.errors import BadImageError, NotFoundError, UnavailableError
from limner.domain.job import Job, Status
from limner.domain.lane import Lane
from limner.image_ref import ImageRef
from limner.jobs import run as run_module
from limner.jobs.run import Runner
from limner.operation import Operation, PhotoParams, Result, SimilarParams, operation
from limner.vision.image import Limits
from limner.vision.models import Models
from tests.contract.databases import SQLITE_ONLY
from tests.contract.machine import DAY, Machine, new_job, open_postgres, open_sqlite
from tests.contract.rival import sha256_of

PHOTO = "the photo"
LIKE = 0b1111


class Told(Result):
    """The result of a test operation."""

    words: str

    def summary(self) -> dict[str, int]:
        return {"letters": len(self.words)}


@dataclass
class Bench:
    """A runner with test operations, and the functions that they call."""

    machine: Machine
    blobs: DiskBlobs
    bus: LocalBus
    runner: Runner
    act: Callable[[Context], str] = field(default=lambda _: "done")
    phash: int | None = None

    def run(self, job: Job | None = None, **changes: Any) -> Job:
        """Submit a job, run it, and return it."""
        submitted = self.submit(job, **changes)
        self.runner.run(submitted.id)
        return self.machine.known(submitted)

    def submit(self, job: Job | None = None, **changes: Any) -> Job:
        params = {"image": _reference().model_dump(mode="json")}
        return self.machine.submit(
            job or new_job(picture=sha256_of(PHOTO), **{"operation": "plain", "params": params, **changes})
        )

    def submit_similar(self, cache: str = "similar", key: str | None = "like") -> Job:
        params = {"image": _reference().model_dump(mode="json"), "cache": cache}
        return self.submit(operation="alike", params=params, similarity_key=key)


@pytest.fixture
def bench(database_url: str, tmp_path: Path) -> Iterator[Bench]:
    is_file = database_url.startswith("sqlite:")
    machine = open_sqlite(tmp_path / "jobs.db", turn_s=0.2) if is_file else open_postgres(database_url)
    blobs = DiskBlobs(tmp_path / "blobs", durable=False)
    blobs.put(PHOTO.encode())
    bus = LocalBus()
    runner = Runner(
        worker="worker",
        catalogue={},
        store=machine.store,
        reader=machine.reader,
        blobs=blobs,
        bus=bus,
        models=Models(tmp_path),
        limits=Limits(),
        lease=timedelta(seconds=30),
        lanes={"cpu": Lane(1, 9, 30)},
        cache_for=DAY,
    )
    made = Bench(machine, blobs, bus, runner)
    runner.catalogue = _catalogue(made)
    yield made
    machine.close()


def _catalogue(bench: Bench) -> Mapping[str, Operation[Any, Any]]:
    @operation(version=1)
    def plain(params: PhotoParams, ctx: Context) -> Told:
        """Call the test's function."""
        assert ctx.data(params.image) == PHOTO.encode()
        return Told(words=bench.act(ctx))

    @operation(version=1, similar_within=3)
    def alike(params: SimilarParams, ctx: Context) -> Told:
        """Call the test's function, unless there is the result of a similar photo."""
        assert bench.phash is not None
        ctx.recognise(bench.phash)
        return Told(words=bench.act(ctx))

    return {"plain": plain, "alike": alike}


def _reference() -> ImageRef:
    return ImageRef(sha256=sha256_of(PHOTO), media_type="image/png", size=len(PHOTO), width=1, height=1)


# --- the ways to end -------------------------------------------------------------------------------------------------


def test_a_result_is_stored_with_its_artifacts_and_reported(bench: Bench) -> None:
    def act(ctx: Context) -> str:
        with ctx.stage("think"):
            ctx.attach("b.svg", b"<svg/>", "image/svg+xml")
            ctx.attach("a.jpg", b"jpeg", "image/jpeg", width=3, height=4)
        return "hello"

    bench.act = act
    woken: list[Status] = []
    job = bench.submit()
    bench.bus.subscribe(lambda: woken.append(bench.machine.known(job).status))
    report = bench.runner.run(job.id)
    done = bench.machine.known(job)
    assert (done.status, done.result, done.summary) == (Status.SUCCEEDED, {"words": "hello"}, {"letters": 5})
    assert [(file.name, file.width, bench.blobs.get(file.sha256)) for file in done.artifacts] == [
        ("b.svg", None, b"<svg/>"),
        ("a.jpg", 3, b"jpeg"),
    ]
    assert woken == [Status.RUNNING], "whoever gets the report wakes the readers of its end"
    assert report is not None
    assert (report.operation, report.status, report.cached) == ("plain", Status.SUCCEEDED, None)
    assert set(report.stages) == {"think", "store"}
    assert report.summary == {"letters": 5}


def test_what_does_not_wait_is_not_run(bench: Bench) -> None:
    job = bench.run()
    assert bench.runner.run(job.id) is None
    assert bench.runner.run("no such job") is None
    assert bench.machine.known(job) == job


def test_a_limner_error_ends_the_job_with_that_error(bench: Bench) -> None:
    bench.act = _raise(BadImageError("cut off", at=7))
    job = bench.run()
    assert job.status is Status.FAILED
    assert job.error == BadImageError("cut off", at=7).problem()


@pytest.mark.parametrize("error", [KeyError("nose"), ValueError("nose"), RuntimeError("nose"), RecursionError("nose")])
def test_another_error_ends_the_job_as_internal_and_is_logged(
    bench: Bench, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    bench.act = _raise(error)
    job = bench.run()
    assert _slug(job) == "internal-error"
    assert "nose" not in str(job.error)
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]


def test_a_result_that_is_not_valid_is_an_internal_error_not_an_unknown_kind_of_job(bench: Bench) -> None:
    bench.act = lambda _: 5  # type: ignore[assignment,return-value]
    assert _slug(bench.run()) == "internal-error"


def test_a_memory_error_ends_the_job_as_out_of_memory(bench: Bench) -> None:
    bench.act = _raise(MemoryError())
    assert _slug(bench.run()) == "job-out-of-memory"


def test_a_job_of_another_version_ends_as_unknown_work(bench: Bench) -> None:
    assert _slug(bench.run(operation="of the future")) == "unknown-work"
    params = {"image": _reference().model_dump(mode="json"), "of_the_future": 1}
    assert _slug(bench.run(params=params)) == "unknown-work"


def test_artifacts_of_a_run_that_fails_are_removed(bench: Bench) -> None:
    def act(ctx: Context) -> str:
        ctx.attach("a.jpg", b"a face", "image/jpeg")
        assert bench.blobs.has(sha256_of("a face"))
        raise BadImageError

    bench.act = act
    assert bench.run().artifacts == ()
    assert not bench.blobs.has(sha256_of("a face"))
    assert bench.blobs.has(sha256_of(PHOTO))
    assert bench.machine.reader.without_row([sha256_of("a face")]) == [sha256_of("a face")]


# --- progress, timeout, cancel ---------------------------------------------------------------------------------------


def test_progress_is_stored_at_most_twice_a_second(bench: Bench) -> None:
    bench.act = lambda ctx: str([ctx.step(number, 100) for number in range(100)])
    wakes: list[None] = []
    bench.bus.subscribe(lambda: wakes.append(None))
    job = bench.run()
    told = bench.machine.told(job)
    assert 1 <= told.count("job.progress") <= 3
    assert len(wakes) == len(told) - 2  # the runner does not wake the bus for the submission and the end


def test_a_job_that_takes_too_long_ends_between_two_steps(bench: Bench) -> None:
    bench.runner.lanes = {"cpu": Lane(1, 9, 0.05)}

    def act(ctx: Context) -> str:
        for number in range(1000):
            with ctx.stage(f"step {number}"):
                time.sleep(0.01)
        return "never"

    bench.act = act
    assert _slug(bench.run()) == "job-timeout"


@pytest.mark.parametrize("end", ["cancel", "erase", "expire"])
@pytest.mark.parametrize("noticed_by", ["check", "progress", "finish"])
def test_a_job_that_is_no_longer_wanted_ends_at_its_next_step_and_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, end: str, noticed_by: str
) -> None:
    monkeypatch.setattr(run_module, "CHECK_EVERY_S", 0)
    job = bench.submit()
    on: list[str] = []

    def act(ctx: Context) -> str:
        ctx.attach("a.jpg", b"a face", "image/jpeg")
        if end == "cancel":
            bench.machine.cancel(job.id)
        elif end == "erase":
            bench.machine.erase(job.id)
        else:
            bench.machine.expire(job.id)
        if noticed_by == "check":
            ctx.step(0, 1)
        elif noticed_by == "progress":
            ctx.step(1, 2)
        on.append("went on")
        return "done"

    bench.act = act
    assert bench.runner.run(job.id) is None
    assert on == (["went on"] if noticed_by == "finish" else [])
    found = bench.machine.reader.get(job.id)
    assert (found and found.status) == {"cancel": Status.CANCELLED, "erase": None, "expire": Status.QUEUED}[end]
    assert not bench.blobs.has(sha256_of("a face"))


@pytest.mark.alone
def test_the_lease_is_renewed_while_the_job_runs_and_not_after(bench: Bench) -> None:
    bench.runner = replace(bench.runner, lease=timedelta(seconds=0.3))
    leases: list[datetime] = []
    running: list[Job] = []

    def act(_: Context) -> str:
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            lease = bench.machine.known(running[-1]).lease_until
            assert lease is not None
            assert lease > datetime.now(UTC), "it has lapsed"
            leases.append(lease)
            time.sleep(0.02)
        return "done"

    bench.act = act
    for _ in range(2):  # the same thread renews the next one
        running.append(bench.submit())
        assert bench.runner.run(running[-1].id) is not None
        assert len(set(leases)) >= 4
        leases.clear()
        assert bench.machine.known(running[-1]).status is Status.SUCCEEDED
        assert bench.machine.known(running[-1]).lease_until is None


def test_a_renewal_that_fails_is_logged_and_tried_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        """A store in which renewals fail for a while, once with an unexpected error."""

        def __init__(self) -> None:
            self.left: list[BaseException] = [UnavailableError("busy"), MemoryError()]
            self.renewed = threading.Event()

        def transact(self, work: Callable[[Any], Any]) -> Any:
            if threading.current_thread().name == "lease":
                if self.left:
                    raise self.left.pop(0)
                self.renewed.set()
            return bench.machine.store.transact(work)

        def close(self) -> None:
            raise AssertionError

    store = Failing()
    bench.runner = replace(bench.runner, store=store, lease=timedelta(seconds=0.15))
    bench.act = lambda _: str(store.renewed.wait(10))
    assert bench.run().result == {"words": "True"}
    assert [record.message for record in caplog.records] == ["lease not renewed"] * 2
    assert [record.exc_info is not None for record in caplog.records] == [False, True]  # what was expected is one line


# --- a database that cannot be used for a while ----------------------------------------------------------------------


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that prevents other writers between BEGIN IMMEDIATE and ROLLBACK."""
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None, check_same_thread=False)) as other:
        yield other


@SQLITE_ONLY
def test_a_busy_database_does_not_end_a_job_at_its_progress(bench: Bench, lock: sqlite3.Connection) -> None:
    def act(ctx: Context) -> str:
        lock.execute("BEGIN IMMEDIATE")
        ctx.step(1, 2)
        lock.execute("ROLLBACK")
        return "done"

    bench.act = act
    job = bench.run()
    assert job.status is Status.SUCCEEDED
    assert "job.progress" not in bench.machine.told(job)


@SQLITE_ONLY
def test_a_result_that_cannot_be_stored_yet_is_stored_later(
    bench: Bench, lock: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_module, "RETRY_S", 0.05)
    timer = threading.Timer(0.7, lambda: lock.execute("ROLLBACK"))

    def act(ctx: Context) -> str:
        ctx.attach("a.jpg", b"a face", "image/jpeg")
        lock.execute("BEGIN IMMEDIATE")
        timer.start()
        return "done"

    bench.act = act
    job = bench.run()
    timer.join()
    assert (job.status, job.attempt, len(job.artifacts)) == (Status.SUCCEEDED, 1, 1)
    assert "result not stored yet; trying again" in {record.message for record in caplog.records}


@SQLITE_ONLY
def test_a_job_that_cannot_be_started_just_now_still_waits(bench: Bench, lock: sqlite3.Connection) -> None:
    job = bench.submit()
    lock.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError):
        bench.runner.run(job.id)
    lock.execute("ROLLBACK")
    assert bench.machine.known(job).status is Status.QUEUED
    report = bench.runner.run(job.id)
    assert report is not None
    assert report.status == Status.SUCCEEDED


@SQLITE_ONLY
def test_a_result_that_can_never_be_stored_is_an_error_after_the_lease(
    bench: Bench, lock: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "RETRY_S", 0.05)
    bench.runner = replace(bench.runner, lease=timedelta(seconds=0.5))

    def act(_: Context) -> str:
        lock.execute("BEGIN IMMEDIATE")
        return "done"

    bench.act = act
    job = bench.submit()
    with pytest.raises(UnavailableError):
        bench.runner.run(job.id)
    lock.execute("ROLLBACK")
    assert bench.machine.known(job).status is Status.RUNNING
    assert bench.machine.expire(job.id)


# --- photos that look the same ---------------------------------------------------------------------------------------


def done_alike(bench: Bench, phash: int = LIKE, artifact: str = "a face") -> Job:
    """A job whose result can answer photos that look the same."""
    bench.phash = phash

    def act(ctx: Context) -> str:
        ctx.attach("a.jpg", artifact.encode(), "image/jpeg")
        return f"worked out for {artifact}"

    bench.act = act
    job = bench.submit_similar("exact")
    bench.runner.run(job.id)
    done = bench.machine.known(job)
    assert (done.status, done.phash) == (Status.SUCCEEDED, f"{phash:016x}")
    return done


def test_a_photo_that_looks_the_same_is_answered_with_the_nearest_result(bench: Bench) -> None:
    done_alike(bench, LIKE ^ 0b11, "near")
    source = done_alike(bench, LIKE ^ 0b1, "nearest")
    done_alike(bench, LIKE ^ 0b111, "near enough")
    bench.phash, bench.act = LIKE, _raise(AssertionError("it need not be worked out"))
    job = bench.submit_similar()
    report = bench.runner.run(job.id)
    answered = bench.machine.known(job)
    assert (answered.status, answered.cached, answered.cache_distance) == (Status.SUCCEEDED, "similar", 1)
    assert (answered.result, answered.summary) == (source.result, source.summary)
    assert (answered.computed_at, answered.phash) == (source.computed_at, f"{LIKE:016x}")
    assert [file.sha256 for file in answered.artifacts] == [file.sha256 for file in source.artifacts]
    assert answered.artifacts[0].id != source.artifacts[0].id
    assert report is not None
    assert report.cached == "similar"


@pytest.mark.parametrize("why", ["too far", "not wanted", "another key", "no key"])
def test_without_a_similar_result_the_job_runs(bench: Bench, why: str) -> None:
    done_alike(bench)
    bench.phash = LIKE ^ (0b1111 << 8) if why == "too far" else LIKE
    bench.act = lambda _: "anew"
    job = bench.submit_similar(
        "exact" if why == "not wanted" else "similar", {"another key": "other", "no key": None}.get(why, "like")
    )
    bench.runner.run(job.id)
    assert bench.machine.known(job).result == {"words": "anew"}
    assert bench.machine.known(job).cached is None


def test_a_result_that_is_erased_before_its_bytes_are_read_answers_nobody(bench: Bench) -> None:
    source = done_alike(bench)
    bench.blobs.delete(source.artifacts[0].sha256)
    bench.act = lambda _: "anew"
    job = bench.submit_similar()
    bench.runner.run(job.id)
    assert bench.machine.known(job).result == {"words": "anew"}


def test_a_result_that_is_erased_after_its_bytes_were_read_still_answers(bench: Bench) -> None:
    source = done_alike(bench)

    class Erasing(DiskBlobs):
        """Erases the source as soon as its artifact has been read."""

        def get(self, sha256: str) -> bytes:
            data = super().get(sha256)
            if sha256 == source.artifacts[0].sha256:
                marked = bench.machine.erase(source.id).marked
                run_module.bytes_of_jobs.remove(bench.machine.store, self, marked)
                assert not self.has(sha256)
            return data

    bench.runner = replace(bench.runner, blobs=Erasing(bench.blobs._folder, durable=False))
    bench.phash, bench.act = LIKE, _raise(AssertionError("it need not be worked out"))
    job = bench.submit_similar()
    bench.runner.run(job.id)
    answered = bench.machine.known(job)
    assert answered.cached == "similar"
    assert bench.blobs.get(answered.artifacts[0].sha256) == b"a face"
    with pytest.raises(NotFoundError):
        bench.machine.erase(source.id)


def _raise(error: BaseException) -> Callable[[Context], str]:
    def act(_: Context) -> str:
        raise error

    return act


def _slug(job: Job) -> str:
    assert job.status is Status.FAILED
    assert job.error is not None
    return str(job.error["type"]).rpartition(":")[2]
