"""Requests that wait for their jobs: the memory of the uploads bounds what they hold, so waiting must hold nothing."""

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.hostile.pictures import jpeg_with, many_scans, saved, segment
from tests.journeys.client import get, submit
from tests.journeys.conftest import served
from tests.journeys.photo_server import PhotoServer, serving
from tests.journeys.server import Server

pytestmark = pytest.mark.alone

MB = 1_000_000
MEMORY = 25 * MB
PHOTO_MB = 5
REQUESTS = 16
MAX_GROWTH = MEMORY + 20 * MB  # the C library keeps some of what is freed; all photos take 80 MB
PATIENCE_S = 60.0


def photo(number: int) -> bytes:
    """A BMP of 5 MB, another for each number."""
    pixels = np.full((1000, PHOTO_MB * MB // 3000, 3), 128, np.uint8)
    pixels[0, 0] = number % 200, number // 200, 0
    return saved(Image.fromarray(pixels), "BMP")


def text(number: int) -> str:
    return base64.b64encode(photo(number)).decode()


def plain(client: httpx.Client, number: int) -> httpx.Response:
    return client.post("/v1/detect", files={"image": photo(number)}, headers={"Prefer": "wait=300"})


def compreface(client: httpx.Client, number: int) -> httpx.Response:
    return client.post("/api/v1/detection/detect", files={"file": photo(number)})


def compreface_json(client: httpx.Client, number: int) -> httpx.Response:
    return client.post("/api/v1/detection/detect", json={"file": text(number)})


def rekognition(client: httpx.Client, number: int) -> httpx.Response:
    headers = {"X-Amz-Target": "RekognitionService.DetectFaces"}
    return client.post("/compat/rekognition", json={"Image": {"Bytes": text(number)}}, headers=headers)


def vision(client: httpx.Client, number: int) -> httpx.Response:
    asked = {"image": {"content": text(number)}, "features": [{"type": "FACE_DETECTION"}]}
    return client.post("/compat/vision/v1/images:annotate", json={"requests": [asked]})


def memory(server: Server) -> int:
    """Resident bytes of the web process."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def open_jobs(server: Server) -> int:
    jobs = get(server, "/v1/jobs?limit=200").json()["jobs"]
    return sum(job["status"] in ("queued", "running") for job in jobs)


@contextmanager
def halted(server: Server) -> Iterator[None]:
    """While this is open, its worker is in the middle of a job."""
    slow = submit(server, jpeg_with(segment(0xFE, os.urandom(8)), many_scans(88, 2000)))["id"]
    until(lambda: get(server, f"/v1/jobs/{slow}").json()["status"] == "running")
    (worker,) = server.workers()
    os.kill(worker, signal.SIGSTOP)
    assert get(server, f"/v1/jobs/{slow}").json()["status"] == "running"
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def photos() -> Iterator[PhotoServer]:
    with serving({f"/{number}.bmp": photo(number) for number in range(16)}) as server:
        yield server


@pytest.fixture(scope="module")
def server(photos: PhotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(
        tmp_path_factory.mktemp("waiting"),
        LIMNER_UPLOAD_MEMORY_BYTES=str(MEMORY),
        LIMNER_MAX_WAIT_S="300",
        LIMNER_LEASE_S="300",
        LIMNER_FETCH_PRIVATE_HOSTS="127.0.0.1",
        LIMNER_FETCH_PORTS=f"80,{photos.server_address[1]}",
    )
    yield from served(server)


SENDERS = (plain, compreface, compreface_json, rekognition, vision)


@pytest.mark.parametrize("send", SENDERS)
def test_a_request_that_waits_keeps_no_photo(
    server: Server, send: Callable[[httpx.Client, int], httpx.Response]
) -> None:
    answers: list[httpx.Response] = []

    def ask(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=300) as client:
            answers.append(send(client, number))

    first = 100 * (1 + SENDERS.index(send))  # other photos than those of the other ways
    ask(first)  # what the first request loads
    before = memory(server)
    with halted(server):
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(first + 1, first + 1 + REQUESTS)]
        for number, thread in enumerate(threads, 1):
            thread.start()
            until(lambda number=number: open_jobs(server) == 1 + number)  # type: ignore[misc]
        grown = memory(server) - before
    for thread in threads:
        thread.join()
    print(f"{grown / MB:.0f} MB")
    assert grown < MAX_GROWTH
    expected = 400 if send in (compreface, compreface_json) else 200  # there, no face is an error
    assert {answer.status_code for answer in answers} == {expected}, [answer.text for answer in answers]


def test_pictures_that_one_request_fetches_are_held_a_few_at_a_time(server: Server, photos: PhotoServer) -> None:
    faces = [{"type": "FACE_DETECTION"}]
    sources = [{"imageUri": f"{photos.url}/{number}.bmp"} for number in range(16)]
    body = {"requests": [{"image": {"source": source}, "features": faces} for source in sources]}
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(httpx.post(f"{server.url}/compat/vision/v1/images:annotate", json=body, timeout=300))

    with httpx.Client(base_url=server.url, timeout=300) as client:
        vision(client, 1000)  # what the first request loads
    before = memory(server)
    with halted(server):
        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: open_jobs(server) == 1 + 16)
        grown = memory(server) - before
    thread.join()
    print(f"{grown / MB:.0f} MB")
    assert grown < MAX_GROWTH
    assert answers[0].status_code == 200, answers[0].text
    assert answers[0].json() == {"responses": [{}] * 16}, json.dumps(answers[0].json())
