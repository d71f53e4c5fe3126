"""`ports.EventLog` on PostgreSQL: writers put events into `outbox`; readers number those that are committed.

A number that a writer drew would not do: transactions commit in another order than they draw numbers, so a reader that
continues after the highest number would miss events. Readers number only what is committed, one reader at a time.
"""

from limner.adapters.sql.events import SqlEvents
from limner.adapters.sql.postgres import PostgresDatabase
from limner.adapters.sql.statement import Driver

# Each statement sees what is committed before it, so the second one sees what the last holder of the lock has moved.
# 4712: a number that no other lock of Limner has.
NUMBER = """
SELECT pg_advisory_xact_lock(4712);
WITH due AS (DELETE FROM outbox WHERE n IN (SELECT n FROM outbox ORDER BY n LIMIT 500) RETURNING *)
INSERT INTO events (id, type, time, job_id, operation, content, key_id)
SELECT nextval('events_id_seq'), type, time, job_id, operation, content, key_id
FROM (SELECT * FROM due ORDER BY n OFFSET 0) in_order
"""
BATCH = 500
_ANY = "SELECT 1 FROM outbox LIMIT 1"
_LAST_ID = "SELECT last_value, is_called FROM events_id_seq"


class PostgresEvents(SqlEvents):
    """`ports.EventLog`."""

    def __init__(self, database: PostgresDatabase) -> None:
        super().__init__(database)
        self._postgres = database

    def _number(self) -> None:
        """Number the committed events. The lock is taken only if there are some.

        While another reader moves them, they still seem to be in the outbox, so this waits for it.
        """
        with self._postgres.errors_as_unavailable():
            while self._postgres.at_once(_ANY) and self._postgres.at_once(NUMBER) == BATCH:
                pass

    def _last_id(self, db: Driver) -> int:
        last, is_called = db.connection.execute(_LAST_ID).fetchone()
        return int(last) if is_called else 0
