"""The database below the job store: migrations, what it refuses, and what it says when it cannot be used."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine

from limner.adapters.schema import metadata
from limner.adapters.sql_engine import head_revision, migrate, open_database
from limner.adapters.sql_jobs import SqlJobs
from limner.domain.errors import SettingsError, UnavailableError
from tests.contract.test_job_store import known, new_job, submit


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path}/jobs.db", durable=True)
    yield engine
    engine.dispose()


def test_the_newest_migration_leaves_the_tables_that_the_code_knows(database: Engine) -> None:
    assert migrate(database)
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == head_revision()


def test_migrating_again_changes_nothing(database: Engine) -> None:
    migrate(database)
    store = SqlJobs(database)
    job = submit(store, new_job())
    assert not migrate(database)
    assert known(store, job) == job


def test_a_database_of_a_newer_version_is_refused(database: Engine) -> None:
    migrate(database)
    with database.execution_options(write=True).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'from the future'")
    with pytest.raises(SettingsError, match=r"LIMNER_DATABASE_URL.*another version"):
        migrate(database)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.db").write_bytes(b"this is no database, " * 100)
    engine = open_database(f"sqlite:///{tmp_path}/photo.db", durable=True)
    with pytest.raises(SettingsError, match="LIMNER_DATABASE_URL"):
        migrate(engine)
    engine.dispose()


@pytest.mark.parametrize(
    "url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://u:secret@host/db", "sqlite:////dev/null/x/y.db"]
)
def test_a_url_that_cannot_work_is_refused_by_the_variables_name(url: str) -> None:
    with pytest.raises(SettingsError, match="LIMNER_DATABASE_URL") as refused:
        open_database(url, durable=True)
    assert "secret" not in refused.value.detail


def test_an_accepted_job_survives_a_power_cut(database: Engine) -> None:
    with database.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_a_locked_database_is_unavailable_and_works_again_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    engine = open_database(f"sqlite:///{path}", durable=False)
    migrate(engine)
    store = SqlJobs(engine)
    first = submit(store, new_job())
    with engine.connect() as connection:  # so that the test need not wait as long as a client would
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked"):
            submit(store, new_job())
        assert known(store, first) == first  # reading goes on
        other.execute("ROLLBACK")
    second = submit(store, new_job())
    assert known(store, second) == second
    store.close()


def test_erased_content_is_not_left_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    engine = open_database(f"sqlite:///{path}", durable=False)
    migrate(engine)
    store = SqlJobs(engine)
    job = submit(store, new_job(params={"who": "Zaphod Beeblebrox"}))
    store.erase(job.id, lambda _: None)
    store.close()  # the last connection carries the write-ahead log over
    assert b"Zaphod" not in b"".join(each.read_bytes() for each in tmp_path.iterdir())
