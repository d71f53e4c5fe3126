"""The interfaces that `jobs/` needs: job store, job reader, event log, engine, overseer and bus.

Docstrings are the contracts; `tests/contract/` tests every adapter against them. All methods are synchronous and may
be called from any thread. Nothing here knows the web, pictures or operations.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol, TypeVar

from limner.domain.blob import BlobState
from limner.domain.event import Event, EventType
from limner.domain.job import File, Job, Status
from limner.domain.key import Key
from limner.webhook_ports import HookRows

T = TypeVar("T")

LossReason = Literal["died", "timeout", "stopped"]


@dataclass(frozen=True, slots=True)
class Known:
    """What the store has for a submission: ids of the job with its idempotency key, of a cached result and of a job
    that is doing the same work, and whether the queue is full."""

    repeat_id: str | None
    cached_id: str | None
    leader_id: str | None
    full: bool


@dataclass(frozen=True, slots=True)
class Removed:
    """How many rows an erasure removed, and of how many events it removed the contents."""

    jobs: int
    files: int
    events_emptied: int
    webhooks: int
    deliveries: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued job, and when its id was last passed to an engine that may lose it."""

    job_id: str
    lane: str
    sent_at: datetime | None


class Transaction(Protocol):
    """What one transaction reads and writes. `jobs/transitions.py` decides; this only reports what took effect.

    A transaction is atomic and sees its own writes. Two transactions that lock the same name run one after the other.
    """

    def lock(self, names: Collection[str], *, shared: bool = False) -> None:
        """Lock these names until the transaction ends. `shared` locks do not exclude each other.

        A store that allows only one writing transaction at a time need not do anything.
        """
        ...

    @property
    def hooks(self) -> HookRows:
        """Rows of webhooks, in the same transaction."""
        ...

    def job(self, job_id: str) -> Job | None:
        """The job with all its files."""
        ...

    def known(self, job: Job, *, computed_since: datetime, max_queued: int) -> Known:
        """Jobs with the job's idempotency key or cache key, and whether `max_queued` jobs are queued in its lane.

        A result counts as cached if it was computed at or after `computed_since`.
        """
        ...

    def followers(self, leader_id: str) -> list[Job]:
        """The queued jobs that wait behind a leader, oldest first."""
        ...

    def running_on(self, worker: str) -> list[Job]:
        """The jobs that this worker is running."""
        ...

    def insert(self, job: Job) -> bool:
        """Add the job with its files. If its id or idempotency key exists already, write nothing and return False."""
        ...

    def change(self, job: Job, *, same_lease: bool = False, **values: Any) -> Job | None:
        """Set fields of the job and return it, if status, attempt and leader are still those of `job`; else None.

        With `same_lease`, `lease_until` must be unchanged too, so that a renewed lease prevents the change.
        """
        ...

    def add_files(self, job: Job, files: Collection[File]) -> None:
        """Append files that the job produced to its list of files."""
        ...

    def drop_file(self, file: File) -> bool:
        """Remove one file of a job. False if there is no such file."""
        ...

    def remove(self, job: Job) -> Removed:
        """Remove the job, its files, its webhooks and their deliveries, and clear the contents of its events."""
        ...

    def log(self, job: Job, kind: EventType | None = None) -> None:
        """Add an event with the job's present state. Without `kind`, the type is that of entering its status."""
        ...

    def drop_events(self, before: datetime, limit: int, *, after: int = 0) -> int | None:
        """Remove events older than `before`, at most `limit`, of those with ids above `after`, in their order.

        Returns the id up to which all were looked at, for the next call; None at the end. Events with a later time may
        come before them: the clock was wrong.
        """
        ...

    def blob_state(self, sha256: str) -> BlobState | None:
        """The state of a blob's row, None without a row."""
        ...

    def set_blob(self, sha256: str, state: BlobState, *, size: int, now: datetime) -> None:
        """Set the state of a blob's row, or add the row. Does nothing if the row has that state already."""
        ...

    def mark_unnamed(self, sha256s: Collection[str], now: datetime) -> list[str]:
        """Change kept → marked for those of these blobs that no file refers to. Returns the ones that changed."""
        ...

    def drop_blob(self, sha256: str) -> bool:
        """Remove the row of a blob in state `removing`. False if there is no such row."""
        ...

    def mark_sent(self, job_ids: Collection[str], now: datetime) -> None:
        """Set `sent_at` of those of these jobs that are queued."""
        ...

    def fold_totals(self) -> None:
        """Combine the recorded changes of each total into one row, so that reading the totals stays fast."""
        ...

    def fact(self, name: str) -> str | None:
        """What is remembered about the store itself under a name of up to 32 characters."""
        ...

    def set_fact(self, name: str, value: str) -> None:
        """Remember up to 255 characters under a name."""
        ...

    def add_key(self, key: Key) -> None:
        """Add an API key."""
        ...

    def change_key(self, key_id: str, **values: Any) -> bool:
        """Set fields of a key. False if there is no such key."""
        ...

    def now(self) -> datetime:
        """The time by the one clock that all processes compare leases with, whatever their own clocks say."""
        ...

    def ping(self) -> None:
        """Write something, to test whether that is possible. Raises if it is not."""
        ...


