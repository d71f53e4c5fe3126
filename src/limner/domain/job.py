"""A job: one request for one operation, and the files that it refers to."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from limner.domain.label import folded


class Status(StrEnum):
    """The status of a job: `queued` → `running` → one of the three others, which are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True if the status cannot change any more."""
        return self not in (Status.QUEUED, Status.RUNNING)


class Role(StrEnum):
    """Whether a file was uploaded or produced by the job, shows what a running job has produced so far, or is small."""

    INPUT = "input"
    ARTIFACT = "artifact"
    PREVIEW = "preview"
    THUMBNAIL = "thumbnail"


@dataclass(frozen=True, slots=True)
class File:
    """A job's reference to a blob. `id` is its own UUID; `name`: the parameter of an input, else a file's."""

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
    """The complete state of a job. `params`, `result`, `error` and `summary` are plain JSON objects.

    `attempt` counts the starts; writes of an older attempt are refused. `worker` runs the job until `lease_until`.
    `leader_id` is the job that does the same work; its result becomes the result of this job too. `cached` is set if
    the result came from another job (`exact` or `similar`), and `computed_at` is when that result was computed.
    `summary` is a few numbers about the result. `key_id` is the API key that owns the job, None without keys. `sent_at`
    is when the id of a queued job was last passed to an engine that may lose it, None if it must be passed on again.
    `traceparent` names the span of the request to the worker, where traces are wanted. `label` is what the client calls
    the job, see `domain/label.py`.

    If the operation supports similar photos, `phash` is the photo's perceptual hash (16 hex digits), `similarity_key`
    the cache key without the photo, and `cache_distance` the number of bits in which the two photos' hashes differ.
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
    key_id: str | None = None
    sent_at: datetime | None = None
    traceparent: str | None = None
    label: str | None = None
    files: tuple[File, ...] = field(default=())

    @property
    def artifacts(self) -> tuple[File, ...]:
        """The files that the job produced, in this order."""
        return tuple(file for file in self.files if file.role is Role.ARTIFACT)

    @property
    def thumbnail(self) -> File | None:
        """The small picture that stands for the job."""
        return next((file for file in self.files if file.role is Role.THUMBNAIL), None)

    @property
    def produced(self) -> tuple[File, ...]:
        """The artifacts and the thumbnail: what another job with the same work gets too."""
        return tuple(file for file in self.files if file.role in (Role.ARTIFACT, Role.THUMBNAIL))

    @property
    def photo(self) -> File | None:
        """The photo that was uploaded, None if the job was made from words."""
        return next((file for file in self.inputs if file.name == "image"), None)

    @property
    def searched_label(self) -> str | None:
        """The label as a search compares it."""
        return None if self.label is None else folded(self.label)

    @property
    def previews(self) -> tuple[File, ...]:
        """What the result looks like so far; at most one, and none unless the job is running."""
        return tuple(file for file in self.files if file.role is Role.PREVIEW)

    @property
    def inputs(self) -> tuple[File, ...]:
        """The files that were uploaded."""
        return tuple(file for file in self.files if file.role is Role.INPUT)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt: a result with artifacts, or an error (a problem object).

    A failed attempt can have a thumbnail too. `cached`, `cache_distance` and `computed_at` are set if the result is
    that of another job; `phash`: see `Job`.
    """

    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None
    phash: str | None = None
    artifacts: tuple[File, ...] = ()
    thumbnail: File | None = None
    cached: str | None = None
    cache_distance: int | None = None
    computed_at: datetime | None = None

    @property
    def files(self) -> tuple[File, ...]:
        """The artifacts and the thumbnail."""
        return self.artifacts if self.thumbnail is None else (*self.artifacts, self.thumbnail)

    @property
    def status(self) -> Status:
        """The status that this outcome gives its job."""
        return Status.FAILED if self.error is not None else Status.SUCCEEDED
