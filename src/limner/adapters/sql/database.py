"""A SQLite database: connections, pragmas, the lock that orders writers, and migrations."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from limner.adapters.sql.statement import Driver
from limner.adapters.sql.turn import Turn
from limner.domain.errors import SettingsError, UnavailableError

MIGRATIONS = Path(__file__).parent.parent.parent / "migrations"

CONNECTIONS = 32
TURN_S = 5.0


class Database:
    """The database at `sqlite:///path`. SettingsError for another scheme or a folder that cannot be created.

    Waiting for a connection, for the turn to write or for a lock ends after `turn_s` seconds, each with an error.
    """

    def __init__(self, url: str, *, durable: bool, turn_s: float = TURN_S) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise SettingsError(f"LIMNER_DATABASE_URL is not a URL: {url.rsplit('@', maxsplit=1)[-1]!r}") from None
        if parsed.drivername != "sqlite" or not parsed.database or parsed.database == ":memory:":
            raise SettingsError(
                f"LIMNER_DATABASE_URL must be 'sqlite:///path' or 'memory:', not scheme {parsed.drivername!r}"
            )
        self.path = Path(parsed.database)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600)  # results describe faces: other users may not read them
            self._identity = _identity(self.path)
            self._turn = Turn(self.path, timeout_s=turn_s)
        except OSError as error:
            raise SettingsError(f"LIMNER_DATABASE_URL: {error}") from None
        self.engine = create_engine(
            parsed,
            poolclass=QueuePool,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=turn_s,
            pool_reset_on_return=None,  # every transaction ends before its connection returns to the pool
            connect_args={"check_same_thread": False},
        )
        _prepare_connections(self.engine, durable=durable, busy_timeout_s=turn_s)

    @contextmanager
    def reading(self) -> Iterator[Driver]:
        """A reading transaction: all its statements see the same state. UnavailableError, also for their errors."""
        with errors_as_unavailable():
            held = self.engine.raw_connection()
            try:
                db = self.driver(held)
                db.connection.execute("BEGIN")
                try:
                    yield db
                finally:
                    db.connection.execute("COMMIT")
            finally:
                held.close()

    def driver(self, held: PoolProxiedConnection) -> Driver:
        """The driver's own connection."""
        return Driver(held.dbapi_connection, self.engine.dialect)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn to write, among all processes. UnavailableError after `turn_s`, or if the file has changed.

        SQLite continues to write to a file that was deleted or replaced, and this data would be lost.
        """
        with self._turn.taken():
            try:
                same = _identity(self.path) == self._identity
            except OSError:
                same = False
            if not same:
                raise UnavailableError("the database file was deleted or replaced; restore it or restart the service")
            yield

    def close(self) -> None:
        """Close the connections and the lock files."""
        self.engine.dispose()
        self._turn.close()


def _identity(path: Path) -> tuple[int, int]:
    """Identifies a file independently of its name. OSError."""
    found = os.stat(path)  # noqa: PTH116  # `Path.stat` is slower, and every transaction calls this
    return found.st_dev, found.st_ino


@contextmanager
def errors_as_unavailable() -> Iterator[None]:
    """Raise UnavailableError for errors of the database (locked, disk full, missing …), as they may be temporary."""
    try:
        yield
    except (sqlite3.OperationalError, OperationalError, NoConnectionError) as error:
        reason = error.orig if isinstance(error, OperationalError) else error
        raise UnavailableError(f"The database could not be used ({reason}). Try again.") from error


def _prepare_connections(engine: Engine, *, durable: bool, busy_timeout_s: float) -> None:
    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={round(busy_timeout_s * 1000)}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        cursor.execute("PRAGMA secure_delete=ON")  # erased results must not remain in free pages
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # for migrations only: other transactions are begun explicitly
        driver: Any = connection.connection.dbapi_connection
        driver.execute("BEGIN IMMEDIATE")


def head_revision() -> str:
    """The name of the newest migration."""
    from alembic.script import ScriptDirectory  # only a database that is not up to date needs it

    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head is not None
    return head


def migrate(database: Database) -> bool:
    """Migrate the tables to the newest revision. Returns whether anything changed.

    SettingsError for a file that is not a database, cannot be written, or belongs to a newer version of the service.
    """
    try:
        if current_revision(database) == head_revision():
            return False
        _upgrade(database.engine)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        reason = error.orig if isinstance(error, DatabaseError) else error
        raise SettingsError(f"LIMNER_DATABASE_URL: the database cannot be opened ({reason})") from error
    return True


def current_revision(database: Database) -> str | None:
    """The last migration applied to the tables; None for a database without tables."""
    held = database.engine.raw_connection()
    try:
        row = database.driver(held).connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return None
    finally:
        held.close()
    return str(row[0]) if row else None


def _upgrade(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # Alembic reads the value as a template, so a per cent sign in the path must be escaped.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise SettingsError(f"LIMNER_DATABASE_URL is of another version of Limner ({error})") from None
