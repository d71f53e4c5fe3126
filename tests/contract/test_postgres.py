"""What only PostgreSQL does: the outbox under many writers, advisory locks, and a server that ends and returns."""

import logging
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import make_url

from limner.adapters.sql import postgres as postgres_module
from limner.adapters.sql.migrate import head_revision, migrate
from limner.adapters.sql.opening import WEB_CONNECTIONS, open_stores
from limner.adapters.sql.outbox import NUMBER
from limner.adapters.sql.postgres import PostgresDatabase
from limner.adapters.sql.schema import metadata, postgres_metadata
from limner.domain.blob import BlobState
from limner.domain.errors import SettingsError, UnavailableError
from limner.domain.job import Job
from limner.ports import Transaction
from tests.contract.databases import Databases
from tests.contract.machine import Machine, at_once, new_job, open_postgres
from tests.services.postgres import Postgres


@pytest.fixture
def url(databases: Databases, tmp_path: Path) -> Iterator[str]:
    with databases.one("postgresql", tmp_path) as url:
        yield url


@pytest.fixture
def machine(url: str) -> Iterator[Machine]:
    made = open_postgres(url)
    yield made
    made.close()


@contextmanager
def client(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Another client of the database, which begins and ends its transactions itself."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


# --- the outbox ------------------------------------------------------------------------------------------------------


def test_four_readers_miss_nothing_of_sixteen_writers(machine: Machine) -> None:
    stop, jobs_each = threading.Event(), 12
    seen: list[list[tuple[int, str, str]]] = [[] for _ in range(4)]

    def write(other: Machine) -> None:
        for _ in range(jobs_each):
            job = other.submit(new_job())
            assert other.finish(other.start(job), "a.jpg")

    def read(number: int, other: Machine) -> None:
        last, mine = 0, seen[number]
        while True:
            ended = stop.is_set()
            events = other.log.after(last, limit=7 + number)
            mine.extend((event.id, event.job_id, event.type) for event in events)
            last = events[-1].id if events else last
            if ended and not events:
                return

    with ThreadPoolExecutor(20) as pool:
        others = [machine.again() for _ in range(4)]
        readers = [pool.submit(read, number, machine.again()) for number in range(4)]
        for writer in [pool.submit(write, others[number % 4]) for number in range(16)]:
            writer.result(60)
        stop.set()
        for reader in readers:
            reader.result(60)
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert [number for number, _, _ in seen[0]] == list(range(1, 16 * jobs_each * 3 + 1))
    of_job: dict[str, list[str]] = {}
    for _, job_id, kind in seen[0]:
        of_job.setdefault(job_id, []).append(kind)
    assert Counter(map(tuple, of_job.values())) == {("job.queued", "job.running", "job.succeeded"): 16 * jobs_each}


def test_a_writer_that_has_not_committed_holds_up_nobody_and_is_read_later(machine: Machine) -> None:
    slow, go_on, wrote = new_job(), threading.Event(), threading.Event()

    def insert_and_wait(tx: Transaction) -> None:
        tx.insert(slow)
        tx.log(slow)
        wrote.set()
        assert go_on.wait(10)

    with ThreadPoolExecutor(1) as pool:
        slow_one = pool.submit(machine.store.transact, insert_and_wait)
        assert wrote.wait(10)
        quick = machine.submit(new_job())
        assert [event.job_id for event in machine.events()] == [quick.id]
        last = machine.log.last_id()
        go_on.set()
        slow_one.result(10)
    assert [event.job_id for event in machine.log.after(last, limit=9)] == [slow.id]


@pytest.mark.parametrize("first", ["reader", "erase"])
def test_an_event_that_is_moved_while_its_job_is_erased_loses_its_content(
    machine: Machine, url: str, first: str
) -> None:
    job = machine.done(new_job())
    with client(url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        if first == "reader":  # stops after it has moved the events, before it commits
            other.execute(NUMBER)
            erasing = pool.submit(machine.erase, job.id)
            time.sleep(0.2)
            assert not erasing.done()
            other.execute("COMMIT")
            erasing.result(10)
        else:  # an erasure that stops before it commits
            other.execute("UPDATE outbox SET content = NULL WHERE job_id = %s", (job.id,))
            reading = pool.submit(machine.events)
            time.sleep(0.2)
            assert not reading.done()
            other.execute("COMMIT")
            reading.result(10)
    events = machine.events(job)
    assert [event.content for event in events] == [None] * 3
    assert machine.told(job) == ["job.queued", "job.running", "job.succeeded"]


def test_more_events_than_one_batch_are_all_numbered(machine: Machine, url: str) -> None:
    job = machine.submit(new_job())
    with client(url) as other:
        other.execute(
            "INSERT INTO outbox (type, time, job_id, operation)"
            " SELECT 'job.progress', 0, %s, 'detect' FROM generate_series(1, 1200)",
            (job.id,),
        )
    assert machine.log.last_id() == 1201
    assert machine.told(job) == ["job.queued", *["job.progress"] * 1200]


def test_an_event_id_may_be_larger_than_32_bits(machine: Machine, url: str) -> None:
    with client(url) as other:
        other.execute("SELECT setval('events_id_seq', 5000000000)")
    machine.submit(new_job())
    assert [event.id for event in machine.events()] == [5_000_000_001]
    assert [event.id for event in machine.log.after(5_000_000_000, limit=9)] == [5_000_000_001]


# --- locks and conflicts ---------------------------------------------------------------------------------------------


def test_shared_locks_exclude_only_exclusive_ones(machine: Machine) -> None:
    order: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def first(tx: Transaction) -> None:
        tx.lock(["x", "y"], shared=True)
        inside.set()
        assert go_on.wait(10)
        order.append("first")

    def take(tx: Transaction, name: str, names: list[str], *, shared: bool) -> None:
        tx.lock(names, shared=shared)
        order.append(name)

    with ThreadPoolExecutor(2) as pool:
        holding = pool.submit(machine.store.transact, first)
        assert inside.wait(10)
        machine.store.transact(lambda tx: take(tx, "shared", ["y", "x"], shared=True))
        machine.store.transact(lambda tx: take(tx, "other", ["z"], shared=False))
        waiting = pool.submit(machine.store.transact, lambda tx: take(tx, "exclusive", ["y"], shared=False))
        time.sleep(0.1)
        go_on.set()
        holding.result(10)
        waiting.result(10)
    assert order == ["shared", "other", "first", "exclusive"]


def test_the_victim_of_a_deadlock_runs_again(machine: Machine) -> None:
    runs: Counter[str] = Counter()
    barrier = threading.Barrier(2)

    def work(tx: Transaction, mine: str, theirs: str) -> None:
        runs[mine] += 1
        tx.lock([mine])
        if runs[mine] == 1:
            barrier.wait(10)
        tx.lock([theirs])
        tx.set_fact(mine, "done")

    at_once([lambda a=a, b=b: machine.store.transact(lambda tx: work(tx, a, b)) for a, b in (("p", "q"), ("q", "p"))])  # type: ignore[misc]
    assert sorted(runs.values()) == [1, 2]
    assert machine.store.transact(lambda tx: [tx.fact("p"), tx.fact("q")]) == ["done", "done"]


def test_a_lock_that_another_keeps_ends_in_an_error(
    machine: Machine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "LOCK_S", 1)
    impatient = open_postgres(url)
    job = machine.submit(new_job())
    with client(url) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM jobs FOR UPDATE")
        with pytest.raises(UnavailableError, match="lock timeout"):
            impatient.cancel(job.id)
        other.execute("ROLLBACK")
    impatient.cancel(job.id)
    impatient.close()


def test_one_process_at_a_time_leads(machine: Machine) -> None:
    other = machine.again()
    with machine.store.leading("sweep") as leads:
        assert leads
        with other.store.leading("sweep") as second, other.store.leading("tidy") as another_work:
            assert (second, another_work) == (False, True)
        other.submit(new_job())
    with other.store.leading("sweep") as leads:
        assert leads


def test_a_leader_that_loses_its_connection_makes_room(machine: Machine, url: str, caplog: Any) -> None:
    other = machine.again()
    with machine.store.leading("sweep") as leads:
        assert leads
        with client(url) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
            time.sleep(0.1)
        with other.store.leading("sweep") as second:
            assert second
    assert "the lock was lost" in caplog.text
    machine.submit(new_job())


def test_a_failure_inside_a_leaders_work_reaches_it_and_frees_the_lock(machine: Machine) -> None:
    with pytest.raises(ZeroDivisionError), machine.store.leading("sweep"):
        raise ZeroDivisionError
    with machine.again().store.leading("sweep") as leads:
        assert leads


# --- text ------------------------------------------------------------------------------------------------------------


def test_an_error_of_a_statement_is_not_taken_for_a_commit(machine: Machine) -> None:
    def swallow(tx: Transaction) -> None:
        tx.set_fact("lost", "?")
        with pytest.raises(psycopg.Error):
            tx._db.connection.execute("SELECT 1 / 0")  # type: ignore[attr-defined]

    with pytest.raises(UnavailableError, match="ended with ROLLBACK"):
        machine.store.transact(swallow)
    assert machine.store.transact(lambda tx: tx.fact("lost")) is None


# --- PgBouncer -------------------------------------------------------------------------------------------------------


def test_statements_are_prepared_unless_pgbouncer_is_between(url: str) -> None:
    for parameters, prepared in (("", True), ("?pgbouncer=true", False), ("?pgbouncer=false", True)):
        machine = open_postgres(url + parameters, connections=1)
        for _ in range(5):
            machine.reader.get("x")
        found = machine.store.transact(
            lambda tx: tx._db.connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()  # type: ignore[attr-defined]
        )
        assert (found[0] > 0) is prepared
        machine.close()


def test_without_the_parameter_the_error_says_what_to_add(url: str) -> None:
    machine = open_postgres(url, connections=1)
    for _ in range(5):
        machine.reader.get("x")
    # Hidden from the driver, as when PgBouncer takes another server process for the next transaction.
    machine.store.transact(
        lambda tx: tx._db.connection.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")  # type: ignore[attr-defined]
    )
    with pytest.raises(UnavailableError, match=r"add pgbouncer=true to LIMNER_DATABASE_URL"):
        machine.reader.get("x")
    machine.close()


# --- many requests ---------------------------------------------------------------------------------------------------


def test_two_hundred_requests_at_once_are_all_answered(machine: Machine, url: str) -> None:
    jobs = [machine.submit(new_job()) for _ in range(5)]

    def ask(number: int) -> str:
        try:
            if number % 2:
                machine.submit(new_job())
            elif machine.reader.get(jobs[number % 5].id) is None:
                return "missing"
        except UnavailableError:
            return "unavailable"
        return "done"

    answers = Counter(at_once([lambda number=number: ask(number) for number in range(200)]))  # type: ignore[misc]
    assert answers.keys() <= {"done", "unavailable"}
    assert answers["done"] >= 150
    with client(url) as other:
        row = other.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'limner' AND datname = current_database()"
        ).fetchone()
    assert row is not None
    assert 1 <= row[0] <= WEB_CONNECTIONS
    assert machine.submit(new_job())


def test_without_a_free_connection_the_answer_is_an_error_in_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "POOL_S", 0.2)
    machine = open_postgres(url, connections=1)

    def ask_again(tx: Transaction) -> None:
        machine.reader.page()

    with pytest.raises(UnavailableError, match="All connections to the database are in use"):
        machine.store.transact(ask_again)
    machine.submit(new_job())
    machine.close()


