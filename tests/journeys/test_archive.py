"""What several jobs made, as a zip that is sent while it is written; gzip of JSON answers."""

import io
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import another
from tests.journeys.client import Json, client, get, problem, rows, submit
from tests.journeys.server import Server


def archive(server: Server, params: Any) -> zipfile.ZipFile:
    answer = httpx.get(f"{server.url}/v1/jobs/archive", params=params, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"] == 'attachment; filename="limner.zip"'
    assert "content-encoding" not in answer.headers
    found = zipfile.ZipFile(io.BytesIO(answer.content))
    assert found.testzip() is None
    assert {each.compress_type for each in found.infolist()} == {zipfile.ZIP_STORED}
    return found


@pytest.fixture(scope="module")
def jobs(shared_server: Server, astronaut_jpeg: bytes) -> list[Json]:
    labels = ("../../etc/passwd", "Foto.jpg", "FOTO.png", "", "con.jpg")
    return [
        submit(shared_server, another(astronaut_jpeg, number), wait=True, label=label)
        for number, label in enumerate(labels)
    ]


def test_each_job_has_a_folder_of_its_own(shared_server: Server, jobs: list[Json], tmp_path: Path) -> None:
    found = archive(shared_server, [("id", job["id"]) for job in jobs])
    folders = ["_.._etc_passwd", "Foto", "FOTO (2)", jobs[3]["id"], "_con"]
    assert found.namelist() == [f"{folder}/{name}" for folder in folders for name in ("job.json", "marked.jpg")]
    for folder, job in zip(folders, jobs, strict=True):
        told = json.loads(found.read(f"{folder}/job.json"))
        assert (told["id"], told["label"], told["result"]) == (job["id"], job["label"], job["result"])
        assert found.read(f"{folder}/marked.jpg") == get(shared_server, job["artifacts"][0]["url"]).content
    file = tmp_path / "limner.zip"
    file.write_bytes(found.fp.read() if found.fp and not found.fp.seek(0) else b"")
    subprocess.run(["python3", "-m", "zipfile", "-e", str(file), str(tmp_path / "out")], check=True)
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == sorted(folders)


def test_by_filters(shared_server: Server, jobs: list[Json]) -> None:
    assert archive(shared_server, {"q": "foto"}).namelist() == [
        *("FOTO/job.json", "FOTO/marked.jpg", "Foto (2)/job.json", "Foto (2)/marked.jpg")
    ]
    some = archive(shared_server, {"until": jobs[4]["created_at"], "limit": "2"})
    assert [each for each in some.namelist() if each.endswith("/job.json")] == [
        f"{jobs[3]['id']}/job.json",
        "FOTO/job.json",
    ]
    assert some.read("missing.txt").decode() == (
        f"More than 2 jobs were found. Those before {jobs[2]['created_at']} are not here: "
        f"ask with until={jobs[2]['created_at']}.\n"
    )
    problem(httpx.get(f"{shared_server.url}/v1/jobs/archive", params={"q": "no such"}, timeout=60), 404, "not-found")


def test_what_is_erased_or_lost_is_told(shared_server: Server, astronaut_jpeg: bytes) -> None:
    kept, erased, lost = (
        submit(shared_server, another(astronaut_jpeg, 20), wait=True, mark="solid", colour=colour, label=colour)
        for colour in ("red", "green", "blue")
    )
    assert httpx.delete(erased["url"], timeout=60).status_code == 204
    query = "SELECT sha256 FROM files WHERE job_id = ? AND role = 'artifact'"
    ((sha256,),) = rows(shared_server, query, lost["id"])
    (path,) = (each for each in (shared_server.folder / "blobs").rglob("*") if each.name.startswith(sha256[2:]))
    path.unlink()
    found = archive(shared_server, [("id", job["id"]) for job in (erased, kept, lost)])
    assert found.read("missing.txt").decode().splitlines() == [
        f"{erased['id']}: It was erased, or is missing or damaged.",
        "blue/marked.jpg: It was erased, or is missing or damaged.",
    ]
    assert found.namelist() == ["red/job.json", "red/marked.jpg", "blue/job.json", "missing.txt"]


@pytest.mark.parametrize(
    "query", ["id=a&q=b", "limit=0", "limit=501", "since=yesterday", "&".join(["id=a"] * 501), "status=done"]
)
def test_wrong_queries_are_refused(shared_server: Server, query: str) -> None:
    problem(get(shared_server, f"/v1/jobs/archive?{query}"), 422, "invalid-request")


def test_none_of_the_jobs_exists(shared_server: Server) -> None:
    problem(get(shared_server, "/v1/jobs/archive?id=one&id=two"), 404, "not-found")


# --- gzip ------------------------------------------------------------------------------------------------------------


def test_large_json_is_compressed_for_those_who_accept_it(shared_server: Server, jobs: list[Json]) -> None:
    with client(shared_server) as connection:
        url = "/v1/jobs?limit=20"
        plain = connection.get(url, headers={"Accept-Encoding": "identity"})
        packed = connection.get(url, headers={"Accept-Encoding": "br, gzip;q=0.5"})
        assert "content-encoding" not in plain.headers
        assert packed.headers["content-encoding"] == "gzip"
        assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
        assert packed.json() == plain.json()
        assert int(packed.headers["content-length"]) < len(plain.content) / 2
        assert plain.headers["content-length"] == str(len(plain.content))
        for refusing in ("gzip;q=0", "deflate", "*;q=0", "gzip;q=0.0, *"):
            answer = connection.get(url, headers={"Accept-Encoding": refusing})
            assert "content-encoding" not in answer.headers, refusing


def test_what_is_small_and_what_is_no_json_is_not(shared_server: Server, jobs: list[Json]) -> None:
    for path in ("/healthz", "/v1/jobs/no-such-job", jobs[1]["artifacts"][0]["url"], jobs[1]["thumbnail"]):
        assert "content-encoding" not in get(shared_server, path, **{"Accept-Encoding": "gzip"}).headers
    headers = {"Accept-Encoding": "gzip"}
    with httpx.stream("GET", f"{shared_server.url}/v1/events?after=0", headers=headers, timeout=60) as answer:
        assert "content-encoding" not in answer.headers
        assert next(answer.iter_raw()).startswith(b"retry: ")
