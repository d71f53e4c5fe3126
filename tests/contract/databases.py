"""Empty databases for tests. Those of PostgreSQL are made once, emptied and given to the next test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import make_url

from limner.adapters.sql.migrate import MIGRATIONS, migrate
from limner.adapters.sql.opening import open_stores
from limner.adapters.sql.schema import metadata, postgres_metadata
from limner.adapters.sql.sqlite import SqliteDatabase
from tests.services.postgres import Postgres

SQLITE_ONLY = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For a test of what only SQLite does."""

POSTGRESQL_ONLY = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

EMPTY = [
    *(f"DELETE FROM {table.name}" for table in (*reversed(metadata.sorted_tables), *postgres_metadata.sorted_tables)),  # noqa: S608
    "ALTER SEQUENCE events_id_seq RESTART",
]


def old_database(path: Path, revision: str = "0001") -> SqliteDatabase:
    """A SQLite database with the tables of an older version; of the first, unless `revision` says another."""
    database = SqliteDatabase(make_url(f"sqlite:///{path}"), durable=False)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return database


class Databases:
    """`server` starts PostgreSQL, which only happens when a test needs it."""

    def __init__(self, server: Callable[[], Postgres]) -> None:
        self._server = server
        self._free: list[str] = []
        self.taken: set[str] = set()

    @contextmanager
    def one(self, kind: str, folder: Path) -> Iterator[str]:
        """The URL of an empty database; one of PostgreSQL has its tables already."""
        if kind == "sqlite":
            yield f"sqlite:///{folder / 'jobs.db'}"
            return
        server = self._server()
        url = self._free.pop() if self._free else server.new_database()
        self.taken.add(url)
        opened = open_stores(url, durable=False)
        migrate(opened.database)
        opened.close()
        try:
            yield url
        finally:
            self.taken.remove(url)
        server.execute(url, *EMPTY)
        self._free.append(url)