# --- migrations ------------------------------------------------------------------------------------------------------


def test_the_newest_migration_leaves_the_tables_that_the_code_knows(url: str) -> None:
    database = PostgresDatabase(make_url(url), durable=True, connections=2)
    with database.migrating() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, [metadata, postgres_metadata]) == []  # type: ignore[arg-type]
        assert context.get_current_revision() == head_revision()
    database.close()


def test_of_several_processes_one_migrates_and_the_others_wait(postgres: Postgres) -> None:
    url = postgres.new_database()
    code = (
        "import sys; from limner.adapters.sql.opening import open_stores\n"
        "from limner.adapters.sql.migrate import migrate\n"
        "print(migrate(open_stores(sys.argv[1], durable=True).database))"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted(each.communicate(timeout=60)[0].strip() for each in started)
    assert [each.returncode for each in started] == [0, 0, 0]
    assert said == ["None", "None", f"no tables → {head_revision()}"]


def test_a_migration_that_fails_leaves_nothing(postgres: Postgres) -> None:
    url = postgres.new_database()
    postgres.execute(url, "CREATE TABLE facts (mine int)")  # the third migration will fail
    opened = open_stores(url, durable=True)
    with pytest.raises(SettingsError, match="already exists"):
        migrate(opened.database)
    assert opened.database.revision() is None
    postgres.execute(url, "DROP TABLE facts")
    assert migrate(opened.database)
    opened.close()


def test_a_database_of_a_newer_version_is_refused(postgres: Postgres) -> None:
    url = postgres.new_database()
    opened = open_stores(url, durable=True)
    migrate(opened.database)
    postgres.execute(url, "UPDATE alembic_version SET version_num = 'from the future'")
    with pytest.raises(SettingsError, match=r"LIMNER_DATABASE_URL.*another version"):
        migrate(opened.database)
    opened.close()


def test_a_running_process_goes_on_with_newer_tables_or_says_what_is_wrong(postgres: Postgres) -> None:
    url = postgres.new_database()
    opened = open_stores(url, durable=True)
    migrate(opened.database)
    machine = open_postgres(url)
    postgres.execute(
        url,
        "UPDATE alembic_version SET version_num = 'from the future'",
        "ALTER TABLE jobs ADD COLUMN new_one text",
        "ALTER TABLE events ADD COLUMN new_one text",
    )
    job = machine.done(new_job(), "a.jpg")
    assert machine.told(job) == ["job.queued", "job.running", "job.succeeded"]
    postgres.execute(url, "ALTER TABLE jobs RENAME COLUMN params TO parameters")
    with pytest.raises(UnavailableError, match=r"of another version of Limner.*Restart"):
        machine.reader.get(job.id)
    with pytest.raises(UnavailableError, match="of another version of Limner"):
        machine.submit(new_job())
    machine.close()
    opened.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"port": 1}, "(Connection refused)"),
        ({"host": "db.nowhere.invalid"}, ""),
        ({"database": "none"}, 'database "…" does not exist'),
        ({"username": "stranger"}, 'role "…" does not exist'),
    ],
)
def test_clients_are_not_told_where_the_database_is(url: str, change: dict[str, Any], reason: str) -> None:
    opened = open_stores(make_url(url).set(**change).render_as_string(hide_password=False), durable=True)
    with pytest.raises(UnavailableError) as failed:
        opened.reader.page()
    opened.close()
    told = failed.value.detail
    assert reason.replace('"…"', "…") in told
    assert not [name for name in ("127.0.0.1", "nowhere", "none", "stranger", "limner", "port") if name in told], told


