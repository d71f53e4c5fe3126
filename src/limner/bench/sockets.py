"""Measures the time from a job's end until its event has arrived at many sockets.

A separate process, `socket_clients.py`, holds the sockets. An event has arrived when the kernel has received it.
"""

import io
import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count

from PIL import Image

from limner.bench.client import percentile, version
from limner.bench.processes import Server, bare_server, cluster, server
from limner.bench.report import Row
from limner.bench.scratch import empty_redis, scratch
from limner.settings import Settings

PATH = "/faces"
AIM_MS = 60.0
AIM_RUNNING_MS = 30.0  # of several web processes, without jobs running beside
LARGE = (5472, 3078)  # jobs with a photo of 17 megapixels take so long that their events are sent one by one
FEW = 10
BARE_PAUSE_S = 0.25


@dataclass
class _Heard:
    """Milliseconds from the job's end to the arrival at each socket, and to the moment the client had read it."""

    arrived_ms: list[float] = field(default_factory=list)
    read_ms: list[float] = field(default_factory=list)
    lost: int = 0


def run(settings: Settings, photo: bytes, *, sockets: int, events: int) -> list[Row]:
    """p50 and p99 over all sockets and events: with few sockets, with many, and with many while all workers are busy.

    `photo` must be a JPEG with a face. The last case is compared with a bare server that sends as many messages while
    the same jobs run.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * sockets)), hard))
    large = _enlarged(photo)
    numbers = count()
    with server(settings) as ours, bare_server() as bare:
        few = _one_by_one(ours, photo, numbers, FEW, events)
        many = _one_by_one(ours, photo, numbers, sockets, events)
        with _working(ours, large, numbers, settings.workers + 1), _sockets(bare, "/", sockets) as reference:
            client = bare.client()
            for _ in range(events):
                client.get("/broadcast")
                time.sleep(BARE_PAUSE_S)
            client.close()
        with _sockets(ours, PATH, sockets) as busy, _working(ours, large, numbers, settings.workers + 1) as ended:
            while len(ended) < events:
                time.sleep(0.05)
    jobs = settings.workers
    floor = percentile(reference.arrived_ms, 0.99)
    return [
        _row(f"{FEW} sockets, one job at a time", few),
        _row(f"{sockets:,} sockets, one job at a time", many),
        _row(f"{sockets:,} sockets of a bare server, {jobs} jobs running", reference),
        _row(f"{sockets:,} sockets, {jobs} jobs running", busy, floor, aim_ms=AIM_MS if sockets <= 1000 else None),
    ]


def run_cluster(
    settings: Settings,
    photo: bytes,
    *,
    sockets: int,
    events: int,
    server_url: str,
    redis_url: str,
    web_processes: int,
) -> list[Row]:
    """The same, one job at a time, with several web processes and Celery's workers on PostgreSQL and Redis."""
    with (
        empty_redis(redis_url),
        scratch(server_url) as database,
        cluster(settings, database.url, redis_url, workers=settings.workers, web_processes=web_processes) as running,
    ):
        return run_on(running, photo, sockets=sockets, events=events)


def run_on(running: Server, photo: bytes, *, sockets: int, events: int) -> list[Row]:
    """The same, one job at a time, on a service that runs already, whatever it is made of."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * sockets)), hard))
    numbers = count(time.time_ns())  # it may have answers to the photos of an earlier run
    return [
        _row(f"{FEW} sockets, one job at a time", _one_by_one(running, photo, numbers, FEW, events)),
        _row(
            f"{sockets:,} sockets, one job at a time",
            _one_by_one(running, photo, numbers, sockets, events),
            aim_ms=AIM_RUNNING_MS if sockets <= 1000 else None,
        ),
    ]


def _row(name: str, heard: _Heard, floor_ms: float | None = None, *, aim_ms: float | None = None) -> Row:
    p99_ms = percentile(heard.arrived_ms, 0.99)
    read = f"read by the client: p50 {percentile(heard.read_ms, 0.5):.1f}, p99 {percentile(heard.read_ms, 0.99):.1f} ms"
    return Row(
        name=name,
        p50_ms=percentile(heard.arrived_ms, 0.5),
        p99_ms=p99_ms,
        beside=read,
        ratio=None if floor_ms is None else p99_ms / floor_ms,
        aim="" if aim_ms is None else f"p99 ≤ {aim_ms:g} ms",
        met=None if aim_ms is None else p99_ms <= aim_ms and not heard.lost,
        errors=heard.lost,
    )


def _one_by_one(ours: Server, photo: bytes, numbers: "count[int]", sockets: int, events: int) -> _Heard:
    with _sockets(ours, PATH, sockets) as heard:
        client = ours.client()
        for _ in range(events):
            status, job = client.submit("detect", version(photo, next(numbers)))
            assert status == 200, job
            time.sleep(0.1)  # the last copies of the event are still arriving
        client.close()
    return heard


@contextmanager
def _sockets(of: Server, path: str, number: int) -> Iterator[_Heard]:
    """Open `count` sockets; the returned object has the arrival times after the end of the context."""
    heard = _Heard()
    process = subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, "-m", "limner.bench.socket_clients", str(of.port), path, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the sockets did not open"
        time.sleep(1)  # opening so many is work too
        yield heard
        time.sleep(1)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    for text, times in json.loads(output).items():
        ended = datetime.fromisoformat(json.loads(text)["processed_at"]).timestamp()
        heard.arrived_ms += [(arrived / 1e9 - ended) * 1000 for arrived, _ in times]
        heard.read_ms += [(read / 1e9 - ended) * 1000 for _, read in times]
        heard.lost += number - len(times)


@contextmanager
def _working(ours: Server, photo: bytes, numbers: "count[int]", clients: int) -> Iterator[list[None]]:
    """Run clients that send photos one after the other, one client more than workers, so that all workers are busy.

    Returns a list that grows by one entry with each finished job.
    """
    ended: list[None] = []
    stop = threading.Event()

    def one() -> None:
        client = ours.client()
        while not stop.is_set():
            status, job = client.submit("detect", version(photo, next(numbers)))
            assert status == 200, job
            ended.append(None)
        client.close()

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        while not ended:
            time.sleep(0.05)
        ended.clear()
        yield ended
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _enlarged(photo: bytes) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").resize(LARGE).save(file, "JPEG", quality=85)
    return file.getvalue()
