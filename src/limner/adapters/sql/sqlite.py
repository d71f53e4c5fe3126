"""A SQLite database: connections, pragmas, and the lock that orders writers."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DatabaseError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from limner.adapters.sql.statement import Driver, UnreadableError
from limner.adapters.sql.turn import Turn
from limner.domain.errors import SettingsError, UnavailableError

log = logging.getLogger(__name__)

CONNECTIONS = 32
TURN_S = 5.0
CHECK_S = 1.0  # a start may take this much longer; it is enough for about half a gigabyte
LOG_S = 0.1  # writers wait meanwhile
FileId = tuple[int, int]
"""Device and inode."""
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SqliteDatabase:
    """`Database` in the file of a URL `sqlite:///path`. SettingsError for a folder that cannot be created.

    It is created if there is none; with `file` (see `file_at`) only that file is used, and none is created. Waiting
    for a connection, for the turn to write or for a lock ends after `turn_s` seconds, each with an error.
    """

    def __init__(self, url: URL, *, durable: bool, turn_s: float = TURN_S, file: FileId | None = None) -> None:
        try:
            self.path = Path(url.database or "").resolve()
            self._file = file or _created(self.path)
            self._turn = Turn(self.path, timeout_s=turn_s)
        except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links that lead in a circle
            raise SettingsError(f"LIMNER_DATABASE_URL: {error}") from None
        self._damage: str | None = None
        self.engine = create_engine(
            url.set(database=str(self.path)),
            poolclass=QueuePool,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=turn_s,
            pool_reset_on_return=None,  # every transaction ends before its connection returns to the pool
            connect_args={"check_same_thread": False},
        )
        _prepare_connections(self.engine, self.check_usable, durable=durable, busy_timeout_s=turn_s)

    @property
    def name(self) -> str:
        """See `Database.name`."""
        return str(self.path)

    @contextmanager
    def reading(self) -> Iterator[Driver]:
        """See `Database.reading`."""
        with self.errors_as_unavailable():
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
        """Wait for the turn to write, among all processes. UnavailableError after `turn_s`, or if it is not usable."""
        with self._turn.taken():
            self.check_usable()
            yield

    def check_usable(self) -> None:
        """UnavailableError if the file was deleted or replaced since the start, or the database was seen damaged.

        SQLite continues to write to a file that was deleted, and this data would be lost. Writing into damaged tables
        would damage them more.
        """
        try:
            same = file_at(self.path) == self._file
        except OSError:
            same = False
        if not same:
            raise UnavailableError(
                f"The database file {self.path.name} was deleted or replaced while the service is running. "
                "Restore it or restart the service."
            )
        if self._damage is not None:
            raise UnavailableError(self._damage)

    @contextmanager
    def errors_as_unavailable(self) -> Iterator[None]:
        """Raise UnavailableError for errors of the database: locked, disk full, read-only, missing or damaged."""
        try:
            yield
        except UnreadableError as error:
            raise UnavailableError(f"A row of the database is damaged ({error}). A backup may contain it.") from error
        except NoConnectionError as error:
            raise UnavailableError(f"The database could not be used ({error}). Try again.") from error
        except (sqlite3.DatabaseError, DatabaseError) as error:
            reason = error.orig if isinstance(error, DatabaseError) else error
            if _primary_code(reason) in DAMAGE:
                self._damage = f"The database is damaged ({reason}). Stop the service and restore a backup."
                raise UnavailableError(self._damage) from error
            if not isinstance(reason, sqlite3.OperationalError):
                raise
            raise UnavailableError(f"The database could not be used ({reason}). Try again.") from error

    def prepare(self) -> None:
        """See `Database.prepare`."""
        with _errors_as_settings():
            _check_pages(self)

    def revision(self) -> str | None:
        """See `Database.revision`."""
        with _errors_as_settings():
            held = self.engine.raw_connection()
            try:
                row = self.driver(held).connection.execute("SELECT version_num FROM alembic_version").fetchone()
            except sqlite3.OperationalError as error:
                if "no such table" not in str(error):
                    raise
                return None
            finally:
                held.close()
            return str(row[0]) if row else None

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """See `Database.migrating`."""
        with _errors_as_settings(), self.turn(), self.engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """See `Database.close`."""
        self.engine.dispose()
        self._turn.close()


def _created(path: Path) -> FileId:
    """Create the database file if there is none, and identify it. OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)  # results describe faces: other users may not read them
    return file_at(path)


def file_at(path: Path) -> FileId:
    """Identifies the file at a path independently of its name. OSError."""
    found = os.stat(path)  # noqa: PTH116  # `Path.stat` is slower, and every transaction calls this
    return found.st_dev, found.st_ino


@contextmanager
def _errors_as_settings() -> Iterator[None]:
    """Raise SettingsError for errors of the database while it is opened."""
    try:
        yield
    except (DatabaseError, sqlite3.DatabaseError) as error:
        reason = error.orig if isinstance(error, DatabaseError) else error
        raise SettingsError(f"LIMNER_DATABASE_URL: the database cannot be opened ({reason})") from error


def _primary_code(error: BaseException | None) -> int:
    """SQLite's error code without its details; 0 for an error of another kind."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _prepare_connections(
    engine: Engine, check_usable: Callable[[], None], *, durable: bool, busy_timeout_s: float
) -> None:
    @event.listens_for(engine, "do_connect")
    def check(*_: object) -> None:  # SQLite would create a file that is not there
        check_usable()

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


def empty_log(db: Driver) -> bool:
    """Move the write-ahead log into the database's file, which overwrites what was erased, and empty it.

    Returns False if a reader or writer prevented it for `LOG_S`. Call it outside a transaction.
    """
    (usual,) = db.connection.execute("PRAGMA busy_timeout").fetchone()
    db.connection.execute(f"PRAGMA busy_timeout={round(LOG_S * 1000)}")
    try:
        (busy, _, _) = db.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.DatabaseError as error:  # no reason for what was committed before to fail
        log.warning("the database's log could not be emptied", extra={"detail": str(error)})
        return False
    finally:
        db.connection.execute(f"PRAGMA busy_timeout={usual}")
    return not busy


def _check_pages(database: SqliteDatabase) -> None:
    """Look for damaged pages, for a second at most. SettingsError."""
    deadline = time.monotonic() + CHECK_S
    held = database.engine.raw_connection()
    try:
        connection = database.driver(held).connection
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        found = connection.execute("PRAGMA quick_check(1)").fetchall()
        if found != [("ok",)]:
            reason = str(found[0][0]).replace("\n", " ")
            raise SettingsError(
                f"LIMNER_DATABASE_URL: the database {database.path} is damaged ({reason}): restore a backup"
            )
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
    finally:
        held.invalidate()  # with its handler
