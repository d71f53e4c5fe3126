"""Brings the tables up to date. Several processes may do so at once: one migrates, the others wait for it."""

import logging
from pathlib import Path

from sqlalchemy import Connection

from limner.adapters.sql.database import Database
from limner.domain.errors import SettingsError

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent.parent.parent / "migrations"


def head_revision() -> str:
    """The name of the newest migration."""
    from alembic.script import ScriptDirectory  # only a database that is not up to date needs it

    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head is not None
    return head


def migrate(database: Database) -> str | None:
    """Migrate the tables to the newest revision. Returns what was done, None if they were up to date.

    SettingsError for a database that cannot be reached or is none, is damaged (as far as can be seen quickly), cannot
    be written, or belongs to a newer version of the service.
    """
    database.prepare()
    head = head_revision()
    if database.revision() == head:
        return None
    with database.migrating() as connection:
        before = database.revision()
        if before == head:  # another process has done it meanwhile
            return None
        _upgrade(connection)
    return f"{before or 'no tables'} → {head}"


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    # Alembic reads the value as a template, so a per cent sign in the path must be escaped.
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise SettingsError(
            f"LIMNER_DATABASE_URL is of another version of Limner ({error}). Start the newest version that "
            "has used it, or restore a backup from before."
        ) from None
