"""Jobs over HTTP: submitting, waiting, caching, listing, cancelling, erasing, and reading artifacts."""

import base64
import hashlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.conftest import another, as_jpeg
from tests.journeys.client import (
    Json,
    all_events,
    blobs,
    client,
    finished,
    get,
    metric,
    problem,
    rows,
    submit,
)
from tests.journeys.conftest import BOTH, BOTH_IF_SLOW, StartServer, make_server, served
from tests.journeys.server import Server

WAIT = {"Prefer": "wait=60"}


@pytest.fixture(scope="module", params=BOTH_IF_SLOW)
def shared_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for all tests of this file, which must not disturb each other."""
    yield from served(make_server(tmp_path_factory.mktemp("server"), request))


@pytest.fixture(scope="module")
def job(shared_server: Server, astronaut_jpeg: bytes) -> Json:
    """A finished job on the shared server."""
    return submit(shared_server, another(astronaut_jpeg, 0), wait=True)


@pytest.fixture(scope="module")
def heavy_jpeg(astronaut: npt.NDArray[np.uint8]) -> bytes:
    """A photo that takes a worker about a second."""
    return as_jpeg(np.tile(astronaut, (7, 7, 1)), 80)


@pytest.fixture(scope="module", params=BOTH)
def single_worker(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server with one worker and a short queue."""
    process = make_server(tmp_path_factory.mktemp("single"), request, LIMNER_WORKERS="1", LIMNER_MAX_QUEUED="6")
    process.start()
    yield process
    process.kill()
    process.check_log()


@pytest.fixture
def busy_server(single_worker: Server, heavy_jpeg: bytes) -> Iterator[Server]:
    """A server whose only worker is busy for a second or two, without other jobs."""
    for number in range(2):
        submit(single_worker, another(heavy_jpeg, number), mark="blur", format="png")
    yield single_worker
    for each in get(single_worker, "/v1/jobs?limit=200").json()["jobs"]:
        httpx.delete(each["url"])


def running(server: Server) -> str:
    """The id of the running job."""
    while True:
        if jobs := get(server, "/v1/jobs?status=running").json()["jobs"]:
            job_id: str = jobs[0]["id"]
            return job_id


# --- submit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", BOTH_IF_SLOW, indirect=True)
def test_a_photo_becomes_a_job_and_the_job_a_marked_picture(server: Server, astronaut_jpeg: bytes) -> None:
    answer = httpx.post(f"{server.url}/v1/detect", files={"image": astronaut_jpeg})
    assert answer.status_code == 202
    job = answer.json()
    assert job["status"] in ("queued", "running")
    assert answer.headers["location"] == job["url"] == f"{server.url}/v1/jobs/{job['id']}"
    assert answer.headers["x-request-id"]
    done = finished(server, job["id"])
    assert done["status"] == "succeeded"
    assert done["progress"] == 1.0
    assert done["error"] is done["cached"] is None
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    assert all(done[key].endswith("Z") for key in ("created_at", "started_at", "finished_at"))
    face = done["result"]["faces"][0]
    assert set(face) >= {"box", "box_relative", "score", "landmarks", "roll_degrees"}
    assert set(face["landmarks"]) == {"left_eye", "right_eye", "nose", "mouth_left", "mouth_right"}
    assert done["result"]["image"] == {"width": 512, "height": 512}
    (artifact,) = done["artifacts"]
    assert artifact["url"] == f"{server.url}/v1/jobs/{job['id']}/artifacts/marked.jpg"
    picture = httpx.get(artifact["url"])
    assert picture.headers["content-type"] == artifact["media_type"] == "image/jpeg"
    assert len(picture.content) == artifact["size"]
    assert Image.open(io.BytesIO(picture.content)).size == (artifact["width"], artifact["height"]) == (512, 512)


