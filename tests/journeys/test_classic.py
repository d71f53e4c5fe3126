"""The paths of earlier face services, as `docs/classic.md` describes them. (Contours: `test_contours.py`.)"""

import json
import re
from collections.abc import Iterator

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import another, as_jpeg
from tests.journeys.client import Json, finished, get, listening, problem, submit
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(scope="module")
def faceless() -> bytes:
    return as_jpeg(np.full((64, 64, 3), 128, np.uint8))


@pytest.fixture
def slow_server(start_server: StartServer, astronaut: npt.NDArray[np.uint8]) -> Iterator[Server]:
    """A server whose only worker is busy."""
    server = start_server(LIMNER_WORKERS="1")
    heavy = as_jpeg(np.tile(astronaut, (7, 7, 1)), 80)
    for number in range(2):
        submit(server, another(heavy, number), mark="blur", format="png")
    return server


def post(server: Server, photo: bytes, part: str = "file", path: str = "/image") -> httpx.Response:
    return httpx.post(server.url + path, files={part: ("me.jpg", photo, "image/jpeg")}, timeout=60)


# --- /image, /jobs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["file", "image"])
def test_the_story_of_an_image(server: Server, astronaut_jpeg: bytes, part: str) -> None:
    answer = post(server, astronaut_jpeg, part)
    assert answer.status_code == 201
    sent = answer.json()
    job_id = sent["id"]
    assert UUID.fullmatch(job_id)
    assert sent == {
        "id": job_id,
        "created_at": sent["created_at"],
        "state": "pending",
        "job_url": f"{server.url}/jobs/{job_id}",
        "processed_url": f"{server.url}/jobs/{job_id}/processed-image",
    }
    detected = finished(server, job_id)["result"]["faces"][0]["box"]
    job = get(server, sent["job_url"]).json()
    assert job == {
        "id": job_id,
        "created_at": sent["created_at"],
        "modified_at": job["modified_at"],
        "state": "finished",
        "is_face_detected": True,
        "coordinates": [[round(detected[key]) for key in ("x", "y", "width", "height")]],
        "processed_filename": f"{job_id}.jpg",
        "processed_url": sent["processed_url"],
    }
    assert all(isinstance(number, int) for number in job["coordinates"][0])
    assert MOMENT.fullmatch(job["created_at"])
    assert MOMENT.fullmatch(job["modified_at"])
    assert job["modified_at"] > job["created_at"]
    picture = get(server, sent["processed_url"])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert picture.content == get(server, f"/v1/jobs/{job_id}/artifacts/marked.jpg").content
    head = httpx.head(sent["processed_url"])
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(picture.content)))
    assert post(server, astronaut_jpeg).json()["state"] == "finished"  # from the cache, at once


def test_an_image_that_is_not_done_yet(slow_server: Server, astronaut_jpeg: bytes) -> None:
    sent = post(slow_server, astronaut_jpeg).json()
    job = get(slow_server, sent["job_url"]).json()
    assert (job["state"], job["coordinates"], job["processed_filename"], job["processed_url"]) == (
        "pending",
        [],
        None,
        None,
    )
    picture = get(slow_server, sent["processed_url"])
    assert picture.status_code == 202
    assert int(picture.headers["retry-after"]) > 0
    assert picture.json() == {"id": sent["id"], "state": "pending"}
    finished(slow_server, sent["id"])
    assert get(slow_server, sent["processed_url"]).status_code == 200


def test_an_image_without_a_face(shared_server: Server, faceless: bytes) -> None:
    sent = post(shared_server, faceless).json()
    finished(shared_server, sent["id"])
    job = get(shared_server, sent["job_url"]).json()
    assert (job["state"], job["is_face_detected"], job["coordinates"]) == ("finished", False, [])
    assert job["processed_filename"] is job["processed_url"] is None
    problem(get(shared_server, sent["processed_url"]), 404, "no-face-found")


