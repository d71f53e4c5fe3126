"""A web process and workers of their own over Redis, while workers, children and Redis are killed, stopped and frozen."""

import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from limner.adapters.celery_engine import TASK, broker_app
from tests.conftest import another, as_jpeg
from tests.journeys.client import finished, get, rows, submit
from tests.journeys.server import Cluster, Worker
from tests.services.process import free_port
from tests.services.redis_server import RedisServer

SOON_S = 20.0
Start = Callable[..., Cluster]


@pytest.fixture(scope="module")
def small_jpeg(astronaut: npt.NDArray[np.uint8]) -> bytes:
    """A photo that is processed quickly."""
    return as_jpeg(np.ascontiguousarray(astronaut[:256, 100:356]))


@pytest.fixture
def start(tmp_path: Path, redis_server: RedisServer) -> Iterator[Start]:
    """Starts a cluster with the operation `misbehave`. Its logs are not checked, because errors are expected."""
    started: list[Cluster] = []

    def run(redis_url: str | None = None, **variables: str) -> Cluster:
        cluster = Cluster(
            tmp_path,
            redis_url or redis_server.new_database(),
            module="tests.journeys.misbehaving.serve",
            work="tests.journeys.misbehaving.work",
            **{"LIMNER_SWEEP_S": "0.5", "LIMNER_WORKERS": "1", **variables},
        )
        started.append(cluster)
        cluster.start()
        return cluster

    yield run
    for cluster in started:
        cluster.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop. It forgets everything when it is killed."""
    server = RedisServer(tmp_path / "redis")
    server.process.start()
    yield server
    server.process.stop()


def misbehave(cluster: Cluster, photo: bytes, how: str, seconds: float = 60) -> str:
    """Submit a job that misbehaves; returns its id."""
    return str(submit(cluster, photo, path="/v1/misbehave", how=how, seconds=str(seconds))["id"])


def attempt(cluster: Cluster, job_id: str) -> int:
    return int(rows(cluster, "SELECT attempt FROM jobs WHERE id = ?", job_id)[0][0])


def status(cluster: Cluster, job_id: str) -> str:
    return str(rows(cluster, "SELECT status FROM jobs WHERE id = ?", job_id)[0][0])


def until(what: Callable[[], object], within_s: float = SOON_S) -> float:
    """Wait until it is true; returns the seconds that it took."""
    start = time.monotonic()
    while not what():
        assert time.monotonic() - start < within_s, "not in time"
        time.sleep(0.02)
    return time.monotonic() - start


def is_running(cluster: Cluster, job_id: str, number: int = 1) -> None:
    """Wait until this attempt at the job runs."""
    until(lambda: (status(cluster, job_id), attempt(cluster, job_id)) == ("running", number))


def process_of(cluster: Cluster, job_id: str) -> int:
    """The id of the process that runs the job."""
    return int(rows(cluster, "SELECT worker FROM jobs WHERE id = ?", job_id)[0][0].split("/")[2])


def story(cluster: Cluster, job_id: str) -> list[str]:
    """The types of the job's events, without its progress."""
    query = "SELECT type FROM events WHERE job_id = ? AND type <> 'job.progress' ORDER BY id"
    return [str(kind) for (kind,) in rows(cluster, query, job_id)]


# --- workers end -----------------------------------------------------------------------------------------------------


def test_a_killed_childs_job_runs_again_long_before_its_lease_ends(start: Start, small_jpeg: bytes) -> None:
    cluster = start(LIMNER_LEASE_S="120")
    job = misbehave(cluster, small_jpeg, "steps")
    is_running(cluster, job)
    child = process_of(cluster, job)
    assert cluster.worker.children() == [child]
    os.kill(child, signal.SIGKILL)
    is_running(cluster, job, 2)
    assert process_of(cluster, job) != child
    httpx.post(f"{cluster.url}/v1/jobs/{job}/cancel").raise_for_status()
    assert submit(cluster, small_jpeg, wait=True)["status"] == "succeeded"


def test_a_killed_workers_job_runs_on_another_when_its_lease_ends(start: Start, small_jpeg: bytes) -> None:
    cluster = start(LIMNER_LEASE_S="2")
    job = misbehave(cluster, small_jpeg, "steps", 4)
    is_running(cluster, job)
    children = cluster.worker.children()
    cluster.worker.kill()
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    Worker(cluster).start()
    assert finished(cluster, job)["status"] == "succeeded"
    assert attempt(cluster, job) == 2


