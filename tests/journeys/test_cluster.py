"""A web process and workers of their own over Redis, while each of them and Redis is killed, stopped or frozen."""

import os
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from limner.adapters.celery_engine import TASK, broker_app
from tests.conftest import another
from tests.journeys.client import FINAL, Json, finished, get, last_event_id, rows, submit
from tests.journeys.server import Cluster, Worker, address_space
from tests.services.postgres import Postgres
from tests.services.process import free_port
from tests.services.redis_server import RedisServer

SOON_S = 20.0


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that the tests of one cluster may stop. It forgets everything when it is killed."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.process.start()
    yield server
    server.process.stop()


def make(folder: Path, redis_url: str, database_url: str, **variables: str) -> Iterator[Cluster]:
    """A cluster that knows `misbehave`. Its logs are not checked, because errors are expected."""
    cluster = Cluster(
        folder,
        redis_url,
        LIMNER_DATABASE_URL=database_url,
        module="tests.journeys.misbehaving.serve",
        work="tests.journeys.misbehaving.work",
        **{"LIMNER_SWEEP_S": "0.5", "LIMNER_MAX_ATTEMPTS": "2", "LIMNER_DRAIN_S": "2", **variables},
    )
    cluster.start()
    yield cluster
    cluster.kill()


@pytest.fixture(scope="module")
def patient_cluster(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, postgres: Postgres
) -> Iterator[Cluster]:
    """No lease ends during a test."""
    port = str(free_port())
    yield from make(
        tmp_path_factory.mktemp("patient"),
        redis_server.new_database(),
        postgres.new_service_database(),
        LIMNER_LEASE_S="120",
        LIMNER_WORKER_METRICS_PORT=port,
        LIMNER_WORKER_MEMORY_BYTES="3000000000",
    )


