"""Migrating a database of the first version: no row is lost, and every value keeps its meaning."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import make_url

from limner.adapters.sql.migrate import head_revision, migrate
from limner.adapters.sql.schema import metadata
from limner.adapters.sql.sqlite import SqliteDatabase
from limner.domain.blob import BlobState
from limner.domain.job import File, Job, Role, Status
from tests.contract.databases import old_database
from tests.contract.machine import DAY, FAR, Machine, new_job, open_sqlite

WHEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MICROSECONDS = (WHEN - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

JOB: dict[str, Any] = {
    "operation": "detect",
    "lane": "cpu",
    "status": "queued",
    "progress": 0.0,
    "params": '{"min_score":0.5}',
    "attempt": 0,
    "created_at": MICROSECONDS,
}
DONE: dict[str, Any] = {
    "status": "succeeded",
    "progress": 1.0,
    "attempt": 1,
    "started_at": MICROSECONDS + 1,
    "finished_at": MICROSECONDS + 2,
    "computed_at": MICROSECONDS + 2,
    "result": '{"faces":[]}',
    "faces_count": 2,
}
JOBS: list[dict[str, Any]] = [
    {"id": "a done", "cache_key": "one", "look": "0123456789abcdef", "rest_key": "rest", **DONE},
    {"id": "b cached", "cache_key": "one", "cached": "exact", **DONE, "attempt": 0, "faces_count": 0},
    {"id": "c similar", "cache_key": "two", "cached": "similar", "cache_distance": 3, **DONE, "faces_count": None},
    {"id": "d failed", "cache_key": "three", "status": "failed", "attempt": 2, "error": '{"title":"broken"}'},
    {"id": "e cancelled", "cache_key": "four", "status": "cancelled", "finished_at": MICROSECONDS, "leader_id": "gone"},
    {
        "id": "f running",
        "cache_key": "five",
        "status": "running",
        "attempt": 1,
        "progress": 0.25,
        "lease_until": MICROSECONDS + 9,
        "started_at": MICROSECONDS,
        "idempotency_key": "key of f",
    },
    {"id": "g behind f", "cache_key": "five", "leader_id": "f running", "idempotency_key": "key of g"},
    {"id": "h queued", "cache_key": "six"},
]
FILES: list[dict[str, Any]] = [
    {"job_id": job["id"], "role": "input", "name": "image", "sha256": f"photo of {job['cache_key']}", "position": 0}
    for job in JOBS
] + [
    {"job_id": job_id, "role": "artifact", "name": name, "sha256": f"sha of {name}", "position": position}
    for job_id in ("a done", "b cached")
    for position, name in enumerate(("z.jpg", "a.svg"), 1)
]
EVENTS: list[tuple[str, str, str | None]] = [
    ("job.queued", "a done", '{"status":"queued","faces_count":null,"error":null}'),
    ("job.succeeded", "a done", '{"status":"succeeded","faces_count":2,"error":null,"artifacts":[{"name":"ü"}]}'),
    ("job.succeeded", "erased", None),
    *[("job.progress", "f running", '{"status":"running","progress":0.25,"faces_count":null}')] * 2500,
]


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    columns, places = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places})", list(row.values()))  # noqa: S608


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A migrated database that had rows of every kind."""
    path = tmp_path / "jobs.db"
    old_database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        for job in JOBS:
            _insert(connection, "jobs", {**JOB, **job})
        for number, file in enumerate(FILES):
            sizes = {"size": 100 + len(file["sha256"]), "width": 10, "height": None}
            _insert(connection, "files", {"id": f"file {number}", "media_type": "image/png", **file, **sizes})
        for kind, job_id, content in EVENTS:
            row = {"type": kind, "time": MICROSECONDS, "job_id": job_id, "operation": "detect", "content": content}
            _insert(connection, "events", row)
        _insert(connection, "events", {**row, "job_id": "dropped"})
        connection.execute("DELETE FROM events WHERE job_id = 'dropped'")
        connection.commit()
    made = open_sqlite(path)
    yield made
    made.close()


def test_the_tables_are_todays(machine: Machine, tmp_path: Path) -> None:
    machine.close()
    database = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/jobs.db"), durable=False)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == head_revision()
    assert not migrate(database)
    database.close()
    new = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/new.db"), durable=False)
    migrate(new)
    new.close()
    assert _schema(tmp_path / "jobs.db") == _schema(tmp_path / "new.db")


