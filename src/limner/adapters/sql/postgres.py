"""A PostgreSQL database: its pool of connections, time-outs, errors, and the lock of migrations."""

import hashlib
import logging
import re
import select
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import URL, Connection, NullPool, QueuePool, create_engine, event, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from limner.adapters.sql.columns import EPOCH
from limner.adapters.sql.statement import Driver, UnreadableError
from limner.domain.errors import SettingsError, UnavailableError

T = TypeVar("T")

log = logging.getLogger(__name__)

OLDEST = 14
POOL_S = 5.0
LOCK_S = 5
STATEMENT_S = 15
PREPARE_AFTER = 2  # executions of a statement on one connection
IDLE_S = 30  # in a transaction: a process that was stopped must not keep its locks
ANSWER_S = 20.0  # longer than a statement may take: it ends the wait for a server that has frozen
START_S, START_PAUSE_S, START_LOG_S = 60.0, 1.0, 10.0
MIGRATION_LOCK = 4711
MIGRATION_WAIT_S = 600

CONNECT = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms
    "application_name": "limner",
}
"""Parameters of libpq, where the URL has no others."""

_TIME = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

_PLACE = re.compile(r"^.* failed: (FATAL:\s*)?")  # `connection to server at "10.0.0.1", port 5432 failed: …`
_NAMED = re.compile(r"\"[^\"]*\"|'[^']*'")

OTHER_TABLES = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.NotNullViolation)
NOT_PREPARED = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement)
# A replica refuses to write; a plan that was prepared does not fit a table that was changed. Both may be over with
# another connection: to the new primary server, or with a new plan.
OF_THIS_CONNECTION = psycopg.errors.FeatureNotSupported
OUT_OF_USE = (
    OF_THIS_CONNECTION,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    psycopg.errors.InsufficientPrivilege,
)


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that gives up a server which does not answer. The driver itself would wait for ever."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **more: Any) -> T:
        """See `psycopg.Connection.wait`. OperationalError after `ANSWER_S`; then the connection is closed."""
        return super().wait(self._bounded(gen), *args, **more)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        deadline = time.monotonic() + ANSWER_S
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"the server has not answered for {ANSWER_S:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            answer: T = end.value
            return answer


