"""`ports.Traces` in SQL."""

from sqlalchemy import bindparam, func, select

from limner.adapters.sql.database import Database
from limner.adapters.sql.schema import files
from limner.adapters.sql.statement import Statement

_FILES_OF = Statement(select(func.count()).select_from(files).where(files.c.job_id == bindparam("job_id")))
_NAMING = Statement(
    select(func.count())
    .select_from(files)
    .where(files.c.sha256 == bindparam("sha256"), files.c.job_id != bindparam("besides"))
)


class SqlTraces:
    """`ports.Traces`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def files_of(self, job_id: str) -> int:
        """See `ports.Traces.files_of`."""
        with self._database.reading() as db:
            return int(_FILES_OF.value(db, job_id=job_id))

    def naming(self, sha256: str, *, besides: str) -> int:
        """See `ports.Traces.naming`."""
        with self._database.reading() as db:
            return int(_NAMING.value(db, sha256=sha256, besides=besides))
