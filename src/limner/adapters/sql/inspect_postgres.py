"""Reports the state of a PostgreSQL database: version, tables, rights, and room for connections."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import URL
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from limner.adapters.sql.postgres import CONNECT, check_server, driver_url, name_of, reason_of
from limner.domain.errors import SettingsError

CLOCKS_S = 2.0  # which two machines that follow a time server never differ by

_LOOK = """
SELECT to_regclass('alembic_version') IS NOT NULL,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
       pg_is_in_recovery(),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name <> 'limner'),
       current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off',
       extract(epoch FROM clock_timestamp())::float
"""


@dataclass(frozen=True, slots=True)
class Found:
    """What the server says. `room` and `taken` count connections: allowed, and used by others than Limner.

    `ahead_s`: how far its clock is ahead of the one of this machine.
    """

    name: str
    version: str
    revision: str | None
    may_create: bool
    is_replica: bool
    room: int
    taken: int
    is_durable: bool
    ahead_s: float

    def check(self, connections: int) -> None:
        """SettingsError if a service that opens this many connections could not work."""
        if self.is_replica:
            raise SettingsError(f"{self.name} is a replica that is only read: name the primary server")
        if not self.may_create and self.revision is None:
            raise SettingsError(f"the user may not create tables in {self.name}: GRANT CREATE on its schema")
        if connections > self.room:
            raise SettingsError(
                f"this installation may open {connections} connections, but {self.name} allows {self.room}: raise "
                "max_connections, or put PgBouncer in front"
            )

    def notes(self, connections: int) -> str:
        """Version and connections, with a warning for what may go wrong."""
        text = f"PostgreSQL {self.version}, up to {connections} of {self.room} connections"
        if connections + self.taken > self.room:
            text += f" (others use {self.taken} now, so there may be too few)"
        if not self.is_durable:
            text += "; fsync or synchronous_commit is off there, so a power cut may lose accepted jobs"
        if abs(self.ahead_s) > CLOCKS_S:
            side = "ahead of" if self.ahead_s > 0 else "behind"
            text += (
                f"; its clock is {abs(self.ahead_s):.0f} s {side} the one of this machine: times of webhooks and "
                "signed URLs go by the machine, so let both follow a time server"
            )
        return text


def look(url: URL) -> Found:
    """The state of the database. SettingsError if it cannot be reached or is not one that Limner can use."""
    with _connected(url) as connection:
        tables, may_create, is_replica, room, taken, is_durable, its_time = _row(connection, _LOOK)
        ahead_s = its_time - time.time()
        revision = _row(connection, "SELECT max(version_num) FROM alembic_version")[0] if tables else None
        number = connection.info.server_version
        version = f"{number // 10000}.{number % 10000}"
    return Found(name_of(url), version, revision, may_create, is_replica, room, taken, is_durable, ahead_s)


def fact(url: URL, name: str) -> str | None:
    """What the database remembers about itself."""
    with _connected(url) as connection:
        if _row(connection, "SELECT to_regclass('facts')")[0] is None:
            return None
        row = connection.execute("SELECT value FROM facts WHERE name = %s", (name,)).fetchone()
    return str(row[0]) if row else None


def rows(url: URL, query: str) -> list[tuple[Any, ...]] | None:
    """The rows of a query; None without the tables."""
    with _connected(url) as connection:
        try:
            return connection.execute(query.encode()).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            return None


@contextmanager
def _connected(url: URL) -> Iterator[psycopg.Connection[Any]]:
    dialect: Any = PGDialect_psycopg()  # type: ignore[no-untyped-call]
    arguments, options = dialect.create_connect_args(driver_url(url)[0])
    try:
        with psycopg.connect(*arguments, autocommit=True, **{**CONNECT, **options}) as connection:
            check_server(connection)
            yield connection
    except psycopg.Error as error:
        raise SettingsError(f"{name_of(url)} cannot be used ({reason_of(error)})") from None


def _row(connection: psycopg.Connection[Any], query: str) -> Any:
    return connection.execute(query.encode()).fetchone()
