"""Measures the CPU time of a job outside its pipeline: HTTP, database, files, events, processes.

The service is compared with its own pipeline, called directly, and with one pass of the default network, because a
slow pipeline would make the service look good.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count

import cv2
import numpy as np
import numpy.typing as npt

from limner import local
from limner.bench.client import percentile, version
from limner.bench.processes import Server, server
from limner.bench.report import Row
from limner.operations import CATALOGUE
from limner.settings import Settings
from limner.vision.header import Limits
from limner.vision.models import Models
from limner.vision.yunet import YuNet

AIM_MS = 5.0
PASS_WIDTH = 640  # pixels; the height follows, and is padded to a multiple of 32
PASS_MIN_SCORE = 0.7
TINY_SIDE = 7  # below 8 pixels the detector runs no network


@dataclass
class Tally:
    """Wall and CPU seconds of each round, and the latency of each photo in seconds."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    spent: list[float] = field(default_factory=list)

    def row(self, name: str, photos: int, **more: object) -> Row:
        return Row(
            name=name,
            rate=self.rate(photos),
            p50_ms=percentile(self.spent, 0.5) * 1000,
            p99_ms=percentile(self.spent, 0.99) * 1000,
            cpu_ms=self.cpu_ms(photos),
            **more,  # type: ignore[arg-type]  # the caller names fields of Row
        )

    def rate(self, photos: int) -> float:
        return photos / statistics.median(self.wall_s)

    def cpu_ms(self, photos: int) -> float:
        return statistics.median(self.cpu_s) / photos * 1000


def run(settings: Settings, photo: bytes, *, photos: int, rounds: int) -> list[Row]:
    """Measure the three alternately, first one photo at a time, then one per worker; medians of the rounds."""
    numbers = count()
    models = Models(settings.models_dir)
    yunet = YuNet(settings.models_dir)

    def single_pass(data: bytes) -> None:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        _one_pass(yunet, np.asarray(image, np.uint8))

    def pipeline(data: bytes) -> None:
        local.run(CATALOGUE["detect"], {}, {"image": data}, models=models, limits=Limits())

    rows = []
    tiny = _tiny_photo()
    with server(settings) as ours:
        for at_once in sorted({1, settings.workers}):
            rows += _around_nothing(pipeline, ours, tiny, numbers, photos, at_once=at_once)
        for at_once in sorted({1, settings.workers}):
            clients = 1 if at_once == 1 else 2 * at_once
            bare, direct, served = Tally(), Tally(), Tally()
            for number in range(rounds + 1):
                work = [[version(photo, next(numbers)) for _ in range(photos)] for _ in range(3)]
                if number == 0:
                    work = [each[: 4 * at_once] for each in work]
                    bare, direct, served = Tally(), Tally(), Tally()  # the first round loads and warms
                directly(bare, single_pass, work[0], at_once)
                directly(direct, pipeline, work[1], at_once)
                through_service(served, ours, work[2], clients)
                if number == 0:
                    bare, direct, served = Tally(), Tally(), Tally()
            rows += _rows(bare, direct, served, photos, at_once=at_once, clients=clients)
    return rows


def _tiny_photo() -> bytes:
    """A JPEG that is too small for a face: the pipeline has next to nothing to do."""
    encoded = cv2.imencode(".jpg", np.full((TINY_SIDE, TINY_SIDE, 3), 127, np.uint8))[1]
    return encoded.tobytes()


def _around_nothing(
    pipeline: Callable[[bytes], None], ours: Server, tiny: bytes, numbers: "count[int]", photos: int, *, at_once: int
) -> list[Row]:
    """CPU of a job with a very short pipeline, which leaves the service in the processor's caches."""
    clients = 1 if at_once == 1 else 2 * at_once
    direct, served = Tally(), Tally()
    for amount in (4 * at_once, photos):  # the first round loads and warms
        direct, served = Tally(), Tally()
        directly(direct, pipeline, [version(tiny, next(numbers)) for _ in range(amount)], at_once)
        through_service(served, ours, [version(tiny, next(numbers)) for _ in range(amount)], clients, fetched=False)
    around_ms = served.cpu_ms(photos) - direct.cpu_ms(photos)
    return [
        served.row(
            f"{at_once} at a time: a job of {TINY_SIDE}×{TINY_SIDE} pixels, no face, nothing made",
            photos,
            beside=f"its pipeline {direct.cpu_ms(photos):.2f} ms of CPU: {around_ms:.2f} ms round it",
            aim=f"≤ {AIM_MS:g} ms",
            met=around_ms <= AIM_MS,
        )
    ]


