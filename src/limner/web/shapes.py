"""The JSON of jobs, events and operations: the models document it for OpenAPI, the functions make it."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from limner.domain.event import Event
from limner.domain.job import File, Job, Status
from limner.web.links import Links

Moment = datetime


class ArtifactShape(BaseModel):
    """A file that a job produced."""

    name: str
    media_type: str
    size: int
    width: int | None
    height: int | None
    url: str


class ProblemShape(BaseModel):
    """An error, RFC 9457; further members depend on its type."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    retryable: bool


class JobShape(BaseModel):
    """A job."""

    id: str
    operation: str
    status: Status
    progress: float = Field(ge=0, le=1)
    cached: Literal["exact", "similar"] | None
    cache_distance: int | None = Field(
        description="Bits by which the two photos' perceptual hashes differ; `similar` only"
    )
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    url: str
    result: dict[str, Any] | None
    error: ProblemShape | None
    artifacts: list[ArtifactShape]


class JobPageShape(BaseModel):
    """Jobs, newest first; `next_cursor` is the cursor of the next page."""

    jobs: list[JobShape]
    next_cursor: str | None


class EventJobShape(BaseModel):
    """The job in an event. For an erased job, only `id` and `operation` are set."""

    id: str
    operation: str
    status: Status | None = None
    progress: float | None = None
    cached: str | None = None
    faces_count: int | None = Field(None, description="The entry of `summary`, if the result has faces")
    summary: dict[str, int] | None = Field(None, description="A few numbers about the result, null before its end")
    url: str | None = None
    error: ProblemShape | None = None
    artifacts: list[ArtifactShape] = []


class EventShape(BaseModel):
    """An event."""

    id: int
    type: str
    time: Moment
    job: EventJobShape


class OperationShape(BaseModel):
    """An operation: its URL, and its parameters and result as JSON Schema."""

    name: str
    summary: str
    version: int
    url: str
    parameters: dict[str, Any]
    result: dict[str, Any]


class OperationsShape(BaseModel):
    """All operations."""

    operations: list[OperationShape]


def moment(value: datetime | None) -> str | None:
    """RFC 3339 in UTC, ending in Z."""
    return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def job(value: Job, links: Links) -> dict[str, Any]:
    """The JSON of a job."""
    return {
        "id": value.id,
        "operation": value.operation,
        "status": value.status,
        "progress": value.progress,
        "cached": value.cached,
        "cache_distance": value.cache_distance,
        "created_at": moment(value.created_at),
        "started_at": moment(value.started_at),
        "finished_at": moment(value.finished_at),
        "url": links.job(value.id),
        "result": value.result,
        "error": value.error,
        "artifacts": [_artifact(file, links) for file in value.artifacts],
    }


def _artifact(file: File, links: Links) -> dict[str, Any]:
    return {
        "name": file.name,
        "media_type": file.media_type,
        "size": file.size,
        "width": file.width,
        "height": file.height,
        "url": links.artifact(file.job_id, file.name),
    }


def faces_count(value: Event) -> int | None:
    """How many faces the job of an event has found; None before its end and for results without faces."""
    summary: dict[str, int] = (value.content or {}).get("summary") or {}
    return summary.get("faces_count")


def event(value: Event, links: Links) -> dict[str, Any]:
    """The JSON of an event."""
    job_content: dict[str, Any] = {"id": value.job_id, "operation": value.operation}
    if value.content is not None:
        job_content |= {
            "status": value.content["status"],
            "progress": value.content["progress"],
            "cached": value.content["cached"],
            "faces_count": faces_count(value),
            "summary": value.content["summary"],
            "url": links.job(value.job_id),
            "error": value.content["error"],
            "artifacts": [
                {key: each[key] for key in ("name", "media_type", "size", "width", "height")}
                | {"url": links.artifact(value.job_id, each["name"])}
                for each in value.content["artifacts"]
            ],
        }
    return {"id": value.id, "type": value.type, "time": moment(value.time), "job": job_content}
