"""Measures whether the service stays fast with many jobs, by the same requests to a full and to a small database.

The small one has the newest of the same jobs, so that pages of the list and of the events have equal content.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

from rich.console import Console

from limner.bench import filler
from limner.bench.client import Client, percentile, version
from limner.bench.processes import Server, environment_of, server
from limner.bench.report import Row
from limner.settings import Settings

SMALL_JOBS = 2_000
MAX_RATIO = 1.3
REPLAYED = 200  # events: one page of the log
REPLAY_TIMEOUT_S = 120
JOB_TIMEOUT_S = 60


@dataclass
class _Filled:
    """A database with a server on it."""

    server: Server
    middle: str  # the id of a job deep inside
    newest: str  # the id of the last job, the only one of contours that has events
    file: Path


_Probe = Callable[[Client, _Filled], float]


def run(settings: Settings, photo: bytes, *, jobs: int, rounds: int, idle_s: float) -> list[Row]:
    """p50 and p99 of each request on a database of `jobs` jobs; the ratio is of its p50 to the small one's."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as name, ExitStack() as held:
        key = _cache_key(settings, photo, Path(name))
        full, small = (
            _filled(settings, photo, key, Path(name) / str(number), number, held, console)
            for number in (jobs, SMALL_JOBS)
        )
        rows = [
            Row(
                name=f"start until ready: {jobs:,} jobs, {full.file.stat().st_size / 1e9:.2f} GB",
                p50_ms=full.server.ready_s * 1000,
                beside=f"{SMALL_JOBS:,} jobs: {small.server.ready_s * 1000:.0f} ms",
                ratio=full.server.ready_s / small.server.ready_s,
            ),
            _idle(full, small, idle_s, console),
        ]
        numbers = count(1)
        for title, probe in _probes(photo, numbers).items():
            console.print(f"  {title}", style="dim")
            rows.append(_compared(title, probe, full, small, rounds))
    return rows


def _cache_key(settings: Settings, photo: bytes, folder: Path) -> str:
    """The cache key of the photo's result."""
    with server(settings, folder) as alone:
        client = alone.client()
        status, job = client.submit("detect", photo)
        client.close()
        assert status == 200, job
    return filler.cache_key(folder / "limner.db")


def _filled(
    settings: Settings, photo: bytes, key: str, folder: Path, jobs: int, held: ExitStack, console: Console
) -> _Filled:
    folder.mkdir()
    file = folder / "limner.db"
    subprocess.run(
        [sys.executable, "-m", "limner.cli", "migrate"],
        env={**os.environ, **environment_of(settings, folder)},
        check=True,
        capture_output=True,
    )
    begun = time.monotonic()
    middle = filler.fill(file, jobs, key)
    console.print(
        f"filled with {jobs:,} jobs in {time.monotonic() - begun:.0f} s: {file.stat().st_size / 1e9:.2f} GB",
        style="dim",
    )
    started = held.enter_context(server(settings, folder))
    client = started.client()
    status, job = client.submit("contours", photo)
    assert status == 200, job
    client.close()
    return _Filled(started, middle, str(job["id"]), file)


def _idle(full: _Filled, small: _Filled, idle_s: float, console: Console) -> Row:
    """CPU of both servers without requests, when only the sweep runs."""
    console.print(f"  idle for {idle_s:.0f} s", style="dim")
    before = [each.server.cpu_s() for each in (full, small)]
    time.sleep(idle_s)
    spent = [each.server.cpu_s() - was for each, was in zip((full, small), before, strict=True)]
    ratio = spent[0] / max(spent[1], 0.01)
    return Row(
        name=f"idle for {idle_s:.0f} s: the sweep",
        cpu_ms=spent[0] * 1000,
        beside=f"small: {spent[1] * 1000:.0f} ms",
        ratio=ratio,
        aim=f"≤ {MAX_RATIO}",
        met=ratio <= MAX_RATIO,
    )


