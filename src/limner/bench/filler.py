"""Fills a scratch database with finished jobs, for `limner bench scale`. The only file here that uses the tables.

Jobs are numbered by age: number 0 is the newest. Job n is the same in a database of any size, so that equal pages of a
large and a small one have equal content.
"""

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Table, insert
from sqlalchemy.dialects import sqlite

from limner.adapters.sql.schema import metadata

AGE_S = 20 * 86400  # the oldest job's: within the default retention
BATCH = 20_000
FAILED_EVERY = 33  # every so many detect jobs failed
CONTOURS_EVERY = 10  # every so many jobs are contours: none of them failed, and none has left an event
_PATTERN = FAILED_EVERY * CONTOURS_EVERY
SIMILARITY_KEY = "0" * 64

Values = dict[str, Any]


def fill(file: Path, jobs: int, cache_key: str) -> str:
    """Add `jobs` finished jobs to a migrated, empty database that nobody has open, and give the middle one's id.

    The middle one is the only one that has `cache_key`, so that it is what a cache hit finds. Journal and fsync are off
    meanwhile, and the indexes are built at the end.
    """
    database = sqlite3.connect(file, isolation_level=None)
    for pragma in (
        "journal_mode=OFF",
        "synchronous=OFF",
        "locking_mode=EXCLUSIVE",
        "cache_size=-1000000",
        "temp_store=MEMORY",
    ):
        database.execute(f"PRAGMA {pragma}")
    indexes = database.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    for name, _ in indexes:
        database.execute(f"DROP INDEX {name}")
    newest_us = time.time_ns() // 1000
    middle = jobs // 2 // _PATTERN * _PATTERN  # a detect job that succeeded
    for oldest in range(jobs, 0, -BATCH):
        numbers = range(oldest - 1, max(-1, oldest - BATCH - 1), -1)
        database.execute("BEGIN")
        for table, rows in _ROWS.items():
            _add(database, metadata.tables[table], (row for n in numbers for row in rows(n, newest_us, jobs)))
        database.execute("COMMIT")
    for _, statement in indexes:
        database.execute(statement)
    middle_id = _uuid(middle, newest_us, jobs, 0)
    database.execute(_TOTALS)
    # The filler's artifacts have no bytes, and a result whose artifacts are missing does not answer.
    database.execute("DELETE FROM files WHERE job_id = ? AND role = 'artifact'", (middle_id,))
    database.execute("UPDATE jobs SET cache_key = ? WHERE id = ?", (cache_key, middle_id))
    database.close()
    with file.open("rb+") as written:
        os.fsync(written.fileno())  # now, so that writing back does not run beside the measurement
    return middle_id


def cache_key(file: Path) -> str:
    """The cache key of the only job in a database."""
    database = sqlite3.connect(file)
    ((key,),) = database.execute("SELECT cache_key FROM jobs").fetchall()
    database.close()
    return str(key)


def _add(database: sqlite3.Connection, table: Table, rows: Iterator[Values]) -> None:
    """Insert; KeyError for a column that no value is known for and that has no default of the database's own."""
    first = next(rows, None)
    if first is None:
        return
    columns = [column.name for column in table.columns if column.name in first]
    missing = {column.name for column in table.columns if not column.nullable and not column.primary_key} - set(columns)
    if missing:
        raise KeyError(f"{table.name}: the filler has no value for {sorted(missing)}")
    pick = itemgetter(*columns)
    statement = str(insert(table).values(dict.fromkeys(columns)).compile(dialect=sqlite.dialect()))
    database.execute(statement, pick(first))
    database.executemany(statement, map(pick, rows))