def test_a_stop_lets_short_jobs_end_and_hands_long_ones_back(start: Start, small_jpeg: bytes) -> None:
    cluster = start(LIMNER_DRAIN_S="2", LIMNER_WORKERS="2")
    short = misbehave(cluster, small_jpeg, "steps", 1)
    long = misbehave(cluster, another(small_jpeg, 1), "steps", 60)
    deaf = misbehave(cluster, another(small_jpeg, 2), "steps", 60)  # waits: both children are busy
    is_running(cluster, short)
    is_running(cluster, long)
    began = time.monotonic()
    assert cluster.worker.stop(group=True) == 0
    assert time.monotonic() - began < 12
    assert (status(cluster, short), attempt(cluster, short)) == ("succeeded", 1)
    assert {status(cluster, long), status(cluster, deaf)} == {"queued"}
    httpx.delete(f"{cluster.url}/v1/jobs/{deaf}").raise_for_status()
    cluster.worker.start()
    is_running(cluster, long, 2)
    assert story(cluster, long) == ["job.queued", "job.running", "job.queued", "job.running"]


def test_a_stop_ends_a_child_in_native_code_too(start: Start, small_jpeg: bytes) -> None:
    cluster = start(LIMNER_DRAIN_S="0.5")
    job = misbehave(cluster, small_jpeg, "hang_without_lock")
    is_running(cluster, job)
    assert cluster.worker.stop() == 0
    assert status(cluster, job) == "queued"


def test_a_job_goes_on_while_no_web_process_runs(start: Start, small_jpeg: bytes) -> None:
    cluster = start()
    job = misbehave(cluster, small_jpeg, "steps", 3)
    is_running(cluster, job)
    assert cluster.process is not None
    cluster.process.kill()
    cluster.process.wait()
    worker, cluster.all_workers = cluster.all_workers, []
    super(Cluster, cluster).start()
    cluster.all_workers = worker
    assert finished(cluster, job)["status"] == "succeeded"
    assert story(cluster, job) == ["job.queued", "job.running", "job.succeeded"]


# --- jobs that do not end --------------------------------------------------------------------------------------------


def test_a_cancelled_job_frees_its_worker_within_two_seconds(start: Start, small_jpeg: bytes) -> None:
    cluster = start()
    job = misbehave(cluster, small_jpeg, "steps")
    is_running(cluster, job)
    child = process_of(cluster, job)
    httpx.post(f"{cluster.url}/v1/jobs/{job}/cancel").raise_for_status()
    began = time.monotonic()
    after = submit(cluster, small_jpeg, wait=True)
    assert after["status"] == "succeeded"
    assert time.monotonic() - began < 2
    assert cluster.worker.children() == [child]


def test_a_cancelled_job_that_does_not_stop_ends_with_its_child(start: Start, small_jpeg: bytes) -> None:
    cluster = start()
    job = misbehave(cluster, small_jpeg, "hang_without_lock")
    is_running(cluster, job)
    httpx.post(f"{cluster.url}/v1/jobs/{job}/cancel").raise_for_status()
    assert submit(cluster, small_jpeg, wait=True)["status"] == "succeeded"
    assert (status(cluster, job), attempt(cluster, job)) == ("cancelled", 1)


def test_a_job_past_its_timeout_ends(start: Start, small_jpeg: bytes) -> None:
    cluster = start(LIMNER_JOB_TIMEOUT_S="1", LIMNER_WORKERS="2")
    hanging = misbehave(cluster, small_jpeg, "hang_without_lock")
    slow = misbehave(cluster, another(small_jpeg, 1), "steps")
    for job in (hanging, slow):
        assert finished(cluster, job)["error"]["type"] == "urn:limner:problem:job-timeout"
        assert attempt(cluster, job) == 1
    assert submit(cluster, small_jpeg, wait=True)["status"] == "succeeded"


def test_a_job_that_lets_no_thread_run_is_ended_by_the_kernel_with_its_lease(start: Start, small_jpeg: bytes) -> None:
    cluster = start(LIMNER_LEASE_S="2", LIMNER_MAX_ATTEMPTS="2")
    job = misbehave(cluster, small_jpeg, "hang_with_lock")
    assert finished(cluster, job)["error"]["type"] == "urn:limner:problem:job-crashed"
    assert attempt(cluster, job) == 2
    assert submit(cluster, small_jpeg, wait=True)["status"] == "succeeded"


@pytest.mark.parametrize("how", ["abort", "exit"])
def test_a_crash_ends_one_job_after_its_attempts(start: Start, small_jpeg: bytes, how: str) -> None:
    cluster = start(LIMNER_MAX_ATTEMPTS="2", LIMNER_LEASE_S="120")
    job = misbehave(cluster, small_jpeg, how)
    assert finished(cluster, job)["error"]["type"] == "urn:limner:problem:job-crashed"
    assert submit(cluster, small_jpeg, wait=True)["status"] == "succeeded"


