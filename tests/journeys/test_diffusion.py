"""`generate` with a diffusion model, from a request to the picture. Needs `limner[diffusion]`."""

import importlib.util
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection

from limner.painters.diffusion.painter import LIBRARIES
from tests.journeys.client import FINAL, Json, get, listening, problem, rows
from tests.journeys.server import Server

MISSING = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(
        bool(MISSING), reason=f"limner[diffusion] is not installed ({', '.join(MISSING)}); see `make test-diffusion`"
    ),
    pytest.mark.timeout(600),
]

STEPS = 80
PATIENCE_S = 240  # importing the libraries alone takes half a minute on a busy machine


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's folder, with models for the CPU and an entry for a GPU."""
    from tests.painters import tiny_diffusion

    painters = tmp_path_factory.mktemp("painters")
    folder = painters / "diffusion"
    for name in ("sd", "pix2pix"):
        tiny_diffusion.save(name, folder / name)
        (folder / f"{name}.toml").write_text(f'model = "{name}"\ndevice = "cpu"\nthreads = 1\nmax_pixels = 8192\n')
    (folder / "on-gpu.toml").write_text('model = "sd"\n')
    return painters


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Server]:
    """A server with one worker for each lane, which has the usual limit of memory."""
    process = Server(
        tmp_path_factory.mktemp("server"),
        LIMNER_WORKERS="1",
        LIMNER_JOB_TIMEOUT_S="500",
        LIMNER_PAINTERS_DIR=str(models),
    )
    process.start()
    yield process
    process.stop()
    process.check_log()


def submit(server: Server, photo: bytes | None, **fields: str) -> httpx.Response:
    given = {"painter": "diffusion", "model": "sd", "prompt": "a cartoon film", "seed": "1", "format": "png", **fields}
    files = {name: (None, value) for name, value in given.items()}
    if photo is not None:
        files["image"] = ("photo.jpg", photo)  # type: ignore[assignment]
    return httpx.post(f"{server.url}/v1/generate", files=files, timeout=PATIENCE_S)


def finished(server: Server, job_id: str) -> Json:
    """The job, once it has ended; it may have to wait for the libraries."""
    return reached(server, job_id, lambda job: job["status"] in FINAL)


def reached(server: Server, job_id: str, is_there: Callable[[Json], bool]) -> Json:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        job: Json = get(server, f"/v1/jobs/{job_id}").json()
        if is_there(job):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.02)


def events_to(socket_: ClientConnection, last: str) -> Iterator[Json]:
    """Events up to one of this type."""
    kind = ""
    while kind != last:
        event: Json = json.loads(socket_.recv(timeout=PATIENCE_S))
        kind = event["type"]
        yield event


def started(server: Server, photo: bytes, **fields: str) -> Json:
    """A job of many steps that is at one of them."""
    job: Json = submit(server, photo, steps=str(STEPS), strength="1", cache="off", **fields).json()
    return reached(server, job["id"], lambda found: bool(found["progress"]))


def picture(job: Json) -> bytes:
    assert job["status"] == "succeeded", job
    return httpx.get(job["artifacts"][0]["url"]).content


def painting(server: Server) -> int:
    """The worker that has loaded the libraries."""
    (found,) = [pid for pid in server.workers() if "libtorch" in Path(f"/proc/{pid}/maps").read_text()]
    return found


def loads(server: Server) -> int:
    return sum(line["message"] == "model loaded" for line in server.log_lines())


def test_previews_come_over_the_socket_and_the_picture_says_how_it_was_made(
    server: Server, astronaut_jpeg: bytes
) -> None:
    with listening(server) as socket_:
        job_id = submit(server, astronaut_jpeg, steps=str(STEPS), strength="1").json()["id"]
        previews = []
        for event in events_to(socket_, "job.succeeded"):
            if url := event["job"].get("preview"):
                shown = httpx.get(url)
                if shown.status_code == 200:  # else it is gone with the end of the job
                    previews.append(shown.content)
    assert len(set(previews)) >= 2
    assert all(each.startswith(b"\xff\xd8") for each in previews)
    made = picture(finished(server, job_id))
    assert b"compositeWithTrainedAlgorithmicMedia" in made
    assert b'limner:Painter="diffusion"' in made


def test_the_same_seed_gives_the_same_pixels_and_the_model_is_loaded_once(
    server: Server, astronaut_jpeg: bytes
) -> None:
    first = finished(server, submit(server, astronaut_jpeg, steps="4").json()["id"])
    before = loads(server)
    again = submit(server, astronaut_jpeg, steps="4")
    assert again.json()["cached"] == "exact"
    anew = finished(server, submit(server, astronaut_jpeg, steps="4", cache="off").json()["id"])
    assert anew["cached"] is None
    assert picture(anew) == picture(first)
    assert picture(finished(server, submit(server, astronaut_jpeg, steps="4", seed="2").json()["id"])) != picture(first)
    assert loads(server) == before
    words = finished(server, submit(server, None, steps="4", size="64").json()["id"])
    assert picture(words).startswith(b"\x89PNG")
    assert loads(server) == before, "photos and words share one model"


