"""An event: a change of a job, sent to everyone who listens."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from limner.domain.job import Job, Status


class EventType(StrEnum):
    """What happened."""

    QUEUED = "job.queued"
    RUNNING = "job.running"
    PROGRESS = "job.progress"
    SUCCEEDED = "job.succeeded"
    FAILED = "job.failed"
    CANCELLED = "job.cancelled"

    @classmethod
    def entering(cls, status: Status) -> "EventType":
        """The type of the event for a job that enters `status`."""
        return cls(f"job.{status}")


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the event log; ids rise. `content` is the job's state at that time, None after the job was erased.

    `key_id` is the owner of the job.
    """

    id: int
    type: EventType
    time: datetime
    job_id: str
    operation: str
    content: dict[str, Any] | None
    key_id: str | None = None


def content_of(job: Job) -> dict[str, Any]:
    """The content of an event about this job, as plain JSON. It has no pixels, landmarks or host names."""
    return {
        "status": job.status,
        "progress": job.progress,
        "cached": job.cached,
        "summary": job.summary,
        "created_at": job.created_at.isoformat(),
        "finished_at": job.finished_at.isoformat() if job.finished_at else None,
        "error": job.error,
        "preview": bool(job.previews),
        "thumbnail": job.thumbnail is not None,
        "label": job.label,
        "artifacts": [
            {
                "id": file.id,
                "name": file.name,
                "media_type": file.media_type,
                "size": file.size,
                "width": file.width,
                "height": file.height,
            }
            for file in job.artifacts
        ],
    }