@pytest.fixture(scope="module")
def hasty_cluster(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[Cluster]:
    """Leases and time-outs end soon. Its database is SQLite, which works too on one machine."""
    folder = tmp_path_factory.mktemp("hasty")
    yield from make(
        folder,
        redis_server.new_database(),
        f"sqlite:///{folder}/limner.db",
        LIMNER_LEASE_S="2",
        LIMNER_JOB_TIMEOUT_S="4",
    )


@pytest.fixture(scope="module")
def forgetful_cluster(
    tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer, postgres: Postgres
) -> Iterator[Cluster]:
    """Its Redis belongs to it. What may be lost is sent again after 2 s."""
    folder = tmp_path_factory.mktemp("forgetful")
    yield from make(folder, own_redis.url, postgres.new_service_database(), LOST_AFTER_S="2")


@pytest.fixture
def patient(patient_cluster: Cluster) -> Iterator[Cluster]:
    yield patient_cluster
    tidy(patient_cluster)


@pytest.fixture
def hasty(hasty_cluster: Cluster) -> Iterator[Cluster]:
    yield hasty_cluster
    tidy(hasty_cluster)


def tidy(cluster: Cluster) -> None:
    """Remove all jobs, end further workers, and have the first one run."""
    for each in get(cluster, "/v1/jobs?limit=200").json()["jobs"]:
        httpx.delete(each["url"])
    for worker in cluster.all_workers[1:]:
        worker.kill()
    del cluster.all_workers[1:]
    if cluster.worker.process is None:
        cluster.worker.start()


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
    last_event_id(cluster)  # gives the newest ones their ids
    query = "SELECT type FROM events WHERE job_id = ? AND type <> 'job.progress' ORDER BY id"
    return [str(kind) for (kind,) in rows(cluster, query, job_id)]


# --- workers end -----------------------------------------------------------------------------------------------------


def test_a_killed_childs_job_runs_again_long_before_its_lease_ends(patient: Cluster, small_jpeg: bytes) -> None:
    job = misbehave(patient, small_jpeg, "steps")
    is_running(patient, job)
    child = process_of(patient, job)
    assert child in patient.worker.children()
    os.kill(child, signal.SIGKILL)
    is_running(patient, job, 2)
    assert process_of(patient, job) != child
    httpx.post(f"{patient.url}/v1/jobs/{job}/cancel").raise_for_status()
    assert submit(patient, small_jpeg, wait=True)["status"] == "succeeded"


def test_a_killed_workers_job_runs_on_another_when_its_lease_ends(hasty: Cluster, small_jpeg: bytes) -> None:
    job = misbehave(hasty, small_jpeg, "steps", 2)
    is_running(hasty, job)
    children = hasty.worker.children()
    hasty.worker.kill()
    until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    Worker(hasty).start()
    assert finished(hasty, job)["status"] == "succeeded"
    assert attempt(hasty, job) == 2


def test_a_stop_lets_short_jobs_end_and_hands_long_ones_back(patient: Cluster, small_jpeg: bytes) -> None:
    short = misbehave(patient, small_jpeg, "steps", 1)
    long = misbehave(patient, another(small_jpeg, 1), "steps", 60)
    third = misbehave(patient, another(small_jpeg, 2), "steps", 60)  # waits: both children are busy
    is_running(patient, short)
    is_running(patient, long)
    began = time.monotonic()
    assert patient.worker.stop(group=True) == 0
    assert time.monotonic() - began < 12
    assert (status(patient, short), attempt(patient, short)) == ("succeeded", 1)
    assert {status(patient, long), status(patient, third)} == {"queued"}
    httpx.delete(f"{patient.url}/v1/jobs/{third}").raise_for_status()
    patient.worker.start()
    is_running(patient, long, 2)
    assert story(patient, long) == ["job.queued", "job.running", "job.queued", "job.running"]


def test_a_stop_ends_a_child_in_native_code_too(patient: Cluster, small_jpeg: bytes) -> None:
    job = misbehave(patient, small_jpeg, "hang_without_lock")
    is_running(patient, job)
    assert patient.worker.stop() == 0
    assert status(patient, job) == "queued"


def test_a_job_goes_on_while_no_web_process_runs(patient: Cluster, small_jpeg: bytes) -> None:
    job = misbehave(patient, small_jpeg, "steps", 3)
    is_running(patient, job)
    patient.kill_web()
    patient.start_web()
    assert finished(patient, job)["status"] == "succeeded"
    assert story(patient, job) == ["job.queued", "job.running", "job.succeeded"]


# --- jobs that do not end --------------------------------------------------------------------------------------------


def test_a_cancelled_job_frees_its_worker_long_before_its_end(patient: Cluster, small_jpeg: bytes) -> None:
    jobs = [misbehave(patient, another(small_jpeg, number), "steps") for number in range(2)]
    for job in jobs:
        is_running(patient, job)
    children = patient.worker.children()
    httpx.post(f"{patient.url}/v1/jobs/{jobs[0]}/cancel").raise_for_status()
    began = time.monotonic()
    assert submit(patient, small_jpeg, wait=True)["status"] == "succeeded"
    assert time.monotonic() - began < SOON_S
    assert status(patient, jobs[1]) == "running"
    assert patient.worker.children() == children


def test_a_cancelled_job_that_does_not_stop_ends_with_its_child(patient: Cluster, small_jpeg: bytes) -> None:
    job = misbehave(patient, small_jpeg, "hang_without_lock")
    is_running(patient, job)
    child = process_of(patient, job)
    httpx.post(f"{patient.url}/v1/jobs/{job}/cancel").raise_for_status()
    until(lambda: child not in patient.worker.children())
    assert submit(patient, small_jpeg, wait=True)["status"] == "succeeded"
    assert (status(patient, job), attempt(patient, job)) == ("cancelled", 1)


def test_a_job_past_its_timeout_ends(hasty: Cluster, small_jpeg: bytes) -> None:
    hanging = misbehave(hasty, small_jpeg, "hang_without_lock")
    slow = misbehave(hasty, another(small_jpeg, 1), "steps")
    for job in (hanging, slow):
        assert finished(hasty, job)["error"]["type"] == "urn:limner:problem:job-timeout"
        assert attempt(hasty, job) == 1
    assert submit(hasty, small_jpeg, wait=True)["status"] == "succeeded"


def test_a_job_that_lets_no_thread_run_is_ended_by_the_kernel_with_its_lease(hasty: Cluster, small_jpeg: bytes) -> None:
    job = misbehave(hasty, small_jpeg, "hang_with_lock")
    assert finished(hasty, job)["error"]["type"] == "urn:limner:problem:job-crashed"
    assert attempt(hasty, job) == 2
    assert submit(hasty, small_jpeg, wait=True)["status"] == "succeeded"


@pytest.mark.parametrize("how", ["abort", pytest.param("exit", marks=pytest.mark.slow)])
def test_a_crash_ends_one_job_after_its_attempts(patient: Cluster, small_jpeg: bytes, how: str) -> None:
    job = misbehave(patient, small_jpeg, how)
    assert finished(patient, job)["error"]["type"] == "urn:limner:problem:job-crashed"
    assert submit(patient, small_jpeg, wait=True)["status"] == "succeeded"


@pytest.mark.slow  # as in test_workers.py
def test_a_job_out_of_memory_affects_no_other(patient: Cluster, small_jpeg: bytes) -> None:
    job = misbehave(patient, small_jpeg, "hoard")
    assert finished(patient, job)["error"]["type"] == "urn:limner:problem:job-out-of-memory"
    assert submit(patient, small_jpeg, wait=True)["status"] == "succeeded"


# --- Redis -----------------------------------------------------------------------------------------------------------


def test_a_message_that_comes_twice_runs_its_job_once(patient: Cluster, small_jpeg: bytes) -> None:
    app = broker_app(patient.variables["LIMNER_ENGINE_URL"])
    job = misbehave(patient, small_jpeg, "steps", 1)
    for _ in range(5):
        app.send_task(TASK, (job,), queue="cpu")
    app.close()
    assert finished(patient, job)["status"] == "succeeded"
    assert submit(patient, small_jpeg, wait=True)["status"] == "succeeded"  # behind the others
    assert story(patient, job) == ["job.queued", "job.running", "job.succeeded"]


def _looked_after(cluster: Cluster, job_id: str) -> Json:
    """The job, once it has ended. Celery 5.7 may end by itself when Redis goes away, so something must restart it."""
    deadline = time.monotonic() + 60
    while (job := get(cluster, f"/v1/jobs/{job_id}").json())["status"] not in FINAL:
        assert time.monotonic() < deadline, f"{job_id} did not end"
        for worker in cluster.all_workers:
            worker.look_after()
        time.sleep(0.05)
    return job


def test_redis_killed_and_emptied_loses_no_job(
    forgetful_cluster: Cluster, own_redis: RedisServer, small_jpeg: bytes
) -> None:
    jobs = [misbehave(forgetful_cluster, another(small_jpeg, number), "steps", 0.1) for number in range(20)]
    own_redis.process.kill()
    jobs += [misbehave(forgetful_cluster, another(small_jpeg, number), "steps", 0.1) for number in range(20, 30)]
    time.sleep(1)
    own_redis.process.start()
    for job in jobs:
        assert _looked_after(forgetful_cluster, job)["status"] == "succeeded"
        assert story(forgetful_cluster, job) == ["job.queued", "job.running", "job.succeeded"]
    assert own_redis.queued("cpu") <= 30, "the sweep does not flood"


def test_a_frozen_redis_delays_no_answer(forgetful_cluster: Cluster, own_redis: RedisServer, small_jpeg: bytes) -> None:
    own_redis.process.freeze()
    try:
        slowest, jobs = 0.0, []
        for number in range(10):
            began = time.monotonic()
            jobs.append(submit(forgetful_cluster, another(small_jpeg, number))["id"])
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1
        began = time.monotonic()
        assert forgetful_cluster.stop_web() == 0
        assert time.monotonic() - began < 15
        forgetful_cluster.start_web()
        jobs.append(submit(forgetful_cluster, another(small_jpeg, 10))["id"])
    finally:
        own_redis.process.thaw()
    for job in jobs:
        assert _looked_after(forgetful_cluster, job)["status"] == "succeeded"


# --- how a worker is started and watched -----------------------------------------------------------------------------


def test_celerys_own_command_starts_the_same_worker(patient: Cluster, small_jpeg: bytes) -> None:
    assert patient.worker.stop() == 0
    command = [sys.executable, "-m", "celery", "-A", "tests.journeys.misbehaving.celery_app", "worker"]
    worker = Worker(patient, command=command)
    worker.start()
    assert '"lanes": "cpu,paint,remote"' in worker.log.read_text()
    assert submit(patient, small_jpeg, wait=True)["status"] == "succeeded"
    job = misbehave(patient, small_jpeg, "steps")
    is_running(patient, job)
    assert worker.stop() == 0
    assert status(patient, job) == "queued"


@pytest.mark.parametrize("off_s", ["-300", "300"])
def test_a_worker_whose_clock_is_wrong_keeps_its_jobs(patient: Cluster, small_jpeg: bytes, off_s: str) -> None:
    """Its leases would be over as soon as they begin, or last for ever: the database's clock counts."""
    patient.worker.stop()
    variables = dict(patient.variables)
    patient.variables["CLOCK_OFF_S"] = off_s
    try:
        Worker(patient).start()
    finally:
        patient.variables = variables
    job_id = misbehave(patient, small_jpeg, "steps", 3)
    assert finished(patient, job_id)["status"] == "succeeded"
    assert attempt(patient, job_id) == 1
    query = "SELECT created_at, started_at, finished_at FROM jobs WHERE id = ?"
    created, started, ended = rows(patient, query, job_id)[0]
    assert created <= started <= ended <= created + 60e6


def test_a_worker_serves_its_lanes_only(patient: Cluster, small_jpeg: bytes) -> None:
    assert patient.worker.stop() == 0
    Worker(patient, "--lanes", "remote").start()
    job = submit(patient, small_jpeg)["id"]
    time.sleep(1)
    assert status(patient, job) == "queued"
    Worker(patient, "--lanes", "remote,cpu", "--concurrency", "2").start()
    assert finished(patient, job)["status"] == "succeeded"
    assert len(patient.all_workers[-1].children()) == 2


def test_a_worker_serves_the_metrics_of_its_children(patient: Cluster, small_jpeg: bytes) -> None:
    patient.worker.stop()
    patient.worker.start()

    def scraped() -> tuple[int, int]:
        port = patient.variables["LIMNER_WORKER_METRICS_PORT"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        done = re.search(
            r'^limner_jobs_finished_total{operation="detect",status="succeeded"} (\d+)', text, re.MULTILINE
        )
        workers = re.search(r"^limner_workers (\d+)", text, re.MULTILINE)
        return int(done[1]) if done else 0, int(workers[1]) if workers else 0

    for number in range(4):
        submit(patient, another(small_jpeg, number), wait=True)
    until(lambda: scraped() == (4, 2))
    os.kill(patient.worker.children()[0], signal.SIGKILL)
    assert submit(patient, another(small_jpeg, 9), wait=True)["status"] == "succeeded"
    until(lambda: scraped() == (5, 2))
    assert get(patient, "/readyz").status_code == 200


def test_metrics_of_a_killed_worker_are_removed_at_the_next_start(tmp_path: Path, redis_server: RedisServer) -> None:
    files = tmp_path / "temporary"
    files.mkdir()
    variables = {"LIMNER_WORKER_METRICS_PORT": str(free_port()), "TMPDIR": str(files), "LIMNER_WORKERS": "1"}
    cluster = Cluster(tmp_path, redis_server.new_database(), **variables)
    try:
        cluster.worker.start()
        (first,) = files.glob("limner-*")
        cluster.worker.kill()
        assert first.exists()
        until(lambda: _starts_anew(cluster.worker, files, first))
        cluster.worker.stop()
    finally:
        cluster.worker.kill()
    assert not list(files.glob("limner-*"))


def _starts_anew(worker: Worker, files: Path, before: Path) -> bool:
    """Whether a start removed the earlier folder; not while a child of the killed worker has it open."""
    if worker.process is not None:
        worker.stop()
    worker.start()
    return not before.exists() and len(list(files.glob("limner-*"))) == 1


def test_a_worker_may_start_before_there_is_a_database(
    tmp_path: Path, redis_server: RedisServer, small_jpeg: bytes
) -> None:
    cluster = Cluster(tmp_path, redis_server.new_database(), LIMNER_WORKERS="1")
    try:
        cluster.worker.start()
        cluster.start_web()
        assert submit(cluster, small_jpeg, wait=True)["status"] == "succeeded"
    finally:
        cluster.kill()
    cluster.check_log()


CELERY = [sys.executable, "-m", "celery", "-A", "limner.celery_app", "worker"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--pool", "threads"], "--pool must be prefork"),
        (["--pool", "solo"], "--pool must be prefork"),
        (["--queues", "gpu", "--concurrency", "2"], "one job at a time"),
        (["--queues", "gpu", "--autoscale", "4,1"], "one job at a time"),
        (["--queues", "cpu,gpu"], "serves no other one"),
    ],
)
def test_celerys_own_command_is_refused_what_would_not_be_guarded(
    tmp_path: Path, redis_server: RedisServer, arguments: list[str], reason: str
) -> None:
    cluster = Cluster(tmp_path, redis_server.new_database())
    with pytest.raises(AssertionError, match=re.escape(reason)) as refused:
        Worker(cluster, *arguments, command=CELERY).start()
    assert "Traceback" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "served", "children", "memory"),
    [([], "cpu,paint,remote", 2, "4000000000"), (["-Q", "gpu", "-c", "1"], "gpu", 1, "unlimited")],
)
def test_celerys_own_command_serves_the_same_lanes(
    tmp_path: Path, redis_server: RedisServer, arguments: list[str], served: str, children: int, memory: str
) -> None:
    cluster = Cluster(tmp_path, redis_server.new_database(), LIMNER_WORKERS="2")
    worker = Worker(cluster, *arguments, command=CELERY)
    try:
        worker.start()
        assert f'"lanes": "{served}"' in worker.log.read_text()
        assert [address_space(pid) for pid in worker.children()] == [memory] * children
    finally:
        worker.kill()


@pytest.mark.parametrize(
    ("variables", "arguments", "reason"),
    [
        ({"LIMNER_ENGINE_URL": "processes:"}, [], "LIMNER_ENGINE_URL is 'processes:'"),
        ({}, ["--lanes", "cpu,fast"], "no such lane: fast"),
        ({"LIMNER_MODELS_DIR": "/nowhere"}, [], "limner models fetch"),
    ],
)
def test_a_worker_that_cannot_work_says_why(
    tmp_path: Path, variables: dict[str, str], arguments: list[str], reason: str
) -> None:
    cluster = Cluster(tmp_path, "redis://127.0.0.1:1/0", **variables)
    with pytest.raises(AssertionError, match=re.escape(reason)) as refused:
        Worker(cluster, *arguments).start()
    assert "Traceback" not in str(refused.value)
