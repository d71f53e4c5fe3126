"""`key_ports.KeyReader` in SQL."""

from sqlalchemy import bindparam, or_, select

from limner.adapters.sql.database import Database
from limner.adapters.sql.schema import keys
from limner.adapters.sql.statement import Statement
from limner.adapters.sql.transaction import KEY_FIELDS, columns
from limner.domain.key import Key

_KEYS = select(*columns(keys, KEY_FIELDS))
_BY_HASH = Statement(_KEYS.where(or_(keys.c.hash == bindparam("hash"), keys.c.old_hash == bindparam("hash"))))
_BY_ID = Statement(_KEYS.where(keys.c.id == bindparam("id")))
_ALL = Statement(_KEYS.order_by(keys.c.id))


class SqlKeys:
    """`key_ports.KeyReader`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_hash(self, sha256: str) -> Key | None:
        """See `key_ports.KeyReader.by_hash`."""
        with self._database.reading() as db:
            row = _BY_HASH.row(db, hash=sha256)
        return Key(*row) if row is not None else None

    def by_id(self, key_id: str) -> Key | None:
        """See `key_ports.KeyReader.by_id`."""
        with self._database.reading() as db:
            row = _BY_ID.row(db, id=key_id)
        return Key(*row) if row is not None else None

    def all(self) -> list[Key]:
        """See `key_ports.KeyReader.all`."""
        with self._database.reading() as db:
            return [Key(*row) for row in _ALL.rows(db)]