def _probes(photo: bytes, numbers: "count[int]") -> dict[str, _Probe]:
    """The measured requests, each a function that returns the seconds it took."""

    def submitted(client: Client, _: _Filled) -> float:
        data = version(photo, next(numbers))
        begun = time.perf_counter()
        status, job = client.submit("detect", data, wait_s=0)
        spent = time.perf_counter() - begun
        assert status == 202, job
        _until_ended(client, job["id"])  # the worker rests again
        return spent

    def erased(client: Client, _: _Filled) -> float:
        status, job = client.submit("detect", version(photo, next(numbers)))
        assert status == 200, job
        begun = time.perf_counter()
        status, body = client.delete(f"/v1/jobs/{job['id']}")
        spent = time.perf_counter() - begun
        assert status == 204, body
        return spent

    def cached(client: Client, _: _Filled) -> float:
        begun = time.perf_counter()
        status, job = client.submit("detect", photo)
        spent = time.perf_counter() - begun
        assert (status, job.get("cached")) == (200, "exact"), job
        client.delete(f"/v1/jobs/{job['id']}")  # else the next hit would find this one, the newest
        return spent

    def got(path: Callable[[_Filled], str]) -> _Probe:
        def probe(client: Client, on: _Filled) -> float:
            begun = time.perf_counter()
            status, body = client.get(path(on))
            spent = time.perf_counter() - begun
            assert status == 200, body
            return spent

        return probe

    def listed(**query: str) -> _Probe:
        path = f"/v1/jobs?{urlencode({'limit': 50, **query})}"
        return got(lambda _: path)

    def replayed(events: int, query: Callable[[_Filled], dict[str, str]]) -> _Probe:
        return lambda _, on: _replay(on.server.port, f"/v1/events?{urlencode({'after': 0, **query(on)})}", events)

    return {
        "submit a new photo": submitted,
        "submit: cache hit in the middle": cached,
        "GET a job": got(lambda on: f"/v1/jobs/{on.middle}"),
        "list": listed(),
        "list, status=failed": listed(status="failed"),
        "list, status=running: none": listed(status="running"),
        "list, operation=detect": listed(operation="detect"),
        "list, detect and failed": listed(operation="detect", status="failed"),
        "list, contours and failed: none": listed(operation="contours", status="failed"),
        "list, cursor in the middle": got(lambda on: f"/v1/jobs?limit=50&cursor={on.middle}"),
        "list, cursor in the middle, failed": got(lambda on: f"/v1/jobs?limit=50&status=failed&cursor={on.middle}"),
        f"events from the first on: {REPLAYED}": replayed(REPLAYED, lambda _: {}),
        "events of one job, from the first on": replayed(3, lambda on: {"job": on.newest}),
        "events of contours, none but the last job's": replayed(3, lambda _: {"operation": "contours"}),
        "events of one job of contours": replayed(3, lambda on: {"operation": "contours", "job": on.newest}),
        "erase a job": erased,
    }


def _compared(title: str, probe: _Probe, full: _Filled, small: _Filled, rounds: int) -> Row:
    """Run the probe on both servers alternately, after one round that is not measured."""
    spent: dict[int, list[float]] = {id(full): [], id(small): []}
    try:
        for number in range(rounds + 1):
            for each in (full, small):
                client = each.server.client()  # a new one: the other's turn may outlast the server's patience
                seconds = probe(client, each)
                client.close()
                if number > 0:
                    spent[id(each)].append(seconds * 1000)
    except (OSError, AssertionError) as error:  # shown in the table, because the other rows are still useful
        return Row(name=title, beside=f"failed: {error!r:.200}", met=False, aim=f"≤ {MAX_RATIO}", errors=1)
    p50, reference = (percentile(spent[id(each)], 0.5) for each in (full, small))
    return Row(
        name=title,
        p50_ms=p50,
        p99_ms=percentile(spent[id(full)], 0.99),
        beside=f"small: p50 {reference:.2f}, p99 {percentile(spent[id(small)], 0.99):.1f} ms",
        ratio=p50 / reference,
        aim=f"≤ {MAX_RATIO}",
        met=p50 <= MAX_RATIO * reference,
    )


def _until_ended(client: Client, job_id: str) -> None:
    """Wait until the job has ended. TimeoutError after a minute."""
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while time.monotonic() < deadline:
        status, body = client.get(f"/v1/jobs/{job_id}")
        assert status == 200, body
        if json.loads(body)["finished_at"] is not None:
            return
        time.sleep(0.01)
    raise TimeoutError(f"job {job_id} does not end")


def _replay(port: int, path: str, events: int) -> float:
    """Seconds from the request until `count` server-sent events have arrived, on a new connection."""
    with socket.create_connection(("127.0.0.1", port), REPLAY_TIMEOUT_S) as connection:
        begun = time.perf_counter()
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        heard = b""
        while heard.count(b"\ndata: ") < events:
            data = connection.recv(262_144)
            if not data:
                raise ConnectionError(f"the stream ended: {heard[:300]!r}")
            heard += data
        return time.perf_counter() - begun
