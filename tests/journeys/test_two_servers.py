"""Two web processes on one PostgreSQL database and one folder of photos."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import another
from tests.journeys.client import client as client_of
from tests.journeys.client import finished, get, problem, submit
from tests.journeys.server import Server
from tests.services.postgres import Postgres

Pair = tuple[Server, Server]


@pytest.fixture(scope="module")
def url(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture(scope="module")
def pair(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both start at the same moment, on a database without tables and a folder without an owner."""
    folder = tmp_path_factory.mktemp("shared")
    for name in ("first", "second"):
        (folder / name).mkdir()
    common = {
        "LIMNER_DATABASE_URL": url,
        "LIMNER_BLOBS_URL": str(folder / "blobs"),
        "LIMNER_WORKERS": "1",
        "LIMNER_SWEEP_S": "0.5",
    }
    first, second = (Server(folder / name, **common) for name in ("first", "second"))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda server: server.start(), (first, second)))
    yield first, second
    for server in (first, second):
        server.stop()
        server.check_log()


def test_one_migrated_and_both_serve(pair: Pair) -> None:
    migrated = [line for server in pair for line in server.log_lines() if line["message"] == "database migrated"]
    assert len(migrated) == 1
    assert migrated[0]["revisions"].startswith("no tables → ")


def test_a_job_of_one_is_seen_in_the_other_with_its_events_and_artifacts(pair: Pair, astronaut_jpeg: bytes) -> None:
    first, second = pair
    job = submit(first, astronaut_jpeg, wait=True)
    assert get(second, f"/v1/jobs/{job['id']}").json()["status"] == "succeeded"
    artifact = job["artifacts"][0]["url"].replace(first.url, second.url)
    assert get(second, artifact).content == get(first, job["artifacts"][0]["url"]).content
    with (
        client_of(second) as session,
        session.stream("GET", "/v1/events", params={"after": "0", "job": job["id"]}, timeout=10) as answer,
    ):
        types = [line for line in _until(answer.iter_lines(), "event: job.succeeded") if line.startswith("event:")]
    assert types == ["event: job.queued", "event: job.running", "event: job.succeeded"]
    assert submit(second, astronaut_jpeg, wait=True)["cached"] == "exact"


def _until(lines: Iterator[str], last: str) -> Iterator[str]:
    for line in lines:
        yield line
        if line == last:
            return


def test_the_same_photo_sent_to_both_at_once_is_worked_on_once(pair: Pair, astronaut_jpeg: bytes) -> None:
    for number in range(5):
        photo, barrier = another(astronaut_jpeg, number), threading.Barrier(2)

        def send(server: Server, photo: bytes = photo, barrier: threading.Barrier = barrier) -> str:
            barrier.wait(10)
            return str(submit(server, photo)["id"])

        with ThreadPoolExecutor(2) as pool:
            ids = list(pool.map(send, pair))
        jobs = [finished(server, job_id) for server, job_id in zip(pair, ids, strict=True)]
        assert [job["status"] for job in jobs] == ["succeeded"] * 2
        assert sorted(str(job["cached"]) for job in jobs) == ["None", "exact"]


def test_a_start_leaves_the_jobs_of_the_other_alone(
    pair: Pair, url: str, postgres: Postgres, astronaut_jpeg: bytes
) -> None:
    first, second = pair
    second.stop()
    running = another(astronaut_jpeg, 77)
    job_id = submit(first, running)["id"]
    finished(first, job_id)
    later = "(extract(epoch from now()) + 60)::bigint * 1000000"
    where = f"WHERE id = '{job_id}'"
    postgres.execute(url, f"UPDATE jobs SET status = 'running', worker = 'another', lease_until = {later} {where}")  # noqa: S608
    second.start()
    assert get(second, f"/v1/jobs/{job_id}").json()["status"] == "running"
    postgres.execute(url, f"UPDATE jobs SET lease_until = 1 {where}")  # noqa: S608
    assert finished(second, job_id)["status"] == "succeeded"
    assert postgres.execute(url, f"SELECT attempt FROM jobs {where}") == [(2,)]  # noqa: S608


@pytest.mark.parametrize("other", ["sqlite", "postgresql"])
def test_another_database_may_not_have_the_folder(pair: Pair, postgres: Postgres, tmp_path: Path, other: str) -> None:
    strange = f"sqlite:///{tmp_path}/limner.db" if other == "sqlite" else postgres.new_database()
    server = Server(tmp_path, LIMNER_DATABASE_URL=strange, LIMNER_BLOBS_URL=pair[0].variables["LIMNER_BLOBS_URL"])
    with pytest.raises(AssertionError, match="LIMNER_BLOBS_URL"):
        server.start()
    assert ("another service" if other == "sqlite" else "another database") in server.log.read_text()


@pytest.mark.parametrize("text", ["%00", "a%00b", "%ff%fe", "%F0%9F%98%80", "'--", "x" * 5000, "%ed%a0%80"])
def test_strange_text_finds_nothing(pair: Pair, text: str) -> None:
    for path in (f"/v1/jobs/{text}", f"/v1/files/{text}", f"/v1/jobs/x/artifacts/{text}"):
        problem(get(pair[0], path), 404, "not-found")
    for query in (f"/v1/jobs?before={text}", f"/v1/jobs?operation={text}"):
        assert get(pair[0], query).status_code in (200, 422)
