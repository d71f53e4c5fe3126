"""Scratch databases of benchmarks: a SQLite file, a database on a PostgreSQL server, an empty one of Redis."""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from limner.bench.filler import fill_postgres, fill_sqlite
from limner.domain.errors import SettingsError, how_to_install

CACHE_KEY = "SELECT cache_key FROM jobs"


class Scratch(Protocol):
    """An empty database. `url` is what `LIMNER_DATABASE_URL` takes."""

    url: str

    def fill(self, jobs: int, cache_key: str, tokens: tuple[str, str]) -> tuple[str, str]:
        """See `filler.fill_sqlite`. Nobody may have it open."""
        ...

    def cache_key(self) -> str:
        """The cache key of its only job."""
        ...

    def size(self) -> int:
        """Bytes that it takes on disk."""
        ...

    def busy_s(self) -> float:
        """Seconds so far in which a server of its own executed statements; SQLite has no server."""
        ...


class SqliteScratch:
    """A file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "limner.db"
        self.url = f"sqlite:///{self._file}"

    def fill(self, jobs: int, cache_key: str, tokens: tuple[str, str]) -> tuple[str, str]:
        """See `Scratch.fill`."""
        return fill_sqlite(self._file, jobs, cache_key, tokens)

    def cache_key(self) -> str:
        """See `Scratch.cache_key`."""
        database = sqlite3.connect(self._file)
        ((key,),) = database.execute(CACHE_KEY).fetchall()
        database.close()
        return str(key)

    def size(self) -> int:
        """See `Scratch.size`."""
        return self._file.stat().st_size

    def busy_s(self) -> float:
        """See `Scratch.busy_s`."""
        return 0.0


class PostgresScratch:
    """A database of its own on the server of a URL, whose user must be allowed to create databases."""

    def __init__(self, server_url: str, name: str) -> None:
        from sqlalchemy import make_url

        self._name = name
        self.url = make_url(server_url).set(database=name).render_as_string(hide_password=False)

    def fill(self, jobs: int, cache_key: str, tokens: tuple[str, str]) -> tuple[str, str]:
        """See `Scratch.fill`."""
        with connected(self.url) as database:
            return fill_postgres(database, jobs, cache_key, tokens)

    def cache_key(self) -> str:
        """See `Scratch.cache_key`."""
        return str(self._value(CACHE_KEY))

    def size(self) -> int:
        """See `Scratch.size`."""
        return int(self._value("SELECT pg_database_size(current_database())"))

    def busy_s(self) -> float:
        """See `Scratch.busy_s`. The server counts with a delay of up to ten seconds."""
        return float(self._value("SELECT active_time FROM pg_stat_database WHERE datname = current_database()")) / 1000

    def _value(self, statement: str) -> Any:
        with connected(self.url) as database:
            row = database.execute(statement.encode()).fetchone()
        assert row is not None, statement
        return row[0]


@contextmanager
def scratch(server_url: str) -> Iterator[PostgresScratch]:
    """An empty database on the PostgreSQL server of the URL, which is dropped at the end. SettingsError."""
    name = f"limner_bench_{secrets.token_hex(4)}"
    with connected(server_url) as database:
        database.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0".encode())
    try:
        yield PostgresScratch(server_url, name)
    finally:
        with connected(server_url) as database:
            database.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def empty_redis(url: str) -> Iterator[None]:
    """Check that a database of Redis is empty, and empty it at the end. SettingsError."""
    try:
        import redis
    except ImportError:
        raise SettingsError(f"Redis needs more libraries: {how_to_install('cluster')}") from None
    try:
        with redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=10) as client:
            if client.dbsize():
                raise SettingsError("--redis-url must name a database that is empty, such as redis://host:6379/9")
            yield
            client.flushdb()
    except redis.RedisError as error:
        raise SettingsError(f"--redis-url: {type(error).__name__}") from None


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """A connection of psycopg with autocommit. SettingsError for a server that cannot be used."""
    try:
        import psycopg
    except ImportError:
        raise SettingsError(f"PostgreSQL needs more libraries: {how_to_install('cluster')}") from None
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            yield connection
    except (psycopg.OperationalError, psycopg.errors.InsufficientPrivilege) as error:
        raise SettingsError(f"--database-url: {str(error).splitlines()[0]}") from None