def _when_us(number: int, newest_us: int, jobs: int) -> int:
    return newest_us - 60_000_000 - number * (AGE_S * 1_000_000 // jobs)


def _uuid(number: int, newest_us: int, jobs: int, kind: int) -> str:
    stamp = f"{_when_us(number, newest_us, jobs) // 1000:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7000-8{kind:03x}-{0xFFFFFFFFFFFF - number:012x}"


def _sha256(number: int, what: str) -> str:
    return hashlib.sha256(f"{what} {number}".encode()).hexdigest()


def _is_contours(number: int) -> bool:
    return number % CONTOURS_EVERY == 5


def _is_failed(number: int) -> bool:
    return number % FAILED_EVERY == 7 and not _is_contours(number)


def _job(number: int, newest_us: int, jobs: int) -> Iterator[Values]:
    """Values by column name."""
    at = _when_us(number, newest_us, jobs)
    failed = _is_failed(number)
    input_sha256 = _sha256(number, "input")
    yield {
        "id": _uuid(number, newest_us, jobs, 0),
        "operation": "contours" if _is_contours(number) else "detect",
        "lane": "cpu",
        "status": "failed" if failed else "succeeded",
        "progress": 1.0,
        "cached": None,
        "cache_distance": None,
        "phash": input_sha256[:16],
        "similarity_key": SIMILARITY_KEY,
        "params": _PARAMS % input_sha256,
        "cache_key": _sha256(number, "key"),
        "leader_id": None,
        "attempt": 1,
        "lease_until": None,
        "worker": None,
        "idempotency_key": None,
        "created_at": at,
        "started_at": at + 2_000,
        "finished_at": at + 60_000,
        "computed_at": None if failed else at + 60_000,
        "result": None if failed else _RESULT,
        "error": _ERROR if failed else None,
        "summary": None if failed else '{"faces_count":7}',
    }


def _files(number: int, newest_us: int, jobs: int) -> Iterator[Values]:
    file = {
        "job_id": _uuid(number, newest_us, jobs, 0),
        "media_type": "image/jpeg",
        "size": 123_456,
        "width": 1280,
        "height": 720,
    }
    yield {
        **file,
        "id": _uuid(number, newest_us, jobs, 1),
        "position": 0,
        "role": "input",
        "name": "image",
        "sha256": _sha256(number, "input"),
    }
    if not _is_failed(number):
        yield {
            **file,
            "id": _uuid(number, newest_us, jobs, 2),
            "position": 1,
            "role": "artifact",
            "name": "marked.jpg",
            "sha256": _sha256(number, "artifact"),
        }


def _blobs(number: int, newest_us: int, jobs: int) -> Iterator[Values]:
    for file in _files(number, newest_us, jobs):
        yield {
            "sha256": file["sha256"],
            "size": file["size"],
            "state": "kept",
            "changed_at": _when_us(number, newest_us, jobs),
        }


def _events(number: int, newest_us: int, jobs: int) -> Iterator[Values]:
    if _is_contours(number):
        return
    event = {"job_id": _uuid(number, newest_us, jobs, 0), "operation": "detect"}
    at = _when_us(number, newest_us, jobs)
    yield {**event, "type": "job.queued", "time": at, "content": _QUEUED}
    yield {**event, "type": "job.running", "time": at + 2_000, "content": _RUNNING}
    if _is_failed(number):
        yield {**event, "type": "job.failed", "time": at + 60_000, "content": _FAILED}
    else:
        yield {**event, "type": "job.succeeded", "time": at + 60_000, "content": _SUCCEEDED}


_ROWS: dict[str, Callable[[int, int, int], Iterator[Values]]] = {
    "jobs": _job,
    "files": _files,
    "events": _events,
    "blobs": _blobs,
}


def _text(value: Values) -> str:
    return json.dumps(value, separators=(",", ":"))


def _content(status: str, **more: Any) -> str:
    content = {
        "status": status,
        "progress": 0.0,
        "cached": None,
        "summary": None,
        "created_at": "2026-01-01T00:00:00.123456+00:00",
        "finished_at": None,
        "error": None,
        "artifacts": [],
    }
    return _text(content | more)


_FACE = {
    "box": {"x": 533.328, "y": 86.343, "width": 128.405, "height": 162.695},
    "box_relative": {"x": 0.41666, "y": 0.11992, "width": 0.10031, "height": 0.22596},
    "score": 0.939,
    "landmarks": {
        name: {"x": 563.819, "y": 144.571} for name in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    },
    "roll_degrees": 2.5,
}
_PROBLEM = {
    "type": "/problems/model-error",
    "title": "The model failed",
    "status": 500,
    "detail": "a filler job that failed",
    "retryable": False,
}
_FINISHED = "2026-01-01T00:00:00.183456+00:00"
_ARTIFACT = {
    "id": "019b7400-0000-7000-8002-fffffffffffe",
    "name": "marked.jpg",
    "media_type": "image/jpeg",
    "size": 123_456,
    "width": 1280,
    "height": 720,
}
_TOTALS = (
    "INSERT INTO totals (name, amount) SELECT 'bytes', sum(size) FROM blobs"
    " UNION ALL SELECT 'results', count(*) FROM jobs WHERE status = 'succeeded'"
)
_PARAMS = '{"image":{"sha256":"%s","media_type":"image/jpeg","width":1280,"height":720,"size":123456},"min_score":0.7}'
_RESULT = _text({"image": {"width": 1280, "height": 720}, "faces": [_FACE] * 6})
_ERROR = _text(_PROBLEM)
_QUEUED = _content("queued")
_RUNNING = _content("running")
_FAILED = _content("failed", finished_at=_FINISHED, error=_PROBLEM)
_SUCCEEDED = _content(
    "succeeded",
    progress=1.0,
    summary={"faces_count": 7},
    finished_at=_FINISHED,
    artifacts=[_ARTIFACT],
)
