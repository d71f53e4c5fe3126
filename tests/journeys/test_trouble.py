"""A full disk, a missing folder or a locked database is answered with an error, and nothing is lost."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import another, as_jpeg
from tests.journeys.client import blobs, finished, get, metric, problem, rows, submit
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def detect(server: Server, photo: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/detect", files={"image": photo}, timeout=90)


def noise(number: int) -> bytes:
    """A photo of about half a megabyte, without a face."""
    return as_jpeg(np.random.default_rng(number).integers(0, 255, (500, 700, 3), np.uint8).astype(np.uint8))


def test_a_full_disk_is_an_error_and_accepted_jobs_finish(start_server: StartServer, small_disk: Path) -> None:
    server = start_server(LIMNER_BLOBS_URL=str(small_disk))
    accepted = []
    refused = None
    for number in range(20):
        answer = detect(server, noise(number))
        if answer.status_code != 202:
            refused = answer
            break
        accepted.append(answer.json()["id"])
    assert refused is not None
    assert accepted
    told = problem(refused, 503, "unavailable")
    assert told["retryable"] is True
    assert "No space left" in told["detail"]
    assert refused.headers["retry-after"]
    for job_id in accepted:
        assert finished(server, job_id)["status"] == "succeeded"
    assert not [path for path in small_disk.rglob("new-*") if path.is_file()]
    httpx.delete(f"{server.url}/v1/jobs/{accepted[0]}")
    assert detect(server, noise(99)).status_code == 202  # the disk has space again
    assert metric(server, "http_requests_total", status="500") == 0


def test_a_picture_that_does_not_fit_on_the_disk_fails_its_job(start_server: StartServer, small_disk: Path) -> None:
    server = start_server(LIMNER_BLOBS_URL=str(small_disk))
    photo = small_disk / "filler"
    face = another(_face(), 1)
    photo.write_bytes(bytes(3 * 2**20 - len(face) - 64 * 1024))
    job = finished(server, detect(server, face).json()["id"])
    assert job["status"] == "failed"
    assert job["error"]["type"] == "urn:limner:problem:unavailable"
    assert job["error"]["retryable"] is True
    photo.unlink()
    assert submit(server, face, wait=True)["status"] == "succeeded"  # a failure is not cached


def _face() -> bytes:
    import skimage.data

    return as_jpeg(skimage.data.astronaut(), 97)


def test_a_full_database_disk_is_an_error(start_server: StartServer, small_disk: Path, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_DATABASE_URL=f"sqlite:///{small_disk}/limner.db")
    first = submit(server, astronaut_jpeg, wait=True)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    for number in range(3):
        told = problem(detect(server, another(astronaut_jpeg, number)), 503, "unavailable")
        assert "database" in told["detail"]
    assert get(server, f"/v1/jobs/{first['id']}").json() == first  # existing jobs can be read
    problem(get(server, "/readyz"), 503, "unavailable")
    assert get(server, "/healthz").status_code == 200
    photos = len(blobs(server))
    filler.unlink()
    assert submit(server, another(astronaut_jpeg, 0), wait=True)["status"] == "succeeded"
    assert photos == 3  # photo, picture and thumbnail of the first job: no file of the refused uploads is left
    server.kill()
    server.log.write_text("")  # its log has errors, which other tests check


def test_a_missing_folder_is_an_error_until_it_is_back(server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(server, astronaut_jpeg, wait=True)
    folder = server.folder / "blobs"
    folder.rename(server.folder / "away")
    problem(detect(server, another(astronaut_jpeg, 1)), 503, "unavailable")
    problem(get(server, "/readyz"), 503, "unavailable")
    problem(get(server, job["artifacts"][0]["url"]), 404, "not-found")
    (server.folder / "away").rename(folder)
    assert get(server, "/readyz").status_code == 200
    assert get(server, job["artifacts"][0]["url"]).status_code == 200
    assert submit(server, another(astronaut_jpeg, 1), wait=True)["status"] == "succeeded"
    assert rows(server, "SELECT count(*) FROM jobs") == [(2,)]
    server.log.write_text("")  # /readyz has logged the reason


def test_a_database_that_is_locked_for_long_is_an_error(server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(server, astronaut_jpeg, wait=True)
    with contextlib.closing(sqlite3.connect(server.folder / "limner.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = problem(detect(server, another(astronaut_jpeg, 1)), 503, "unavailable")
        assert "locked" in told["detail"]
        assert get(server, f"/v1/jobs/{job['id']}").json() == job
        assert get(server, "/healthz").status_code == 200
        other.execute("ROLLBACK")
    assert submit(server, another(astronaut_jpeg, 1), wait=True)["status"] == "succeeded"
    server.log.write_text("")  # the sweep has logged it


def test_while_writers_wait_for_a_locked_database_readers_do_not(server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(server, astronaut_jpeg, wait=True)
    with contextlib.closing(sqlite3.connect(server.folder / "limner.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(40) as pool:
            waiting = [pool.submit(detect, server, another(astronaut_jpeg, number)) for number in range(40)]
            time.sleep(1)
            assert get(server, f"/v1/jobs/{job['id']}").json() == job
            assert get(server, job["artifacts"][0]["url"]).status_code == 200
            assert get(server, "/v1/jobs").status_code == 200
            assert not any(future.done() for future in waiting)
            other.execute("ROLLBACK")
            assert {future.result().status_code for future in waiting} <= {202, 503}
    server.check_log()  # a busy database is told in a line, not in a traceback


def test_a_database_file_that_is_gone_takes_nothing_in(server: Server, astronaut_jpeg: bytes) -> None:
    file, away = server.folder / "limner.db", server.folder / "away.db"
    file.rename(away)
    told = problem(detect(server, astronaut_jpeg), 503, "unavailable")
    assert "deleted or replaced" in told["detail"]
    problem(get(server, "/readyz"), 503, "unavailable")
    away.rename(file)
    assert get(server, "/readyz").status_code == 200
    assert submit(server, astronaut_jpeg, wait=True)["status"] == "succeeded"


def test_a_database_that_is_locked_briefly_is_waited_for(server: Server, astronaut_jpeg: bytes) -> None:
    with contextlib.closing(sqlite3.connect(server.folder / "limner.db", isolation_level=None)) as other:
        for number in range(5):
            other.execute("BEGIN IMMEDIATE")
            time.sleep(0.1)
            other.execute("ROLLBACK")
            assert submit(server, another(astronaut_jpeg, number), wait=True)["status"] == "succeeded"


def test_an_artifact_whose_bytes_are_gone_is_not_found(server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(server, astronaut_jpeg, wait=True)
    for path in blobs(server):
        path.unlink()
    for url in (job["artifacts"][0]["url"], f"/jobs/{job['id']}/processed-image"):
        problem(get(server, url), 404, "not-found")


def test_bytes_that_cannot_be_removed_stop_no_start(server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(server, astronaut_jpeg, wait=True)
    shelves = sorted({path.parent for path in blobs(server)})
    if subprocess.run(["chattr", "+i", *map(str, shelves)], capture_output=True, check=False).returncode != 0:
        pytest.skip("a folder cannot be made immutable here")
    try:
        told = problem(httpx.delete(server.url + f"/v1/jobs/{job['id']}", timeout=90), 503, "unavailable")
        assert "cannot be written" in told["detail"]
        problem(get(server, f"/v1/jobs/{job['id']}"), 404, "not-found")
        server.restart()
        assert submit(server, noise(1), wait=True)["status"] == "succeeded"
    finally:
        subprocess.run(["chattr", "-i", *map(str, shelves)], check=True)
    server.restart()
    assert rows(server, "SELECT count(*) FROM blobs WHERE state <> 'kept'") == [(0,)]
    assert rows(server, "SELECT count(*) FROM blobs") == [(len(blobs(server)),)]


def test_a_request_that_a_stop_cuts_off_is_told(tmp_path: Path) -> None:
    """Its body never comes to an end, so it outlasts LIMNER_DRAIN_S."""
    server = Server(tmp_path, LIMNER_DRAIN_S="1")
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
        fields = ("POST /v1/detect HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Content-Length: 99")
        slow.sendall("\r\n".join((*fields, "", '{"image":')).encode())
        time.sleep(0.5)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        answer = slow.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 503 "), answer
        assert b"urn:limner:problem:unavailable" in answer + slow.recv(10_000)
    assert server.process.wait(20) == 0
    assert "Traceback" not in server.log.read_text()  # uvicorn logs an error of its own, that it has cancelled a task
