"""`ports.JobStore` on PostgreSQL: transactions at READ COMMITTED, which lock what they decide about."""

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

import psycopg
from sqlalchemy import BigInteger, bindparam, func, insert, select, text, update

from limner.adapters.sql.outbox import NUMBER
from limner.adapters.sql.postgres import PostgresDatabase, lock_key
from limner.adapters.sql.schema import outbox
from limner.adapters.sql.statement import Driver, Statement
from limner.adapters.sql.transaction import EVENT_FIELDS, SqlTransaction
from limner.ports import Transaction

T = TypeVar("T")

log = logging.getLogger(__name__)

AGAIN_S = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Pauses before a transaction that was chosen as the victim of a deadlock runs again."""
LEADER_IDLE_S = 600

_LOCK = Statement(text("SELECT pg_advisory_xact_lock(k) FROM unnest(CAST(:keys AS bigint[])) k"))
_LOCK_SHARED = Statement(text("SELECT pg_advisory_xact_lock_shared(k) FROM unnest(CAST(:keys AS bigint[])) k"))
_LEAD = Statement(select(func.pg_try_advisory_xact_lock(bindparam("key", type_=BigInteger))))
_ADD_EVENT = Statement(insert(outbox), EVENT_FIELDS)
_EMPTY_OUTBOX = Statement(update(outbox).where(outbox.c.job_id == bindparam("of_job")).values(content=None))


class PostgresTransaction(SqlTransaction):
    """`ports.Transaction` at READ COMMITTED: each statement sees what others have committed before it."""

    _add_event = _ADD_EVENT

    def __init__(self, db: Driver, began: datetime) -> None:
        """`began`: the server's time now."""
        super().__init__(db)
        self._began = began
        self._since = time.monotonic()

    def now(self) -> datetime:
        """See `ports.Transaction.now`. The server's clock, since those of several machines may differ."""
        return self._began + timedelta(seconds=time.monotonic() - self._since)

    def lock(self, names: Collection[str], *, shared: bool = False) -> None:
        """See `ports.Transaction.lock`. Sorted, so that two transactions wait for each other only in one direction."""
        if names:
            keys = sorted({lock_key(name) for name in names})
            (_LOCK_SHARED if shared else _LOCK).run(self._db, keys=keys)

    def drop_events(self, before: datetime, limit: int, *, after: int = 0) -> int | None:
        """See `ports.Transaction.drop_events`. Events that nobody has read are numbered first."""
        self._db.connection.execute(NUMBER, prepare=False)
        return super().drop_events(before, limit, after=after)

    def _empty_events(self, job_id: str) -> int:
        # The outbox first: if a reader is moving one of the events, this waits until it is in `events`.
        waiting = _EMPTY_OUTBOX.run(self._db, of_job=job_id)
        return waiting + super()._empty_events(job_id)


class PostgresStore:
    """`ports.JobStore`."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """See `ports.JobStore.transact`. After a deadlock, `work` runs again in a new transaction."""
        with self._database.errors_as_unavailable():
            for pause_s in AGAIN_S:
                try:
                    return self._once(work)
                except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                    time.sleep(pause_s * (1 + random.random()))  # noqa: S311  # so that the two do not meet again
            return self._once(work)

    def _once(self, work: Callable[[Transaction], T]) -> T:
        with self._database.writing() as (db, began):
            return work(PostgresTransaction(db, began))

    @contextmanager
    def leading(self, name: str) -> Iterator[bool]:
        """See `ports.JobStore.leading`. The lock ends with its transaction, whatever becomes of this process."""
        begin = f"{self._database.begin_writing}; SET LOCAL idle_in_transaction_session_timeout = '{LEADER_IDLE_S}s'"
        held = ExitStack()
        try:
            with self._database.errors_as_unavailable():
                db = held.enter_context(self._database.transaction(begin))
                leads = bool(_LEAD.value(db, key=lock_key(f"leader {name}")))
            if not leads:
                held.close()
            yield leads
        finally:
            try:
                held.close()
            except psycopg.Error:
                log.warning("the lock was lost before its work was done", extra={"lock": name})

    def scrub(self) -> bool:
        """See `ports.JobStore.scrub`. Erased rows leave PostgreSQL's files by its own vacuum."""
        return True

    def close(self) -> None:
        """See `ports.JobStore.close`. The database closes its connections."""
