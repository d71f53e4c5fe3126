"""The database of the job store: its tables, its errors, and its durability."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import make_url

from limner.adapters.sql.migrate import head_revision, migrate
from limner.adapters.sql.opening import open_stores
from limner.adapters.sql.schema import metadata
from limner.adapters.sql.sqlite import CONNECTIONS, SqliteDatabase, file_at
from limner.domain.errors import SettingsError, UnavailableError
from limner.domain.job import Job
from tests.contract.machine import new_job, open_sqlite


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/jobs.db"), durable=True)
    yield made
    made.close()


def test_the_newest_migration_leaves_the_tables_that_the_code_knows(database: SqliteDatabase) -> None:
    assert migrate(database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == head_revision()


def test_migrating_again_changes_nothing(database: SqliteDatabase, tmp_path: Path) -> None:
    machine = open_sqlite(tmp_path / "jobs.db")
    job = machine.submit(new_job())
    assert not migrate(database)
    assert machine.known(job) == job
    machine.close()


def test_a_database_of_a_newer_version_is_refused(database: SqliteDatabase) -> None:
    migrate(database)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from the future'")
    with pytest.raises(SettingsError, match=r"LIMNER_DATABASE_URL.*another version"):
        migrate(database)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.db").write_bytes(b"this is no database, " * 100)
    database = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/photo.db"), durable=True)
    with pytest.raises(SettingsError, match="LIMNER_DATABASE_URL"):
        migrate(database)
    database.close()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://u:secret@host/db", "sqlite:////dev/null/x/y.db"]
)
def test_a_url_that_cannot_work_is_refused_by_the_variables_name(url: str) -> None:
    with pytest.raises(SettingsError, match="LIMNER_DATABASE_URL") as refused:
        open_stores(url, durable=True)
    assert "secret" not in refused.value.detail


def test_nobody_else_may_read_the_results(database: SqliteDatabase, tmp_path: Path) -> None:
    migrate(database)
    for file in tmp_path.iterdir():
        if file.name not in ("jobs.db.turn", "jobs.db.next"):  # these are empty
            assert file.stat().st_mode & 0o077 == 0, file


def test_the_same_file_by_another_path_has_the_same_turn(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("jobs.db")
    first = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/jobs.db"), durable=False)
    second = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/link.db"), durable=False, turn_s=0.05)
    with first.turn(), pytest.raises(UnavailableError, match="busy"), second.turn():
        pass
    for database in (first, second):
        database.close()


@pytest.mark.parametrize("other", [True, False])
def test_a_worker_that_starts_late_takes_and_makes_no_other_file(tmp_path: Path, other: bool) -> None:
    path, away = tmp_path / "jobs.db", tmp_path / "away.db"
    open_sqlite(path).close()
    file = file_at(path)
    path.rename(away)
    if other:
        path.touch()
    worker = SqliteDatabase(make_url(f"sqlite:///{path}"), durable=False, file=file)
    for use in (worker.reading, worker.turn):
        with pytest.raises(UnavailableError, match="deleted or replaced"), use():
            pass
    assert (path.exists(), path.exists() and path.stat().st_size) == (other, 0)
    away.rename(path)
    with worker.reading() as db:
        assert db.connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    worker.close()


@pytest.mark.parametrize("slip", ["deleted", "replaced"])
def test_nothing_is_written_into_a_file_that_is_no_longer_there(tmp_path: Path, slip: str) -> None:
    machine = open_sqlite(tmp_path / "jobs.db")
    job = machine.submit(new_job())
    (tmp_path / "jobs.db").rename(tmp_path / "away.db")
    if slip == "replaced":
        shutil.copy(tmp_path / "away.db", tmp_path / "jobs.db")
    for _ in range(2):
        with pytest.raises(UnavailableError, match=r"jobs\.db was deleted or replaced"):
            machine.submit(new_job())
    assert (tmp_path / "jobs.db").exists() == (slip == "replaced"), "no other is created in its place"
    (tmp_path / "away.db").rename(tmp_path / "jobs.db")
    machine.submit(new_job())
    assert machine.known(job) == job
    machine.close()


def _damage(path: Path) -> None:
    """Overwrite all pages but the first few, which hold the schema."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xa5" * (size // 2))


def _filled(path: Path) -> list[Job]:
    machine = open_sqlite(path)
    jobs = [machine.submit(new_job(params={"text": "x" * 3000})) for _ in range(200)]
    machine.close()
    return jobs


def test_a_damaged_database_is_refused_at_the_start(tmp_path: Path) -> None:
    _filled(tmp_path / "jobs.db")
    _damage(tmp_path / "jobs.db")
    database = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/jobs.db"), durable=True)
    with pytest.raises(SettingsError, match=r"LIMNER_DATABASE_URL.*jobs\.db is damaged .*restore a backup"):
        migrate(database)
    database.close()


def test_a_database_that_is_damaged_later_is_told_and_written_no_more(tmp_path: Path) -> None:
    jobs = _filled(tmp_path / "jobs.db")
    machine = open_sqlite(tmp_path / "jobs.db")
    _damage(tmp_path / "jobs.db")
    with pytest.raises(UnavailableError, match=r"damaged \(database disk image is malformed\)"):
        list(map(machine.reader.get, (job.id for job in jobs)))
    with pytest.raises(UnavailableError, match="restore a backup"):
        machine.store.transact(lambda tx: tx.ping())
    machine.close()


def test_a_damaged_row_is_told(tmp_path: Path) -> None:
    machine = open_sqlite(tmp_path / "jobs.db")
    job, other = machine.submit(new_job()), machine.submit(new_job())
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as connection, connection:
        connection.execute("UPDATE jobs SET params = '{\"half' WHERE id = ?", (job.id,))
    with pytest.raises(UnavailableError, match="row of the database is damaged"):
        machine.reader.get(job.id)
    assert machine.known(other) == other
    machine.close()


@pytest.mark.parametrize("durable", [True, False])
def test_an_accepted_job_survives_a_power_cut(tmp_path: Path, durable: bool) -> None:
    database = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/jobs.db"), durable=durable)
    with database.reading() as db:
        assert db.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        (synchronous,) = db.connection.execute("PRAGMA synchronous").fetchone()
        assert synchronous == (2 if durable else 1)  # FULL, or NORMAL
        assert db.connection.execute("PRAGMA secure_delete").fetchone() == (1,)
    database.close()


def test_more_readers_than_connections_wait_and_get_an_error(tmp_path: Path) -> None:
    database = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/jobs.db"), durable=False, turn_s=0.05)
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(database.reading())
        with pytest.raises(UnavailableError), database.reading():
            pass
    with database.reading() as db:
        assert db.connection.execute("SELECT 1").fetchone() == (1,)
    database.close()


def test_a_reader_sees_the_same_rows_throughout(tmp_path: Path) -> None:
    machine = open_sqlite(tmp_path / "jobs.db")
    database = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/jobs.db"), durable=False)
    with database.reading() as db:
        assert db.connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
        machine.submit(new_job())
        assert db.connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    with database.reading() as db:
        assert db.connection.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    database.close()
    machine.close()
