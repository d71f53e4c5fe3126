"""Reports the state of a SQLite database without opening it for writing: nothing is created or repaired."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from limner.domain.errors import SettingsError


def revision(file: Path) -> str | None:
    """The last migration applied to the tables, None for an empty database.

    SettingsError if the file is no database or cannot be used; NotClosedError if it must be recovered first.
    """
    if not os.access(file, os.R_OK | os.W_OK):
        raise SettingsError(f"this user has no permission to read and write {file}")
    mode = _mode(file)
    if mode is None:
        raise NotClosedError
    return _revision(file, mode)


class NotClosedError(Exception):
    """The database was not closed properly, and cannot be read before it is recovered."""


def fact(file: Path, name: str) -> str | None:
    """What the database remembers about itself; None if nothing, or if that cannot be read without a change."""
    mode = _mode(file) if file.is_file() else None
    if mode is None:
        return None
    with closing(_opened(file, mode)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
            return None
        row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None


def rows(file: Path, query: str) -> list[tuple[Any, ...]] | None:
    """The rows of a query; None without the tables, or if they cannot be read without a change."""
    mode = _mode(file) if file.is_file() else None
    if mode is None:
        return None
    with closing(_opened(file, mode)) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:  # no such table
            return None


def _mode(file: Path) -> str | None:
    """How to open a database without a change; None if its log can be read only by creating a file beside it."""
    log = file.with_name(f"{file.name}-wal")
    shared = file.with_name(f"{file.name}-shm")
    unread = log.exists() and log.stat().st_size > 0
    if unread and not shared.exists():
        return None
    # Without a log nobody writes to the file; `immutable` keeps SQLite from creating an empty log beside it.
    return "mode=ro" if unread else "mode=ro&immutable=1"


def _opened(file: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?{mode}", uri=True)


def _revision(file: Path, mode: str) -> str | None:
    """The last migration applied to the tables, None for an empty database. SettingsError if it is no database."""
    try:
        with closing(_opened(file, mode)) as connection:
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    except sqlite3.Error as error:
        raise SettingsError(f"{file} cannot be read as a database ({error})") from None
    return str(row[0]) if row else None
