"""The transitions and reads on one job store, as the suites call them: each transition in its own transaction.

A new database needs only a function in `MACHINES` to be tested by all suites.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import make_url
from uuid_utils import uuid7

from limner.adapters.sql.events import SqlEvents
from limner.adapters.sql.keys import SqlKeys
from limner.adapters.sql.migrate import migrate
from limner.adapters.sql.opening import WEB_CONNECTIONS, open_stores
from limner.adapters.sql.reader import SqlReader
from limner.adapters.sql.sqlite import SqliteDatabase
from limner.adapters.sql.sqlite_store import SqliteStore
from limner.adapters.sql.webhooks import SqlHookReader
from limner.domain.event import Event
from limner.domain.job import File, Job, Outcome, Role
from limner.jobs import transitions
from limner.jobs.transitions import Decision, Erased, IsIntact, IsStored, Missing, Sent, Submitted
from limner.key_ports import KeyReader
from limner.ports import EventLog, JobReader, JobStore
from limner.webhook_ports import HookReader

DAY = timedelta(days=1)
LEASE = timedelta(minutes=1)
NOTHING = timedelta(0)
FAR = timedelta(days=365)
RESULT = {"faces": [{"score": 0.9}], "image": {"width": 10, "height": 20}}
SUMMARY = {"faces_count": 1}

_numbers = count()


@dataclass
class Machine:
    """A store with its reader and its log. `again` opens the same one as another process would."""

    store: JobStore
    reader: JobReader
    log: EventLog
    keys: KeyReader
    hooks: HookReader
    again: Callable[[], "Machine"]
    held: ExitStack = field(default_factory=ExitStack)
    writers: int = 1
    """Transactions that the stores of one process run at the same time."""

    def close(self) -> None:
        self.held.close()

    # --- transitions, each in its own transaction ---------------------------------------------------------------------

    def try_submit(
        self,
        job: Job,
        *,
        max_queued: int = 1_000_000,
        cache_for: timedelta = DAY,
        is_stored: IsStored = lambda _: True,
        is_intact: IsIntact = lambda _: True,
    ) -> Submitted | Missing:
        return self.store.transact(
            lambda tx: transitions.submit(
                tx, job, max_queued=max_queued, cache_for=cache_for, is_stored=is_stored, is_intact=is_intact
            )
        )

    def submit(self, job: Job, **how: Any) -> Job:
        submitted = self.try_submit(job, **how)
        assert isinstance(submitted, Submitted)
        return submitted.job

    def decide(self, job: Job, **how: Any) -> Decision:
        submitted = self.try_submit(job, **how)
        assert isinstance(submitted, Submitted)
        return submitted.decision

    def try_start(self, job_id: str, *, worker: str = "worker", lease: timedelta = LEASE) -> Job | None:
        return self.store.transact(lambda tx: transitions.start(tx, job_id, worker=worker, lease=lease))

    def start(self, job: Job, **how: Any) -> Job:
        started = self.try_start(job.id, **how)
        assert started is not None
        return started

    def renew(self, job_id: str, attempt: int, lease: timedelta = LEASE) -> bool:
        return self.store.transact(lambda tx: transitions.renew(tx, job_id, attempt, lease=lease))

    def progress(self, job_id: str, attempt: int, fraction: float) -> bool:
        return self.store.transact(lambda tx: transitions.progress(tx, job_id, attempt, fraction))

    def try_finish(self, job: Job, outcome: Outcome, is_stored: IsStored = lambda _: True) -> bool | Missing:
        return self.store.transact(lambda tx: transitions.finish(tx, job, outcome, is_stored=is_stored))

    def finish(self, job: Job, *names: str) -> bool:
        """End the job's attempt in success, with an artifact of each name."""
        ended = self.try_finish(job, success(job, *names))
        assert isinstance(ended, bool)
        return ended

    def fail(self, job: Job, error: dict[str, Any] | None = None) -> bool:
        ended = self.try_finish(job, Outcome(error=error or {"title": "broken"}))
        assert isinstance(ended, bool)
        return ended

    def lose(self, worker: str, reason: Any, *, max_attempts: int = 5) -> list[Sent]:
        return self.store.transact(lambda tx: transitions.lose(tx, worker, reason, max_attempts=max_attempts))

    def expire(self, job_id: str, *, after: timedelta = FAR, max_attempts: int = 5) -> bool:
        now = datetime.now(UTC) + after
        return self.store.transact(lambda tx: transitions.expire(tx, job_id, now=now, max_attempts=max_attempts))

    def cancel(self, job_id: str) -> tuple[Job, Sent | None]:
        return self.store.transact(lambda tx: transitions.cancel(tx, job_id))

    def give_up(self, job: Job, *, before: datetime | None = None) -> bool:
        limit = before or job.created_at + DAY
        return self.store.transact(lambda tx: transitions.give_up(tx, job.id, before=limit))

    def drop_events(self, before: datetime, limit: int = 100, *, after: int = 0) -> int | None:
        return self.store.transact(lambda tx: tx.drop_events(before, limit, after=after))

    def erase(self, job_id: str) -> Erased:
        return self.store.transact(lambda tx: transitions.erase(tx, job_id))

    def adopt(self, job_id: str) -> bool:
        return self.store.transact(lambda tx: transitions.adopt(tx, job_id))

    def claim(self, *sha256s: str) -> list[str]:
        return self.store.transact(lambda tx: transitions.claim_removal(tx, sha256s))

    def done(self, job: Job, *names: str) -> Job:
        """Submit, start and finish."""
        self.submit(job)
        assert self.finish(self.start(job), *names)
        return self.known(job)

    # --- reading -----------------------------------------------------------------------------------------------------

    def known(self, job: Job) -> Job:
        found = self.reader.get(job.id)
        assert found is not None
        return found

    def waiting(self, limit: int) -> list[Sent]:
        return [(each.job_id, each.lane) for each in self.reader.waiting(limit)]

    def events(self, job: Job | None = None) -> list[Event]:
        return self.log.after(0, limit=100_000, job_id=job.id if job else None)

    def told(self, job: Job | None = None) -> list[str]:
        """Types of the events so far, of one job or of all."""
        return [event.type for event in self.events(job)]


