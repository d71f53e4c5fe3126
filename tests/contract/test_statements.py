"""Every statement of the SQL adapter: it compiles for each dialect, and uses an index."""

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Dialect, make_url
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql.crud import REQUIRED

from limner.adapters.sql import events, keys, pages, postgres_store, reader, traces, transaction, webhooks
from limner.adapters.sql.migrate import migrate
from limner.adapters.sql.schema import metadata
from limner.adapters.sql.sqlite import SqliteDatabase
from limner.adapters.sql.statement import Statement
from limner.domain.blob import BlobState
from limner.domain.event import EventType
from limner.domain.job import Role, Status
from tests.contract.databases import Databases

CHANGES = (  # as `jobs/transitions.py` changes a job
    {"lease_until"},
    {"progress"},
    {"leader_id"},
    {"status", "attempt", "worker", "lease_until", "started_at", "progress"},
    set(transaction.JOB_FIELDS) - {"id", "operation", "lane", "params", "cache_key", "created_at", "idempotency_key"},
)
HOOK_CHANGES = ({"state"}, {"state", "reason"}, {"failing_since"})  # as `jobs/webhooks.py` does
DELIVERY_CHANGES = ({"next_try_at"}, set(webhooks.DELIVERY_FIELDS[6:9]) | {"last_status", "last_error", "ended_at"})


def _changes_of_webhooks() -> Iterator[tuple[str, Statement]]:
    for change, sets in ((webhooks._change_hook, HOOK_CHANGES), (webhooks._change_delivery, DELIVERY_CHANGES)):
        yield from (
            (f"change of {change.__name__} {' '.join(sorted(names))}", change(frozenset(names))) for names in sets
        )


def _every() -> Iterator[tuple[str, Statement]]:
    """Every statement that the adapter runs, by a name."""
    for module in (transaction, reader, events, keys, webhooks, traces):
        for name, value in vars(module).items():
            if isinstance(value, Statement):
                yield f"{module.__name__.rpartition('.')[2]}.{name}", value
    for names in CHANGES:
        for same_lease in (False, True):
            statement = transaction._change(frozenset(names), same_lease)
            yield f"change {' '.join(sorted(names))}{' same lease' if same_lease else ''}", statement
    yield from _changes_of_webhooks()
    for of_owner in (False, True):
        yield f"file of {of_owner}", reader._FILE_OF[of_owner]
        yield f"artifact of {of_owner}", reader._ARTIFACT_OF[of_owner]
        yield f"reader._COUNT_OF {of_owner}", reader._COUNT_OF[of_owner]
    yield "change of a key", transaction._change_key(frozenset(transaction.KEY_FIELDS) - {"id"})
    yield from _pages()
    for flags_after in product((False, True), repeat=3):
        yield f"events after {flags_after}", events._after(*flags_after)


NEITHER, BOTH = (False, False), (True, True)
# The flags of `pages._page`: operation, status, owner, label, before an id, since, until, short.
PAGES = [
    *((*filters, False, from_id, *NEITHER, short) for *filters, from_id, short in product((False, True), repeat=5)),
    *((*filters, False, from_id, *BOTH, True) for *filters, from_id in product((False, True), repeat=4)),
    *((*filters, True, from_id, *NEITHER, True) for *filters, from_id in product((False, True), repeat=4)),
    *((*filters, True, True, *BOTH, True) for filters in product((False, True), repeat=3)),
]


def _pages() -> Iterator[tuple[str, Statement]]:
    found = {str(flags): pages._page(*flags) for flags in PAGES}
    found |= {f"numbered {of_owner}": both for of_owner, both in pages.NUMBERED.items()}
    for name, both in found.items():
        yield from (
            (f"page of {kind} {name}", statement) for kind, statement in zip(("jobs", "files"), both, strict=True)
        )


STATEMENTS = dict(_every())

VALUES: dict[str, Any] = {
    "state": BlobState.KEPT,
    "new_state": BlobState.KEPT,
    "type": EventType.QUEUED,
    "role": Role.INPUT,
    "status": Status.QUEUED,
    "was_status": Status.QUEUED,
    "new_status": Status.QUEUED,
    "params": {"a": 1},
    "content": {"a": 1},
}


