"""The JSON of jobs, events and operations: the models document it for OpenAPI, the functions make it."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from limner.domain.event import Event, EventType
from limner.domain.job import File, Job, Status
from limner.domain.webhook import DeliveryState, HookState
from limner.jobs.queue import Place
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


class InputShape(BaseModel):
    """A picture that was sent; `name` is its parameter. Width and height are those of the upright picture."""

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


class QueueShape(BaseModel):
    """The place of a queued job."""

    position: int | None = Field(
        description="1 is started next; 0 waits for the result of a running job with the same work; null: beyond 1000"
    )
    age_s: float = Field(description="Seconds since the submission")
    eta_s: float | None = Field(description="Estimated seconds until the job has finished; null if nothing is known")


class ListedJobShape(BaseModel):
    """A job as a list has it: without its parameters and its result."""

    id: str
    operation: str
    label: str | None = Field(description="What the client calls it")
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
    photo: str | None = Field(description="URL of the photo as it was sent, null for a picture made from words")
    thumbnail: str | None = Field(description="URL of a small WebP picture of the result or the photo, null if none")
    preview: str | None = Field(description="URL of what the result looks like so far; only while the job runs")
    summary: dict[str, int] | None = Field(description="A few numbers about the result, null before its end")
    error: ProblemShape | None
    artifacts: list[ArtifactShape]
    inputs: list[InputShape] = Field(description="The pictures that were sent")


class JobShape(ListedJobShape):
    """A job."""

    queue: QueueShape | None = Field(description="Only in `GET /v1/jobs/{id}` of a queued job")
    result: dict[str, Any] | None
    parameters: dict[str, Any] | None = Field(
        description="The parameters beside the pictures, as they can be sent again; null if this version does not know "
        "the operation"
    )


class JobPageShape(BaseModel):
    """Jobs, newest first; `next_cursor` is the cursor of the next page."""

    jobs: list[ListedJobShape]
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
    label: str | None = Field(None, description="What the client calls the job")
    url: str | None = None
    preview: str | None = Field(None, description="URL of what the result looks like so far")
    thumbnail: str | None = Field(None, description="URL of a small WebP picture, null before the job's end")
    error: ProblemShape | None = None
    artifacts: list[ArtifactShape] = []


class EventShape(BaseModel):
    """An event."""

    id: int
    type: EventType
    time: Moment
    job: EventJobShape


class DeliveryShape(BaseModel):
    """One event for one webhook; `id` is its `webhook-id`."""

    id: str
    event_id: int
    event_type: str
    state: DeliveryState
    tries: int
    last_status: int | None = Field(description="HTTP status of the last answer, null if there was none")
    last_error: str | None
    next_try_at: Moment | None
    ended_at: Moment | None


class WebhookShape(BaseModel):
    """A job's webhook. `state` is `active` until its last event is queued, then `done`; or `disabled` with a reason."""

    id: str
    host: str
    state: HookState
    reason: str | None
    deliveries: list[DeliveryShape]


class WebhooksShape(BaseModel):
    """The webhooks of a job."""

    webhooks: list[WebhookShape]


class BlobShape(BaseModel):
    """Bytes of a picture or artifact."""

    sha256: str
    size: int


class KeptBlobShape(BlobShape):
    """Bytes that an erasure has kept."""

    reason: str


class RemovedShape(BaseModel):
    """How many rows an erasure removed, of how many events the contents, and which bytes."""

    jobs: int
    files: int
    events_emptied: int
    webhooks: int
    deliveries: int
    blobs: list[BlobShape]


class ReceiptShape(BaseModel):
    """The receipt of an erasure. `pending` bytes are still to be removed; `released` ones are, if no job uses them."""

    version: int
    service_id: str | None
    job_id: str
    erased_at: Moment
    removed: RemovedShape
    kept: list[KeptBlobShape]
    released: list[BlobShape]
    pending: list[BlobShape]
    signature: str


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


def job(
    value: Job, links: Links, place: Place | None = None, parameters: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The JSON of a job, with its parameters and its place in the queue if these are known."""
    return {
        **listed_job(value, links),
        "queue": None if place is None else _place(place),
        "result": value.result,
        "parameters": parameters,
    }


def listed_job(value: Job, links: Links) -> dict[str, Any]:
    """The JSON of a job without its parameters and result."""
    return {
        "id": value.id,
        "operation": value.operation,
        "label": value.label,
        "status": value.status,
        "progress": value.progress,
        "cached": value.cached,
        "cache_distance": value.cache_distance,
        "created_at": moment(value.created_at),
        "started_at": moment(value.started_at),
        "finished_at": moment(value.finished_at),
        "url": links.job(value.id),
        "photo": links.photo(value.id) if value.photo is not None else None,
        "thumbnail": links.thumbnail(value.id) if value.thumbnail is not None else None,
        "preview": links.preview(value.id) if value.previews else None,
        "summary": value.summary,
        "error": value.error,
        "artifacts": [_file(file, links.artifact(file.job_id, file.name)) for file in value.artifacts],
        "inputs": [_file(file, links.input(file.job_id, file.name)) for file in value.inputs],
    }


def _place(value: Place) -> dict[str, Any]:
    return {
        "position": value.position,
        "age_s": round(value.age_s, 3),
        "eta_s": None if value.eta_s is None else round(value.eta_s, 3),
    }


def _file(file: File, url: str) -> dict[str, Any]:
    return {
        "name": file.name,
        "media_type": file.media_type,
        "size": file.size,
        "width": file.width,
        "height": file.height,
        "url": url,
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
            "label": value.content.get("label"),
            "url": links.job(value.job_id),
            "thumbnail": links.thumbnail(value.job_id) if value.content.get("thumbnail") else None,
            "preview": links.preview(value.job_id) if value.content.get("preview") else None,
            "error": value.content["error"],
            "artifacts": [
                {key: each[key] for key in ("name", "media_type", "size", "width", "height")}
                | {"url": links.artifact(value.job_id, each["name"])}
                for each in value.content["artifacts"]
            ],
        }
    return {"id": value.id, "type": value.type, "time": moment(value.time), "job": job_content}