def _ways(photo: bytes) -> dict[str, dict[str, Any]]:
    text = base64.b64encode(photo).decode()
    folded = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    return {
        "multipart": {"files": {"image": ("a.jpg", photo, "image/jpeg")}},
        "multipart told as something else": {"files": {"image": ("../../x.exe", photo, "text/html")}},
        "multipart base64 field": {"files": {"image": (None, text)}},
        "base64": {"json": {"image": text}},
        "base64 in lines": {"json": {"image": folded}},
        "data URL": {"json": {"image": f"data:image/jpeg;base64,{text}"}},
        "data URL with parameters": {"json": {"image": f"DATA:image/png;name=x.png;BASE64,{text}"}},
    }


@pytest.mark.parametrize("way", _ways(b""))
def test_every_way_to_send_a_photo_leads_to_the_same(
    shared_server: Server, job: Json, astronaut_jpeg: bytes, way: str
) -> None:
    sent = _ways(another(astronaut_jpeg, 0))[way]
    answer = httpx.post(f"{shared_server.url}/v1/detect", headers=WAIT, timeout=60, **sent)
    assert answer.status_code == 200, answer.text
    assert answer.json()["result"] == job["result"]


def test_parameters_are_the_same_in_a_form_and_in_json(shared_server: Server, astronaut_jpeg: bytes) -> None:
    photo = another(astronaut_jpeg, 1)
    fields = {"min_score": 0.4, "max_faces": 1, "mark": "pixelate", "precise": True, "format": "png"}
    form = submit(shared_server, photo, wait=True, **{key: str(value) for key, value in fields.items()}, landmarks="")
    assert form["artifacts"][0]["name"] == "marked.png"
    as_json = {"image": base64.b64encode(photo).decode(), **fields}
    answer = httpx.post(f"{shared_server.url}/v1/detect", json=as_json, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["cached"] == "exact"


def test_no_face_is_a_success_without_a_picture(shared_server: Server) -> None:
    sky = as_jpeg(np.full((64, 64, 3), 128, np.uint8))
    done = submit(shared_server, sky, wait=True)
    assert (done["status"], done["result"]["faces"], done["artifacts"]) == ("succeeded", [], [])


# --- Prefer, Idempotency-Key, cache, followers -----------------------------------------------------------------------


def test_prefer_wait_holds_the_answer(shared_server: Server, astronaut_jpeg: bytes) -> None:
    photo = another(astronaut_jpeg, 2)
    for wait in ("respond-async, wait=30", "Wait=99999999999", "wait=30; x=y"):
        answer = httpx.post(
            f"{shared_server.url}/v1/detect", files={"image": photo}, headers={"Prefer": wait}, timeout=90
        )
        assert answer.status_code == 200
        assert answer.headers["preference-applied"] == "wait"
        assert answer.json()["status"] == "succeeded"


def test_prefer_wait_ends_in_time_with_the_unfinished_job(busy_server: Server, heavy_jpeg: bytes) -> None:
    answer = httpx.post(
        f"{busy_server.url}/v1/detect", files={"image": another(heavy_jpeg, 2)}, headers={"Prefer": "wait=1"}
    )
    assert answer.status_code == 202
    assert answer.json()["status"] in ("queued", "running")


def test_an_idempotency_key_makes_a_repeat_the_same_job(shared_server: Server, astronaut_jpeg: bytes) -> None:
    def send(number: int, **fields: str) -> httpx.Response:
        return httpx.post(
            f"{shared_server.url}/v1/detect",
            files={"image": another(astronaut_jpeg, number)},
            data=fields,
            headers={"Idempotency-Key": "order 66", **WAIT},
            timeout=60,
        )

    with ThreadPoolExecutor(4) as pool:  # also while the first is still running
        answers = list(pool.map(send, [3] * 4))
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert {answer.json()["status"] for answer in answers} == {"succeeded"}
    assert send(3).json() == answers[0].json()
    problem(send(4), 422, "invalid-request")
    problem(send(3, mark="blur"), 422, "invalid-request")


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_invalid_idempotency_key_is_refused(shared_server: Server, astronaut_jpeg: bytes, key: str) -> None:
    answer = httpx.post(
        f"{shared_server.url}/v1/detect", files={"image": astronaut_jpeg}, headers={"Idempotency-Key": key}
    )
    problem(answer, 422, "invalid-request")


def test_the_same_again_is_answered_from_the_cache(shared_server: Server, astronaut_jpeg: bytes) -> None:
    photo = another(astronaut_jpeg, 5)
    first = submit(shared_server, photo, wait=True)
    with client(shared_server) as session:
        answer = session.post("/v1/detect", files={"image": photo})
        assert answer.status_code == 200
        again = answer.json()
        assert again["cached"] == "exact"
        assert again["id"] != first["id"]
        assert again["result"] == first["result"]
        pictures = [session.get(each["artifacts"][0]["url"]).content for each in (first, again)]
        assert pictures[0] == pictures[1]
        other = session.post("/v1/detect", files={"image": photo}, data={"min_score": "0.51"})
        assert other.json()["cached"] is None


def test_identical_jobs_at_the_same_time_are_computed_once(busy_server: Server, astronaut_jpeg: bytes) -> None:
    shared_before = metric(busy_server, "limner_jobs_submitted_total", how="shared")
    with ThreadPoolExecutor(4) as pool:
        twins = list(pool.map(lambda _: submit(busy_server, astronaut_jpeg), range(4)))
    done = [finished(busy_server, twin["id"]) for twin in twins]
    assert {each["status"] for each in done} == {"succeeded"}
    assert sorted(str(each["cached"]) for each in done) == ["None", "exact", "exact", "exact"]
    assert len({str(each["result"]) for each in done}) == 1
    assert metric(busy_server, "limner_jobs_submitted_total", how="shared") == shared_before + 3
    ids = {twin["id"] for twin in twins}
    started = [event for event in all_events(busy_server) if event["type"] == "job.running"]
    assert len([event for event in started if event["job"]["id"] in ids]) == 1


def test_a_full_queue_is_an_error_and_loses_nothing(busy_server: Server, astronaut_jpeg: bytes) -> None:
    accepted, refused = [], None
    for number in range(20):
        answer = httpx.post(f"{busy_server.url}/v1/detect", files={"image": another(astronaut_jpeg, number)})
        if answer.status_code == 429:
            refused = answer
            break
        accepted.append(answer.json()["id"])
    assert refused is not None
    assert problem(refused, 429, "queue-full")["retryable"] is True
    assert int(refused.headers["retry-after"]) > 0
    refused_photo = hashlib.sha256(another(astronaut_jpeg, len(accepted))).hexdigest()
    assert refused_photo not in {path.parent.name + path.name for path in blobs(busy_server)}
    for job_id in accepted:
        assert finished(busy_server, job_id)["status"] == "succeeded"


# --- lists -----------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_pages_follow_one_another(server: Server, astronaut_jpeg: bytes) -> None:
    ids = [submit(server, another(astronaut_jpeg, number))["id"] for number in range(7)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = get(server, f"/v1/jobs?limit=3&cursor={cursor}" if cursor else "/v1/jobs?limit=3").json()
        assert len(page["jobs"]) <= 3
        seen += [each["id"] for each in page["jobs"]]
        cursor = page["next_cursor"]
    assert seen == ids[::-1]
    for job_id in ids:
        finished(server, job_id)
    everything = get(server, "/v1/jobs").json()
    assert everything["next_cursor"] is None
    whole = get(server, f"/v1/jobs/{ids[-1]}").json()
    left_out = {name: whole.pop(name) for name in ("result", "parameters", "queue")}
    assert left_out["result"] is not None
    assert everything["jobs"][0] == whole
    assert len(get(server, "/v1/jobs?operation=detect&status=succeeded").json()["jobs"]) == 7
    assert get(server, "/v1/jobs?operation=contours").json()["jobs"] == []
    assert get(server, "/v1/jobs?status=failed").json()["jobs"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "status=done", f"cursor={'x' * 65}"])
def test_the_list_refuses_what_it_cannot_understand(shared_server: Server, query: str) -> None:
    problem(get(shared_server, f"/v1/jobs?{query}"), 422, "invalid-request")


def test_operations_say_what_they_take_and_give(shared_server: Server) -> None:
    operations = {each["name"]: each for each in get(shared_server, "/v1/operations").json()["operations"]}
    detect = operations["detect"]
    assert detect["url"] == f"{shared_server.url}/v1/detect"
    assert set(detect["parameters"]["properties"]) >= {"image", "min_score", "max_faces", "mark", "precise", "format"}
    assert set(detect["result"]["properties"]) >= {"image", "faces"}


# --- cancel and erase ------------------------------------------------------------------------------------------------


def test_a_queued_job_can_be_cancelled_once(busy_server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(busy_server, astronaut_jpeg)
    answer = httpx.post(f"{job['url']}/cancel")
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["finished_at"]
    problem(httpx.post(f"{job['url']}/cancel"), 409, "job-finished")


def test_a_running_job_stops_at_its_next_step(busy_server: Server) -> None:
    job_id = running(busy_server)
    assert httpx.post(f"{busy_server.url}/v1/jobs/{job_id}/cancel").json()["status"] == "cancelled"
    assert running(busy_server) != job_id  # the worker is free for the next
    job = get(busy_server, f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["result"], job["artifacts"]) == ("cancelled", None, [])
    assert any(line["message"] == "job overtaken" and line["job"] == job_id for line in busy_server.log_lines())


def test_cancelling_a_leader_lets_its_follower_run(busy_server: Server, astronaut_jpeg: bytes) -> None:
    leader, twin = (submit(busy_server, astronaut_jpeg) for _ in range(2))
    httpx.post(f"{leader['url']}/cancel")
    assert finished(busy_server, twin["id"])["status"] == "succeeded"
    assert get(busy_server, f"/v1/jobs/{leader['id']}").json()["status"] == "cancelled"


def test_a_finished_job_cannot_be_cancelled(shared_server: Server, job: Json) -> None:
    problem(httpx.post(f"{job['url']}/cancel"), 409, "job-finished")
    assert get(shared_server, f"/v1/jobs/{job['id']}").json() == job


@pytest.mark.parametrize("server", BOTH, indirect=True)
def test_erasing_leaves_nothing_of_a_job(server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(server, astronaut_jpeg, wait=True)
    assert len(blobs(server)) == 3
    answer = httpx.delete(job["url"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert blobs(server) == []
    problem(get(server, job["url"]), 404, "not-found")
    problem(get(server, job["artifacts"][0]["url"]), 404, "not-found")
    problem(httpx.delete(job["url"]), 404, "not-found")
    problem(httpx.post(f"{job['url']}/cancel"), 404, "not-found")
    assert get(server, "/v1/jobs").json()["jobs"] == []
    for event in all_events(server):
        assert event["job"] == {"id": job["id"], "operation": "detect"}
    assert rows(server, "SELECT count(*) FROM files") == [(0,)]
    assert submit(server, astronaut_jpeg, wait=True)["cached"] is None  # its cache entry was removed too


def test_erasing_one_of_two_with_the_same_photo_keeps_the_others_picture(server: Server, astronaut_jpeg: bytes) -> None:
    one, two = (submit(server, astronaut_jpeg, wait=True) for _ in range(2))
    httpx.delete(one["url"])
    assert get(server, two["artifacts"][0]["url"]).status_code == 200
    httpx.delete(two["url"])
    assert blobs(server) == []


def test_erasing_while_it_runs(busy_server: Server) -> None:
    job_id = running(busy_server)
    others = {each["id"] for each in get(busy_server, "/v1/jobs").json()["jobs"]} - {job_id}
    assert httpx.delete(f"{busy_server.url}/v1/jobs/{job_id}").status_code == 204
    for other in others:
        assert finished(busy_server, other)["status"] == "succeeded"
    problem(get(busy_server, f"/v1/jobs/{job_id}"), 404, "not-found")
    assert len(blobs(busy_server)) == 3  # the other photo, its picture and its thumbnail


def test_submitting_and_erasing_the_same_photo_at_once_loses_no_job(server: Server, astronaut_jpeg: bytes) -> None:
    ended = threading.Event()

    def erase() -> None:
        with client(server) as session:
            while not ended.is_set():
                for job in session.get("/v1/jobs?status=succeeded").json()["jobs"][4:]:
                    session.delete(job["url"])

    eraser = threading.Thread(target=erase)
    eraser.start()
    try:
        with client(server) as session:
            for number in range(40):
                answer = session.post("/v1/detect", files={"image": another(astronaut_jpeg, number % 2)}, headers=WAIT)
                assert answer.status_code == 200, answer.text
                assert answer.json()["status"] == "succeeded"
                assert session.get(answer.json()["artifacts"][0]["url"]).status_code == 200
    finally:
        ended.set()
        eraser.join()


# --- artifacts -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def artifact(shared_server: Server, job: Json) -> httpx.Response:
    """The marked picture."""
    return get(shared_server, job["artifacts"][0]["url"])


def test_an_artifact_never_changes(artifact: httpx.Response) -> None:
    assert artifact.status_code == 200
    assert artifact.headers["etag"] == f'"{hashlib.sha256(artifact.content).hexdigest()}"'
    assert "immutable" in artifact.headers["cache-control"]
    assert artifact.headers["accept-ranges"] == "bytes"
    assert artifact.headers["x-content-type-options"] == "nosniff"


def test_head_has_the_same_headers_without_the_bytes(artifact: httpx.Response) -> None:
    head = httpx.head(artifact.url)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-length", "content-type", "cache-control"):
        assert head.headers[name] == artifact.headers[name]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_a_known_artifact_is_not_sent_again(shared_server: Server, artifact: httpx.Response, form: str) -> None:
    again = get(shared_server, str(artifact.url), **{"If-None-Match": form.format(artifact.headers["etag"])})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == artifact.headers["etag"]
    assert get(shared_server, str(artifact.url), **{"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "part"), [("0-9", slice(0, 10)), ("100-", slice(100, None)), ("-7", slice(-7, None))]
)
def test_a_part_of_an_artifact(shared_server: Server, artifact: httpx.Response, asked: str, part: slice) -> None:
    answer = get(shared_server, str(artifact.url), Range=f"bytes={asked}")
    assert answer.status_code == 206
    assert answer.content == artifact.content[part]
    start = range(len(artifact.content))[part].start
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(artifact.content)}"
    stale = get(shared_server, str(artifact.url), **{"Range": f"bytes={asked}", "If-Range": '"other"'})
    assert (stale.status_code, stale.content) == (200, artifact.content)


def test_a_part_that_is_not_there_is_refused(shared_server: Server, artifact: httpx.Response) -> None:
    answer = get(shared_server, str(artifact.url), Range="bytes=99999999-")
    problem(answer, 416, "range-not-satisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(artifact.content)}"


@pytest.mark.parametrize("asked", ["bytes", "lines=1-2", "bytes=", "bytes=a-b", "bytes=5-1"])
def test_a_range_that_makes_no_sense_is_ignored(shared_server: Server, artifact: httpx.Response, asked: str) -> None:
    answer = get(shared_server, str(artifact.url), Range=asked)
    assert (answer.status_code, answer.content) == (200, artifact.content)


def test_unknown_artifacts(shared_server: Server, job: Json) -> None:
    problem(get(shared_server, f"{job['url']}/artifacts/other.jpg"), 404, "not-found")
    problem(get(shared_server, f"{job['url']}/artifacts/..%2F..%2Flimner.db"), 404, "not-found")
    problem(get(shared_server, "/v1/jobs/unknown/artifacts/marked.jpg"), 404, "not-found")


def test_a_queued_job_tells_its_place(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_WORKERS="1")
    submit(server, another(astronaut_jpeg, 1), wait=True)  # so that a duration is known
    jobs = [submit(server, another(astronaut_jpeg, 10 + number), precise="true") for number in range(12)]
    assert all(job["queue"] is None for job in jobs)  # it is found only where it is asked for
    last = get(server, jobs[-1]["url"]).json()
    assert last["status"] == "queued"
    assert 1 <= last["queue"]["position"] <= 12
    assert 0 <= last["queue"]["age_s"] < 60
    assert last["queue"]["eta_s"] > 0
    before = get(server, jobs[-2]["url"]).json()
    if before["status"] == "queued":
        assert before["queue"]["position"] < last["queue"]["position"]
    assert finished(server, last["id"])["queue"] is None