def value_of(name: str) -> Any:
    """A value that a parameter of this name may have."""
    bare = name.removeprefix("new_").removeprefix("was_")
    if name in VALUES:
        return VALUES[name]
    if bare.endswith(("_at", "_until", "_since")) or bare in ("time", "since", "until", "now"):
        return datetime.now(UTC)
    if bare in ("result", "error", "summary"):
        return None
    if bare in (
        "width",
        "height",
        "attempt",
        "most",
        "after",
        "first",
        "last",
        "size",
        "position",
        "amount",
        "last_place",
        "skip",
        "progress",
        "cache_distance",
        "rate_per_minute",
        "daily_quota",
    ):
        return 1
    return "text"


def test_every_statement_is_among_them() -> None:
    kinds = {name.partition(".")[0].partition(" ")[0] for name in STATEMENTS}
    assert kinds == {
        "transaction",
        "reader",
        "keys",
        "change",
        "page",
        "events",
        "file",
        "artifact",
        "webhooks",
        "traces",
    }
    assert len(STATEMENTS) > 60


@pytest.mark.parametrize("dialect", [SQLiteDialect_pysqlite(), PGDialect_psycopg()], ids=["sqlite", "postgresql"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_compiles_for_every_dialect(name: str, dialect: Dialect) -> None:
    compiled = STATEMENTS[name]._compile(dialect)
    assert "POSTCOMPILE" not in compiled.text, "it would have to be written anew for each value"
    names = [parameter for parameter, _, _ in compiled.parameters]
    if dialect.name == "sqlite":
        assert compiled.positional
        assert compiled.text.count("?") == len(names)
    else:
        assert not compiled.positional
        for parameter in names:
            assert f"%({parameter})s" in compiled.text
        assert "?" not in compiled.text
    for parameter, fixed, convert in compiled.parameters:
        if convert is not None and fixed is None:
            assert isinstance(convert(_plain(parameter)), str | int | float | type(None)), parameter


def _plain(parameter: str) -> Any:
    before = parameter == "before"  # a moment for events, an id for pages: that has no conversion
    return datetime.now(UTC) if before else value_of(parameter)


@pytest.mark.parametrize("name", ["_LOCK", "_LOCK_SHARED", "_LEAD", "_ADD_EVENT", "_EMPTY_OUTBOX"])
def test_statements_of_postgresql_alone_compile(name: str) -> None:
    compiled = getattr(postgres_store, name)._compile(PGDialect_psycopg())
    assert compiled.parameters
    for parameter, _, _ in compiled.parameters:
        assert f"%({parameter})s" in compiled.text


# The planner of PostgreSQL prefers to read small tables; without that choice it must find an index for every statement.
READS_ALLOWED = {"transaction._TAKE_TOTALS", "reader._TOTALS", "transaction._PING"}


def test_no_statement_reads_a_whole_table_in_postgresql(databases: Databases, tmp_path: Path) -> None:
    with databases.one("postgresql", tmp_path) as url, psycopg.connect(url) as other:
        other.execute("SET enable_seqscan = off")
        for name, statement in STATEMENTS.items():
            compiled = statement._compile(PGDialect_psycopg())
            given = {
                parameter: _typed(compiled.text, parameter, fixed, convert)
                for parameter, fixed, convert in compiled.parameters
            }
            with other.transaction(force_rollback=True):
                rows = other.execute(f"EXPLAIN {compiled.text}".encode(), given).fetchall()
            plan = "\n".join(row[0] for row in rows)
            assert ("Seq Scan" in plan) == (name in READS_ALLOWED), f"{name}\n{plan}"


def _typed(text: str, parameter: str, fixed: Any, convert: Any) -> Any:
    """A value as the driver gets it; the statement's own cast says whether it is a number."""
    if fixed is not None and fixed is not REQUIRED:
        return fixed if convert is None else convert(fixed)
    is_number = re.search(rf"%\({parameter}\)s::(BIGINT|INTEGER|FLOAT)", text) is not None
    return 1 if is_number else str(value_of(parameter))


# --- query plans -----------------------------------------------------------------------------------------------------

SCANS_ALLOWED = {
    # name: what it may read from one end on, and why that is not much
    "transaction._TAKE_TOTALS": ("totals", "the sweep folds it every few seconds"),
    "reader._TOTALS": ("totals", "the sweep folds it every few seconds"),
    "transaction._PING": ("alembic_version", "one row"),
    "reader._AHEAD": ("counted", "LIMIT"),
    "reader._RUNNING_IN": ("counted", "LIMIT"),
    "reader._COUNT_OF False": ("counted", "LIMIT"),
    "reader._COUNT_OF True": ("counted", "LIMIT"),
    "webhooks._OF_ALL": ("hooks USING INDEX hooks_of_all", "few: an administrator adds them"),
    "webhooks._NEXT_DUE": ("deliveries USING INDEX deliveries_waiting", "LIMIT"),
    "transaction._KNOWN": ("CONSTANT ROW", "the row that its four subqueries make up"),
    # Without a filter the newest jobs, or the oldest events, are the end of an index, where a LIMIT ends the reading.
    **{
        f"page of {kind} (False, False, False, False, False, False, False, {short})": (
            "jobs USING COVERING INDEX sqlite_autoindex_jobs_1",
            "LIMIT",
        )
        for kind in ("jobs", "files")
        for short in (False, True)
    },
    # A search compares the labels of a limited number of jobs, from the end of an index.
    **{
        f"page of {kind} {(*filters, True, False, False, False, True)}": (
            "others USING COVERING INDEX jobs_labelled",
            "LIMIT",
        )
        for kind in ("jobs", "files")
        for filters in product((False, True), (False, True), (False,))
    },
    "keys._ALL": ("keys USING INDEX sqlite_autoindex_keys_1", "only the command line lists them, and a start"),
}
SORTS_ALLOWED = {"reader._OVERDUE", "reader._LANES"}
"""They sort the jobs that run, and the lanes of those that wait or run: there are few of either."""


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = Path(tmp_path_factory.mktemp("plans")) / "jobs.db"
    database = SqliteDatabase(make_url(f"sqlite:///{path}"), durable=False)
    migrate(database)
    with database.reading() as db:
        yield db.connection
    database.close()


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_reads_a_whole_table(connection: sqlite3.Connection, name: str) -> None:
    compiled = STATEMENTS[name]._compile(SQLiteDialect_pysqlite())
    given = [
        fixed if fixed is not None else None if convert is not None else value_of(parameter)
        for parameter, fixed, convert in compiled.parameters
    ]
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {compiled.text}", given)]
    # `short` is a page's subquery with a LIMIT of its own.
    of_rows = [line for line in plan if line != "SCAN short"]
    scans = [line.removeprefix("SCAN ") for line in of_rows if line.startswith("SCAN ")]
    allowed = SCANS_ALLOWED.get(name)
    assert scans == ([allowed[0]] if allowed else []), plan
    sorts = any("TEMP B-TREE FOR ORDER BY" in line for line in plan)
    assert sorts == (name in SORTS_ALLOWED), plan
    assert not any("AUTOMATIC" in line for line in plan), plan


def test_a_jobs_events_are_found_by_the_job_also_with_an_operation(connection: sqlite3.Connection) -> None:
    compiled = events._after(True, True, False)._compile(SQLiteDialect_pysqlite())
    rows = connection.execute(f"EXPLAIN QUERY PLAN {compiled.text}", [None] * len(compiled.parameters))
    assert [row[3] for row in rows] == ["SEARCH events USING INDEX events_by_job (job_id=? AND id>?)"]


def test_every_index_is_used(connection: sqlite3.Connection) -> None:
    plans = ""
    for statement in STATEMENTS.values():
        compiled = statement._compile(SQLiteDialect_pysqlite())
        rows = connection.execute(f"EXPLAIN QUERY PLAN {compiled.text}", [None] * len(compiled.parameters))
        plans += "\n".join(row[3] for row in rows) + "\n"
    for table in metadata.tables.values():
        for index in table.indexes:
            assert re.search(rf"INDEX {index.name}\b", plans), "it costs every write, and no query uses it"
