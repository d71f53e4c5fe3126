"""What the jobs need of the world: a store of jobs, the log of their events, a store of bytes, an engine and a bus.

Each method's contract stands in its docstring; `tests/contract/` holds every adapter to it. All are synchronous, safe
to call from any thread, and know nothing of the web, of pictures or of operations.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from limner.domain.blob import BlobState
from limner.domain.event import Event, EventType
from limner.domain.job import File, Job, Status

T = TypeVar("T")

LossReason = Literal["died", "timeout", "stopped"]


@dataclass(frozen=True, slots=True)
class Known:
    """What a store knows of a submission: the job of its idempotency key, a cached result, the same work in flight."""

    repeat_id: str | None
    cached_id: str | None
    leader_id: str | None
    full: bool


class Transaction(Protocol):
    """What one transaction reads and writes. `jobs/transitions.py` decides; this only says what took effect.

    A transaction is atomic, sees its own writes, and two that have locked the same name come one after the other.
    """

    def lock(self, names: Collection[str], *, shared: bool = False) -> None:
        """Wait until no other transaction holds any of the names; `shared` ones do not exclude each other.

        A store with a single writer at a time need not do anything.
        """
        ...

    def job(self, job_id: str) -> Job | None:
        """The job with all its files."""
        ...

    def known(self, job: Job, *, computed_since: datetime, max_queued: int) -> Known:
        """What there is already for the job's idempotency key and cache key, and whether `max_queued` jobs wait."""
        ...

    def followers(self, leader_id: str) -> list[Job]:
        """The queued jobs that wait behind a leader, oldest first."""
        ...

    def running_on(self, worker: str) -> list[Job]:
        """The running jobs of a worker."""
        ...

    def insert(self, job: Job) -> bool:
        """Add the job with its files. False, and nothing written, if its id or idempotency key is there already."""
        ...

    def change(self, job: Job, *, same_lease: bool = False, **values: Any) -> Job | None:
        """Give fields of the job new values, if status, attempt and leader are still those of `job`; else None.

        With `same_lease` its lease must be the same too: nobody has renewed it.
        """
        ...

    def add_artifacts(self, job: Job, files: Collection[File]) -> None:
        """Add files that the job made, behind those it has."""
        ...

    def remove(self, job: Job) -> None:
        """Remove the job, its files and the contents of its events."""
        ...

    def log(self, job: Job, kind: EventType | None = None) -> None:
        """Add an event that tells of the job as it stands; without `kind`, of its entering its status."""
        ...

    def drop_events(self, before: datetime, limit: int) -> int:
        """Remove those of the oldest `limit` events that are older than a moment; how many there were."""
        ...

    def blob_state(self, sha256: str) -> BlobState | None:
        """The state of a blob's row; None if it has none."""
        ...

    def set_blob(self, sha256: str, state: BlobState, *, size: int, now: datetime) -> None:
        """Give a blob's row a state, or add the row. Nothing happens if it has that state already."""
        ...

    def mark_unnamed(self, sha256s: Collection[str], now: datetime) -> list[str]:
        """Kept → marked for those of these blobs that no file names; which they were."""
        ...

    def drop_blob(self, sha256: str) -> bool:
        """Remove the row of a blob that is `removing`. False if there is none."""
        ...

    def fold_totals(self) -> None:
        """Add up the changes of the totals, so that reading them stays quick."""
        ...

    def ping(self) -> None:
        """Write something. Raises where that is not possible."""
        ...


