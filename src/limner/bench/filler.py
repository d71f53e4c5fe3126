"""Fills a scratch database with the jobs of `filler_rows.py`, for `limner bench scale`."""

import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, insert
from sqlalchemy.dialects import sqlite

from limner.adapters.sql.schema import metadata
from limner.adapters.sql.transaction import KEY_FIELDS
from limner.bench import filler_rows
from limner.bench.filler_rows import CONTOURS_EVERY, FAILED_EVERY, ROWS, WAITING, Values, uuid_of
from limner.domain.key import SHOWN, Key, Scope, hash_of

if TYPE_CHECKING:
    import psycopg

BATCH = 20_000
_PATTERN = FAILED_EVERY * CONTOURS_EVERY
_TOTALS = (
    "INSERT INTO totals (name, amount) SELECT 'bytes', sum(size) FROM blobs"
    " UNION ALL SELECT 'results', count(*) FROM jobs WHERE status = 'succeeded'"
)
# The filler's artifacts have no bytes, and a result whose artifacts are missing does not answer.
_NO_ARTIFACT = "DELETE FROM files WHERE job_id = {0} AND role = 'artifact'"
_CACHED = "UPDATE jobs SET cache_key = {0} WHERE id = {0}"


def fill_sqlite(file: Path, jobs: int, cache_key: str, tokens: tuple[str, str]) -> tuple[str, str]:
    """Add `jobs` finished jobs and some waiting ones to a migrated, empty database that nobody has open.

    Returns the ids of the middle job and of the last waiting one. The middle one is the only one that has `cache_key`,
    so that it is what a cache hit finds. `tokens` are those of the two keys to which some jobs belong. Journal and
    fsync are off meanwhile, and the indexes are built at the end.
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
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN"
        " ('jobs', 'files', 'events', 'blobs')"
    ).fetchall()
    for name, _ in indexes:
        database.execute(f"DROP INDEX {name}")
    newest_us = time.time_ns() // 1000
    for oldest in range(jobs + WAITING, 0, -BATCH):
        numbers = range(oldest - 1, max(-1, oldest - BATCH - 1), -1)
        database.execute("BEGIN")
        for table, rows in ROWS.items():
            _add(database, metadata.tables[table], (row for n in numbers for row in rows(n, newest_us, jobs)))
        database.execute("COMMIT")
    for _, statement in indexes:
        database.execute(statement)
    _add(database, metadata.tables["keys"], iter(_keys(tokens)))
    database.execute(_TOTALS)
    middle = uuid_of(_middle(jobs), newest_us, jobs)
    database.execute(_NO_ARTIFACT.format("?"), (middle,))
    database.execute(_CACHED.format("?"), (cache_key, middle))
    database.close()
    with file.open("rb+") as written:
        os.fsync(written.fileno())  # now, so that writing back does not run beside the measurement
    return middle, uuid_of(jobs, newest_us, jobs)


def fill_postgres(
    database: "psycopg.Connection[Any]", jobs: int, cache_key: str, tokens: tuple[str, str]
) -> tuple[str, str]:
    """The same in PostgreSQL, by COPY, on a connection with autocommit. Then the tables are vacuumed and analysed."""
    newest_us = time.time_ns() // 1000
    numbers = range(jobs + WAITING - 1, -1, -1)
    names = list(ROWS)
    indexes = database.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = ANY (%s::regclass[])"
        " AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)",
        (names,),
    ).fetchall()
    # Foreign keys first: they need the primary keys, which come back first.
    constraints = database.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = ANY (%s::regclass[]) AND contype IN ('f', 'p') ORDER BY contype",
        (names,),
    ).fetchall()
    database.execute("SET synchronous_commit = off; SET maintenance_work_mem = '512MB'")
    for name, _ in indexes:
        database.execute(f"DROP INDEX {name}".encode())
    for table, name, _ in constraints:
        database.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    for table, rows in ROWS.items():
        _copy(database, metadata.tables[table], (row for n in numbers for row in rows(n, newest_us, jobs)))
    for table, name, definition in reversed(constraints):
        database.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}".encode())
    for _, statement in indexes:
        database.execute(statement)
    _copy(database, metadata.tables["keys"], iter(_keys(tokens)))
    database.execute(_TOTALS)
    middle = uuid_of(_middle(jobs), newest_us, jobs)
    database.execute(_NO_ARTIFACT.format("%s"), (middle,))
    database.execute(_CACHED.format("%s"), (cache_key, middle))
    database.execute("VACUUM (ANALYZE)")
    (may_checkpoint,) = database.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() or (
        False,
    )
    if may_checkpoint:
        database.execute("CHECKPOINT")  # now, so that writing back does not run beside the measurement
    return middle, uuid_of(jobs, newest_us, jobs)


def _middle(jobs: int) -> int:
    return jobs // 2 // _PATTERN * _PATTERN  # a detect job that succeeded and belongs to no key


def _keys(tokens: tuple[str, str]) -> Iterator[Values]:
    now = datetime.now(UTC)
    for key_id, token in zip((filler_rows.KEY_ID, filler_rows.RARE_KEY_ID), tokens, strict=True):
        key = Key(key_id, "bench", token[:SHOWN], hash_of(token), Scope.READ, now)
        values = {name: getattr(key, name) for name in KEY_FIELDS}
        yield {**values, "scopes": str(key.scopes), "created_at": int(now.timestamp() * 1e6)}


def _columns(table: Table, row: Values) -> list[str]:
    """Those that the row has. KeyError for one that it lacks and that has no default of the database's own."""
    columns = [column.name for column in table.columns if column.name in row]
    missing = {column.name for column in table.columns if not column.nullable and not column.primary_key} - set(columns)
    if missing:
        raise KeyError(f"{table.name}: the filler has no value for {sorted(missing)}")
    return columns


def _add(database: sqlite3.Connection, table: Table, rows: Iterator[Values]) -> None:
    first = next(rows, None)
    if first is None:
        return
    columns = _columns(table, first)
    pick = itemgetter(*columns)
    statement = str(insert(table).values(dict.fromkeys(columns)).compile(dialect=sqlite.dialect()))
    database.execute(statement, pick(first))
    database.executemany(statement, map(pick, rows))


def _copy(database: "psycopg.Connection[Any]", table: Table, rows: Iterator[Values]) -> None:
    first = next(rows)
    columns = _columns(table, first)
    pick = itemgetter(*columns)
    with database.cursor() as cursor, cursor.copy(f"COPY {table.name} ({', '.join(columns)}) FROM STDIN") as copy:
        copy.write_row(pick(first))
        for row in rows:
            copy.write_row(pick(row))
