"""Slips of a hand or a machine: what was accepted is not lost, and what was erased is gone."""

import contextlib
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import another
from tests.contract.databases import old_database
from tests.journeys.client import blobs, get, metric, problem, rows, submit
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server

# --- which database, and which folder --------------------------------------------------------------------------------


def refused(server: Server) -> str:
    """What a server that must not start says."""
    with pytest.raises(AssertionError, match="did not start"):
        server.start()
    assert server.process is not None
    assert server.process.wait(10) > 0
    told = server.log.read_text()
    assert "Traceback" not in told
    return told


def test_a_mistyped_database_name_erases_no_photo(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = Server(tmp_path)
    server.start()
    job = submit(server, astronaut_jpeg, wait=True)
    server.stop()
    photos = blobs(server)
    assert len(photos) == 3, "the photo, the marked one, and its thumbnail"
    for path in photos:
        os.utime(path, (1, 1))
    typo = Server(tmp_path, LIMNER_DATABASE_URL=f"sqlite:///{tmp_path}/limmer.db")
    told = " ".join(refused(typo).split())
    assert f"the folder {tmp_path}/blobs belongs to another database" in told
    assert f"{tmp_path}/limmer.db" in told
    assert blobs(server) == photos
    server.start()
    assert get(server, job["artifacts"][0]["url"]).status_code == 200
    server.stop()


def test_an_installation_from_before_there_were_ids_keeps_its_folder(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = Server(tmp_path)
    server.start()
    job = submit(server, astronaut_jpeg, wait=True)
    server.stop()
    (tmp_path / "blobs" / "database-id").unlink()
    (tmp_path / "limner.db").rename(tmp_path / "new.db")
    old_database(tmp_path / "limner.db", "0002").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "limner.db")) as database:
        database.execute("ATTACH ? AS new", (str(tmp_path / "new.db"),))
        for table in ("jobs", "files", "events", "blobs"):
            columns = ", ".join(row[1] for row in database.execute(f"PRAGMA table_info({table})"))
            database.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM new.{table}")  # noqa: S608
        database.commit()
    server.start()
    assert get(server, job["artifacts"][0]["url"]).status_code == 200
    assert submit(server, astronaut_jpeg, wait=True)["cached"] == "exact"
    server.stop()
    assert rows(server, "SELECT value FROM facts WHERE name = 'database_id'") == [
        ((tmp_path / "blobs" / "database-id").read_text().strip(),)
    ]


@pytest.mark.parametrize("other_photos", [True, False])
def test_another_path_to_the_same_database_does_not_let_a_second_server_in(
    server: Server, tmp_path: Path, other_photos: bool
) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "limner.db")
    variables = {"LIMNER_BLOBS_URL": str(tmp_path / "other")} if other_photos else {}
    (tmp_path / "second").mkdir()
    for path in (tmp_path / "link.db", tmp_path / "second" / ".." / "limner.db"):
        second = Server(tmp_path / "second", LIMNER_DATABASE_URL=f"sqlite:///{path}", **variables)
        assert "another process is serving limner.db already" in refused(second)
        second.log.unlink()


