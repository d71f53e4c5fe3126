"""What the SQL adapter needs of a database: `sqlite.py` and `postgres.py` implement it, `opening.py` chooses by URL."""

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection

from limner.adapters.sql.statement import Driver


class Database(Protocol):
    """A database with the tables of `schema.py`. Its methods may be called from any thread."""

    @property
    def name(self) -> str:
        """Where it is, for people: no user and no password."""
        ...

    def reading(self) -> AbstractContextManager[Driver]:
        """A reading transaction: all its statements see the same state. UnavailableError, also for their errors."""
        ...

    def prepare(self) -> None:
        """Wait until it can be used, and look for damage, both for a bounded time. SettingsError."""
        ...

    def revision(self) -> str | None:
        """The last migration applied to the tables; None for a database without tables. SettingsError."""
        ...

    def migrating(self) -> AbstractContextManager[Connection]:
        """A transaction that changes tables; among all processes, one at a time. SettingsError."""
        ...

    def close(self) -> None:
        """Close the connections and the lock files."""
        ...
