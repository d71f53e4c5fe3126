"""`generate` and its painters over HTTP."""

import base64
import json

import httpx
import jsonschema_rs
import numpy as np
import pytest

from tests.conftest import another, as_jpeg
from tests.journeys.client import finished, get, problem
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server

QUICK = {"style": "pixel", "size": "96"}


@pytest.fixture(name="server")
def _server(shared_server: Server) -> Server:
    return shared_server


def submit(server: Server, photo: bytes | None, /, **fields: str) -> httpx.Response:
    files = {} if photo is None else {"image": photo}
    parts = {name: (None, value) for name, value in {**QUICK, **fields}.items()}
    return httpx.post(f"{server.url}/v1/generate", files={**files, **parts}, timeout=30)


def test_a_photo_becomes_a_picture(server: Server, astronaut_jpeg: bytes) -> None:
    sent = submit(server, astronaut_jpeg, count="2")
    assert sent.status_code == 202
    job = finished(server, sent.json()["id"])
    assert job["status"] == "succeeded"
    assert [each["name"] for each in job["artifacts"]] == ["image-1.jpg", "image-2.jpg"]
    assert [each["seed"] for each in job["result"]["pictures"]][1] > 0
    picture = httpx.get(job["artifacts"][0]["url"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert b"DigitalSourceType" in picture.content


def test_a_form_an_object_and_json_are_the_same_work(server: Server, astronaut_jpeg: bytes) -> None:
    first = finished(server, submit(server, astronaut_jpeg, seed="5").json()["id"])
    painter = {"name": "drawn", "style": "pixel"}
    as_object = httpx.post(
        f"{server.url}/v1/generate",
        files={
            "image": astronaut_jpeg,
            "painter": (None, json.dumps(painter)),
            "size": (None, "96"),
            "seed": (None, "5"),
        },
    )
    as_json = httpx.post(
        f"{server.url}/v1/generate",
        json={"image": base64.b64encode(astronaut_jpeg).decode(), "painter": painter, "size": 96, "seed": 5},
    )
    for answer in (as_object, as_json):
        assert (answer.status_code, answer.json()["cached"]) == (200, "exact")
        assert answer.json()["result"] == first["result"]


def test_without_a_seed_the_picture_is_new_and_a_repeat_is_the_same_job(server: Server, astronaut_jpeg: bytes) -> None:
    one, two = (finished(server, submit(server, astronaut_jpeg).json()["id"]) for _ in range(2))
    assert two["cached"] is None
    assert one["result"]["pictures"][0]["seed"] != two["result"]["pictures"][0]["seed"]
    body = {"image": base64.b64encode(astronaut_jpeg).decode(), **QUICK}
    headers = {"Idempotency-Key": "once"}
    sent = [httpx.post(f"{server.url}/v1/generate", json=body, headers=headers).json()["id"] for _ in range(2)]
    assert sent[0] == sent[1]


def test_generating_never_holds_up_detecting(server: Server, astronaut_jpeg: bytes) -> None:
    """All workers that make pictures are busy, and more pictures wait than these can make at once."""
    waiting = [
        submit(server, another(astronaut_jpeg, number), style="oil", size="1024").json()["id"] for number in range(12)
    ]
    try:
        for number in range(3):
            sent = httpx.post(f"{server.url}/v1/detect", files={"image": another(astronaut_jpeg, 100 + number)})
            assert finished(server, sent.json()["id"])["status"] == "succeeded"
        ended = [get(server, f"/v1/jobs/{job}").json()["status"] for job in waiting]
        assert "queued" in ended
    finally:
        for job in waiting:
            httpx.delete(f"{server.url}/v1/jobs/{job}")


def test_a_photo_is_needed_and_a_wrong_field_is_named(server: Server, astronaut_jpeg: bytes) -> None:
    assert problem(submit(server, None), 422, "invalid-request")["errors"][0]["field"] == "image"
    wrong = problem(submit(server, astronaut_jpeg, dot="1"), 422, "invalid-request")
    assert wrong["errors"][0]["field"] == "dot"


def test_painters_are_listed_with_examples(server: Server) -> None:
    drawn, *others = get(server, "/v1/painters").json()["painters"]
    assert all(each["ready"] == (each["reason"] is None) for each in others)
    assert (drawn["name"], drawn["ready"], drawn["reason"], drawn["lanes"]) == ("drawn", True, None, ["paint"])
    assert len(drawn["styles"]) == 11
    for url in (drawn["preview"], *drawn["styles"].values()):
        assert httpx.get(url).headers["content-type"] == "image/jpeg"


def test_the_schema_of_the_operation_tells_which_fields_go_together(server: Server) -> None:
    listed = {each["name"]: each for each in get(server, "/v1/operations").json()["operations"]}
    schema = jsonschema_rs.validator_for(listed["generate"]["parameters"])
    for right in ({"style": "ink", "detail": 0.5, "image": "aGk="}, {"image": "aGk=", "painter": "drawn"}):
        assert schema.is_valid(right), right
    for wrong in ({"style": "ink", "dot": 1}, {"style": "none"}, {"painter": "none"}, {"other": 1}):
        assert not schema.is_valid(wrong), wrong


def test_a_job_tells_its_parameters_and_photo_so_that_it_can_be_sent_again(
    server: Server, astronaut_jpeg: bytes
) -> None:
    first = finished(server, submit(server, astronaut_jpeg, colours="9", keep_colour="true").json()["id"])
    seed = first["result"]["pictures"][0]["seed"]
    sent = {"painter": "drawn", "style": "pixel", "colours": 9, "across_face": 28, "size": "96", "seed": seed}
    assert sent.items() <= first["parameters"].items()
    assert "image" not in first["parameters"]
    (photo,) = first["inputs"]
    assert (photo["name"], photo["width"], photo["size"]) == ("image", 512, len(astronaut_jpeg))
    content = httpx.get(photo["url"])
    assert content.content == astronaut_jpeg
    assert httpx.get(photo["url"], headers={"If-None-Match": content.headers["etag"]}).status_code == 304
    assert problem(httpx.get(photo["url"].replace("image", "other")), 404, "not-found")
    again = httpx.post(
        f"{server.url}/v1/generate",
        json={**first["parameters"], "image": base64.b64encode(content.content).decode()},
    )
    assert (again.status_code, again.json()["cached"]) == (200, "exact")
    assert again.json()["result"] == first["result"]
    listed = get(server, "/v1/jobs").json()["jobs"][0]
    assert "parameters" not in listed
    assert listed["inputs"][0]["name"] == "image"
    assert httpx.delete(first["url"]).status_code == 204
    assert problem(httpx.get(photo["url"]), 404, "not-found")


def test_samples_are_refused_while_other_work_waits(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_PAINT_WORKERS="1")
    walls = [as_jpeg(np.full((600 + number, 700, 3), 90, np.uint8)) for number in range(3)]
    others = [submit(server, wall, style="oil", size="700").json()["id"] for wall in walls]
    files = {"image": astronaut_jpeg}
    refused = problem(httpx.post(f"{server.url}/v1/samples", files=files), 429, "queue-full")
    assert refused["retryable"]
    for other in others:
        assert finished(server, other)["status"] == "succeeded"
    made = httpx.post(f"{server.url}/v1/samples", files=files, headers={"Prefer": "wait=30"}, timeout=40)
    assert made.json()["status"] == "succeeded"
    assert [each["style"] for each in made.json()["result"]["samples"]][:2] == ["cartoon", "ink"]
