"""A job again, with other parameters: the stored photo is used."""

from typing import Any

import httpx
import pytest

from tests.conftest import another
from tests.journeys.client import Json, get, problem, rows, submit
from tests.journeys.server import Server

WAIT = {"Prefer": "wait=60"}


def rerun(job: Json, changes: Any = None, **headers: str) -> httpx.Response:
    """The answer; without changes the request has no body."""
    body = {} if changes is None else {"json": changes}
    return httpx.post(f"{job['url']}/rerun", headers={**WAIT, **headers}, timeout=120, **body)


@pytest.fixture(scope="module")
def blurred(shared_server: Server, astronaut_jpeg: bytes) -> Json:
    return submit(shared_server, another(astronaut_jpeg, 1), wait=True, mark="blur", margin="0.5", label="a.jpg")


def test_given_fields_replace_and_null_removes(shared_server: Server, blurred: Json) -> None:
    answer = rerun(blurred, {"mark": "solid", "colour": "red", "margin": None})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["id"] != blurred["id"]
    assert answer.headers["location"] == job["url"]
    assert (job["status"], job["cached"], job["label"]) == ("succeeded", None, "a.jpg")
    assert job["parameters"] == {"mark": "solid", "colour": "red", "precise": False, "landmarks": "five"}
    assert get(shared_server, job["photo"]).content == get(shared_server, blurred["photo"]).content
    assert get(shared_server, blurred["url"]).json()["parameters"]["mark"] == "blur", "the first job is as it was"


def test_without_changes_the_result_is_in_the_cache(blurred: Json) -> None:
    job = rerun(blurred).json()
    assert (job["cached"], job["parameters"]) == ("exact", blurred["parameters"])


@pytest.mark.parametrize(("label", "expected"), [("b.jpg", "b.jpg"), (None, None), ("", None)])
def test_the_label_can_be_changed(blurred: Json, label: str | None, expected: str | None) -> None:
    assert rerun(blurred, {"label": label}).json()["label"] == expected


def test_another_style_leaves_the_fields_of_the_first(shared_server: Server, astronaut_jpeg: bytes) -> None:
    made = submit(
        shared_server, another(astronaut_jpeg, 2), wait=True, path="/v1/generate", style="ink", detail="0.7", seed="7"
    )
    assert made["parameters"]["detail"] == 0.7
    job = rerun(made, {"style": "pixel", "colours": 8}).json()
    assert job["status"] == "succeeded", job
    told = job["parameters"]
    assert (told["style"], told["colours"], told["seed"], "detail" in told) == ("pixel", 8, 7, False)
    fresh = rerun(made, {"seed": None}).json()
    assert (fresh["cached"], fresh["parameters"]["style"], fresh["parameters"]["detail"]) == (None, "ink", 0.7)
    assert fresh["parameters"]["seed"] != 7


def test_the_steps_of_a_pipeline_are_replaced(shared_server: Server, astronaut_jpeg: bytes) -> None:
    made = submit(
        shared_server, another(astronaut_jpeg, 3), wait=True, path="/v1/pipeline", steps='[{"operation": "crop"}]'
    )
    job = rerun(made, {"steps": [{"operation": "crop", "width": 40}]}).json()
    assert [each["name"] for each in job["artifacts"]] == ["crop.crop.jpg"]
    assert job["artifacts"][0]["width"] == 40


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"mark": "purple"}, "mark"),
        ({"nonsense": 1}, "nonsense"),
        ({"image": "aGVsbG8="}, "image"),
        ({"image_url": "https://example.org/a.jpg"}, "image"),
        ({"label": "a\nb"}, "label"),
        ({"webhook_url": 7}, "webhook_url"),
    ],
)
def test_wrong_changes_name_the_field(blurred: Json, changes: Json, field: str) -> None:
    answer = problem(rerun(blurred, changes), 422, "invalid-request")
    assert answer["detail"].startswith(f"{field}: ")


def test_the_photo_cannot_be_left_out(blurred: Json) -> None:
    assert "image" in problem(rerun(blurred, {"image": None}), 422, "invalid-request")["detail"]


@pytest.mark.parametrize("body", [b"[]", b"7", b"{", b'"a"', b"\xff"])
def test_what_is_no_object_is_refused(blurred: Json, body: bytes) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    problem(httpx.post(f"{blurred['url']}/rerun", content=body, headers=headers, timeout=60), 422, "invalid-request")


def test_another_kind_of_body_is_refused(blurred: Json) -> None:
    answer = httpx.post(f"{blurred['url']}/rerun", data={"mark": "box"}, timeout=60)
    problem(answer, 415, "unsupported-media")


def test_a_repeat_is_the_same_job(blurred: Json) -> None:
    one, other = (rerun(blurred, {"mark": "pixelate"}, **{"Idempotency-Key": "again"}).json() for _ in range(2))
    assert one["id"] == other["id"]
    problem(rerun(blurred, {"mark": "box", "margin": None}, **{"Idempotency-Key": "again"}), 422, "invalid-request")


def test_an_erased_job_cannot_be_run_again(shared_server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(shared_server, another(astronaut_jpeg, 4), wait=True)
    assert httpx.delete(job["url"], timeout=60).status_code == 204
    problem(rerun(job), 404, "not-found")


def test_a_photo_that_is_lost_is_gone(shared_server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(shared_server, another(astronaut_jpeg, 5), wait=True)
    ((sha256,),) = rows(shared_server, "SELECT sha256 FROM files WHERE job_id = ? AND role = 'input'", job["id"])
    (path,) = (each for each in (shared_server.folder / "blobs").rglob("*") if each.name.startswith(sha256[2:]))
    path.unlink()
    problem(rerun(job, {"mark": "blur"}), 410, "gone")
