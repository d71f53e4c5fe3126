"""What the jobs need of the world: a store of jobs, a store of bytes, an engine and a bus.

Each method's contract stands in its docstring; `tests/contract/` holds every adapter to it. All are synchronous, safe
to call from any thread, and know nothing of the web, of pictures or of operations.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from limner.domain.event import Event
from limner.domain.job import File, Job, Outcome, Status


class JobStore(Protocol):
    """The truth about jobs, and the log of their events.

    Every change of a job's state writes its event in the same transaction: who reads one sees the other.
    """

    def submit(
        self,
        job: Job,
        *,
        max_queued: int,
        cache_for: timedelta,
        similar_within: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """Take in a new job (status queued, files = its inputs) and give back the job as stored.

        In one transaction, the first that applies:
        the idempotency key is known → that job, unchanged (InvalidRequestError if its cache key differs);
        a job with this cache key succeeded within `cache_for` → stored as succeeded, `cached="exact"`, sharing its
        artifacts;
        the job has a look, and one with the same rest key and a look at most `similar_within` bits away succeeded
        within `cache_for` → the same with the nearest of them, `cached="similar"` and the distance;
        `max_queued` jobs are queued → QueueFullError, nothing stored;
        a job with this cache key is queued or running → stored as queued behind it (`leader_id`);
        else stored as queued.
        """
        ...

    def start(self, job_id: str, *, lease: timedelta) -> Job | None:
        """Queued → running under a lease, attempt + 1. None if it is not there, not queued, or has a leader."""
        ...

    def alive(self, job_id: str, attempt: int) -> bool:
        """Whether this attempt still counts: the job is there, running, and nobody overtook it."""
        ...

    def renew(self, attempts: Iterable[tuple[str, int]], *, lease: timedelta) -> None:
        """Extend the leases of those attempts that still count."""
        ...

    def progress(self, job_id: str, attempt: int, fraction: float) -> bool:
        """Record progress 0..1 with its event. False (and nothing written) if the attempt no longer counts."""
        ...

    def finish(self, job_id: str, attempt: int, outcome: Outcome) -> bool:
        """Running → succeeded or failed, for the job and those that wait behind it. False if it was overtaken."""
        ...

    def release(self, job_id: str, attempt: int) -> bool:
        """Running → queued: hand it back unfinished. False if the attempt was overtaken."""
        ...

    def expire(self, *, max_attempts: int, now: datetime) -> int:
        """Running with a lease ended before `now` → queued, or failed (`job-crashed`) after `max_attempts` starts.

        Returns how many there were.
        """
        ...

    def cancel(self, job_id: str) -> Job:
        """Queued or running → cancelled; what waited behind it takes its place. NotFoundError, JobFinishedError."""
        ...

    def erase(self, job_id: str, delete_blob: Callable[[str], None]) -> None:
        """Remove the job, its files and its events' contents. NotFoundError.

        `delete_blob` is called, inside the transaction, for each SHA-256 that no other job names: so no submission
        can come to name a blob between the question and the deletion.
        """
        ...

    def forget(self, sha256s: Sequence[str], delete_blob: Callable[[str], None]) -> None:
        """Call `delete_blob` for those that no job names, inside a transaction as `erase` does."""
        ...

    def outdated(self, before: datetime, limit: int) -> list[str]:
        """Ids of finished jobs created before a moment, oldest first."""
        ...

    def drop_events(self, before: datetime) -> None:
        """Remove the events that are older than a moment. Ids are never used again."""
        ...

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

    def waiting(self, limit: int) -> list[tuple[str, str]]:
        """(id, lane) of the queued jobs that have no leader, oldest first."""
        ...

    def queued(self) -> int:
        """How many jobs are queued."""
        ...

    def sizes(self, cache_for: timedelta) -> tuple[int, int]:
        """(results that may still answer from the cache, bytes of all blobs that jobs name)."""
        ...

    def events(self, after: int, *, limit: int, job_id: str | None = None, operation: str | None = None) -> list[Event]:
        """Events with an id above `after`, in order of id; a reader that goes on from the last never skips one."""
        ...

    def last_event_id(self) -> int:
        """The highest id given so far, 0 if none."""
        ...

    def ping(self) -> None:
        """Raises if the store cannot be written."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class BlobStore(Protocol):
    """Bytes under their SHA-256 (lower-case hex)."""

    def put(self, data: bytes) -> str:
        """Store and return the SHA-256. When it returns the bytes survive a power cut (unless durability is relaxed).

        Storing what is there already writes nothing.
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

    def older_than(self, moment: datetime) -> Iterator[str]:
        """SHA-256s written before a moment, in no order."""
        ...

    def ping(self) -> None:
        """Raises if nothing can be written."""
        ...


class Engine(Protocol):
    """Carries job ids to `jobs.run`."""

    def send(self, job_id: str, lane: str) -> None:
        """Have the job run soon. May drop it when full: the sweep sends again what waits. Twice does no harm."""
        ...

    def running(self) -> list[tuple[str, int]]:
        """(job id, attempt) of what this process runs just now."""
        ...

    def start(self) -> None:
        """Begin to work."""
        ...

    def stop(self, timeout_s: float) -> None:
        """Take nothing new, let what runs end for at most `timeout_s`."""
        ...


class Bus(Protocol):
    """Wakes those who read the event log. A wake-up may be lost or come twice: the rows are the truth."""

    def wake(self) -> None:
        """There may be new events."""
        ...

    def subscribe(self, on_wake: Callable[[], None]) -> Callable[[], None]:
        """Have `on_wake` called, from any thread, at each wake-up; it must return at once. Returns the unsubscriber."""
        ...
