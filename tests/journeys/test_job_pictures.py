"""A job's photo, thumbnail and label over HTTP."""

import base64
import io
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.conftest import another, as_jpeg
from tests.journeys.client import Json, all_events, get, problem, rows, submit
from tests.journeys.conftest import BOTH_IF_SLOW, make_server, served
from tests.journeys.server import Server

Pixels = npt.NDArray[np.uint8]
WAIT = {"Prefer": "wait=60"}


@pytest.fixture(scope="module", params=BOTH_IF_SLOW)
def shared_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for all tests of this file, which must not disturb each other."""
    yield from served(make_server(tmp_path_factory.mktemp("server"), request))


def picture_at(server: Server, url: str) -> Image.Image:
    answer = get(server, url)
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def face_of(job: Json, picture: Image.Image) -> Pixels:
    """The pixels of the first face's middle, where it is in a picture of another size."""
    box = job["result"]["faces"][0]["box_relative"]
    left, top = (box["x"] + box["width"] / 4) * picture.width, (box["y"] + box["height"] / 4) * picture.height
    right, bottom = left + box["width"] / 2 * picture.width, top + box["height"] / 2 * picture.height
    return np.asarray(picture.convert("RGB").crop((round(left), round(top), round(right), round(bottom))), np.uint8)


# --- the photo -------------------------------------------------------------------------------------------------------


def test_the_photo_comes_back_as_it_was_sent(shared_server: Server, astronaut: Pixels) -> None:
    png = io.BytesIO()
    Image.fromarray(astronaut[:200]).save(png, "PNG")
    job = submit(shared_server, png.getvalue(), wait=True, label="Ärger: 'a/b' \u202egpj.exe.png")
    answer = get(shared_server, job["photo"])
    assert (answer.status_code, answer.content) == (200, png.getvalue())
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"].startswith("private")
    told = answer.headers["content-disposition"]
    found = re.fullmatch(r"inline; filename=\"([ -~]+)\"; filename\*=UTF-8''([\w.%~-]+)", told)
    assert found is not None, told
    assert found[1] == "Arger_ 'a_b' gpj.exe.png"
    assert unquote(found[2]) == "Ärger_ 'a_b' gpj.exe.png"
    etag = answer.headers["etag"]
    head = httpx.head(job["photo"], timeout=60)
    assert (head.status_code, head.headers["etag"], head.content) == (200, etag, b"")
    assert head.headers["content-length"] == str(len(png.getvalue()))
    part = get(shared_server, job["photo"], Range="bytes=2-9")
    assert (part.status_code, part.content) == (206, png.getvalue()[2:10])
    assert part.headers["content-disposition"] == told
    assert get(shared_server, job["photo"], **{"If-None-Match": etag}).status_code == 304
    problem(get(shared_server, job["photo"], Range="bytes=999999999-"), 416, "range-not-satisfiable")


