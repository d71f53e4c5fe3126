"""`ports.JobStore` on SQLite: transactions of several threads share one commit.

A commit waits for the disk, while the statements of a transaction are fast. So one thread takes the lock to write, runs
the transactions of all waiting threads, and commits them together.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from sqlalchemy.pool import PoolProxiedConnection

from limner.adapters.sql.sqlite import SqliteDatabase, empty_log
from limner.adapters.sql.statement import Driver
from limner.adapters.sql.transaction import SqlTransaction
from limner.ports import Transaction
from limner.tracing import in_context

T = TypeVar("T")

TOGETHER = 32  # largest number of transactions in one commit, because none of them is answered before it


@dataclass
class _Request:
    """A transaction that waits to be run, and its result or error."""

    work: Callable[[Transaction], Any]
    answer: Any = None
    error: BaseException | None = None
    done: bool = False
    woken: threading.Event = field(default_factory=threading.Event)


class SqliteStore:
    """`ports.JobStore`. A transaction is SQLite's only writer from its begin, so what it reads cannot change."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: deque[_Request] = deque()
        self._busy = False
        self._held: PoolProxiedConnection | None = None
        self._unscrubbed = True  # an earlier process may have left something
        self._scrubbing = False

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """See `ports.JobStore.transact`."""
        request = _Request(in_context(work))
        with self._lock:
            self._waiting.append(request)
            leads, self._busy = not self._busy, True
        if not leads:
            request.woken.wait()
        if not request.done:
            self._lead()
        if request.error is not None:
            raise request.error
        return cast("T", request.answer)

    def scrub(self) -> bool:
        """See `ports.JobStore.scrub`."""
        if self._unscrubbed:
            self._scrubbing = True
            self.transact(lambda _: None)
        return not self._unscrubbed

    @contextmanager
    def leading(self, name: str) -> Iterator[bool]:
        """See `ports.JobStore.leading`. One web process owns a SQLite database."""
        del name
        yield True

    def close(self) -> None:
        """See `ports.JobStore.close`."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def _lead(self) -> None:
        """Run the waiting requests, including the caller's own; then wake a thread that leads the next group."""
        with self._lock:
            together = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
        try:
            with self._database.errors_as_unavailable(), self._database.turn():
                self._run(together)
        except BaseException as error:  # noqa: BLE001  # raised again in the thread of each request
            for request in together:
                request.error = request.error or error
        finally:
            with self._lock:
                following = self._waiting[0] if self._waiting else None
                self._busy = following is not None
            for request in together:
                request.done = True
                request.woken.set()
            if following is not None:
                following.woken.set()

    def _run(self, together: list[_Request]) -> None:
        db = self._driver()
        try:
            db.connection.execute("BEGIN IMMEDIATE")
            for request in together:
                self._run_one(db, request, alone=len(together) == 1)
            db.connection.execute("COMMIT")
            if self._scrubbing:
                self._scrubbing = False
                self._unscrubbed = not empty_log(db)
        except BaseException:
            self._discard()
            raise

    def _run_one(self, db: Driver, request: _Request, *, alone: bool) -> None:
        tx = SqlTransaction(db)
        if alone:
            request.answer = request.work(tx)
            self._unscrubbed |= tx.removed
            return
        db.connection.execute("SAVEPOINT one")
        try:
            with self._database.errors_as_unavailable():
                request.answer = request.work(tx)
                self._unscrubbed |= tx.removed
        except Exception as error:  # raised again in the thread of the request
            if not db.connection.in_transaction:  # the database has rolled back the whole transaction
                raise
            db.connection.execute("ROLLBACK TO one")
            request.error = error
        db.connection.execute("RELEASE one")

    def _driver(self) -> Driver:
        if self._held is None:
            self._held = self._database.engine.raw_connection()
        return self._database.driver(self._held)

    def _discard(self) -> None:
        """Roll back. If that fails, close the connection."""
        held = self._held
        if held is None:
            return
        try:
            connection: Any = held.dbapi_connection
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001  # after any error, a new connection is opened
            held.invalidate()
            self._held = None
