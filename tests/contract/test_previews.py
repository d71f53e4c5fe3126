"""Previews of running jobs: one at a time, replaced in place, gone at every end of the job."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from limner.context import Context
from limner.domain.blob import BlobState
from limner.domain.errors import BadImageError
from limner.domain.job import File, Job, Role, Status
from limner.domain.lane import Lane
from limner.jobs import blobs as bytes_of_jobs
from limner.jobs import run as run_module
from limner.jobs import transitions
from tests.contract.machine import Machine, new_job
from tests.contract.rival import sha256_of
from tests.contract.test_runner import Bench, bench

__all__ = ["bench"]  # the fixture

SOON = timedelta(minutes=1)


def _grey(value: int, side: int = 1000) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((side // 2, side, 3), value, np.uint8)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PROGRESS_EVERY_S", 0.0)


def _blobs(bench: Bench) -> set[str]:
    """All blobs that are stored."""
    return set(bench.blobs.written(before=datetime.now(UTC) + timedelta(days=1)))


def test_a_preview_replaces_the_last_one_and_is_gone_at_the_end(bench: Bench) -> None:
    shown: list[File] = []

    def act(ctx: Context) -> str:
        before = _blobs(bench)
        for number in (1, 2, 3):
            ctx.step(number, 4, _grey(50 * number))
            (preview,) = bench.machine.known(job).previews
            shown.append(preview)
            assert _blobs(bench) == before | {preview.sha256}
        ctx.step(4, 4, _grey(150))  # the same picture: nothing is stored anew
        assert bench.machine.known(job).previews == (preview,)
        return "done"

    bench.act = act
    job = bench.submit()
    bench.runner.run(job.id)
    done = bench.machine.known(job)
    assert (done.status, done.previews, done.artifacts) == (Status.SUCCEEDED, (), ())
    assert len({each.sha256 for each in shown}) == 3
    assert (shown[0].width, shown[0].height, shown[0].media_type) == (768, 384, "image/jpeg")
    assert _blobs(bench) == {sha256_of("the photo")}
    assert bench.machine.told(done).count("job.progress") == 4


def test_previews_come_at_most_twice_a_second(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PROGRESS_EVERY_S", 0.5)
    stored: list[str] = []
    put = bench.blobs.put
    monkeypatch.setattr(bench.blobs, "put", lambda *args, **how: stored.append("") or put(*args, **how))

    def act(ctx: Context) -> str:
        until = time.monotonic() + 0.7
        while time.monotonic() < until:
            ctx.step(1, 2, _grey(len(stored)))
        return "done"

    bench.act = act
    bench.run()
    assert 1 <= len(stored) <= 2


def test_events_tell_of_a_preview_without_its_pixels_or_name(bench: Bench) -> None:
    bench.act = lambda ctx: str(ctx.step(1, 2, _grey(7)))
    job = bench.run()
    events = bench.machine.log.after(0, limit=50, job_id=job.id)
    assert [(each.content or {}).get("preview") for each in events] == [False, False, True, False]
    assert all(set(str(each.content["artifacts"])) == {"[", "]"} for each in events if each.content)


@pytest.mark.parametrize("end", ["fails", "is cancelled", "is erased"])
def test_nothing_is_left_when_the_job(end: str, bench: Bench) -> None:
    def act(ctx: Context) -> str:
        ctx.step(1, 3, _grey(9))
        if end == "fails":
            raise BadImageError
        if end == "is cancelled":
            bench.machine.cancel(job.id)
        else:
            bench.machine.erase(job.id)
        ctx.step(2, 3, _grey(10))
        raise AssertionError("it must have stopped within the step")

    bench.act = act
    job = bench.submit()
    bench.runner.run(job.id)
    left = bench.machine.reader.get(job.id)
    assert (left is None) == (end == "is erased")
    assert left is None or (left.previews == () and left.status.final)
    assert _blobs(bench) <= {sha256_of("the photo")}


def test_a_job_stops_within_the_step_when_its_time_is_over(bench: Bench) -> None:
    bench.runner.lanes = {"cpu": Lane(1, 9, 0.05)}
    steps: list[int] = []

    def act(ctx: Context) -> str:
        for number in range(100):
            steps.append(number)
            ctx.step(number, 100, _grey(number))
            time.sleep(0.02)
        return "done"

    bench.act = act
    job = bench.run()
    assert job.error is not None
    assert str(job.error["type"]).endswith("job-timeout")
    assert len(steps) < 10
    assert job.previews == ()


LOSSES: dict[str, Callable[[Machine, Job], object]] = {
    "lost": lambda machine, _: machine.lose("worker", "died"),
    "timed out": lambda machine, _: machine.lose("worker", "timeout"),
    "stopped": lambda machine, _: machine.lose("worker", "stopped"),
    "overdue": lambda machine, job: machine.store.transact(
        lambda tx: transitions.expire(tx, job.id, now=datetime.now(UTC) + timedelta(days=9), max_attempts=5)
    ),
}


@pytest.mark.parametrize("how", LOSSES)
def test_the_preview_of_a_dead_worker_is_marked_for_the_sweep(bench: Bench, how: str) -> None:
    machine = bench.machine
    started = machine.start(bench.submit())
    data = b"a preview"
    sha256 = sha256_of(data.decode())
    file = File("preview", started.id, Role.PREVIEW, "preview.jpg", sha256, "image/jpeg", len(data), 1, 1)
    bytes_of_jobs.transact_with_bytes(
        machine.store,
        bench.blobs,
        {sha256: data},
        lambda tx, is_stored: transitions.show(tx, started, 0.5, file, is_stored=is_stored) or "",
    )
    assert machine.known(started).previews == (file,)
    LOSSES[how](machine, started)
    assert machine.known(started).previews == ()
    assert machine.reader.blobs_in(BlobState.MARKED, datetime.now(UTC) + SOON, 10) == [sha256]


def test_an_attempt_that_was_overtaken_shows_nothing(bench: Bench) -> None:
    machine = bench.machine
    old = machine.start(bench.submit())
    machine.lose("worker", "stopped")
    machine.start(old)
    file = File("preview", old.id, Role.PREVIEW, "preview.jpg", sha256_of("x"), "image/jpeg", 1, 1, 1)
    assert machine.store.transact(lambda tx: transitions.show(tx, old, 0.5, file, is_stored=lambda _: True)) is None
    assert machine.known(old).previews == ()


def test_two_jobs_with_the_same_preview_each_keep_it(bench: Bench) -> None:
    machine = bench.machine
    one, two = (machine.start(machine.submit(new_job()), worker=str(number)) for number in range(2))
    for number, job in enumerate((one, two)):
        file = File(f"p{number}", job.id, Role.PREVIEW, "preview.jpg", sha256_of("x"), "image/jpeg", 1, 1, 1)

        def show(tx: transitions.Transaction, job: Job = job, file: File = file) -> object:
            return transitions.show(tx, job, 0.5, file, is_stored=lambda _: True)

        machine.store.transact(show)
    machine.lose("0", "stopped")
    assert machine.reader.blobs_in(BlobState.MARKED, datetime.now(UTC) + SOON, 10) == []
    machine.lose("1", "stopped")
    assert machine.reader.blobs_in(BlobState.MARKED, datetime.now(UTC) + SOON, 10) == [sha256_of("x")]
