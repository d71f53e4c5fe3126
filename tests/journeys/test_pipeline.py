"""`pipeline` over HTTP: one job, one cache entry, one erasure for all steps."""

import base64
import json
import time
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import another, as_jpeg
from tests.journeys.client import blobs, finished, get, listening, problem, submit, until
from tests.journeys.conftest import BOTH
from tests.journeys.server import Server

STEPS: list[dict[str, Any]] = [
    {"operation": "detect", "mark": "blur"},
    {"operation": "contours"},
    {"operation": "generate", "style": "pixel", "size": "96", "seed": 5, "name": "small"},
]
FILES = ["detect.marked.jpg", "contours.contours.svg", "small.image-1.jpg"]


@pytest.mark.parametrize("server", BOTH, indirect=True)
def test_the_story_of_a_pipeline(server: Server, astronaut_jpeg: bytes) -> None:
    with listening(server, "/v1/events?operation=pipeline") as events:
        job = submit(server, astronaut_jpeg, wait=True, path="/v1/pipeline", steps=json.dumps(STEPS))
        seen = until(events, "job.succeeded", job["id"])
    assert (job["operation"], job["status"], job["cached"]) == ("pipeline", "succeeded", None)
    assert [each["name"] for each in job["artifacts"]] == FILES
    assert {name: each["artifacts"] for name, each in job["result"]["steps"].items()} == {
        "detect": FILES[:1],
        "contours": FILES[1:2],
        "small": FILES[2:],
    }
    assert seen[0]["type"] == "job.queued"
    assert seen[-1]["job"]["summary"] == {"faces_count": 1, "pictures_count": 1}
    for each in job["artifacts"]:
        assert get(server, each["url"]).headers["content-type"] == each["media_type"]
    again = submit(server, astronaut_jpeg, path="/v1/pipeline", steps=json.dumps(STEPS))
    assert (again["cached"], again["result"]) == ("exact", job["result"])
    other = submit(server, astronaut_jpeg, wait=True, path="/v1/pipeline", steps=json.dumps(STEPS[:2]))
    assert other["cached"] is None
    assert other["result"]["steps"]["contours"] == job["result"]["steps"]["contours"]
    for each in (job, again, other):
        assert httpx.delete(f"{server.url}/v1/jobs/{each['id']}").status_code == 204
    assert blobs(server) == []


@pytest.fixture(scope="module")
def large(astronaut: npt.NDArray[np.uint8]) -> bytes:
    return as_jpeg(np.tile(astronaut, (6, 6, 1)), 80)


def test_a_pipeline_is_cancelled_between_its_steps(shared_server: Server, large: bytes) -> None:
    steps = [{"operation": "detect", "name": f"a{number}", "mark": "blur", "format": "png"} for number in range(8)]
    with listening(shared_server, "/v1/events?operation=pipeline") as events:
        job = submit(shared_server, large, path="/v1/pipeline", steps=json.dumps(steps))
        told = until(events, "job.progress", job["id"])[-1]["job"]["progress"]
    assert 0 < told < 1
    assert httpx.post(f"{shared_server.url}/v1/jobs/{job['id']}/cancel").status_code == 200
    ended = finished(shared_server, job["id"])
    assert (ended["status"], ended["artifacts"]) == ("cancelled", [])
    deadline = time.monotonic() + 30
    # A worker that did not stop by itself would be killed, and could not say this.
    while not any(
        each["message"] == "job overtaken" and each["job"] == job["id"] for each in shared_server.log_lines()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_wrong_step_is_refused_and_a_failed_one_is_told(shared_server: Server, astronaut_jpeg: bytes) -> None:
    def send(steps: Any) -> httpx.Response:
        form = {"image": astronaut_jpeg, "steps": (None, json.dumps(steps))}
        return httpx.post(f"{shared_server.url}/v1/pipeline", files=form, timeout=60)

    unknown = problem(send([{"operation": "detect"}, {"operation": "enhance"}]), 422, "invalid-request")
    assert unknown["errors"] == [
        {"field": "steps.1.operation", "message": "The value must be one of: detect, contours, crop, generate"}
    ]
    for steps in ([], [{"operation": "detect"}] * 9, ["detect"], {"operation": "detect"}, 3):
        problem(send(steps), 422, "invalid-request")
    grey = as_jpeg(np.full((64, 64, 3), 128, np.uint8))
    photo = base64.b64encode(astronaut_jpeg).decode()
    for wrong in (json.dumps(STEPS), "detect", {"operation": "detect"}):
        body = {"image": photo, "steps": wrong}
        reply = httpx.post(f"{shared_server.url}/v1/pipeline", json=body, timeout=60)
        assert "must be a JSON list" in problem(reply, 422, "invalid-request")["detail"]

    failed = submit(shared_server, grey, wait=True, path="/v1/pipeline", steps=json.dumps(STEPS))
    assert (failed["status"], failed["artifacts"]) == ("failed", [])
    assert (failed["error"]["type"], failed["error"]["step"]) == ("urn:limner:problem:no-face-found", "contours")


def test_openapi_tells_what_a_step_may_have(shared_server: Server, astronaut_jpeg: bytes) -> None:
    described = get(shared_server, "/openapi.json").json()
    body = described["paths"]["/v1/pipeline"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = jsonschema_rs.validator_for({**body, "components": described["components"]})
    assert schema.is_valid({"image": "aGk=", "steps": STEPS})
    assert schema.is_valid({"image": "aGk=", "steps": [{"operation": "contours", "segmentation_map": True}]})
    for wrong in ([], [{}], [{"operation": "none"}], [{"operation": "detect", "style": "ink"}], STEPS * 3):
        assert not schema.is_valid({"image": "aGk=", "steps": wrong}), wrong
    job = submit(shared_server, another(astronaut_jpeg, 1), wait=True, path="/v1/pipeline", steps=json.dumps(STEPS))
    result = {"$ref": "#/components/schemas/PipelineResult", "components": described["components"]}
    jsonschema_rs.validator_for(result).validate(job["result"])
    del job["result"]["steps"]["detect"]["result"]["faces"]
    assert not jsonschema_rs.validator_for(result).is_valid(job["result"])
