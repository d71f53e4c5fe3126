"""Contours on a real server: `/v1/contours`, the classic paths, and both caches."""

import base64
import io
import json
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import as_jpeg
from tests.journeys.server import Server

FINAL = ("succeeded", "failed", "cancelled")


def post(server: Server, path: str, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
    """POST JSON; status and JSON, also of an error."""
    request = urllib.request.Request(
        server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def get(server: Server, path: str) -> tuple[int, dict[str, Any]]:
    """GET; status and JSON."""
    try:
        with urllib.request.urlopen(server.url + path, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def text(data: bytes) -> str:
    """Base64, as JSON carries pictures."""
    return base64.b64encode(data).decode()


def settled(server: Server, path: str, timeout_s: float = 30) -> dict[str, Any]:
    """A classic status once it is completed or failed."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        _, told = get(server, path)
        if told["status"] in ("completed", "failed"):
            return told
        assert told["status"] in ("pending", "processing")
        time.sleep(0.05)
    raise AssertionError(f"{path} did not settle")


@pytest.fixture(scope="module")
def job(shared_server: Server, astronaut_jpeg: bytes) -> dict[str, Any]:
    """A contours job of the photo alone."""
    status, job = post(shared_server, "/v1/contours", {"image": text(astronaut_jpeg)}, Prefer="wait=30")
    assert status == 200
    assert job["status"] == "succeeded", job["error"]
    return job


@pytest.fixture(scope="module")
def label_map(job: dict[str, Any]) -> bytes:
    """A map of the same photo at another size: skin within the landmarks' extent, hair above it."""
    xs = [point["x"] for point in job["result"]["landmarks"]]
    ys = [point["y"] for point in job["result"]["landmarks"]]
    left, right, top, bottom = (round(value / 2) for value in (min(xs), max(xs), min(ys), max(ys)))
    values = np.zeros((256, 256), np.uint8)
    values[max(0, top - 20) : bottom, left:right] = 1
    values[max(0, top - 40) : max(0, top - 20), left:right] = 10
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


def test_a_photo_alone_gives_named_regions(shared_server: Server, job: dict[str, Any]) -> None:
    result = job["result"]
    assert result["landmarks_source"] == "server"
    assert len(result["landmarks"]) == 478
    assert result["presence"] > 0.9
    assert {"forehead", "left_cheek", "right_cheek", "nose", "chin", "upper_lip"} <= set(result["mask_contours"])
    (artifact,) = job["artifacts"]
    assert (artifact["name"], artifact["media_type"]) == ("contours.svg", "image/svg+xml")
    with urllib.request.urlopen(artifact["url"], timeout=30) as answer:
        assert answer.headers["Content-Type"].startswith("image/svg+xml")
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        drawing = ET.parse(answer).getroot()
    groups = {group.get("data-region") for group in drawing.iter("{http://www.w3.org/2000/svg}g")} - {None}
    assert groups == set(result["mask_contours"])
    assert drawing.find("{http://www.w3.org/2000/svg}image") is not None or "image" in str(ET.tostring(drawing))


def test_the_transform_leads_from_the_photo_into_the_regions(job: dict[str, Any]) -> None:
    result = job["result"]
    tip = result["landmarks"][4]
    x, y, w = np.array(result["transform"]) @ (tip["x"], tip["y"], 1)
    assert w == pytest.approx(1)
    ring = np.array(result["mask_contours"]["nose"][0])
    assert ring[:, 0].min() < x < ring[:, 0].max()
    assert ring[:, 1].min() < y < ring[:, 1].max()


def test_the_clients_landmarks_and_map_are_used(
    shared_server: Server, astronaut_jpeg: bytes, job: dict[str, Any], label_map: bytes
) -> None:
    body = {
        "image": text(astronaut_jpeg),
        "landmarks": job["result"]["landmarks"],
        "segmentation_map": text(label_map),
        "photo": False,
        "style": "light",
    }
    status, found = post(shared_server, "/v1/contours", body, Prefer="wait=30")
    assert status == 200
    assert found["status"] == "succeeded", found["error"]
    assert found["result"]["landmarks_source"] == "client"
    assert "hair" in found["result"]["mask_contours"]
    assert any("256×256" in line for line in found["result"]["assumptions"])
    with urllib.request.urlopen(found["artifacts"][0]["url"], timeout=30) as answer:
        drawing = answer.read()
    assert len(drawing) <= 30_000
    assert b"#AFC0C4" in drawing
    assert b"<image" not in drawing


def test_own_regions(shared_server: Server, astronaut_jpeg: bytes) -> None:
    body = {"image": text(astronaut_jpeg), "scheme": "own", "regions": {"patch <&>": [50, 101, 36, 205]}}
    _, found = post(shared_server, "/v1/contours", body, Prefer="wait=30")
    assert list(found["result"]["mask_contours"]) == ["patch <&>"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"landmarks": [{"x": 1, "y": 1}] * 5}, "5 landmarks"),
        ({"landmarks": [{"x": 9, "y": 9}] * 478}, "collapsed"),
        ({"landmarks": [{"x": -9000, "y": 9}] * 478}, "Landmark 0"),
        (
            {"landmarks": [{"x": "a", "y": 9}] * 478},
            "landmarks.0: A landmark must be an object with the numbers x and y",
        ),
        ({"segmentation_map": "!!"}, "base64"),
        ({"scheme": "eight"}, "scheme"),
        ({"fill": "url(#x)"}, "fill"),
        ({"padding": 99}, "padding"),
        ({"typo": 1}, "typo"),
    ],
)
def test_bad_input_is_refused_at_once(
    shared_server: Server, astronaut_jpeg: bytes, change: dict[str, Any], says: str
) -> None:
    status, problem = post(shared_server, "/v1/contours", {"image": text(astronaut_jpeg), **change})
    assert status == 422
    assert says in problem["detail"]