def test_without_a_label_the_name_is_the_id(shared_server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(shared_server, another(astronaut_jpeg, 1), wait=True)
    told = get(shared_server, job["photo"]).headers["content-disposition"]
    assert told.startswith(f'inline; filename="photo-{job["id"]}.jpg"')


# --- the thumbnail ---------------------------------------------------------------------------------------------------


def test_the_thumbnail_is_upright_small_and_webp(shared_server: Server, astronaut: Pixels) -> None:
    wide = np.repeat(astronaut, 2, axis=1)  # 1024 × 512
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by 90° clockwise
    Image.fromarray(np.ascontiguousarray(np.rot90(wide))).save(turned, "JPEG", quality=90, exif=exif)
    job = submit(shared_server, turned.getvalue(), wait=True, mark="none")
    answer = get(shared_server, job["thumbnail"])
    assert answer.headers["content-type"] == "image/webp"
    small = Image.open(io.BytesIO(answer.content))
    assert (small.format, small.size) == ("WEBP", (480, 240))
    expected = Image.fromarray(wide).resize((480, 240), Image.Resampling.BOX)
    assert np.abs(np.asarray(small.convert("RGB"), int) - np.asarray(expected, int)).mean() < 8
    assert get(shared_server, job["thumbnail"], **{"If-None-Match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("mark", ["solid", "blur", "pixelate"])
def test_a_thumbnail_does_not_undo_covering(shared_server: Server, astronaut_jpeg: bytes, mark: str) -> None:
    photo = another(astronaut_jpeg, 2)
    job = submit(shared_server, photo, wait=True, mark=mark, format="png")
    small = picture_at(shared_server, job["thumbnail"])
    covered = picture_at(shared_server, job["artifacts"][0]["url"]).convert("RGB").resize(small.size)
    bare = Image.open(io.BytesIO(photo)).resize(small.size)
    shown = face_of(job, small).astype(int)
    assert np.abs(shown - face_of(job, covered)).mean() < 10
    assert np.abs(shown - face_of(job, bare)).mean() > 20


def test_boxes_that_are_covered_are_covered_in_the_thumbnail(shared_server: Server, astronaut_jpeg: bytes) -> None:
    boxes = '[{"x": 0, "y": 0, "width": 512, "height": 512}]'
    job = submit(shared_server, another(astronaut_jpeg, 3), wait=True, mark="solid", colour="red", boxes=boxes)
    small = np.asarray(picture_at(shared_server, job["thumbnail"]).convert("RGB"), int)
    assert np.abs(small - [255, 0, 0]).max() < 40


def test_a_pipeline_that_covers_shows_what_is_covered(shared_server: Server, astronaut_jpeg: bytes) -> None:
    steps = '[{"operation": "crop"}, {"operation": "detect", "mark": "solid", "colour": "#00ff00"}]'
    job = submit(shared_server, another(astronaut_jpeg, 4), wait=True, path="/v1/pipeline", steps=steps)
    assert job["status"] == "succeeded", job
    small = picture_at(shared_server, job["thumbnail"])
    found = {"result": job["result"]["steps"]["detect"]["result"]}
    assert np.abs(face_of(found, small).astype(int) - [0, 255, 0]).mean() < 25


@pytest.mark.parametrize(
    ("path", "fields", "shows"),
    [
        ("/v1/contours", {}, "the photo"),
        ("/v1/generate", {"style": "ink"}, "the picture"),
        ("/v1/crop", {"width": "100", "height": "50"}, "the picture"),
        ("/v1/samples", {"size": "64"}, "the photo"),
    ],
)
def test_what_it_shows(
    shared_server: Server, astronaut_jpeg: bytes, path: str, fields: dict[str, str], shows: str
) -> None:
    photo = another(astronaut_jpeg, 5)
    job = submit(shared_server, photo, wait=True, path=path, **fields)
    assert job["status"] == "succeeded", job
    small = picture_at(shared_server, job["thumbnail"]).convert("RGB")
    source = photo if shows == "the photo" else get(shared_server, job["artifacts"][0]["url"]).content
    expected = Image.open(io.BytesIO(source)).convert("RGB")
    expected.thumbnail((480, 480))
    assert small.size == expected.size
    assert np.abs(np.asarray(small, int) - np.asarray(expected, int)).mean() < 12


def test_a_job_that_failed_shows_its_photo(shared_server: Server) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    job = submit(shared_server, as_jpeg(noise), wait=True, path="/v1/contours")
    assert job["error"]["type"].endswith("no-face-found")
    assert picture_at(shared_server, job["thumbnail"]).size == (64, 64)


def test_a_cached_answer_has_the_thumbnail_too(shared_server: Server, astronaut_jpeg: bytes) -> None:
    photo = another(astronaut_jpeg, 6)
    first, second = (submit(shared_server, photo, wait=True) for _ in range(2))
    assert second["cached"] == "exact"
    one, other = (get(shared_server, each["thumbnail"]) for each in (first, second))
    assert one.content == other.content


def test_what_does_not_exist_is_not_found(shared_server: Server) -> None:
    answer = get(shared_server, "/v1/jobs/0193-no-such-job/photo")
    problem(answer, 404, "not-found")
    problem(get(shared_server, "/v1/jobs/0193-no-such-job/thumbnail"), 404, "not-found")


# --- the label -------------------------------------------------------------------------------------------------------


def _send(server: Server, photo: bytes, label: Any, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{server.url}/v1/detect", files={"image": photo}, data={"label": label}, headers=headers, timeout=60
    )


def test_a_label_is_told_everywhere_and_changes_no_result(shared_server: Server, astronaut_jpeg: bytes) -> None:
    photo = another(astronaut_jpeg, 7)
    first = _send(shared_server, photo, "  Ferien 2026/IMG_0001.jpg ", **WAIT).json()
    assert first["label"] == "Ferien 2026/IMG_0001.jpg"
    assert first["parameters"] == {"mark": "box", "precise": False, "landmarks": "five"}
    second = _send(shared_server, photo, "another", **WAIT).json()
    assert (second["cached"], second["label"]) == ("exact", "another")
    assert get(shared_server, first["url"]).json()["label"] == first["label"]
    listed = get(shared_server, "/v1/jobs?limit=2").json()["jobs"]
    assert {each["label"] for each in listed} == {first["label"], "another"}
    told = [each["job"] for each in all_events(shared_server, job=first["id"])]
    assert {each["label"] for each in told} == {first["label"]}
    assert [each["thumbnail"] for each in told] == [None] * (len(told) - 1) + [first["thumbnail"]]


def test_a_label_in_json_and_no_label(shared_server: Server, astronaut_jpeg: bytes) -> None:
    image = base64.b64encode(another(astronaut_jpeg, 8)).decode()
    for label, expected in (("a\u200db 🙂", "a\u200db 🙂"), ("", None), ("   ", None), (None, None)):
        answer = httpx.post(f"{shared_server.url}/v1/detect", json={"image": image, "label": label}, timeout=60)
        assert answer.status_code in (200, 202), answer.text
        assert answer.json()["label"] == expected


@pytest.mark.parametrize("label", ["x" * 201, "two\nlines", "nul\0", "esc\x1b[2J", "line\u2028", "c1\x85"])
def test_a_wrong_label_is_refused(shared_server: Server, astronaut_jpeg: bytes, label: str) -> None:
    answer = problem(_send(shared_server, astronaut_jpeg, label), 422, "invalid-request")
    assert answer["field"] == "label"


@pytest.mark.parametrize("label", [["a"], 7, {"a": 1}, True])
def test_a_label_that_is_no_text_is_refused(shared_server: Server, label: Any) -> None:
    answer = httpx.post(f"{shared_server.url}/v1/detect", json={"image": "", "label": label}, timeout=60)
    assert problem(answer, 422, "invalid-request")["detail"].startswith("label: ")


def test_a_repeat_keeps_the_first_label(shared_server: Server, astronaut_jpeg: bytes) -> None:
    photo = another(astronaut_jpeg, 9)
    key = {"Idempotency-Key": "label test"}
    first = _send(shared_server, photo, "first", **key).json()
    again = _send(shared_server, photo, "second", **key).json()
    assert (again["id"], again["label"]) == (first["id"], "first")


def test_labels_are_in_no_log(shared_server: Server, astronaut_jpeg: bytes) -> None:
    job = _send(shared_server, another(astronaut_jpeg, 10), "Unlogged-Label", **WAIT).json()
    log = str(shared_server.log_lines())
    assert job["id"] in log
    assert "Unlogged-Label" not in log


def test_erasing_leaves_neither_label_nor_thumbnail(shared_server: Server, astronaut: Pixels) -> None:
    photo = as_jpeg(np.ascontiguousarray(astronaut[:, ::-1]))  # other pixels: no other job has the same thumbnail
    job = _send(shared_server, photo, "Erased-Label", **WAIT).json()
    (sha256,) = rows(shared_server, "SELECT sha256 FROM files WHERE job_id = ? AND role = 'thumbnail'", job["id"])
    assert get(shared_server, job["thumbnail"]).status_code == 200
    receipt = httpx.delete(job["url"], headers={"Prefer": "return=representation"}, timeout=60).json()
    assert sha256[0] in {each["sha256"] for each in receipt["removed"]["blobs"]}
    for url in (job["url"], job["thumbnail"], job["photo"]):
        problem(get(shared_server, url), 404, "not-found")
    assert rows(shared_server, "SELECT id FROM files WHERE sha256 = ?", *sha256) == []
    assert rows(shared_server, "SELECT sha256 FROM blobs WHERE sha256 = ?", *sha256) == []
    assert not [path for path in (shared_server.folder / "blobs").rglob("*") if sha256[0] in str(path)]
    assert rows(shared_server, "SELECT id FROM jobs WHERE label = ?", "Erased-Label") == []
    assert rows(shared_server, "SELECT id FROM events WHERE content LIKE ?", "%Erased-Label%") == []
