"""Opens a database: connections, pragmas, and the tables brought up to date."""

import sqlite3
from pathlib import Path
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from limner.domain.errors import SettingsError

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def open_database(url: str, *, durable: bool) -> Engine:
    """An engine for `sqlite:///path` or `memory:`. SettingsError for another scheme or a folder that cannot be made.

    A connection executed with the option `write=True` begins its transaction as SQLite's one writer at once, so that
    what it reads first is still true when it writes.
    """
    if url == "memory:":
        # One connection is one database, and its pool lets one thread at a time have it.
        engine = create_engine(
            "sqlite://",
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            connect_args={"check_same_thread": False},
        )
    else:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise SettingsError(f"LIMNER_DATABASE_URL is not a URL: {url.rsplit('@', maxsplit=1)[-1]!r}") from None
        if parsed.drivername != "sqlite" or not parsed.database or parsed.database == ":memory:":
            raise SettingsError(
                f"LIMNER_DATABASE_URL must be 'sqlite:///path' or 'memory:', not scheme {parsed.drivername!r}"
            )
        try:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            Path(parsed.database).touch(mode=0o600)  # results tell of faces: for nobody else on this machine
        except OSError as error:
            raise SettingsError(f"LIMNER_DATABASE_URL: {error}") from None
        engine = create_engine(
            parsed, poolclass=QueuePool, pool_size=8, max_overflow=24, connect_args={"check_same_thread": False}
        )

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver's own idea of when to begin stays out of the way
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout=5000")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        cursor.execute("PRAGMA secure_delete=ON")  # erasing erases: no result stays behind in a free page
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("write")
        driver: Any = connection.connection.dbapi_connection
        statement = "BEGIN IMMEDIATE" if writes else "BEGIN"
        try:
            driver.execute(statement)  # every transaction pays for it: past SQLAlchemy's own machinery
        except sqlite3.OperationalError as error:
            raise OperationalError(statement, None, error) from error

    return engine


def head_revision() -> str:
    """The newest migration's name."""
    from alembic.script import ScriptDirectory  # only a database that is not up to date needs it

    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head is not None
    return head


def migrate(engine: Engine) -> bool:
    """Bring the tables to the newest revision. Returns whether anything changed.

    SettingsError for a file that is no database, cannot be written, or was left by a newer version of the service.
    """
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        if current == head_revision():
            return False
        _upgrade(engine)
    except DatabaseError as error:
        raise SettingsError(f"LIMNER_DATABASE_URL: the database cannot be opened ({error.orig})") from error
    return True


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # Alembic reads the value as a template: a per cent sign in the path is not one of its own.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.execution_options(write=True).begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SettingsError(f"LIMNER_DATABASE_URL: the database is of another version ({error})") from None