# --- a server that is not there, or ends -----------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of its own, which a test may stop."""
    made = Postgres(tmp_path_factory.mktemp("postgres"))
    made.start()
    yield made
    made.process.kill()


def test_a_server_that_was_killed_is_used_again_when_it_is_back(server: Postgres) -> None:
    url = server.new_database()
    opened = open_stores(url, durable=True)
    migrate(opened.database)
    machine = open_postgres(url)
    job = machine.submit(new_job())
    inside, go_on = threading.Event(), threading.Event()

    def stopped(tx: Transaction) -> None:
        tx.set_fact("half", "?")
        inside.set()
        assert go_on.wait(30)
        tx.set_fact("other half", "?")

    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(machine.store.transact, stopped)
        assert inside.wait(10)
        list(at_once([lambda: machine.reader.get(job.id)] * 6))  # several connections in the pool
        server.process.kill()
        go_on.set()
        with pytest.raises(UnavailableError, match="could not be used"):
            broken.result(30)
    for _ in range(2):
        with pytest.raises(UnavailableError, match="could not be used"):
            machine.reader.get(job.id)
        with pytest.raises(UnavailableError, match="could not be used"), machine.store.leading("sweep"):
            pass
    server.start()
    assert at_once([lambda: machine.reader.get(job.id)] * 8) == [job] * 8, "no old connection is used"
    assert machine.store.transact(lambda tx: tx.fact("half")) is None
    assert machine.finish(machine.start(job), "a.jpg")
    assert machine.told(job) == ["job.queued", "job.running", "job.succeeded"]
    machine.close()
    opened.close()