def test_a_database_with_two_names_is_refused(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    server.stop()
    os.link(tmp_path / "limner.db", tmp_path / "other.db")
    assert "hard links" in refused(server)


# --- a database that goes or breaks while it is in use ---------------------------------------------------------------


@pytest.mark.parametrize("slip", ["deleted", "replaced"])
def test_a_database_file_that_goes_is_told_and_nothing_is_taken_in(
    server: Server, tmp_path: Path, astronaut_jpeg: bytes, slip: str
) -> None:
    job = submit(server, astronaut_jpeg, wait=True)
    database, away = tmp_path / "limner.db", tmp_path / "away.db"
    database.rename(away)
    if slip == "replaced":
        database.write_bytes(b"")
    for photo in (astronaut_jpeg, another(astronaut_jpeg, 1)):
        told = problem(httpx.post(f"{server.url}/v1/detect", files={"image": photo}), 503, "unavailable")
        assert "limner.db was deleted or replaced" in told["detail"]
    for answer in (get(server, "/readyz"), httpx.delete(f"{server.url}/v1/jobs/{job['id']}")):
        assert "deleted or replaced" in problem(answer, 503, "unavailable")["detail"]
    assert database.exists() == (slip == "replaced")
    away.rename(database)
    assert get(server, "/readyz").status_code == 200
    assert submit(server, another(astronaut_jpeg, 1), wait=True)["status"] == "succeeded"
    assert metric(server, "http_requests_total", status="500") == 0
    assert len(blobs(server)) == 4, "two photos, and the marked photo and thumbnail that both have"


def test_a_damaged_database_is_told_and_refused_at_the_next_start(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = Server(tmp_path)
    server.start()
    jobs = [submit(server, another(astronaut_jpeg, number), wait=True)["id"] for number in range(12)]
    server.restart()  # its log is in the database now
    database = tmp_path / "limner.db"
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    answers = [
        *(get(server, f"/v1/jobs/{job_id}") for job_id in jobs),
        get(server, "/v1/jobs"),
        httpx.post(f"{server.url}/v1/detect", files={"image": astronaut_jpeg}),
        httpx.delete(f"{server.url}/v1/jobs/{jobs[0]}"),
        get(server, "/readyz"),
    ]
    assert {answer.status_code for answer in answers} <= {200, 503}
    for answer in answers[-3:]:
        assert "damaged" in problem(answer, 503, "unavailable")["detail"]
    assert get(server, "/healthz").status_code == 200
    server.kill()
    assert "Traceback" not in server.log.read_text()
    for log in tmp_path.glob("limner.db-*"):
        log.unlink()
    assert "restore a backup" in " ".join(refused(server).split())


@pytest.mark.parametrize("path", ["folder", "pipe"])
def test_a_database_that_is_no_file_is_told(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    told = refused(Server(tmp_path, LIMNER_DATABASE_URL=f"sqlite:///{tmp_path}/{path}"))
    assert f"{path} is not a file" in " ".join(told.split())
    assert list(tmp_path.glob("*.lock")) == []


def test_a_database_that_is_locked_at_the_start_is_told(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = Server(tmp_path)
    server.start()
    submit(server, astronaut_jpeg, wait=True)
    server.stop()
    server.log.write_text("")
    with contextlib.closing(sqlite3.connect(tmp_path / "limner.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "database is locked" in refused(server)
    server.start()
    server.stop()


def test_without_a_database_a_killed_service_leaves_no_photo(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = Server(tmp_path, LIMNER_DATABASE_URL="memory:", LIMNER_BLOBS_URL=str(tmp_path / "tmp"))
    server.start()
    submit(server, astronaut_jpeg, wait=True)
    assert len([path for path in (tmp_path / "tmp").rglob("*") if len(path.name) == 62]) == 3
    server.kill()
    deadline = time.monotonic() + 10
    while list((tmp_path / "tmp").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_after_an_erasure_nothing_is_left_in_the_databases_files(
    start_server: StartServer, tmp_path: Path, astronaut_jpeg: bytes
) -> None:
    server = start_server(LIMNER_SWEEP_S="0.2")
    marker = b'"landmarks"'
    erased = [submit(server, another(astronaut_jpeg, number), wait=True)["id"] for number in range(5)]

    def found() -> int:
        return sum(path.read_bytes().count(marker) for path in tmp_path.glob("limner.db*"))

    assert found() >= 5
    for job_id in erased:
        assert httpx.delete(f"{server.url}/v1/jobs/{job_id}").status_code == 204
    deadline = time.monotonic() + 10
    while found() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found() == 0


# --- bytes that vanish or change -------------------------------------------------------------------------------------


@pytest.mark.parametrize("slip", ["vanished", "truncated", "damaged"])
def test_an_artifact_that_is_no_longer_whole_is_made_anew(server: Server, astronaut_jpeg: bytes, slip: str) -> None:
    job = submit(server, astronaut_jpeg, wait=True)
    server.restart()  # it remembers no bytes
    ((sha256,),) = rows(server, "SELECT sha256 FROM files WHERE role = 'artifact'")
    path = server.folder / "blobs" / sha256[:2] / sha256[2:]
    whole = path.read_bytes()
    if slip == "vanished":
        path.unlink()
    else:
        path.write_bytes(whole[:1000] if slip == "truncated" else whole[:-1] + b"!")
    told = problem(get(server, job["artifacts"][0]["url"]), 404, "not-found")
    assert "missing or damaged" in told["detail"]
    anew = submit(server, astronaut_jpeg, wait=True)
    assert (anew["status"], anew["cached"]) == ("succeeded", None)
    for each in (job, anew):
        assert get(server, each["artifacts"][0]["url"]).content == whole
    assert submit(server, astronaut_jpeg, wait=True)["cached"] == "exact"
    assert metric(server, "http_requests_total", status="500") == 0


@pytest.fixture
def photos_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own for photos, which can be made read-only."""
    if os.geteuid() != 0:
        pytest.skip("mounting a disk needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=9m,mode=700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_on_a_read_only_folder_an_erasure_is_refused_whole(
    start_server: StartServer, photos_disk: Path, astronaut_jpeg: bytes
) -> None:
    server = start_server(LIMNER_BLOBS_URL=str(photos_disk))
    job = submit(server, astronaut_jpeg, wait=True)
    address = f"{server.url}/v1/jobs/{job['id']}"
    subprocess.run(["mount", "-o", "remount,ro", str(photos_disk)], check=True)
    told = problem(httpx.delete(address), 503, "unavailable")
    assert "nothing was erased" in told["detail"]
    assert get(server, address).json() == job
    assert get(server, job["artifacts"][0]["url"]).status_code == 200
    problem(get(server, "/readyz"), 503, "unavailable")
    subprocess.run(["mount", "-o", "remount,rw", str(photos_disk)], check=True)
    assert httpx.delete(address).status_code == 204
    assert [path for path in photos_disk.rglob("*") if path.is_file() and path.parent != photos_disk] == []
