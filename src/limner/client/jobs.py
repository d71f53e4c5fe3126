"""Jobs, their files and events, as dataclasses. `docs/api.md` says what the fields mean."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

R = TypeVar("R")

FINAL = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Artifact:
    """A file of a job: one that it made, or a picture that was sent. Width and height are pixels."""

    name: str
    media_type: str
    size: int
    width: int | None
    height: int | None
    url: str


@dataclass(frozen=True)
class Problem:
    """An error as the service tells it, RFC 9457. `extra` has the further members."""

    type: str
    title: str
    status: int
    detail: str
    retryable: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The end of `type`, such as `queue-full`."""
        return self.type.rpartition(":")[2]


@dataclass(frozen=True)
class Queue:
    """The place of a queued job: 1 is started next. `eta_s` is the estimated time until it has finished."""

    position: int | None
    age_s: float
    eta_s: float | None


@dataclass(frozen=True)
class JobFields(Generic[R]):
    """What the service tells about a job. `result` is None until it has succeeded, and in lists of jobs."""

    id: str
    operation: str
    label: str | None
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: float
    cached: Literal["exact", "similar"] | None
    cache_distance: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    queue: Queue | None
    url: str
    photo: str | None
    preview: str | None
    thumbnail: str | None
    summary: dict[str, int] | None
    result: R | None
    error: Problem | None
    artifacts: list[Artifact]
    inputs: list[Artifact]
    parameters: dict[str, Any] | None
    json: dict[str, Any] = field(repr=False)
    """All of it as it was sent."""

    @property
    def finished(self) -> bool:
        """Whether it will not change any more."""
        return self.status in FINAL


@dataclass(frozen=True)
class EventJob:
    """The job of an event. That of an erased job has only `id` and `operation`."""

    id: str
    operation: str
    label: str | None = None
    status: str | None = None
    progress: float | None = None
    cached: str | None = None
    faces_count: int | None = None
    summary: dict[str, int] | None = None
    url: str | None = None
    preview: str | None = None
    thumbnail: str | None = None
    error: Problem | None = None
    artifacts: list[Artifact] = field(default_factory=list)


@dataclass(frozen=True)
class Event:
    """An event. Ids rise, also over restarts of the service."""

    id: int
    type: str
    time: datetime
    job: EventJob