def test_a_photo_as_map_fails_the_job(shared_server: Server, astronaut_jpeg: bytes) -> None:
    body = {"image": text(astronaut_jpeg), "segmentation_map": text(astronaut_jpeg)}
    status, failed = post(shared_server, "/v1/contours", body, Prefer="wait=30")
    assert status == 200
    assert failed["status"] == "failed"
    assert failed["error"]["status"] == 422
    assert "label picture" in failed["error"]["detail"]


def test_a_map_of_another_aspect_ratio_is_refused_at_once(shared_server: Server, astronaut_jpeg: bytes) -> None:
    body = {"image": text(astronaut_jpeg)}
    file = io.BytesIO()
    Image.new("L", (200, 100), 1).save(file, "PNG")
    body["segmentation_map"] = text(file.getvalue())
    status, problem = post(shared_server, "/v1/contours", body)
    assert status == 422
    assert "aspect" in problem["detail"]


def test_no_face(shared_server: Server) -> None:
    blank = as_jpeg(np.full((200, 200, 3), 127, np.uint8))
    _, failed = post(shared_server, "/v1/contours", {"image": text(blank)}, Prefer="wait=30")
    assert failed["status"] == "failed"
    assert failed["error"]["type"] == "urn:limner:problem:no-face-found"
    assert failed["error"]["status"] == 422


@pytest.mark.parametrize(("family", "keys"), [("/api/v1", {"1"}), ("/api/v1/frontal/crop", {"1", "2", "3", "4", "5"})])
@pytest.mark.parametrize("given", ["everything", "photo"])
def test_classic_submit_and_status(
    shared_server: Server,
    astronaut_jpeg: bytes,
    job: dict[str, Any],
    label_map: bytes,
    family: str,
    keys: set[str],
    given: str,
) -> None:
    body: dict[str, Any] = {"image": text(astronaut_jpeg), "loadtest_mode": True}
    if given == "everything":
        body |= {"landmarks": job["result"]["landmarks"], "segmentation_map": text(label_map)}
    status, accepted = post(shared_server, f"{family}/submit", body)
    assert (status, accepted["status"]) == (202, "pending")
    done = settled(shared_server, f"{family}/status/{accepted['id']}")
    assert done["status"] == "completed", done
    assert set(done) == {"id", "status", "svg", "mask_contours"}
    drawing = base64.b64decode(done["svg"])
    assert ET.fromstring(drawing).tag.endswith("svg")
    assert b'fill="#A16AA9" stroke="#A16AA9"' in drawing
    assert keys <= set(done["mask_contours"])
    again = post(shared_server, f"{family}/submit", body)[1]
    assert again["id"] != accepted["id"]
    assert get(shared_server, f"/v1/jobs/{again['id']}")[1]["cached"] == "exact"


