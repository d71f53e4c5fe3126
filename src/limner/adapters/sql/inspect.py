"""Reports the state of a database, and changes nothing: it is not created, migrated or repaired."""

from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory

from limner.adapters.sql import inspect_sqlite
from limner.adapters.sql.migrate import MIGRATIONS
from limner.adapters.sql.opening import parse, with_libraries
from limner.domain.errors import SettingsError


def state(url: str, *, connections: int) -> str:
    """The state of the database and what a start would do with it, as text. SettingsError if a start would fail.

    `connections` is how many this installation may open to a PostgreSQL server.
    """
    if url == "memory:":
        return "none: all data is removed when the service stops"
    parsed = parse(url)
    if parsed.drivername == "sqlite":
        file = Path(parsed.database or "")
        if not file.exists():
            return f"`limner serve` will create {file}"
        try:
            return _tables(str(file), inspect_sqlite.revision(file))
        except inspect_sqlite.NotClosedError:
            return f"{file} was not closed properly; `limner serve` will recover it"
    with with_libraries():
        from limner.adapters.sql import inspect_postgres
    found = inspect_postgres.look(parsed)
    tables = _tables(found.name, found.revision)
    found.check(connections)
    return f"{tables}; {found.notes(connections)}"


def _tables(name: str, revision: str | None) -> str:
    scripts = ScriptDirectory(str(MIGRATIONS))
    head = scripts.get_current_head()
    if revision == head:
        return f"{name}, tables up to date"
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        raise SettingsError(f"{name} belongs to another version of Limner (migration {revision!r})")
    return f"{name}; `limner serve` will migrate its tables from {revision or 'none'} to {head}"


def is_new(url: str) -> bool:
    """Whether there is no database yet, or one without tables. SettingsError."""
    parsed = parse(url)
    if parsed.drivername == "sqlite":
        return not Path(parsed.database or "").exists()
    with with_libraries():
        from limner.adapters.sql import inspect_postgres
    return inspect_postgres.look(parsed).revision is None


def rows(url: str, query: str) -> list[tuple[Any, ...]] | None:
    """The rows of a query; None without a database or its tables, or if it cannot be read without a change."""
    parsed = parse(url)
    if parsed.drivername == "sqlite":
        return inspect_sqlite.rows(Path(parsed.database or ""), query)
    with with_libraries():
        from limner.adapters.sql import inspect_postgres
    return inspect_postgres.rows(parsed, query)


def fact(url: str, name: str) -> str | None:
    """What the database remembers about itself; None if nothing, or if that cannot be read without a change."""
    parsed = parse(url)
    if parsed.drivername == "sqlite":
        return inspect_sqlite.fact(Path(parsed.database or ""), name)
    with with_libraries():
        from limner.adapters.sql import inspect_postgres
    return inspect_postgres.fact(parsed, name)