def test_a_job_out_of_memory_affects_no_other(start: Start, small_jpeg: bytes) -> None:
    cluster = start(LIMNER_WORKER_MEMORY_BYTES="3000000000")
    job = misbehave(cluster, small_jpeg, "hoard")
    assert finished(cluster, job)["error"]["type"] == "urn:limner:problem:job-out-of-memory"
    assert submit(cluster, small_jpeg, wait=True)["status"] == "succeeded"


# --- Redis -----------------------------------------------------------------------------------------------------------


def test_a_message_that_comes_twice_runs_its_job_once(start: Start, small_jpeg: bytes) -> None:
    cluster = start(LIMNER_WORKERS="2")
    app = broker_app(cluster.variables["LIMNER_ENGINE_URL"])
    job = misbehave(cluster, small_jpeg, "steps", 1)
    for _ in range(5):
        app.send_task(TASK, (job,), queue="cpu")
    app.close()
    assert finished(cluster, job)["status"] == "succeeded"
    assert submit(cluster, small_jpeg, wait=True)["status"] == "succeeded"  # behind the others
    assert story(cluster, job) == ["job.queued", "job.running", "job.succeeded"]


def test_redis_killed_and_emptied_loses_no_job(start: Start, own_redis: RedisServer, small_jpeg: bytes) -> None:
    os.environ["LOST_AFTER_S"] = "2"
    try:
        cluster = start(own_redis.url)
    finally:
        del os.environ["LOST_AFTER_S"]
    jobs = [misbehave(cluster, another(small_jpeg, number), "steps", 0.1) for number in range(20)]
    own_redis.process.kill()
    jobs += [misbehave(cluster, another(small_jpeg, number), "steps", 0.1) for number in range(20, 30)]
    time.sleep(1)
    own_redis.process.start()
    for job in jobs:
        assert finished(cluster, job)["status"] == "succeeded"
        assert story(cluster, job) == ["job.queued", "job.running", "job.succeeded"]
    assert own_redis.queued("cpu") <= 30, "the sweep does not flood"


def test_a_frozen_redis_delays_no_answer(start: Start, own_redis: RedisServer, small_jpeg: bytes) -> None:
    cluster = start(own_redis.url)
    own_redis.process.freeze()
    try:
        slowest = 0.0
        for number in range(10):
            began = time.monotonic()
            job = submit(cluster, another(small_jpeg, number))
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1
    finally:
        own_redis.process.thaw()
    assert finished(cluster, job["id"])["status"] == "succeeded"


# --- how a worker is started and watched -----------------------------------------------------------------------------


def test_celerys_own_command_starts_the_same_worker(start: Start, small_jpeg: bytes) -> None:
    cluster = start(LIMNER_DRAIN_S="0.5")
    assert cluster.worker.stop() == 0
    command = [sys.executable, "-m", "celery", "-A", "tests.journeys.misbehaving.celery_app", "worker"]
    worker = Worker(cluster, command=command)
    worker.start()
    assert submit(cluster, small_jpeg, wait=True)["status"] == "succeeded"
    job = misbehave(cluster, small_jpeg, "steps")
    is_running(cluster, job)
    assert worker.stop() == 0
    assert status(cluster, job) == "queued"


def test_a_worker_serves_its_lanes_only(start: Start, small_jpeg: bytes) -> None:
    cluster = start()
    assert cluster.worker.stop() == 0
    Worker(cluster, "--lanes", "remote").start()
    job = submit(cluster, small_jpeg)["id"]
    time.sleep(1)
    assert status(cluster, job) == "queued"
    Worker(cluster, "--lanes", "remote,cpu", "--concurrency", "2").start()
    assert finished(cluster, job)["status"] == "succeeded"
    assert len(cluster.all_workers[-1].children()) == 2


def test_a_worker_serves_the_metrics_of_its_children(start: Start, small_jpeg: bytes) -> None:
    port = free_port()
    cluster = start(LIMNER_WORKER_METRICS_PORT=str(port), LIMNER_WORKERS="2")
    for number in range(4):
        submit(cluster, another(small_jpeg, number), wait=True)

    def scraped() -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode()).splitlines()

    def counts(jobs: int, workers: int) -> bool:
        lines = scraped()
        finished_total = f'limner_jobs_finished_total{{operation="detect",status="succeeded"}} {jobs}.0'
        return finished_total in lines and f"limner_workers {workers}.0" in lines

    until(lambda: counts(4, 2))
    os.kill(cluster.worker.children()[0], signal.SIGKILL)
    assert submit(cluster, another(small_jpeg, 9), wait=True)["status"] == "succeeded"
    until(lambda: counts(5, 2))
    assert get(cluster, "/readyz").status_code == 200