def test_classic_failures(shared_server: Server) -> None:
    assert get(shared_server, "/api/v1/status/no-such-id")[0] == 404
    assert post(shared_server, "/api/v1/submit", {"image": "!"})[0] == 422
    blank = as_jpeg(np.full((64, 64, 3), 90, np.uint8))
    _, accepted = post(shared_server, "/api/v1/frontal/crop/submit", {"image": text(blank)})
    failed = settled(shared_server, f"/api/v1/frontal/crop/status/{accepted['id']}")
    assert failed["status"] == "failed"
    assert "face" in failed["error"].lower()


def test_the_simulated_delay_is_skipped_in_loadtest_mode(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = Server(tmp_path, SIMULATED_DELAY_S="30")
    server.start()
    try:
        body: dict[str, Any] = {"image": text(astronaut_jpeg)}
        slow = post(server, "/api/v1/frontal/crop/submit", body)[1]["id"]
        quick = post(server, "/api/v1/frontal/crop/submit", {**body, "loadtest_mode": True})[1]["id"]
        assert settled(server, f"/api/v1/frontal/crop/status/{quick}")["status"] == "completed"
        processing = {"id": slow, "status": "processing"}
        assert get(server, f"/api/v1/frontal/crop/status/{slow}") == (200, processing)
        assert get(server, f"/api/v1/status/{slow}") == (202, processing)  # as its own clients expect
        assert get(server, f"/api/v1/status/{quick}")[0] == 200
        assert get(server, f"/v1/jobs/{slow}")[1]["status"] in FINAL, "no worker waits for it"
    finally:
        server.stop()


def test_a_similar_photo_answers_only_if_requested(
    shared_server: Server, astronaut: np.ndarray[Any, np.dtype[np.uint8]], job: dict[str, Any]
) -> None:
    again = text(as_jpeg(astronaut, quality=61))
    _, fresh = post(shared_server, "/v1/contours", {"image": text(as_jpeg(astronaut, quality=62))}, Prefer="wait=30")
    assert fresh["cached"] is None
    status, found = post(shared_server, "/v1/contours", {"image": again, "cache": "similar"}, Prefer="wait=30")
    assert status == 200
    assert found["cached"] == "similar"
    assert 0 <= found["cache_distance"] <= 4
    assert found["result"] in (job["result"], fresh["result"])
    other = {"image": text(as_jpeg(astronaut, quality=60)), "cache": "similar", "padding": 0.2}
    assert post(shared_server, "/v1/contours", other, Prefer="wait=30")[1]["cached"] is None, "all else must be equal"
    mirrored = {"image": text(as_jpeg(np.ascontiguousarray(astronaut[:, ::-1]))), "cache": "similar"}
    assert post(shared_server, "/v1/contours", mirrored, Prefer="wait=30")[1]["cached"] is None


def test_detect_gives_the_mesh_when_asked(shared_server: Server, astronaut_jpeg: bytes) -> None:
    body = {"image": text(astronaut_jpeg), "landmarks": "mesh", "mark": "none"}
    _, found = post(shared_server, "/v1/detect", body, Prefer="wait=30")
    (face,) = found["result"]["faces"]
    points = np.array(face["mesh"]["points"])
    assert points.shape == (478, 3)
    eye = face["landmarks"]["left_eye"]
    assert np.hypot(*(points[468, :2] - (eye["x"], eye["y"]))) < 0.1 * face["box"]["width"]
    assert face["mesh"]["presence"] > 0.9
    assert abs(face["mesh"]["pose"]["roll"] - face["roll_degrees"]) < 8
    plain = post(shared_server, "/v1/detect", {**body, "landmarks": "five"}, Prefer="wait=30")[1]
    assert "mesh" not in plain["result"]["faces"][0]
