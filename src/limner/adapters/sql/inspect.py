"""Reports the state of a database without opening it for writing: nothing is created, migrated or repaired."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from limner.adapters.sql.database import MIGRATIONS
from limner.domain.errors import SettingsError


def state(url: str) -> str:
    """The state of the database and what a start would do with it, as text. SettingsError if a start would fail."""
    if url == "memory:":
        return "none: all data is removed when the service stops"
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise SettingsError("LIMNER_DATABASE_URL is not a URL") from None
    if parsed.drivername != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise SettingsError("LIMNER_DATABASE_URL must be 'sqlite:///path' or 'memory:'")
    file = Path(parsed.database)
    if not file.exists():
        return f"`limner serve` will create {file}"
    if not os.access(file, os.R_OK | os.W_OK):
        raise SettingsError(f"this user has no permission to read and write {file}")
    mode = _mode(file)
    if mode is None:
        return f"{file} was not closed properly; `limner serve` will recover it"
    revision = _revision(file, mode)
    scripts = ScriptDirectory(str(MIGRATIONS))
    head = scripts.get_current_head()
    if revision == head:
        return f"{file}, tables up to date"
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise SettingsError(f"{file} belongs to another version of Limner (migration {revision!r})")
    return f"{file}; `limner serve` will migrate its tables from {revision or 'none'} to {head}"


def fact(url: str, name: str) -> str | None:
    """What the database remembers about itself; None if nothing, or if that cannot be read without a change."""
    file = Path(make_url(url).database or "")
    mode = _mode(file) if file.is_file() else None
    if mode is None:
        return None
    with closing(_opened(file, mode)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchone():
            return None
        row = connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None


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
