"""A painter of another server, through the whole service: the job waits in its own lane, stops when cancelled, and
tells what the other server said.
"""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.journeys.client import Json, finished, get, problem
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server
from tests.painters.servers import LocalServer, Reply, Request, gradient, png, serving

KEY = "sk-stability-secret"
WORDS = "a private wish"


@pytest.fixture
def stability() -> Iterator[LocalServer]:
    """A server that paints; tests change what it answers."""
    with serving(lambda _: Reply(png(gradient()), headers={"finish-reason": "SUCCESS"})) as other:
        yield other


@pytest.fixture
def server(start_server: StartServer, stability: LocalServer, tmp_path: Path) -> Server:
    return start_server(
        OPENAI_API_KEY="",
        STABILITY_API_KEY=KEY,
        STABILITY_BASE_URL=stability.url,
        LIMNER_PAINTERS_DIR=str(tmp_path / "none"),
    )


def submit(server: Server, photo: bytes, **fields: str) -> Json:
    given = {"painter": "stability", "prompt": WORDS, **fields}
    answer = httpx.post(f"{server.url}/v1/generate", files={"image": photo}, data=given, timeout=30)
    assert answer.status_code == 202, answer.text
    job: Json = answer.json()
    return job


def test_a_hosted_painter_from_submission_to_picture(
    server: Server, stability: LocalServer, astronaut_jpeg: bytes
) -> None:
    listed = {each["name"]: each for each in get(server, "/v1/painters").json()["painters"]}
    assert listed["stability"]["ready"]
    assert "NAME.toml" in listed["onnx"]["reason"]
    drawn = httpx.post(
        f"{server.url}/v1/generate", files={"image": astronaut_jpeg}, data={"style": "pixel", "size": "96"}
    )
    assert finished(server, drawn.json()["id"])["status"] == "succeeded"
    assert stability.requests == []  # nothing is sent unless a request names it

    jobs = [finished(server, submit(server, astronaut_jpeg, seed="5")["id"]) for _ in range(2)]
    assert [job["status"] for job in jobs] == ["succeeded", "succeeded"]
    assert len(stability.requests) == 2  # a hosted picture is not answered from the cache unasked
    fields = stability.requests[0].form()
    assert (fields["prompt"], fields["seed"]) == (WORDS.encode(), b"5")
    assert b"Exif" not in fields["image"]
    assert stability.requests[0].headers["authorization"] == f"Bearer {KEY}"

    body = {"painter": "openai", "prompt": "x", "server": "other"}
    problem(httpx.post(f"{server.url}/v1/generate", json=body), 422, "painter-not-ready")

    stability.answer = lambda _: Reply(png(gradient()), headers={"finish-reason": "CONTENT_FILTERED"})
    filtered = finished(server, submit(server, astronaut_jpeg)["id"])
    assert filtered["error"]["type"] == "urn:limner:problem:content-refused"
    stability.answer = lambda _: Reply(b'{"name": "payment_required", "errors": ["x"]}', 402)
    unpaid = finished(server, submit(server, astronaut_jpeg)["id"])
    assert unpaid["error"]["type"] == "urn:limner:problem:painter-credit-exhausted"
    log = server.log.read_text()
    assert KEY not in log
    assert WORDS not in log


@contextmanager
def silent(server: LocalServer) -> Iterator[threading.Event]:
    """Meanwhile the server does not answer. Yields the event that it was asked."""
    asked, over = threading.Event(), threading.Event()

    def answer(_: Request) -> Reply:
        asked.set()
        over.wait(60)
        return Reply(b"")

    server.answer = answer
    try:
        yield asked
    finally:
        over.set()


def test_a_job_stops_while_the_other_server_is_silent(
    server: Server, stability: LocalServer, astronaut_jpeg: bytes
) -> None:
    with silent(stability) as asked:
        job = submit(server, astronaut_jpeg)
        assert asked.wait(30)
        start = time.monotonic()
        assert httpx.post(f"{server.url}/v1/jobs/{job['id']}/cancel").status_code in {200, 202}
        assert finished(server, job["id"])["status"] == "cancelled"
        assert time.monotonic() - start < 10
        # The worker is free again at once: the next job is painted although the first request is still open.
        stability.answer = lambda _: Reply(png(gradient()), headers={"finish-reason": "SUCCESS"})
        assert finished(server, submit(server, astronaut_jpeg)["id"])["status"] == "succeeded"


def test_whichever_time_is_over_first_it_is_told_as_perhaps_charged(
    start_server: StartServer, stability: LocalServer, astronaut_jpeg: bytes, tmp_path: Path
) -> None:
    (tmp_path / "painters" / "openai").mkdir(parents=True)
    entry = f'base_url = "{stability.url}"\ntimeout_s = 5\n'
    (tmp_path / "painters" / "openai" / "slow.toml").write_text(entry)
    server = start_server(
        STABILITY_API_KEY=KEY,
        STABILITY_BASE_URL=stability.url,
        LIMNER_PAINTERS_DIR=str(tmp_path / "painters"),
        LIMNER_REMOTE_JOB_TIMEOUT_S="6",  # so each picture has 3 s
    )

    def failed(**fields: str) -> str:
        error = finished(server, submit(server, astronaut_jpeg, **fields)["id"])["error"]
        assert error["type"] == "urn:limner:problem:painter-server-timeout"
        assert "charged" in error["detail"]
        return str(error["detail"])

    with silent(stability):
        assert "did not answer within 3 s" in failed()

    def slowly(_: Request) -> Reply:
        time.sleep(1)
        return Reply(png(gradient()), headers={"finish-reason": "SUCCESS"})

    stability.answer = slowly
    assert "The job ran longer than 6 s." in failed(count="8", cache="exact", seed="1")
    # Unless they could answer other requests, the pictures that are paid for are kept.
    kept = finished(server, submit(server, astronaut_jpeg, count="8")["id"])
    assert kept["status"] == "succeeded"
    assert 1 <= len(kept["result"]["pictures"]) == len(kept["artifacts"]) < 8
    (note,) = kept["result"]["notes"]
    assert re.match(r"Only \d of 8 pictures were made\. The job ran longer than 6 s\. .* charged", note)

    given = {"painter": "openai", "server": "slow", "prompt": "x"}
    refused = httpx.post(f"{server.url}/v1/generate", files={"image": astronaut_jpeg}, data=given, timeout=30)
    told = "timeout_s is 5, but a job may only run for 6 s. Set LIMNER_REMOTE_JOB_TIMEOUT_S to at least 35"
    assert told in problem(refused, 422, "painter-not-ready")["detail"]
    listed = {each["name"]: each for each in get(server, "/v1/painters").json()["painters"]}
    assert told in listed["openai"]["reason"]
    assert told in server.log.read_text()


@pytest.mark.embedded
def test_a_request_is_not_repeated_after_its_worker_was_killed(
    server: Server, stability: LocalServer, astronaut_jpeg: bytes
) -> None:
    with silent(stability) as asked:
        job = submit(server, astronaut_jpeg)
        assert asked.wait(30)
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        ended = finished(server, job["id"])
        assert ended["error"]["type"] == "urn:limner:problem:job-crashed"
        assert "charged" in ended["error"]["detail"]
        assert len(stability.requests) == 1


def test_without_a_key_it_is_refused_at_once(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(STABILITY_API_KEY="")
    given = {"painter": "stability", "prompt": "x"}
    answer = httpx.post(f"{server.url}/v1/generate", files={"image": astronaut_jpeg}, data=given)
    assert "STABILITY_API_KEY" in problem(answer, 422, "painter-not-ready")["detail"]
