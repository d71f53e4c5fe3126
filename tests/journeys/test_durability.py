"""Kills, stops and restarts lose no job; two servers on one database are refused; unused files are removed."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from limner import settings
from limner.assembly.application import build
from limner.domain.errors import SettingsError
from tests.conftest import another, as_jpeg
from tests.journeys.client import all_events, blobs, client, get, listening, problem, received, rows, submit
from tests.journeys.conftest import BOTH, StartServer
from tests.journeys.server import Server

PHOTOS = 200
KILLS = 3


@pytest.fixture(scope="module")
def heavy_jpeg(astronaut: npt.NDArray[np.uint8]) -> bytes:
    """A photo that takes a worker about a second."""
    return as_jpeg(np.tile(astronaut, (7, 7, 1)), 80)


def unfinished(server: Server) -> int:
    return int(rows(server, "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')")[0][0])


def test_two_hundred_queued_photos_survive_kills_and_finish_once_each(
    start_server: StartServer, small_jpeg: bytes, heavy_jpeg: bytes
) -> None:
    server = start_server(LIMNER_DURABILITY="full", LIMNER_WORKERS="1")
    heavy = httpx.post(f"{server.url}/v1/detect", files={"image": heavy_jpeg})  # so that the others queue up
    with client(server) as session:
        photos = (another(small_jpeg, number) for number in range(PHOTOS - 1))
        answers = [heavy, *(session.post("/v1/detect", files={"image": photo}) for photo in photos)]
    assert {answer.status_code for answer in answers} == {202}
    accepted = {answer.json()["id"] for answer in answers}
    last_seen: list[tuple[int, str, str]] = []
    for kill in range(KILLS):
        server.kill()
        log = rows(server, "SELECT id, type, job_id FROM events ORDER BY id")
        assert log[: len(last_seen)] == last_seen  # earlier events are sent again with the same ids
        last_seen = log
        assert unfinished(server) > 0, "nothing was left to survive for"
        server.start()
        time.sleep(0.1 * kill)
    while unfinished(server):
        time.sleep(0.1)
    events = all_events(server)
    ids = [event["id"] for event in events]
    assert ids == sorted(set(ids))
    assert [(event["id"], event["type"], event["job"]["id"]) for event in events][: len(last_seen)] == last_seen
    ended = Counter(event["job"]["id"] for event in events if event["type"] == "job.succeeded")
    assert ended == dict.fromkeys(accepted, 1)
    assert not [event for event in events if event["type"] in ("job.failed", "job.cancelled")]
    with client(server) as session:
        for job_id in accepted:
            job = session.get(f"/v1/jobs/{job_id}").json()
            assert job["status"] == "succeeded"
            for artifact in job["artifacts"]:
                assert session.head(artifact["url"]).status_code == 200
    assert server.stop() == 0


def test_a_kill_during_uploads_loses_nothing_that_was_accepted(start_server: StartServer, small_jpeg: bytes) -> None:
    server = start_server()
    accepted: list[str] = []

    def send(first: int) -> None:
        with contextlib.suppress(httpx.TransportError), client(server) as session:
            for number in range(first, first + 1000):
                answer = session.post("/v1/detect", files={"image": another(small_jpeg, number)})
                if answer.status_code == 202:
                    accepted.append(answer.json()["id"])

    senders = [threading.Thread(target=send, args=(1000 * each,)) for each in range(3)]
    for sender in senders:
        sender.start()
    while len(accepted) < 30:
        time.sleep(0.01)
    server.kill()
    for sender in senders:
        sender.join()
    server.start()
    while unfinished(server):
        time.sleep(0.05)
    assert dict(rows(server, "SELECT id, status FROM jobs WHERE status != 'succeeded'")) == {}
    assert set(accepted) <= {job_id for (job_id,) in rows(server, "SELECT id FROM jobs")}
    once = rows(server, "SELECT count(*), count(DISTINCT job_id) FROM events WHERE type = 'job.succeeded'")
    assert once[0][0] == once[0][1]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stop_ends_what_runs_and_hands_back_what_waits(
    start_server: StartServer, heavy_jpeg: bytes, number: signal.Signals
) -> None:
    server = start_server(LIMNER_WORKERS="1")
    with listening(server) as socket_:
        jobs = [submit(server, another(heavy_jpeg, each)) for each in range(3)]
        while received(socket_)["type"] != "job.running":
            pass
        assert server.process is not None
        server.process.send_signal(number)
        if number is signal.SIGTERM:
            server.process.send_signal(number)  # a second signal changes nothing
        assert server.process.wait(60) == 0
        server.process = None
    statuses = [row[0] for row in rows(server, "SELECT status FROM jobs ORDER BY id")]
    assert set(statuses) == {"succeeded", "queued"}
    assert statuses == sorted(statuses, reverse=True)  # the oldest first
    server.start()
    while unfinished(server):
        time.sleep(0.05)
    assert rows(server, "SELECT DISTINCT status FROM jobs") == [("succeeded",)]
    ended = Counter(event["job"]["id"] for event in all_events(server) if event["type"] == "job.succeeded")
    assert ended == {job["id"]: 1 for job in jobs}


def test_a_stop_that_cannot_wait_hands_the_running_job_back(start_server: StartServer, heavy_jpeg: bytes) -> None:
    server = start_server(LIMNER_WORKERS="1", LIMNER_DRAIN_S="0")
    with listening(server) as socket_:
        submit(server, heavy_jpeg, mark="blur", format="png")
        while received(socket_)["type"] != "job.running":
            pass
        assert server.stop() == 0
    assert rows(server, "SELECT status, attempt FROM jobs") == [("queued", 1)]
    server.start()
    while unfinished(server):
        time.sleep(0.05)
    assert rows(server, "SELECT status, attempt FROM jobs") == [("succeeded", 2)]


def test_while_stopping_new_work_is_refused_and_waiting_answers_are_given(
    start_server: StartServer, heavy_jpeg: bytes
) -> None:
    server = start_server(LIMNER_WORKERS="1")
    boundary = b"--b\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n"
    body = boundary + heavy_jpeg + b"\r\n--b--\r\n"
    head = (
        "POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    waiting: list[httpx.Response] = []

    def wait() -> None:
        waiting.append(
            httpx.post(
                f"{server.url}/v1/detect", files={"image": heavy_jpeg}, headers={"Prefer": "wait=60"}, timeout=90
            )
        )

    for number in range(3):
        submit(server, another(heavy_jpeg, number))
    waiter = threading.Thread(target=wait)
    waiter.start()
    while rows(server, "SELECT count(*) FROM jobs") != [(4,)]:
        time.sleep(0.01)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as upload:
        upload.sendall(head.encode() + body[:1000])
        time.sleep(0.2)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        while b"stopping" not in server.log.read_bytes():
            time.sleep(0.01)
        upload.sendall(body[1000:])
        answer = b""
        while chunk := upload.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"application/problem+json" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:limner:problem:unavailable"
    waiter.join()
    assert waiting[0].status_code in (200, 202)  # the unfinished job, without waiting for its end
    assert server.process.wait(60) == 0
    server.process = None


@pytest.mark.parametrize("server", BOTH, indirect=True)
def test_a_restart_goes_on_where_it_was(server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(server, astronaut_jpeg, wait=True)
    events = all_events(server)
    server.restart()
    assert get(server, f"/v1/jobs/{job['id']}").json() == job
    assert get(server, job["artifacts"][0]["url"]).status_code == 200
    assert all_events(server) == events
    again = submit(server, astronaut_jpeg, wait=True)
    assert again["cached"] == "exact"
    assert all_events(server)[len(events)]["id"] == events[-1]["id"] + 1


def test_a_second_server_on_the_same_database_is_refused_with_the_reason(server: Server, tmp_path: Path) -> None:
    second = Server(tmp_path)
    with pytest.raises(AssertionError, match=r"another process is serving limner\.db already"):
        second.start()
    assert second.process is not None
    assert second.process.wait(10) != 0
    assert "Traceback" not in second.log.read_text()
    assert get(server, "/readyz").status_code == 200
    server.kill()
    second.start()  # the lock was released when its process ended
    second.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_without_a_database_nothing_is_left_behind(
    tmp_path: Path, astronaut_jpeg: bytes, request: pytest.FixtureRequest, number: signal.Signals
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    server = Server(tmp_path, LIMNER_DATABASE_URL="memory:", TMPDIR=str(temporary))
    del server.variables["LIMNER_BLOBS_URL"]
    server.start()
    request.addfinalizer(server.kill)
    job = submit(server, astronaut_jpeg, wait=True)
    assert get(server, job["artifacts"][0]["url"]).status_code == 200
    assert submit(server, astronaut_jpeg, wait=True)["cached"] == "exact"
    assert [path.is_dir() for path in temporary.glob("limner-*")] == [True]
    assert server.stop(number=number) == 0
    assert list(temporary.glob("limner-*")) == []
    assert {path.name for path in tmp_path.iterdir()} == {"tmp", "server.log"}


def test_a_stop_during_the_start_leaves_nothing_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    server = Server(tmp_path, LIMNER_DATABASE_URL="memory:", TMPDIR=str(temporary))
    del server.variables["LIMNER_BLOBS_URL"]
    for number in (signal.SIGTERM, signal.SIGHUP):
        for pause_s in (0.0, 0.1, 0.3):
            server.launch()
            while not list(temporary.glob("limner-*")):
                time.sleep(0.002)
            time.sleep(pause_s)
            assert server.stop(number=number) == 0
            assert list(temporary.glob("limner-*")) == []


def test_a_closed_terminal_is_a_stop_like_any_other(
    start_server: StartServer, small_jpeg: bytes, tmp_path: Path
) -> None:
    server = start_server(LIMNER_WORKERS="1")
    jobs = [submit(server, another(small_jpeg, number))["id"] for number in range(20)]
    assert server.stop(number=signal.SIGHUP) == 0
    assert rows(server, "SELECT count(*) FROM jobs WHERE status = 'running'") == [(0,)]
    assert rows(server, "SELECT count(*) FROM jobs") == [(len(jobs),)]


def test_without_a_database_a_client_that_remembers_an_older_one_still_hears(
    start_server: StartServer, astronaut_jpeg: bytes
) -> None:
    server = start_server(LIMNER_DATABASE_URL="memory:")
    with listening(server, "/v1/events?after=4000") as socket_:
        job = submit(server, astronaut_jpeg)
        assert received(socket_)["job"]["id"] == job["id"]
    server.stop()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"LIMNER_LEASE_S": "soon"}, "LIMNER_LEASE_S"),
        ({"LIMNER_WORKERS": "0"}, "LIMNER_WORKERS"),
        ({"LIMNER_MAX_UPLOAD_BYTES": "20MB"}, "LIMNER_MAX_UPLOAD_BYTES"),
        ({"LIMNER_DATABASE_URL": "mysql://u:secret@host/db"}, "LIMNER_DATABASE_URL"),
        ({"LIMNER_DATABASE_URL": "no URL at all"}, "LIMNER_DATABASE_URL"),
        ({"LIMNER_DATABASE_URL": "sqlite:////dev/null/no/folder.db"}, "LIMNER_DATABASE_URL"),
        ({"LIMNER_BLOBS_URL": "/dev/null/blobs"}, "LIMNER_BLOBS_URL"),
        ({"LIMNER_BLOBS_URL": "ftp://u:secret@host/x"}, "LIMNER_BLOBS_URL"),
        ({"LIMNER_ENGINE_URL": "carrier-pigeon://u:secret@host"}, "LIMNER_ENGINE_URL"),
        ({"LIMNER_BUS_URL": "school-bus:"}, "LIMNER_BUS_URL"),
        ({"LIMNER_ENGINE_URL": "redis://u:secret@host/0"}, "LIMNER_ENGINE_URL with a broker needs LIMNER_BUS_URL"),
        (
            {"LIMNER_ENGINE_URL": "amqp://u:secret@host", "LIMNER_BUS_URL": "redis://u:secret@host/0"},
            "LIMNER_ENGINE_URL with a broker needs another LIMNER_DATABASE_URL",
        ),
        ({"LIMNER_DURABILITY": "perhaps"}, "LIMNER_DURABILITY"),
        ({"SIMULATED_DELAY_S": "-1"}, "SIMULATED_DELAY_S"),
    ],
)
def test_invalid_settings_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"LIMNER_DATABASE_URL": "memory:", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=reason) as refused:
        build(settings.load())
    assert "secret" not in refused.value.detail


@pytest.mark.parametrize(
    ("variables", "reason"),
    [({"LIMNER_LEASE_S": "soon"}, "LIMNER_LEASE_S"), ({"LIMNER_MODELS_DIR": "/nowhere"}, "limner models fetch")],
)
def test_an_impossible_start_fails_with_the_reason(tmp_path: Path, variables: dict[str, str], reason: str) -> None:
    server = Server(tmp_path, **variables)
    with pytest.raises(AssertionError, match="did not start"):
        server.start()
    assert server.process is not None
    assert server.process.wait(10) > 0
    log = server.log.read_text()
    assert reason in log
    assert "Traceback" not in log


def test_a_port_in_use_is_an_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = Server(tmp_path / "second")
    second.port = server.port
    second.url = "http://127.0.0.1:9"  # no need to wait until it is ready
    with pytest.raises(AssertionError, match=r"cannot listen on 127\.0\.0\.1"):
        second.start()


def test_photos_without_a_job_are_removed_after_a_crash(server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(server, astronaut_jpeg, wait=True)
    named = set(blobs(server))
    server.kill()
    orphan = server.folder / "blobs" / "ab" / ("c" * 62)
    part = server.folder / "blobs" / "new-part"
    orphan.parent.mkdir(exist_ok=True)
    for path in (orphan, part, *named):
        path.touch()
        os.utime(path, (1, 1))
    server.start()
    deadline = time.monotonic() + 30
    while set(blobs(server)) != named and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(blobs(server)) == named
    assert get(server, job["artifacts"][0]["url"]).status_code == 200


def test_jobs_past_their_retention_are_erased(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_KEEP_DAYS="0.00001")
    job = submit(server, astronaut_jpeg, wait=True)
    time.sleep(0.00001 * 86_400)
    server.restart()  # it tidies up when it starts, and every hour
    deadline = time.monotonic() + 30
    while get(server, f"/v1/jobs/{job['id']}").status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    problem(get(server, f"/v1/jobs/{job['id']}"), 404, "not-found")
    assert blobs(server) == []


def test_a_job_that_crashes_repeatedly_fails(start_server: StartServer, heavy_jpeg: bytes) -> None:
    server = start_server(LIMNER_WORKERS="1", LIMNER_MAX_ATTEMPTS="2")
    for attempt in (1, 2):
        with listening(server, "/v1/events?after=0") as socket_:
            if attempt == 1:
                submit(server, heavy_jpeg, mark="blur", format="png")
            started = 0
            while started < attempt:
                started += received(socket_)["type"] == "job.running"
        server.kill()
        server.start()
    job = get(server, "/v1/jobs").json()["jobs"][0]
    assert job["status"] == "failed"
    assert job["error"]["type"] == "urn:limner:problem:job-crashed"


@pytest.mark.slow
def test_soak_a_thousand_photos_from_many_clients_and_many_kills(start_server: StartServer, small_jpeg: bytes) -> None:
    server = start_server(LIMNER_MAX_ATTEMPTS="50")
    accepted: set[str] = set()
    for kill in range(12):
        with client(server) as session:
            for number in range(80):
                answer = session.post("/v1/detect", files={"image": another(small_jpeg, 100 * kill + number)})
                assert answer.status_code == 202
                accepted.add(answer.json()["id"])
        server.kill()
        server.start()
    while unfinished(server):
        time.sleep(0.1)
    ended = Counter(event["job"]["id"] for event in all_events(server) if event["type"] == "job.succeeded")
    assert ended == dict.fromkeys(accepted, 1)