def open_sqlite(path: Path, *, durable: bool = False, turn_s: float = 5.0) -> Machine:
    """The machine on a SQLite file with the newest tables."""
    held = ExitStack()
    database = SqliteDatabase(make_url(f"sqlite:///{path}"), durable=durable, turn_s=turn_s)
    held.callback(database.close)
    migrate(database)
    store = SqliteStore(database)
    held.callback(store.close)

    def again() -> Machine:
        other = open_sqlite(path, durable=durable, turn_s=turn_s)
        held.callback(other.close)
        return other

    return Machine(
        store, SqlReader(database), SqlEvents(database), SqlKeys(database), SqlHookReader(database), again, held
    )


def open_postgres(url: str, *, connections: int = WEB_CONNECTIONS) -> Machine:
    """The machine on a PostgreSQL database that has the newest tables."""
    held = ExitStack()
    opened = open_stores(url, durable=True, connections=connections)
    held.callback(opened.close)

    def again() -> Machine:
        other = open_postgres(url)
        held.callback(other.close)
        return other

    hooks = SqlHookReader(opened.database)
    keys = SqlKeys(opened.database)
    return Machine(opened.store, opened.reader, opened.events, keys, hooks, again, held, connections)


MACHINES: dict[str, Callable[[str], Machine]] = {
    "sqlite": lambda url: open_sqlite(Path(url.removeprefix("sqlite:///"))),
    "postgresql": open_postgres,
}


def open_machine(url: str) -> Machine:
    """The machine on the database of a URL."""
    return MACHINES[url.partition(":")[0]](url)


def as_listed(job: Job) -> Job:
    """The job as a list has it."""
    return replace(job, params={}, result=None)


def unsent(job: Job) -> Job:
    """The job as it was before its submission, which noted when it was sent."""
    assert job.sent_at is not None
    return replace(job, sent_at=None)


def new_job(key: str | None = None, *, picture: str | None = None, **changes: Any) -> Job:
    """A job before its submission; jobs with the same `key` have the same work, without it the work is unique."""
    number = next(_numbers)
    job_id = str(uuid7())
    job = Job(
        id=job_id,
        operation="detect",
        lane="cpu",
        params={"min_score": 0.5, "image": {"sha256": "ü", "n": [1, 2.5, None, True]}},
        cache_key=key or f"work {number}",
        created_at=datetime.now(UTC),
        files=(file_of(job_id, Role.INPUT, "image", picture or f"input {number}"),),
    )
    return replace(job, **changes)


def file_of(job_id: str, role: Role, name: str, sha256: str, size: int = 123) -> File:
    media_type = "image/png" if role is Role.INPUT else "image/jpeg"
    return File(str(uuid7()), job_id, role, name, sha256, media_type, size=size, width=10, height=20)


def success(job: Job, *names: str) -> Outcome:
    """A success with an artifact of each name."""
    made = tuple(file_of(job.id, Role.ARTIFACT, name, f"sha of {name}") for name in names)
    return Outcome(result=RESULT, summary=SUMMARY, artifacts=made)


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """The results of calls that are made at the same moment, each in its own thread."""
    barrier = threading.Barrier(len(calls))

    def wait_and(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(wait_and, calls))
