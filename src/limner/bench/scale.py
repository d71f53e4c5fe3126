"""Measures whether the service stays fast with many jobs, by the same requests to a full and to a small database.

The small one has the newest of the same jobs, so that pages of the list and of the events have equal content. Both ask
for keys, because one owner's jobs have queries of their own.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

from rich.console import Console

from limner.bench.client import Client, percentile, version
from limner.bench.filler_rows import RARE, WAITING
from limner.bench.processes import Server, environment_of, server
from limner.bench.report import Row
from limner.bench.scratch import Scratch, SqliteScratch, scratch
from limner.domain.key import new_token
from limner.settings import Settings

SMALL_JOBS = 2_000
MAX_RATIO = 1.3
QUICK = 0.25
REPLAYED = 200  # events: one page of the log
REPLAY_TIMEOUT_S = 120
JOB_TIMEOUT_S = 60


@dataclass
class _Filled:
    """A database with a server on it."""

    server: Server
    middle: str  # the id of a job deep inside
    waiting: str  # the id of a queued job, behind all others of its lane
    newest: str  # the id of the last job, the only one of contours that has events
    scratch: Scratch


_Probe = Callable[[Client, _Filled], float]


@dataclass(frozen=True)
class _Tokens:
    """API keys: for everything, for the jobs of an owner of many, and of an owner of few."""

    admin: str = field(default_factory=new_token)
    owner: str = field(default_factory=new_token)
    rare: str = field(default_factory=new_token)


def run(
    settings: Settings, photo: bytes, *, jobs: int, rounds: int, idle_s: float, server_url: str | None = None
) -> list[Row]:
    """p50 and p99 of each request on a database of `jobs` jobs; the ratio is that of the lower quartiles.

    Both are SQLite files, or databases that are created on the PostgreSQL server of `server_url` and dropped at the
    end. SettingsError.
    """
    console = Console(stderr=True)
    tokens = _Tokens()
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as name, ExitStack() as held:
        key = _cache_key(settings, photo, Path(name), server_url, tokens)
        full, small = (
            _filled(settings, photo, key, Path(name) / str(number), number, held, console, server_url, tokens)
            for number in (jobs, SMALL_JOBS)
        )
        rows = [
            Row(
                name=f"start until ready: {jobs:,} jobs, {full.scratch.size() / 1e9:.2f} GB",
                p50_ms=full.server.ready_s * 1000,
                beside=f"{SMALL_JOBS:,} jobs: {small.server.ready_s * 1000:.0f} ms",
                ratio=full.server.ready_s / small.server.ready_s,
            ),
            _idle(full, small, idle_s, console),
        ]
        numbers = count(1)
        for title, probe in _probes(photo, numbers, tokens).items():
            console.print(f"  {title}", style="dim")
            rows.append(_compared(title, probe, full, small, rounds))
    return rows


def _cache_key(settings: Settings, photo: bytes, folder: Path, server_url: str | None, tokens: _Tokens) -> str:
    """The cache key of the photo's result."""
    with _scratch(server_url, folder) as empty:
        with server(settings, folder, **_variables(empty, tokens)) as alone:
            client = alone.client()
            status, job = client.submit("detect", photo)
            client.close()
            assert status == 200, job
        return empty.cache_key()


def _scratch(server_url: str | None, folder: Path) -> AbstractContextManager[Scratch]:
    return nullcontext(SqliteScratch(folder)) if server_url is None else scratch(server_url)


def _variables(database: Scratch, tokens: _Tokens) -> dict[str, str]:
    return {"LIMNER_DATABASE_URL": database.url, "LIMNER_REQUIRE_KEYS": "on", "LIMNER_ADMIN_KEY": tokens.admin}


def _filled(
    settings: Settings,
    photo: bytes,
    key: str,
    folder: Path,
    jobs: int,
    held: ExitStack,
    console: Console,
    server_url: str | None,
    tokens: _Tokens,
) -> _Filled:
    folder.mkdir()
    database = held.enter_context(_scratch(server_url, folder))
    variables = _variables(database, tokens)
    subprocess.run(
        [sys.executable, "-m", "limner.cli", "migrate"],
        env={**os.environ, **environment_of(settings, folder), **variables},
        check=True,
        capture_output=True,
    )
    begun = time.monotonic()
    middle, waiting = database.fill(jobs, key, (tokens.owner, tokens.rare))
    console.print(
        f"filled with {jobs:,} jobs in {time.monotonic() - begun:.0f} s: {database.size() / 1e9:.2f} GB", style="dim"
    )
    started = held.enter_context(server(settings, folder, **variables))
    client = started.client()
    status, job = client.submit("contours", photo)
    assert status == 200, job
    client.close()
    return _Filled(started, middle, waiting, str(job["id"]), database)


def _idle(full: _Filled, small: _Filled, idle_s: float, console: Console) -> Row:
    """CPU of both servers without requests, when only the sweep runs, and of PostgreSQL for them."""
    console.print(f"  idle for {idle_s:.0f} s", style="dim")
    before = [each.server.cpu_s() + each.scratch.busy_s() for each in (full, small)]
    time.sleep(idle_s)
    after = [each.server.cpu_s() + each.scratch.busy_s() for each in (full, small)]
    spent = [now - was for now, was in zip(after, before, strict=True)]
    ratio = spent[0] / max(spent[1], 0.01)
    return Row(
        name=f"idle for {idle_s:.0f} s: the sweep",
        cpu_ms=spent[0] * 1000,
        beside=f"small: {spent[1] * 1000:.0f} ms",
        ratio=ratio,
        aim=f"≤ {MAX_RATIO}",
        met=ratio <= MAX_RATIO,
    )


