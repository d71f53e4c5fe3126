"""Opens the database of a URL, with its job store, reader and event log."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from limner.adapters.sql.database import Database
from limner.adapters.sql.events import SqlEvents
from limner.adapters.sql.reader import SqlReader
from limner.domain.errors import SettingsError, how_to_install
from limner.ports import EventLog, JobReader, JobStore

WEB_CONNECTIONS = 8
WORKER_CONNECTIONS = 2
"""To PostgreSQL: of a web process, and of a worker process, which needs one for the job and one to renew its lease."""


@dataclass(frozen=True, slots=True)
class Stores:
    """A database and the ports on it. `shared`: other web processes may use it at the same time."""

    database: Database
    store: JobStore
    reader: JobReader
    events: EventLog
    shared: bool

    def close(self) -> None:
        """Close all connections."""
        self.store.close()
        self.database.close()


def parse(url: str) -> URL:
    """The parts of a database URL. SettingsError, which does not repeat it: it may hold a password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise SettingsError("LIMNER_DATABASE_URL is not a URL") from None
    is_file = parsed.drivername == "sqlite" and parsed.database not in (None, "", ":memory:")
    if not is_file and parsed.drivername != "postgresql":
        raise SettingsError(
            "LIMNER_DATABASE_URL must be 'sqlite:///path', 'postgresql://user:password@host/name' or 'memory:', "
            f"not scheme {parsed.drivername!r}"
        )
    return parsed


@contextmanager
def with_libraries() -> Iterator[None]:
    """SettingsError if PostgreSQL's driver, which is imported meanwhile, is not installed."""
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"LIMNER_DATABASE_URL: PostgreSQL needs more libraries: {how_to_install('cluster')} ({error})"
        ) from None


def open_stores(
    url: str, *, durable: bool, connections: int = WEB_CONNECTIONS, file: tuple[int, int] | None = None
) -> Stores:
    """The database at `sqlite:///path` or `postgresql://…`. SettingsError for another URL.

    `connections` limits those to PostgreSQL. `file` is the device and inode of a SQLite database that must exist.
    """
    parsed = parse(url)
    if parsed.drivername == "sqlite":
        from limner.adapters.sql.sqlite import SqliteDatabase
        from limner.adapters.sql.sqlite_store import SqliteStore

        sqlite = SqliteDatabase(parsed, durable=durable, file=file)
        return Stores(sqlite, SqliteStore(sqlite), SqlReader(sqlite), SqlEvents(sqlite), shared=False)
    with with_libraries():
        from limner.adapters.sql.outbox import PostgresEvents
        from limner.adapters.sql.postgres import PostgresDatabase
        from limner.adapters.sql.postgres_store import PostgresStore
    postgres = PostgresDatabase(parsed, durable=durable, connections=connections)
    return Stores(postgres, PostgresStore(postgres), SqlReader(postgres), PostgresEvents(postgres), shared=True)