class PostgresDatabase:
    """`Database` at a URL `postgresql://user:password@host:port/name?sslmode=…`. Nothing is connected yet.

    At most `connections` are open; waiting for one ends after `POOL_S`, for a lock after `LOCK_S`. Each transaction
    sets its own time-outs, so that nothing depends on a session but prepared statements, which halve the time of a
    transaction. `pgbouncer=true` in the URL turns them off, for PgBouncer in transaction mode.
    """

    def __init__(self, url: URL, *, durable: bool, connections: int) -> None:
        self._url, prepares = driver_url(url)
        self._options = {name: value for name, value in CONNECT.items() if name not in url.query}
        self.name = name_of(url)
        limits = (
            f"; SET LOCAL lock_timeout = '{LOCK_S}s'; SET LOCAL statement_timeout = '{STATEMENT_S}s'"
            f"; SET LOCAL idle_in_transaction_session_timeout = '{IDLE_S}s'"
        )
        # One message to the server, whatever the server's own defaults are.
        self.begin_reading = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY{limits}"
        self.begin_writing = f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE{limits}"
        self.begin_writing += f"; SET LOCAL synchronous_commit = {'on' if durable else 'off'}"
        self._closed = False
        self.engine = create_engine(
            self._url,
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=POOL_S,
            pool_use_lifo=True,
            pool_reset_on_return=None,  # every transaction ends before its connection returns to the pool
            use_native_hstore=False,
            connect_args={
                **self._options,
                "autocommit": True,
                "prepare_threshold": PREPARE_AFTER if prepares else None,
            },
        )

        @event.listens_for(self.engine, "do_connect")
        def connect(_dialect: PGDialect_psycopg, _entry: object, args: Any, options: Any) -> DBAPIConnection:
            made: Any = BoundedConnection.connect(*args, **options)
            try:
                check_server(made)
            except SettingsError:
                made.close()
                raise
            return made  # type: ignore[no-any-return]  # SQLAlchemy's own type for it is a protocol

        @event.listens_for(self.engine, "checkout")
        def check(connection: Any, _entry: ConnectionPoolEntry, _fairy: object) -> None:
            if _has_ended(connection):
                raise InvalidatePoolError  # the pool opens a new one, also in place of its other old ones

        @event.listens_for(self.engine, "checkin")
        def returned(connection: Any, _entry: ConnectionPoolEntry) -> None:
            if self._closed and connection is not None:  # by a thread that was still at work
                connection.close()

    @contextmanager
    def reading(self) -> Iterator[Driver]:
        """See `Database.reading`."""
        with self.errors_as_unavailable(), self.transaction(self.begin_reading) as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[tuple[Driver, datetime]]:
        """A transaction that writes, and the server's time at its begin. Raises the driver's errors."""
        with self._begun(f"{self.begin_writing}; {_TIME}") as (db, answers):
            while answers.nextset():
                pass
            yield db, EPOCH + timedelta(microseconds=answers.fetchone()[0])

    @contextmanager
    def transaction(self, begin: str) -> Iterator[Driver]:
        """A transaction that `begin` begins, on a connection of the pool. Raises the driver's errors."""
        with self._begun(begin) as (db, _):
            yield db

    @contextmanager
    def _begun(self, begin: str) -> Iterator[tuple[Driver, Any]]:
        held = self.engine.raw_connection()
        try:
            driver: Any = held.dbapi_connection
            answers = driver.execute(begin, prepare=False)
            yield Driver(driver, self.engine.dialect), answers
            _commit(driver)
        except BaseException as error:
            _roll_back(held, error)
            raise
        held.close()

    def at_once(self, statements: str) -> int:
        """Run statements without parameters as one transaction in one message, and return the rows of the last one.

        So a process that is stopped meanwhile keeps no lock. Raises the driver's errors.
        """
        held = self.engine.raw_connection()
        try:
            driver: Any = held.dbapi_connection
            cursor = driver.execute(f"{self.begin_writing}; {statements}; COMMIT", prepare=False)
            counts = [cursor.rowcount]
            while cursor.nextset():
                counts.append(cursor.rowcount)
        except BaseException as error:
            _roll_back(held, error)
            raise
        held.close()
        rows: int = counts[-2]
        return rows

    @contextmanager
    def errors_as_unavailable(self) -> Iterator[None]:
        """Raise UnavailableError for errors of the database: not reachable, too busy, disk full, other tables."""
        try:
            yield
        except UnreadableError as error:
            raise UnavailableError(
                f"A row of the database is of a newer version of Limner, or damaged ({error}). Restart the service in "
                "its newest version; if it is damaged, a backup may contain it."
            ) from error
        except NoConnectionError as error:
            raise UnavailableError("All connections to the database are in use. Try again.") from error
        except OTHER_TABLES as error:
            raise UnavailableError(
                f"The tables of the database are of another version of Limner ({reason_of(error)}). "
                "Restart the service in its newest version."
            ) from error
        except NOT_PREPARED as error:
            raise UnavailableError(
                f"The database could not be used ({reason_of(error)}). If PgBouncer is between, add pgbouncer=true to "
                "LIMNER_DATABASE_URL."
            ) from error
        except OUT_OF_USE as error:
            raise UnavailableError(f"The database could not be used ({reason_of(error)}). Try again.") from error

    def prepare(self) -> None:
        """See `Database.prepare`. A server that starts at the same time gets `START_S` to be ready."""
        deadline = time.monotonic() + START_S
        logged_at = -START_LOG_S
        while True:
            try:
                return self._try()
            except psycopg.ProgrammingError as error:  # libpq does not understand the URL
                raise SettingsError(f"LIMNER_DATABASE_URL: {reason_of(error)}") from None
            except (psycopg.Error, NoConnectionError) as error:
                now = time.monotonic()
                if now >= deadline:
                    raise SettingsError(
                        f"LIMNER_DATABASE_URL: the database {self.name} could not be reached for {START_S:g} s "
                        f"({reason_of(error)})"
                    ) from None
                if now - logged_at >= START_LOG_S:
                    logged_at = now
                    log.warning(
                        "waiting for the database",
                        extra={"database": self.name, "detail": reason_of(error), "longest_s": START_S},
                    )
            time.sleep(START_PAUSE_S)

    def _try(self) -> None:
        """One transaction, whose errors are raised. Meanwhile signals are handled, also while a name is looked up."""
        tried: Future[None] = Future()

        def attempt() -> None:
            try:
                with self.transaction(self.begin_writing):  # a replica may become the primary server
                    pass
            except BaseException as error:  # noqa: BLE001  # raised by `result`
                tried.set_exception(error)
            else:
                tried.set_result(None)

        threading.Thread(target=attempt, name="database", daemon=True).start()
        tried.result()

    def revision(self) -> str | None:
        """See `Database.revision`."""
        with self._errors_as_settings(), self.transaction(self.begin_reading) as db:
            if db.connection.execute("SELECT to_regclass('alembic_version')").fetchone()[0] is None:
                return None
            row = db.connection.execute("SELECT version_num FROM alembic_version").fetchone()
            return str(row[0]) if row else None

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """See `Database.migrating`."""
        # A connection of its own: SQLAlchemy begins the transaction, and no statement has a time-out.
        engine = create_engine(self._url, poolclass=NullPool, connect_args={**self._options, "prepare_threshold": None})
        with self._errors_as_settings(), engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_WAIT_S}s'"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            yield connection

    @contextmanager
    def _errors_as_settings(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, DBAPIError, NoConnectionError) as error:
            reason = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            raise SettingsError(
                f"LIMNER_DATABASE_URL: the database {self.name} cannot be used ({reason_of(reason)})"
            ) from error

    def close(self) -> None:
        """See `Database.close`."""
        self._closed = True
        self.engine.dispose()