def test_an_image_that_fails(shared_server: Server, astronaut_jpeg: bytes) -> None:
    sent = post(shared_server, astronaut_jpeg[: len(astronaut_jpeg) // 2]).json()
    finished(shared_server, sent["id"])
    assert get(shared_server, sent["job_url"]).json()["state"] == "error"
    problem(get(shared_server, sent["processed_url"]), 422, "invalid-request")


def test_a_cancelled_job_is_an_error(slow_server: Server, astronaut_jpeg: bytes) -> None:
    sent = post(slow_server, astronaut_jpeg).json()
    httpx.post(f"{slow_server.url}/v1/jobs/{sent['id']}/cancel")
    assert get(slow_server, sent["job_url"]).json()["state"] == "error"
    problem(get(slow_server, sent["processed_url"]), 422, "invalid-request")


def test_an_unmarked_photo_has_no_picture(shared_server: Server, astronaut_jpeg: bytes) -> None:
    with listening(shared_server, "/faces") as faces:
        job = submit(shared_server, another(astronaut_jpeg, 1), wait=True, mark="none")
        told = get(shared_server, f"/jobs/{job['id']}").json()
        assert (told["is_face_detected"], len(told["coordinates"]), told["processed_url"]) == (True, 1, None)
        problem(get(shared_server, f"/jobs/{job['id']}/processed-image"), 404, "no-face-found")
        marked = submit(shared_server, another(astronaut_jpeg, 1), wait=True)
        assert json.loads(faces.recv(timeout=60))["job_id"] == marked["id"]  # no URL of a picture that does not exist


@pytest.mark.parametrize("path", ["/image", "/api/v1/images"])
def test_errors_of_uploads(shared_server: Server, path: str) -> None:
    problem(httpx.post(shared_server.url + path, files={"photo": b"x"}), 422, "invalid-request")
    problem(httpx.post(shared_server.url + path, files={"file": (None, "text")}), 422, "invalid-request")
    problem(httpx.post(shared_server.url + path, files={"file": b"not a picture"}), 415, "unsupported-media")
    problem(httpx.post(shared_server.url + path, json={"file": "x"}), 415, "unsupported-media")


# --- /api/v1/images --------------------------------------------------------------------------------------------------


def test_the_story_of_an_api_image(server: Server, astronaut_jpeg: bytes) -> None:
    with listening(server, "/ws/v1/faces") as urls:
        sent = post(server, astronaut_jpeg, path="/api/v1/images")
        assert sent.status_code == 200
        image = sent.json()
        assert UUID.fullmatch(image["uuid"])
        url = f"{server.url}/api/v1/images/{image['uuid']}"
        assert image == {
            "uuid": image["uuid"],
            "filename": f"{image['uuid']}.jpg",
            "type": "input",
            "src_image_uuid": None,
            "url": url,
        }
        assert get(server, url).content == astronaut_jpeg
        assert get(server, url).headers["content-type"] == "image/jpeg"
        assert get(server, f"{url}/meta").json() == image
        marked_url = urls.recv(timeout=60)
    assert isinstance(marked_url, str)
    marked_uuid = marked_url.rpartition("/")[2]
    assert marked_url == f"{server.url}/api/v1/images/{marked_uuid}"
    assert get(server, f"{marked_url}/meta").json() == {
        "uuid": marked_uuid,
        "filename": f"{marked_uuid}.jpg",
        "type": "output",
        "src_image_uuid": image["uuid"],
        "url": marked_url,
    }
    picture = get(server, marked_url)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    part = get(server, marked_url, Range="bytes=0-1")
    assert (part.status_code, part.content) == (206, picture.content[:2])
    job_id = get(server, "/v1/jobs").json()["jobs"][0]["id"]
    assert httpx.delete(f"{server.url}/v1/jobs/{job_id}").status_code == 204
    for gone in (url, marked_url, f"{url}/meta", f"{marked_url}/meta"):
        problem(get(server, gone), 404, "not-found")


# --- /faces, /ws, /ws/v1/faces ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/faces", "/ws"])
def test_sockets_send_events_of_marked_photos_only(
    shared_server: Server, astronaut_jpeg: bytes, faceless: bytes, path: str
) -> None:
    with listening(shared_server, path) as faces:
        submit(shared_server, faceless, wait=True)
        submit(shared_server, another(astronaut_jpeg, 2), path="/v1/contours", wait=True)
        photo = another(astronaut_jpeg, 3 if path == "/ws" else 4)
        sent = [post(shared_server, photo).json()["id"], submit(shared_server, photo)["id"]]
        told: list[Json] = [json.loads(faces.recv(timeout=60)) for _ in range(2)]
    assert [each["job_id"] for each in told] == sent
    for each in told:
        assert each == {
            "job_id": each["job_id"],
            "processed_url": f"{shared_server.url}/jobs/{each['job_id']}/processed-image",
            "faces_count": 1,
            "created_at": each["created_at"],
            "processed_at": each["processed_at"],
        }
        assert MOMENT.fullmatch(each["created_at"])
        assert MOMENT.fullmatch(each["processed_at"])
        assert get(shared_server, each["processed_url"]).status_code == 200


def test_jobs_of_other_operations_have_no_classic_face(shared_server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(shared_server, another(astronaut_jpeg, 5), path="/v1/contours", wait=True)
    problem(get(shared_server, f"/jobs/{job['id']}"), 404, "not-found")
    problem(get(shared_server, f"/jobs/{job['id']}/processed-image"), 404, "not-found")
    detect = submit(shared_server, another(astronaut_jpeg, 5), wait=True)
    problem(get(shared_server, f"/api/v1/status/{detect['id']}"), 404, "not-found")