def _probes(photo: bytes, numbers: "count[int]", tokens: _Tokens) -> dict[str, _Probe]:
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

    def got(path: Callable[[_Filled], str], token: str | None = None) -> _Probe:
        def probe(client: Client, on: _Filled) -> float:
            if token is not None:
                client = on.server.client(token)
                client.get("/v1/jobs?limit=1")  # the service remembers the key for 5 s, and the connection is open
            begun = time.perf_counter()
            status, body = client.get(path(on))
            spent = time.perf_counter() - begun
            if token is not None:
                client.close()
            assert status == 200, body
            return spent

        return probe

    def listed(token: str | None = None, **query: str) -> _Probe:
        path = f"/v1/jobs?{urlencode({'limit': 50, **query})}"
        return got(lambda _: path, token)

    def replayed(events: int, query: Callable[[_Filled], dict[str, str]], token: str = tokens.admin) -> _Probe:
        return lambda _, on: _replay(
            on.server.port, f"/v1/events?{urlencode({'after': 0, **query(on)})}", events, token
        )

    return {
        "submit a new photo": submitted,
        "submit: cache hit in the middle": cached,
        "GET a job": got(lambda on: f"/v1/jobs/{on.middle}"),
        f"GET a queued job: its place behind {WAITING - 1}": got(lambda on: f"/v1/jobs/{on.waiting}"),
        "GET /metrics": got(lambda _: "/metrics"),
        "list": listed(),
        "list, status=failed": listed(status="failed"),
        "list, status=running: none": listed(status="running"),
        "list, operation=detect": listed(operation="detect"),
        "list, detect and failed": listed(operation="detect", status="failed"),
        "list, contours and failed: none": listed(operation="contours", status="failed"),
        "list, cursor in the middle": got(lambda on: f"/v1/jobs?limit=50&cursor={on.middle}"),
        "list, cursor in the middle, 20 failed": got(lambda on: f"/v1/jobs?limit=20&status=failed&cursor={on.middle}"),
        "list of a key": listed(tokens.owner),
        "list of a key, 3 failed": listed(tokens.owner, status="failed", limit="3"),
        "list of a key, detect": listed(tokens.owner, operation="detect"),
        "list of a key, detect and succeeded": listed(tokens.owner, operation="detect", status="succeeded"),
        "list of a key, contours: none": listed(tokens.owner, operation="contours"),
        "list of a key that has 3 jobs": listed(tokens.rare),
        "list of a key that has 3 jobs, failed: none": listed(tokens.rare, status="failed"),
        "list of a key that has 3 jobs, detect, failed: none": listed(tokens.rare, status="failed", operation="detect"),
        "classic list of pictures": got(lambda _: "/api/v1/images/?page_size=50"),
        "classic list of a key": got(lambda _: "/api/v1/images/?page_size=20", tokens.owner),
        f"events from the first on: {REPLAYED}": replayed(REPLAYED, lambda _: {}),
        "events of one job, from the first on": replayed(3, lambda on: {"job": on.newest}),
        "events of contours, none but the last job's": replayed(3, lambda _: {"operation": "contours"}),
        f"events of a key, from the first on: {REPLAYED}": replayed(REPLAYED, lambda _: {}, tokens.owner),
        "events of a key that has 3 jobs": replayed(3 * len(RARE), lambda _: {}, tokens.rare),
        "events of one job of contours": replayed(3, lambda on: {"operation": "contours", "job": on.newest}),
        "erase a job": erased,
    }


def _compared(title: str, probe: _Probe, full: _Filled, small: _Filled, rounds: int) -> Row:
    """Run the probe on both servers alternately, after one round that is not measured."""
    spent: dict[int, list[float]] = {id(full): [], id(small): []}
    try:
        for number in range(rounds + 1):
            for each in (full, small) if number % 2 else (small, full):
                client = each.server.client()  # a new one: the other's turn may outlast the server's patience
                seconds = probe(client, each)
                client.close()
                if number > 0:
                    spent[id(each)].append(seconds * 1000)
    except (OSError, AssertionError) as error:  # shown in the table, because the other rows are still useful
        return Row(name=title, beside=f"failed: {error!r:.200}", met=False, aim=f"≤ {MAX_RATIO}", errors=1)
    # Of the quicker ones: what else runs on the machine only adds time.
    ratio = percentile(spent[id(full)], QUICK) / percentile(spent[id(small)], QUICK)
    p50, reference = (percentile(spent[id(each)], 0.5) for each in (full, small))
    return Row(
        name=title,
        p50_ms=p50,
        p99_ms=percentile(spent[id(full)], 0.99),
        beside=f"small: p50 {reference:.2f}, p99 {percentile(spent[id(small)], 0.99):.1f} ms",
        ratio=ratio,
        aim=f"≤ {MAX_RATIO}",
        met=ratio <= MAX_RATIO,
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


def _replay(port: int, path: str, events: int, token: str) -> float:
    """Seconds from the request until `events` server-sent events have arrived, on a new connection."""
    with socket.create_connection(("127.0.0.1", port), REPLAY_TIMEOUT_S) as connection:
        begun = time.perf_counter()
        key = f"Authorization: Bearer {token}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{key}\r\n\r\n".encode())
        heard = b""
        while heard.count(b"\ndata: ") < events:
            data = connection.recv(262_144)
            if not data:
                raise ConnectionError(f"the stream ended: {heard[:300]!r}")
            heard += data
        return time.perf_counter() - begun