def _rows(bare: Tally, direct: Tally, served: Tally, photos: int, *, at_once: int, clients: int) -> list[Row]:
    around_ms = served.cpu_ms(photos) - direct.cpu_ms(photos)
    return [
        bare.row(f"{at_once} at a time: decode, one YuNet pass, boxes, encode", photos),
        direct.row(
            "  the pipeline of detect, in this process",
            photos,
            beside=f"one pass {bare.cpu_ms(photos):.1f} ms of CPU",
            ratio=direct.rate(photos) / bare.rate(photos),
        ),
        served.row(
            f"  the service, {clients} client{'s' * (clients > 1)}, picture fetched",
            photos,
            beside=f"pipeline {direct.rate(photos):.1f}/s; one pass {bare.rate(photos):.1f}/s",
            ratio=served.rate(photos) / direct.rate(photos),
        ),
        Row(
            name="  CPU round the pipeline, all processes",
            cpu_ms=around_ms,
            beside=f"service {served.cpu_ms(photos):.1f} ms, pipeline {direct.cpu_ms(photos):.1f} ms",
            aim=f"≤ {AIM_MS:g} ms",
            met=around_ms <= AIM_MS,
        ),
    ]


def directly(tally: Tally, work: Callable[[bytes], object], photos: list[bytes], threads: int) -> None:
    def one(data: bytes) -> float:
        begun = time.perf_counter()
        work(data)
        return time.perf_counter() - begun

    with ThreadPoolExecutor(threads) as pool:
        cpu, begun = time.process_time(), time.perf_counter()
        tally.spent += pool.map(one, photos)
        tally.wall_s.append(time.perf_counter() - begun)
        tally.cpu_s.append(time.process_time() - cpu)


def through_service(tally: Tally, ours: Server, photos: list[bytes], clients: int, *, fetched: bool = True) -> None:
    """From the upload to the fetched picture, or to the job's end; the CPU time of the clients is not counted."""

    def one(share: list[bytes]) -> list[float]:
        client = ours.client()
        spent = []
        for data in share:
            begun = time.perf_counter()
            status, job = client.submit("detect", data)
            assert (status, job["status"], job["cached"]) == (200, "succeeded", None), job
            if fetched:
                status, marked = client.get(job["artifacts"][0]["url"].partition(str(ours.port))[2])
                assert status == 200
                assert marked
            spent.append(time.perf_counter() - begun)
        client.close()
        return spent

    with ThreadPoolExecutor(clients) as pool:
        cpu, begun = ours.cpu_s(), time.perf_counter()
        for spent in pool.map(one, [photos[number::clients] for number in range(clients)]):
            tally.spent += spent
        tally.wall_s.append(time.perf_counter() - begun)
        tally.cpu_s.append(ours.cpu_s() - cpu)


def _one_pass(yunet: YuNet, image: npt.NDArray[np.uint8]) -> bytes:
    """A function that marks the faces found in one pass over BGR (H, W, 3) uint8, and returns a JPEG."""
    factor = PASS_WIDTH / image.shape[1]
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    for face in yunet.detect(np.asarray(small[:, :, ::-1], np.uint8), PASS_MIN_SCORE):
        box = face.box
        corners = [
            (round(x / factor), round(y / factor)) for x, y in ((box.x, box.y), (box.x + box.width, box.y + box.height))
        ]
        cv2.rectangle(image, corners[0], corners[1], (0, 255, 0), 2)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