def driver_url(url: URL) -> tuple[URL, bool]:
    """The URL for the driver, and whether statements may be prepared (`pgbouncer=true` forbids it). SettingsError."""
    pgbouncer = url.query.get("pgbouncer", "false")
    if pgbouncer not in ("true", "false"):
        raise SettingsError(f"LIMNER_DATABASE_URL: pgbouncer must be true or false, not {pgbouncer!r}")
    driver = url.set(drivername="postgresql+psycopg").difference_update_query(["pgbouncer"])
    return driver, pgbouncer == "false"


def name_of(url: URL) -> str:
    """Host (or folder of its socket), port and name of a database, without user and password."""
    host = url.host or url.query.get("host") or "localhost"
    return f"{host if isinstance(host, str) else ','.join(host)}:{url.port or 5432}/{url.database or ''}"


def check_server(connection: psycopg.Connection[Any]) -> None:
    """SettingsError for a server that is too old, or a database that cannot hold every text."""
    if connection.info.server_version < OLDEST * 10_000:
        raise SettingsError(f"LIMNER_DATABASE_URL: PostgreSQL {OLDEST} or newer is needed")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SettingsError(f"LIMNER_DATABASE_URL: the database's encoding must be UTF8, not {encoding}")


def lock_key(name: str) -> int:
    """The key of an advisory lock, 64 bits with a sign."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _commit(driver: Any) -> None:
    """Commit. InternalError if a statement has failed before: then the server rolls back without an error."""
    ended = driver.execute("COMMIT", prepare=False).statusmessage
    if ended != "COMMIT":
        raise psycopg.InternalError(f"the transaction ended with {ended}")


def _has_ended(connection: Any) -> bool:
    """Whether the server has closed an idle connection, or has said why it will: then there is something to read."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def _roll_back(held: PoolProxiedConnection, reason: BaseException) -> None:
    """Roll back and return the connection to the pool. Close it if that fails, or if it is the reason."""
    driver: Any = held.dbapi_connection
    try:
        if not driver.closed and driver.info.transaction_status in (
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        ):
            driver.execute("ROLLBACK", prepare=False)
        usable = (
            not isinstance(reason, OF_THIS_CONNECTION)
            and not driver.closed
            and driver.info.transaction_status == TransactionStatus.IDLE
        )
    except psycopg.Error:
        usable = False
    if usable:
        held.close()
    else:
        held.invalidate()


def reason_of(error: BaseException) -> str:
    """The driver's message, which clients are told too.

    Without its details, which may hold values of a row, and without the server's address and user.
    """
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    if primary:
        return primary
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return _NAMED.sub("…", _PLACE.sub("", first)) if isinstance(error, psycopg.OperationalError) else first