def test_a_preset_chooses_a_model_of_its_kind(server: Server, astronaut_jpeg: bytes) -> None:
    fields = {"painter": "diffusion", "preset": "faces-like", "prompt": "old heroes", "steps": "4", "size": "96"}
    files = {name: (None, value) for name, value in fields.items()}
    job = httpx.post(f"{server.url}/v1/generate", files={**files, "image": astronaut_jpeg}, timeout=PATIENCE_S).json()
    job = finished(server, job["id"])
    assert (job["status"], job["result"]["painter"]) == ("succeeded", "diffusion")
    assert max(job["result"]["pictures"][0][side] for side in ("width", "height")) == 96


def test_a_cancelled_job_ends_within_a_step_and_the_model_stays(server: Server, astronaut_jpeg: bytes) -> None:
    finished(server, submit(server, astronaut_jpeg, steps="2", cache="off").json()["id"])
    before, worker = loads(server), painting(server)
    job = started(server, astronaut_jpeg)
    assert httpx.post(f"{job['url']}/cancel").json()["status"] == "cancelled"
    after = finished(server, submit(server, astronaut_jpeg, steps="2", cache="off").json()["id"])
    assert after["status"] == "succeeded"
    assert (loads(server), painting(server)) == (before, worker), "the worker was not killed"
    overtaken = [line for line in server.log_lines() if line["message"] == "job overtaken"]
    assert overtaken[-1]["job"] == job["id"]


def test_a_killed_workers_job_runs_again_and_makes_the_same_picture(server: Server, astronaut_jpeg: bytes) -> None:
    job = started(server, astronaut_jpeg)
    worker = painting(server)
    with listening(server, f"/v1/events?job={job['id']}") as socket_:
        os.kill(worker, signal.SIGKILL)
        types = [event["type"] for event in events_to(socket_, "job.succeeded")]
    assert [kind for kind in types if kind != "job.progress"] == ["job.queued", "job.running", "job.succeeded"]
    assert rows(server, "SELECT attempt FROM jobs WHERE id = ?", job["id"]) == [(2,)]
    alone = finished(server, submit(server, astronaut_jpeg, steps=str(STEPS), strength="1", cache="off").json()["id"])
    assert picture(alone) == picture(finished(server, job["id"]))


def test_what_cannot_be_painted_is_refused_at_once(server: Server, astronaut_jpeg: bytes) -> None:
    for fields, field in (({"prompt": ""}, "prompt"), ({"image_guidance": "2"}, "image_guidance")):
        assert problem(submit(server, astronaut_jpeg, **fields), 422, "invalid-request")["field"] == field
    assert problem(submit(server, None, model="pix2pix"), 422, "invalid-request")["errors"][0]["field"] == "image"
    none = problem(submit(server, astronaut_jpeg, model="on-gpu"), 503, "unavailable")
    assert "LIMNER_GPU_WORKERS" in none["detail"]


def test_painters_tell_that_it_is_ready(server: Server) -> None:
    listed = {each["name"]: each for each in get(server, "/v1/painters").json()["painters"]}["diffusion"]
    assert listed["lanes"] == ["gpu", "paint"]
    # The first entry, of which a request without a model makes use, is for a GPU, and no worker has one.
    assert (listed["ready"], listed["reason"]) == (False, "No worker runs such jobs; set LIMNER_GPU_WORKERS.")


def test_a_worker_with_too_little_memory_says_so(tmp_path: Path, models: Path, astronaut_jpeg: bytes) -> None:
    variables = {"LIMNER_WORKERS": "1", "LIMNER_WORKER_MEMORY_BYTES": "1500000000", "LIMNER_PAINTERS_DIR": str(models)}
    process = Server(tmp_path, **variables)
    process.start()
    try:
        job = finished(process, submit(process, astronaut_jpeg).json()["id"])
        assert job["error"]["type"] == "urn:limner:problem:job-out-of-memory"
        assert "LIMNER_WORKER_MEMORY_BYTES" in job["error"]["detail"]
    finally:
        process.stop()
        process.check_log()


def test_no_library_keeps_anything_in_the_home_or_logs_the_words(server: Server, astronaut_jpeg: bytes) -> None:
    finished(server, submit(server, astronaut_jpeg, steps="2", prompt="secret words", cache="off").json()["id"])
    assert "secret" not in server.log.read_text()
    assert "torchvision" not in server.log.read_text(), "a warning of a library that is no line of the log"