def _schema(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_an_empty_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    old_database(tmp_path / "jobs.db").close()
    machine = open_sqlite(tmp_path / "jobs.db")
    assert (machine.reader.page(), machine.events(), machine.reader.totals()) == ([], [], (0, 0))
    machine.done(new_job(), "a.jpg")
    machine.close()


def test_every_job_is_there_with_its_files(machine: Machine) -> None:
    jobs = machine.reader.page(limit=100)
    assert [job.id for job in jobs] == [job["id"] for job in reversed(JOBS)]
    done = machine.reader.get("a done")
    assert done == Job(
        id="a done",
        operation="detect",
        lane="cpu",
        params={"min_score": 0.5},
        cache_key="one",
        created_at=WHEN,
        status=Status.SUCCEEDED,
        progress=1.0,
        similarity_key="rest",
        phash="0123456789abcdef",
        attempt=1,
        started_at=WHEN + timedelta(microseconds=1),
        finished_at=WHEN + timedelta(microseconds=2),
        computed_at=WHEN + timedelta(microseconds=2),
        result={"faces": []},
        summary={"faces_count": 2},
        files=(
            File("file 0", "a done", Role.INPUT, "image", "photo of one", "image/png", 112, 10, None),
            File("file 8", "a done", Role.ARTIFACT, "z.jpg", "sha of z.jpg", "image/png", 112, 10, None),
            File("file 9", "a done", Role.ARTIFACT, "a.svg", "sha of a.svg", "image/png", 112, 10, None),
        ),
    )
    known = {job.id: job for job in jobs}
    assert (known["b cached"].cached, known["b cached"].summary) == ("exact", {"faces_count": 0})
    similar = known["c similar"]
    assert (similar.cached, similar.cache_distance, similar.summary) == ("similar", 3, None)
    assert (known["d failed"].error, known["d failed"].attempt) == ({"title": "broken"}, 2)
    running = known["f running"]
    assert (running.worker, running.progress, running.idempotency_key) == (None, 0.25, "key of f")
    assert running.lease_until == WHEN + timedelta(microseconds=9)
    assert known["g behind f"].leader_id == "f running"


def test_events_have_a_summary(machine: Machine) -> None:
    events = machine.events()
    assert [(event.type, event.job_id) for event in events] == [(kind, job_id) for kind, job_id, _ in EVENTS]
    assert [event.id for event in events] == list(range(1, len(EVENTS) + 1))
    assert events[0].content == {"status": "queued", "error": None, "summary": None}
    assert events[1].content == {
        "status": "succeeded",
        "error": None,
        "artifacts": [{"name": "ü"}],
        "summary": {"faces_count": 2},
    }
    assert events[2].content is None
    for event in events[3:]:
        assert event.time == WHEN
        assert event.content == {"status": "running", "progress": 0.25, "summary": None}
    assert machine.log.last_id() == len(EVENTS) + 1, "an id that was dropped is not given again"


def test_every_blob_is_kept_and_counted(machine: Machine) -> None:
    sizes = {file["sha256"]: 100 + len(file["sha256"]) for file in FILES}
    for sha256 in sizes:
        assert machine.store.transact(lambda tx, sha256=sha256: tx.blob_state(sha256)) is BlobState.KEPT  # type: ignore[misc]
    assert machine.reader.without_row([*sizes, "unknown"]) == ["unknown"]
    assert machine.reader.totals() == (1, sum(sizes.values()))
    assert sorted(machine.erase("a done").marked) == []
    assert sorted(machine.erase("b cached").marked) == ["photo of one", "sha of a.svg", "sha of z.jpg"]
    assert machine.reader.totals() == (0, sum(sizes.values()) - 3 * 112)


def test_the_jobs_live_on(machine: Machine) -> None:
    assert machine.reader.stranded(10) == []
    assert machine.waiting(10) == [("h queued", "cpu")]
    assert machine.submit(new_job("one"), cache_for=FAR).cached == "exact"
    assert machine.submit(new_job("five", idempotency_key="key of g")).id == "g behind f"
    assert machine.reader.overdue(datetime.now(UTC) + DAY, 10) == ["f running"]
    assert machine.expire("f running")
    started = machine.try_start("f running")
    assert started is not None
    assert started.attempt == 2
    assert machine.finish(started, "new.jpg")
    follower = machine.reader.get("g behind f")
    assert follower is not None
    assert (follower.status, follower.cached) == (Status.SUCCEEDED, "exact")
    similar = machine.reader.similar("rest", computed_since=WHEN - DAY, limit=9)
    assert similar == [("a done", "0123456789abcdef")]
