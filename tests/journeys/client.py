"""Functions of a client of the service, used by the journeys."""

import contextlib
import json
import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
from websockets.sync.client import ClientConnection, connect

from limner.adapters.sql.opening import open_stores
from tests.journeys.server import Server

PATIENCE_S = 120
FINAL = ("succeeded", "failed", "cancelled")
Json = dict[str, Any]


def client(server: Server) -> httpx.Client:
    """A client that keeps its connections."""
    return httpx.Client(base_url=server.url, timeout=PATIENCE_S)


def submit(server: Server, photo: bytes, *, wait: bool = False, path: str = "/v1/detect", **fields: str) -> Json:
    """Send a photo as a form; the job, finished if `wait`."""
    answer = httpx.post(
        server.url + path,
        files={"image": photo},
        data=fields,
        headers={"Prefer": f"wait={PATIENCE_S}"} if wait else {},
        timeout=2 * PATIENCE_S,
    )
    assert answer.status_code in (200, 202), answer.text
    job: Json = answer.json()
    assert not wait or job["status"] in FINAL
    return job


def get(server: Server, path: str, **headers: str) -> httpx.Response:
    """GET a path or a URL of the server."""
    url = path if path.startswith("http") else server.url + path
    return httpx.get(url, headers=headers, timeout=PATIENCE_S)


def finished(server: Server, job_id: str) -> Json:
    """The job, once it has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        job: Json = get(server, f"/v1/jobs/{job_id}").json()
        if job["status"] in FINAL:
            return job
        assert time.monotonic() < deadline, f"{job_id} did not end"
        time.sleep(0.05)


def problem(answer: httpx.Response, status: int, slug: str) -> Json:
    """Check that an answer is an error of the documented shape."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"] == "application/problem+json"
    told: Json = answer.json()
    assert told["type"] == f"urn:limner:problem:{slug}", told
    assert told["status"] == status
    assert told["title"]
    assert told["detail"]
    assert isinstance(told["retryable"], bool)
    assert len(answer.content) < 10_000  # an error must not repeat long data of the client
    return told


def metric(server: Server, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    total = 0.0
    for line in get(server, "/metrics").text.splitlines():
        found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if found and found[1] == name:
            has = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
            if labels.items() <= has.items():
                total += float(found[3])
    return total


# --- events ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(server: Server, path: str = "/v1/events", **options: Any) -> Iterator[ClientConnection]:
    """A WebSocket with an unlimited queue: with a full one, the client would not read the server's close."""
    options = {"open_timeout": PATIENCE_S, "proxy": None, "max_queue": None, **options}
    with connect(server.socket_url + path, **options) as connection:
        yield connection


def received(connection: ClientConnection) -> Json:
    """The next event."""
    told: Json = json.loads(connection.recv(timeout=PATIENCE_S))
    return told


def until(connection: ClientConnection, event_type: str, job_id: str) -> list[Json]:
    """Events up to the one of that type and job, which is the last. An earlier job may still have some to tell."""
    seen = [received(connection)]
    while (seen[-1]["type"], seen[-1]["job"]["id"]) != (event_type, job_id):
        seen.append(received(connection))
    return seen


def server_sent(lines: Iterator[str]) -> Iterator[Json]:
    """Events of a `text/event-stream`; checks the form of each."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            told = json.loads(fields["data"])
            assert fields["id"] == str(told["id"])
            assert fields["event"] == told["type"]
            fields = {}
            yield told


def all_events(server: Server, **filters: str) -> list[Json]:
    """Every event so far, over server-sent events."""
    last = last_event_id(server)
    seen: list[Json] = []
    if last == 0:
        return seen
    with httpx.stream("GET", f"{server.url}/v1/events", params={"after": "0", **filters}, timeout=3) as answer:
        assert answer.status_code == 200
        with contextlib.suppress(httpx.ReadTimeout):
            for event in server_sent(answer.iter_lines()):
                seen.append(event)
                if event["id"] >= last:
                    break
    return seen


def last_event_id(server: Server) -> int:
    """The id of the last event so far. On PostgreSQL, events get their ids when somebody reads them: now."""
    stores = open_stores(server.variables["LIMNER_DATABASE_URL"], durable=False)
    try:
        return stores.events.last_id()
    finally:
        stores.close()


# --- below the service -----------------------------------------------------------------------------------------------


def rows(server: Server, query: str, *values: str) -> list[tuple[Any, ...]]:
    """Rows of the database, read directly and not through the service. `?` stands for each of the values."""
    url = server.variables["LIMNER_DATABASE_URL"]
    if url.startswith("postgresql:"):
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(query.replace("?", "%s").encode(), values or None).fetchall()
    with contextlib.closing(sqlite3.connect(server.folder / "limner.db", timeout=30)) as database:
        return database.execute(query, values).fetchall()


def blobs(server: Server) -> list[Path]:
    """Every file in the folder of photos, also incomplete ones, except the one with the database's id."""
    return [path for path in (server.folder / "blobs").rglob("*") if path.is_file() and path.name != "database-id"]


def raw(
    server: Server, data: bytes, *, timeout_s: float = PATIENCE_S, close: bool = False, ends: bytes | None = None
) -> bytes:
    """Send raw bytes and read to the end, or to the text `ends`; with `close`, end our side first."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout_s) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            if close:
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            while (ends is None or not answer.endswith(ends)) and (chunk := connection.recv(65536)):
                answer += chunk
        return answer
