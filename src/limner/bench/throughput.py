"""Measures requests per second, each compared with a bare server that sends as many bytes.

The load comes from `wrk`. The service, the bare server and nginx are separate processes, loaded one after the other.
"""

import json
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.bench import wrk
from limner.bench.client import multipart, percentile, version
from limner.bench.processes import Server, bare_server, nginx, server
from limner.bench.report import Row
from limner.domain.key import new_token
from limner.settings import Settings

JOBS = 51  # a page of the list is full
COMMITS = 300


@dataclass(frozen=True, slots=True)
class _Case:
    """A request with its aims: a rate, and for some a p50. With `keys`, to a service that asks for keys."""

    name: str
    path: str
    min_rate: float | None = None
    max_p50_ms: float | None = None
    body: bytes | None = None
    content_type: str = ""
    keys: bool = False


def run(settings: Settings, photo: bytes, *, seconds: int, connections: int) -> list[Row]:
    """Rate, p50, p99 and the server's CPU of each kind of request. SettingsError where wrk is not installed."""
    wrk.require()
    with ExitStack() as held:
        ours = held.enter_context(server(settings))
        locked = held.enter_context(server(settings, LIMNER_REQUIRE_KEYS="on", LIMNER_ADMIN_KEY=new_token()))
        bare = held.enter_context(bare_server())
        job, same = _prepared(ours, photo), _prepared(locked, photo, jobs=1)
        artifact = job["artifacts"][0]["url"].partition(str(ours.port))[2]
        body, content_type = multipart(photo, {})
        rows = []
        for case in (
            _Case("GET /healthz", "/healthz"),
            _Case("GET a job", f"/v1/jobs/{job['id']}", 1500),
            _Case("GET an artifact", artifact, 2500),
            _Case("GET /v1/jobs?limit=50", "/v1/jobs?limit=50"),
            _Case("POST a photo: cache hit", "/v1/detect", 700, 5, body, content_type),
            _Case("GET a job with a key", f"/v1/jobs/{same['id']}", keys=True),
            _Case("POST a photo with a key: cache hit", "/v1/detect", None, None, body, content_type, keys=True),
        ):
            of = locked if case.keys else ours
            size = _answer_size(of, case, photo)
            rows.append(_measured(of, bare, case, size, seconds=seconds, connections=connections))
            if case.path == artifact:
                rows.append(_by_nginx(_content(ours, artifact), rows[-1], seconds=seconds, connections=connections))
    rows.append(_commits())
    return rows


def _measured(ours: Server, bare: Server, case: _Case, size: int, *, seconds: int, connections: int) -> Row:
    def load(of: Server, path: str, seconds: int) -> wrk.Load:
        return wrk.run(
            of.url(path),
            connections=connections,
            seconds=seconds,
            body=case.body,
            content_type=case.content_type,
            token=of.token,
        )

    load(bare, f"/{size}", 1)
    reference = load(bare, f"/{size}", seconds)
    load(ours, case.path, 1)
    before = ours.cpu_s()
    measured = load(ours, case.path, seconds)
    cpu_s = ours.cpu_s() - before
    aims, met = [], True
    if case.min_rate is not None:
        aims.append(f"≥ {case.min_rate:,.0f}/s")
        met &= measured.rate >= case.min_rate
    if case.max_p50_ms is not None:
        aims.append(f"p50 ≤ {case.max_p50_ms:g} ms")
        met &= measured.p50_ms <= case.max_p50_ms
    return Row(
        name=f"{case.name}, {size:,} bytes",
        rate=measured.rate,
        p50_ms=measured.p50_ms,
        p99_ms=measured.p99_ms,
        cpu_ms=cpu_s / measured.requests * 1000,
        beside=f"bare uvicorn {reference.rate:,.0f}/s, p50 {reference.p50_ms:.1f} ms",
        ratio=measured.rate / reference.rate,
        aim=", ".join(aims),
        met=met and not measured.errors if aims else None,
        errors=measured.errors,
    )


def _by_nginx(content: bytes, ours: Row, *, seconds: int, connections: int) -> Row:
    """The artifact's bytes from nginx; the ratio is the service's rate divided by that of nginx."""
    with nginx(content) as by_kernel:
        if by_kernel is None:
            return Row("  by nginx: not installed (apt-get install nginx-light)")
        url = by_kernel.url("/artifact")
        wrk.run(url, connections=connections, seconds=1)
        before = by_kernel.cpu_s()
        load = wrk.run(url, connections=connections, seconds=seconds)
        cpu_s = by_kernel.cpu_s() - before
    return Row(
        name="  the same from nginx, one process, sendfile",
        rate=load.rate,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        cpu_ms=cpu_s / load.requests * 1000,
        beside=f"the service {ours.rate:,.0f}/s",
        ratio=(ours.rate or 0) / load.rate,
        errors=load.errors,
    )


def _commits() -> Row:
    """The limit set by this disk: durable commits of one small row with SQLite alone, one after the other."""
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as folder:
        spent = list(_commit_times(Path(folder) / "commits.db"))
    return Row(
        name="  for comparison: one durable commit of SQLite alone",
        rate=len(spent) / sum(spent),
        p50_ms=percentile(spent, 0.5) * 1000,
        p99_ms=percentile(spent, 0.99) * 1000,
    )


def _commit_times(file: Path) -> Iterator[float]:
    database = sqlite3.connect(file, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, content TEXT)")
    for _ in range(COMMITS):
        begun = time.perf_counter()
        database.execute("INSERT INTO rows (content) VALUES (?)", ("x" * 1000,))
        yield time.perf_counter() - begun
    database.close()


def _prepared(ours: Server, photo: bytes, *, jobs: int = JOBS) -> dict[str, Any]:
    """Submit jobs, by default enough for a page of the list. The last one is the photo itself: then it is cached."""

    def submit(data: bytes) -> dict[str, Any]:
        client = ours.client()
        status, job = client.submit("detect", data)
        client.close()
        assert status == 200, job
        return job

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(submit, (version(photo, number) for number in range(jobs - 1))))
    return submit(photo)


def _answer_size(ours: Server, case: _Case, photo: bytes) -> int:
    """Check the answer of a case, and return the length of its body."""
    if case.body is None:
        return len(_content(ours, case.path))
    client = ours.client()
    status, job = client.submit("detect", photo)
    client.close()
    assert (status, job["cached"]) == (200, "exact"), job
    return len(json.dumps(job, separators=(",", ":"), ensure_ascii=False).encode())


def _content(ours: Server, path: str) -> bytes:
    client = ours.client()
    status, body = client.get(path)
    client.close()
    assert status == 200, body
    return body