class JobStore(Protocol):
    """Changes jobs. Every change of a job's state writes its event in the same transaction."""

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction, commit, and return its result. If it raises, nothing is written.

        When this returns, the changes survive a power cut (unless durability is relaxed). Transactions of several
        threads may share one commit. `work` may run again after a conflict with another transaction, of which nothing
        is written. UnavailableError when the database cannot be used.
        """
        ...

    def leading(self, name: str) -> AbstractContextManager[bool]:
        """Whether this process may do what one process at a time should do; no other may, until the context ends.

        It may end early, if the database loses the connection, so what is done must be safe if two do it.
        """
        ...

    def scrub(self) -> bool:
        """Overwrite what is left of removed jobs in the store's files. False if that has to wait: call it again.

        It takes as long as a few transactions, and no time where nothing was removed since the last time.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """The unfinished jobs of a lane, and when the oldest queued one was submitted."""

    lane: str
    queued: int = 0
    running: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; None: whatever they have.

    `label` is a part of the label, whose capital letters make no difference; it is searched in the newest 100,000
    labelled jobs that the owner and the times leave. `since` and `until` bound `created_at`: at or after, and before.
    They find jobs whose ids were made at most an hour before `created_at`, as all are unless a clock was set back.
    """

    operation: str | None = None
    status: Status | None = None
    key_id: str | None = None
    """The owner."""
    label: str | None = None
    since: datetime | None = None
    until: datetime | None = None


ANY_JOB = JobFilter()


class JobReader(Protocol):
    """Reads jobs. Every method raises UnavailableError when the database cannot be used."""

    def get(self, job_id: str) -> Job | None:
        """The job with all its files."""
        ...

    def page(self, wanted: JobFilter = ANY_JOB, *, before: str | None = None, limit: int = 50) -> list[Job]:
        """Jobs, newest first, whose id is below `before`.

        Their `params` are empty and their `result` is None, because no list shows them.
        """
        ...

    def numbered_page(self, operation: str, *, key_id: str | None = None, skip: int, limit: int) -> list[Job]:
        """The same for an operation, without its newest `skip` jobs, at most 201. The time grows with `skip`."""
        ...

    def count_of(self, operation: str, *, key_id: str | None = None, limit: int) -> int:
        """How many jobs of an operation there are, counted up to `limit`; with `key_id`, only those of this owner."""
        ...

    def file(self, file_id: str, *, key_id: str | None = None) -> File | None:
        """A file by its own id; with `key_id`, only if its job has this owner."""
        ...

    def artifact(self, job_id: str, name: str, *, key_id: str | None = None) -> File | None:
        """A job's artifact by its name; with `key_id`, only if the job has this owner."""
        ...

    def is_current(self, job_id: str, attempt: int) -> bool:
        """Whether this is still the current attempt: the job exists, is running and has this attempt number."""
        ...

    def is_running_on(self, worker: str) -> bool:
        """Whether the worker is running any job."""
        ...

    def similar(self, similarity_key: str, *, computed_since: datetime, limit: int) -> list[tuple[str, str]]:
        """(id, perceptual hash) of the succeeded jobs with this similarity key, newest first."""
        ...

    def waiting(self, limit: int) -> list[Waiting]:
        """The queued jobs that have no leader, oldest first."""
        ...

    def ahead(self, job_id: str, lane: str, *, limit: int) -> tuple[int, int]:
        """How many jobs of the lane are started before a queued job (counted up to `limit`), and how many are running.

        Jobs that wait for a leader's result do not count.
        """
        ...

    def recent_runs(self, limit: int) -> list[tuple[str, float]]:
        """(lane, seconds) of the runs among the `limit` newest succeeded jobs. Answers from the cache are no runs."""
        ...

    def overdue(self, now: datetime, limit: int) -> list[str]:
        """Ids of running jobs whose lease ended before `now`."""
        ...

    def stranded(self, limit: int) -> list[str]:
        """Ids of queued jobs whose leader does not exist or has ended, so that no result will come."""
        ...

    def outdated(self, before: datetime, limit: int) -> list[str]:
        """Ids of finished jobs created before `before`, oldest first."""
        ...

    def stale(self, before: datetime, limit: int) -> list[str]:
        """Ids of queued jobs created before `before`."""
        ...

    def count(self, status: Status) -> int:
        """How many jobs have a status. Use it for queued and running only: it reads an index entry for each job."""
        ...

    def is_full(self, lane: str, max_queued: int) -> bool:
        """Whether at least that many jobs are queued in the lane."""
        ...

    def lanes(self) -> list[LaneLoad]:
        """The lanes that have queued or running jobs. It reads each of these."""
        ...

    def blobs_in(self, state: BlobState, before: datetime, limit: int) -> list[str]:
        """SHA-256s of blobs that entered this state before `before`."""
        ...

    def without_row(self, sha256s: Collection[str]) -> list[str]:
        """Those of these blobs that have no row."""
        ...

    def totals(self) -> tuple[int, int]:
        """(stored results that were computed, not taken from the cache; bytes of all blobs that jobs refer to)."""
        ...