def test_a_restart_between_two_requests_is_not_noticed(server: Postgres) -> None:
    url = server.new_database()
    opened = open_stores(url, durable=True)
    migrate(opened.database)
    machine = open_postgres(url)
    job = machine.submit(new_job())
    server.process.stop()
    server.start()
    assert machine.known(job) == job
    machine.submit(new_job())
    machine.close()
    opened.close()


def test_a_server_that_freezes_is_given_up(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.new_database()
    opened = open_stores(url, durable=True)
    migrate(opened.database)
    machine = open_postgres(url)
    job = machine.submit(new_job())
    monkeypatch.setattr(postgres_module, "ANSWER_S", 0.5)
    server.process.freeze()
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=r"has not answered for 0\.5 s"):
        machine.reader.get(job.id)
    assert time.monotonic() - began < 5
    server.process.thaw()
    assert machine.known(job) == job
    machine.close()
    opened.close()


def test_a_replica_is_like_no_server_until_it_is_the_primary(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a failover, when the name in the URL still leads to the server that was the primary before."""
    monkeypatch.setattr(postgres_module, "START_PAUSE_S", 0.1)
    url = server.new_service_database()
    machine = open_postgres(url)
    job = machine.submit(new_job())
    server.become(replica=True)
    with pytest.raises(UnavailableError, match="read-write mode"):
        machine.submit(new_job())
    opened = open_stores(url, durable=True)
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as pool:
        starting = pool.submit(migrate, opened.database)
        time.sleep(0.5)
        assert not starting.done()
        server.become(replica=False)
        assert starting.result(30) is None
    assert [record.message for record in caplog.records] == ["waiting for the database"]
    machine.start(job)
    machine.close()
    opened.close()


def test_a_column_whose_type_was_changed_costs_one_request_a_connection(machine: Machine, url: str) -> None:
    job = machine.submit(new_job())
    for _ in range(5):  # the plan is prepared
        machine.known(job)
    with client(url) as other:
        other.execute("ALTER TABLE jobs ALTER COLUMN operation TYPE varchar(500)")
    with pytest.raises(UnavailableError, match="cached plan"):
        machine.known(job)
    machine.known(job)


def test_a_start_waits_for_the_server(
    server: Postgres, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postgres_module, "START_PAUSE_S", 0.1)
    url = server.new_database()
    server.process.stop()
    opened = open_stores(url, durable=True)
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(1) as pool:
        migrating = pool.submit(migrate, opened.database)
        time.sleep(0.5)
        assert not migrating.done()
        server.start()
        assert migrating.result(30)
    assert [record.message for record in caplog.records] == ["waiting for the database"]
    opened.close()


def test_a_start_without_a_server_fails_plainly_and_keeps_the_password(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postgres_module, "START_S", 0.2)
    monkeypatch.setattr(postgres_module, "START_PAUSE_S", 0.1)
    opened = open_stores("postgresql://me:se%40cret@127.0.0.1:1/faces?password=secret2", durable=True)
    with pytest.raises(SettingsError, match=r"127.0.0.1:1/faces could not be reached.*refused") as failed:
        migrate(opened.database)
    with pytest.raises(UnavailableError) as unavailable:
        opened.reader.page()
    for text in (failed.value.detail, unavailable.value.detail, caplog.text, repr(opened.database)):
        assert "cret" not in text
    opened.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://me:secret@host:54x2/faces", "is not a URL"),
        ("postgres://me:secret@host/faces", "not scheme 'postgres'"),
        ("postgresql://me:secret@host/faces?pgbouncer=yes", "pgbouncer must be true or false"),
        ("postgresql+asyncpg://me:secret@host/faces", "not scheme"),
        ("postgresql://me:secret@127.0.0.1/faces?sslmod=require", "sslmod"),
    ],
)
def test_a_url_that_cannot_work_is_refused(url: str, reason: str) -> None:
    def start() -> None:
        opened = open_stores(url, durable=True)
        try:
            migrate(opened.database)
        finally:
            opened.close()

    with pytest.raises(SettingsError, match=f"LIMNER_DATABASE_URL.*{reason}") as refused:
        start()
    assert "secret" not in refused.value.detail


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: Postgres) -> None:
    name = postgres.new_database().rpartition("/")[2]
    postgres.execute(
        postgres.url("postgres"),
        f'DROP DATABASE "{name}"',
        f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'",
    )
    opened = open_stores(postgres.url(name), durable=True)
    with pytest.raises(SettingsError, match="must be UTF8, not SQL_ASCII"):
        migrate(opened.database)
    opened.close()


@pytest.mark.parametrize(("durable", "said"), [(True, "on"), (False, "off")])
def test_relaxed_durability_does_not_wait_for_the_disk(url: str, durable: bool, said: str) -> None:
    database = PostgresDatabase(make_url(url), durable=durable, connections=1)
    with database.transaction(database.begin_writing) as db:
        assert db.connection.execute("SHOW synchronous_commit").fetchone() == (said,)
        assert db.connection.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
    with database.reading() as db:
        assert db.connection.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
        assert db.connection.execute("SHOW transaction_read_only").fetchone() == ("on",)
        assert db.connection.execute("SHOW statement_timeout").fetchone() == ("15s",)
    database.close()


def test_a_reader_sees_the_same_rows_throughout(machine: Machine, url: str) -> None:
    database = PostgresDatabase(make_url(url), durable=True, connections=1)
    counts = []
    with database.reading() as db:
        for _ in range(2):
            counts.append(db.connection.execute("SELECT count(*) FROM jobs").fetchone()[0])
            machine.submit(new_job())
    database.close()
    assert counts == [0, 0]
    assert len(machine.reader.page()) == 2


def test_a_blob_that_two_keep_and_one_forgets_is_kept(machine: Machine) -> None:
    """Two jobs end with the same new artifact; one of them was overtaken, and marks what it has just kept."""
    jobs: list[Job] = [machine.start(machine.submit(new_job())) for _ in range(2)]
    kept, go_on = threading.Event(), threading.Event()

    def forget(tx: Transaction) -> None:
        now = jobs[0].created_at
        tx.lock(["bytes x"], shared=True)
        tx.set_blob("x", BlobState.KEPT, size=3, now=now)
        kept.set()
        assert go_on.wait(10)
        assert tx.mark_unnamed(["x"], now) == ["x"]

    def keep(tx: Transaction) -> None:
        tx.lock(["bytes x"], shared=True)
        assert tx.blob_state("x") is None
        go_on.set()
        tx.set_blob("x", BlobState.KEPT, size=3, now=jobs[1].created_at)

    with ThreadPoolExecutor(1) as pool:
        forgetting = pool.submit(machine.store.transact, forget)
        assert kept.wait(10)
        machine.store.transact(keep)
        forgetting.result(10)
    assert machine.store.transact(lambda tx: tx.blob_state("x")) is BlobState.KEPT
    assert machine.reader.totals()[1] == 2 * 123 + 3
