"""`ports.EventLog` in SQL. PostgreSQL numbers events in `outbox.py` before they are read."""

from functools import cache

from sqlalchemy import bindparam, select

from limner.adapters.sql.database import Database
from limner.adapters.sql.schema import events
from limner.adapters.sql.statement import Driver, Statement
from limner.domain.event import Event

# The sequence, not max(id), because it also counts removed events.
_LAST_ID = "SELECT seq FROM sqlite_sequence WHERE name = 'events'"


@cache
def _after(of_job: bool, of_operation: bool, of_owner: bool) -> Statement:
    query = select(events).where(events.c.id > bindparam("after")).order_by(events.c.id).limit(bindparam("most"))
    if of_job:
        query = query.where(events.c.job_id == bindparam("job_id"))
    if of_owner:
        # The literal condition of the partial index. For a job, its own index must be used.
        owner = events.c.key_id.concat("") if of_job else events.c.key_id
        query = query.where(owner == bindparam("key_id"), events.c.key_id.is_not(None))
    if of_operation:
        # A job or an owner has few events, an operation many: the database must not use the operation's index.
        name = events.c.operation.concat("") if of_job or of_owner else events.c.operation
        query = query.where(name == bindparam("operation"))
    return Statement(query)


class SqlEvents:
    """`ports.EventLog`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(
        self,
        event_id: int,
        *,
        limit: int,
        job_id: str | None = None,
        operation: str | None = None,
        key_id: str | None = None,
    ) -> list[Event]:
        """See `ports.EventLog.after`."""
        self._number()
        query = _after(job_id is not None, operation is not None, key_id is not None)
        with self._database.reading() as db:
            rows = query.rows(db, after=event_id, most=limit, job_id=job_id, operation=operation, key_id=key_id)
            return [Event(*row) for row in rows]

    def last_id(self) -> int:
        """See `ports.EventLog.last_id`."""
        self._number()
        with self._database.reading() as db:
            return self._last_id(db)

    def _number(self) -> None:
        """Give an id to each committed event that has none yet. SQLite's have theirs from the start."""

    def _last_id(self, db: Driver) -> int:
        row = db.connection.execute(_LAST_ID).fetchone()
        return int(row[0]) if row else 0