class Traces(Protocol):
    """Rows that an erasure must not leave. UnavailableError when the database cannot be used."""

    def files_of(self, job_id: str) -> int:
        """How many files a job has, whether or not the job exists."""
        ...

    def naming(self, sha256: str, *, besides: str) -> int:
        """How many files of other jobs than `besides` refer to a blob."""
        ...


class EventLog(Protocol):
    """The log of events. Ids rise in the order of commits, so a reader that continues from the last id misses none."""

    def after(
        self,
        event_id: int,
        *,
        limit: int,
        job_id: str | None = None,
        operation: str | None = None,
        key_id: str | None = None,
    ) -> list[Event]:
        """Events with an id above `event_id`, in order of id; with `key_id`, only those of this owner's jobs."""
        ...

    def last_id(self) -> int:
        """The highest id assigned so far, 0 if none. Ids of removed events are never reused."""
        ...


class Engine(Protocol):
    """Passes job ids to workers, which run the jobs."""

    def send(self, job_id: str, lane: str) -> None:
        """Have the job run soon. A full engine may drop the id, because the sweep sends waiting jobs again. Sending
        an id twice is harmless. It returns at once, whatever the state of the engine."""
        ...

    def resend(self, waiting: Sequence[Waiting], now: datetime) -> list[str]:
        """Have these jobs run, of which some are on their way already; called by each sweep. It may take seconds.

        Returns the ids for which the store must remember that they were sent now.
        """
        ...

    def start(self) -> None:
        """Start the workers."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Start no further job, give running jobs `timeout_s` to finish, and requeue those that have not."""
        ...


class Overseer(Protocol):
    """What an engine with supervised workers reports and asks, always from the same thread.

    UnavailableError means that the database could not be used: call again later.
    """

    def lost(self, worker: str, reason: LossReason) -> Iterable[tuple[str, str]]:
        """The worker has ended: requeue or end its running job. Returns (id, lane) of the jobs to send again.

        The engine itself sends the job again that it had passed to a dead worker, as it may not have been started.
        """
        ...

    def wanted(self, worker: str) -> bool:
        """Whether the job that this worker runs must go on: it was not cancelled, erased or overtaken."""
        ...


class Bus(Protocol):
    """Wakes the readers of the event log. Wake-ups may be lost or repeated; readers rely on the rows alone."""

    def wake(self) -> None:
        """Tell the listeners that there may be new events."""
        ...

    def subscribe(self, on_wake: Callable[[], None]) -> Callable[[], None]:
        """Call `on_wake` at each wake-up, from any thread; it must return at once. Returns the unsubscribe function."""
        ...
