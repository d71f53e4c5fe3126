"""Reports the state of a database without opening it for writing: nothing is created, migrated or repaired."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from limner.domain.errors import SettingsError

MIGRATIONS = Path(__file__).parent.parent.parent / "migrations"


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
    log = file.with_name(f"{file.name}-wal")
    shared = file.with_name(f"{file.name}-shm")
    unread = log.exists() and log.stat().st_size > 0
    if unread and not shared.exists():
        # SQLite would have to create the -shm file to read the write-ahead log.
        return f"{file} was not closed properly; `limner serve` will recover it"
    # Without a log nobody is writing; `immutable` prevents SQLite from creating an empty log beside the file.
    revision = _revision(file, "mode=ro" if unread else "mode=ro&immutable=1")
    scripts = ScriptDirectory(str(MIGRATIONS))
    head = scripts.get_current_head()
    if revision == head:
        return f"{file}, tables up to date"
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise SettingsError(f"{file} belongs to another version of Limner (migration {revision!r})")
    return f"{file}; `limner serve` will migrate its tables from {revision or 'none'} to {head}"


def _revision(file: Path, mode: str) -> str | None:
    """The last migration applied to the tables, None for an empty database. SettingsError if it is no database."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?{mode}", uri=True)) as connection:
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    except sqlite3.Error as error:
        raise SettingsError(f"{file} cannot be read as a database ({error})") from None
    return str(row[0]) if row else None
