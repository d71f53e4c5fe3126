"""A job: one request for one operation, and the files it names."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Where a job stands. `queued` → `running` → one of the three others, which are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True when nothing can change any more."""
        return self not in (Status.QUEUED, Status.RUNNING)


class Role(StrEnum):
    """Whether a file was sent in or made."""

    INPUT = "input"
    ARTIFACT = "artifact"


@dataclass(frozen=True, slots=True)
class File:
    """A blob as a job names it. `id` is a UUID of its own; `name` is the parameter (input) or the artifact's name."""

    id: str
    job_id: str
    role: Role
    name: str
    sha256: str
    media_type: str
    size: int
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """The whole truth of one job. `params`, `result`, `error` and `summary` are plain JSON objects.

    `attempt` counts the starts and fences off overtaken ones; `worker` names the process that runs it until
    `lease_until`. `leader_id` names the job that does the very same work and will answer for this one too.
    `cached` says that the result was another job's: `exact` or `similar`; `computed_at` is when the result was really
    worked out, by whichever job. `summary` is what the result comes to in a few numbers, for lists and events.

    `phash` is the photo's perceptual hash (16 hex digits) and `similarity_key` the cache key of all but the photo,
    where an operation can answer a photo that looks the same; `cache_distance` is how many bits of the hashes differ.
    """

    id: str
    operation: str
    lane: str
    params: dict[str, Any]
    cache_key: str
    created_at: datetime
    status: Status = Status.QUEUED
    progress: float = 0.0
    cached: str | None = None
    cache_distance: int | None = None
    similarity_key: str | None = None
    phash: str | None = None
    idempotency_key: str | None = None
    attempt: int = 0
    leader_id: str | None = None
    worker: str | None = None
    lease_until: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    computed_at: datetime | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    files: tuple[File, ...] = field(default=())

    @property
    def artifacts(self) -> tuple[File, ...]:
        """The files it made, in the order it made them."""
        return tuple(file for file in self.files if file.role is Role.ARTIFACT)

    @property
    def inputs(self) -> tuple[File, ...]:
        """The files that were sent in."""
        return tuple(file for file in self.files if file.role is Role.INPUT)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt ended: with a result and artifacts, or with an error (a problem object).

    `cached`, `cache_distance` and `computed_at` are set where the result is another job's; `phash`: see `Job`.
    """

    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    phash: str | None = None
    artifacts: tuple[File, ...] = ()
    cached: str | None = None
    cache_distance: int | None = None
    computed_at: datetime | None = None

    @property
    def status(self) -> Status:
        """The status that this outcome gives its job."""
        return Status.FAILED if self.error is not None else Status.SUCCEEDED