class JobStore(Protocol):
    """Changes jobs. Every change of a job's state writes its event in the same transaction."""

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction, commit, and give back what it gave back; if it raises, nothing is written.

        When this returns, what was written survives a power cut (unless durability is relaxed). Several threads may
        share one commit. UnavailableError when the database cannot be used.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class JobReader(Protocol):
    """Reads jobs. Every method raises UnavailableError when the database cannot be used."""

    def get(self, job_id: str) -> Job | None:
        """The job with all its files."""
        ...

    def page(
        self, *, operation: str | None = None, status: Status | None = None, before: str | None = None, limit: int = 50
    ) -> list[Job]:
        """Newest first, those with an id below `before`."""
        ...

    def file(self, file_id: str) -> File | None:
        """A file by its own id."""
        ...

    def artifact(self, job_id: str, name: str) -> File | None:
        """A job's artifact by its name."""
        ...

    def is_current(self, job_id: str, attempt: int) -> bool:
        """Whether this attempt still counts: the job is there, running, and nobody overtook it."""
        ...

    def is_running_on(self, worker: str) -> bool:
        """Whether any running job is this worker's."""
        ...

    def similar(self, similarity_key: str, *, computed_since: datetime, limit: int) -> list[tuple[str, str]]:
        """(id, perceptual hash) of the succeeded jobs with this similarity key, newest first."""
        ...

    def waiting(self, limit: int) -> list[tuple[str, str]]:
        """(id, lane) of the queued jobs that have no leader, oldest first."""
        ...

    def overdue(self, now: datetime, limit: int) -> list[str]:
        """Ids of running jobs whose lease ended before `now`."""
        ...

    def stranded(self, limit: int) -> list[str]:
        """Ids of queued jobs whose leader is not there or has ended: nothing will answer them."""
        ...

    def outdated(self, before: datetime, limit: int) -> list[str]:
        """Ids of finished jobs created before a moment, oldest first."""
        ...

    def count(self, status: Status) -> int:
        """How many jobs have a status. For the open ones, of which there are few: it looks at each."""
        ...

    def blobs_in(self, state: BlobState, before: datetime, limit: int) -> list[str]:
        """SHA-256s of blobs that came into a state before a moment."""
        ...

    def without_row(self, sha256s: Collection[str]) -> list[str]:
        """Those of these blobs that have no row."""
        ...

    def totals(self) -> tuple[int, int]:
        """(results that were worked out here and are still stored, bytes of all blobs that jobs name)."""
        ...


class EventLog(Protocol):
    """The log of events. Ids rise in the order of commits: a reader that goes on from the last one never skips any."""

    def after(
        self, event_id: int, *, limit: int, job_id: str | None = None, operation: str | None = None
    ) -> list[Event]:
        """Events with an id above `event_id`, in order of id."""
        ...

    def last_id(self) -> int:
        """The highest id given so far, 0 if none. Ids of events that were dropped are not given again."""
        ...


class BlobStore(Protocol):
    """Bytes under their SHA-256 (lower-case hex)."""

    def put(self, data: bytes, *, sha256: str | None = None) -> str:
        """Store and return the SHA-256. When it returns the bytes survive a power cut (unless durability is relaxed).

        Storing what is there already writes nothing. `sha256` is theirs, if the caller has worked it out already.
        """
        ...

    def get(self, sha256: str) -> bytes:
        """The bytes. NotFoundError."""
        ...

    def has(self, sha256: str) -> bool:
        """Whether it is there."""
        ...

    def delete(self, sha256: str) -> None:
        """Remove; nothing happens if it is not there."""
        ...

    def local_path(self, sha256: str) -> Path | None:
        """A file that can be sent as it is, if this store keeps one. NotFoundError."""
        ...

    def written(self, *, before: datetime, since: datetime | None = None) -> Iterator[str]:
        """SHA-256s written before a moment, and not before `since`, in no order."""
        ...

    def ping(self) -> None:
        """UnavailableError if nothing can be written."""
        ...


class Engine(Protocol):
    """Carries job ids to workers, which run them."""

    def send(self, job_id: str, lane: str) -> None:
        """Have the job run soon. May drop it when full: the sweep sends again what waits. Twice does no harm."""
        ...

    def start(self) -> None:
        """Begin to work."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Take nothing new, let what runs end for at most `timeout_s`, hand back what does not."""
        ...


class Overseer(Protocol):
    """What an engine that supervises workers tells of them, and asks, from one thread. UnavailableError: ask again."""

    def lost(self, worker: str, reason: LossReason) -> Iterable[tuple[str, str]]:
        """The worker is gone: its running job goes back into the queue or ends. (id, lane) of what to send again.

        What it had handed to a worker that died, the engine sends again in any case: the job may not have been started.
        """
        ...

    def wanted(self, worker: str) -> bool:
        """Whether the job that this worker runs still counts."""
        ...


class Bus(Protocol):
    """Wakes those who read the event log. A wake-up may be lost or come twice: the rows are the truth."""

    def wake(self) -> None:
        """There may be new events."""
        ...

    def subscribe(self, on_wake: Callable[[], None]) -> Callable[[], None]:
        """Have `on_wake` called, from any thread, at each wake-up; it must return at once. Returns the unsubscriber."""
        ...
