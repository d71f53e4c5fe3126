"""Taking in a job, and ending one on request.

The order is the promise: the bytes are on disk, then the row, then the answer. See `ports.JobStore.submit` for what
one transaction decides (a repeat, a cached answer, the same work in flight, a full queue, or a new job).
"""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from uuid_utils import uuid7

from limner.domain.errors import LimnerError, UnavailableError
from limner.domain.job import File, Job, Role
from limner.jobs.keep import keep_named
from limner.operation import ImageRef, Operation, P, R
from limner.ports import BlobStore, Bus, Engine, JobStore
from limner.telemetry import JOBS_SUBMITTED, request_id
from limner.vision import image
from limner.vision.image import Limits
from limner.vision.models import Models
from limner.vision.phash import SAME_PHOTO, perceptual_hash

log = logging.getLogger(__name__)

LOOK_SIDE = 256  # a perceptual hash needs no more


@dataclass
class Submissions:
    """The submissions at which jobs are handed in. `open` turns False when the service stops."""

    store: JobStore
    blobs: BlobStore
    engine: Engine
    bus: Bus
    models: Models
    limits: Limits
    max_queued: int
    cache_for: timedelta
    open: bool = True

    def submit(
        self,
        operation: Operation[P, R],
        params: P,
        pictures: Mapping[str, bytes],
        *,
        job_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Store the pictures (bytes by parameter name) and the job, and send it on its way.

        `job_id` lets the caller know it beforehand; the job that comes back may be another one: a repeat's.

        UnavailableError while stopping, QueueFullError, InvalidRequestError for a reused idempotency key.
        """
        if not self.open:
            raise UnavailableError("the service is stopping")
        job_id = job_id or str(uuid7())
        fingerprint = self.models.fingerprint(operation.models)
        job = Job(
            id=job_id,
            operation=operation.name,
            lane=operation.lane,
            params=params.model_dump(mode="json"),
            cache_key=operation.cache_key(params, fingerprint),
            created_at=datetime.now(UTC),
            files=tuple(_input(job_id, name, getattr(params, name)) for name in pictures),
        )
        if "cache" in operation.params.model_fields:
            job = replace(job, rest_key=operation.rest_key(params, fingerprint))
            if getattr(params, "cache", None) == "similar":
                small = image.decode(pictures["image"], self.limits, at_least=LOOK_SIDE)
                job = replace(job, look=f"{perceptual_hash(small):016x}")
        for data in pictures.values():
            self.blobs.put(data)
        try:
            stored = self.store.submit(
                job,
                max_queued=self.max_queued,
                cache_for=self.cache_for,
                similar_within=SAME_PHOTO,
                idempotency_key=idempotency_key,
            )
        except Exception:
            with suppress(LimnerError):  # the sweep tidies up what cannot be now
                self.store.forget([file.sha256 for file in job.files], self.blobs.delete)
            raise
        for file in job.files:
            keep_named(self.store, self.blobs, file.sha256, pictures[file.name])
        self.bus.wake()
        how = self._how(job, stored)
        if how == "new":
            self.engine.send(stored.id, stored.lane)
        if how != "repeat":
            JOBS_SUBMITTED.labels(operation.name, how).inc()
        log.debug(
            "job taken in",
            extra={"job": stored.id, "operation": operation.name, "how": how, "request": request_id.get()},
        )
        return stored

    @staticmethod
    def _how(job: Job, stored: Job) -> str:
        if stored.id != job.id:
            return "repeat"
        if stored.cached is not None:
            return stored.cached
        return "shared" if stored.leader_id is not None else "new"

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; NotFoundError, JobFinishedError. A running one is told at its next step."""
        job = self.store.cancel(job_id)
        self._changed()
        log.info("job cancelled", extra={"job": job_id, "operation": job.operation})
        return job

    def erase(self, job_id: str) -> None:
        """Erase a job with its pictures and its events' contents; NotFoundError."""
        job = self.store.get(job_id)
        self.store.erase(job_id, self.blobs.delete)
        self._changed()
        log.info("job erased", extra={"job": job_id, "operation": job.operation if job else None})

    def _changed(self) -> None:
        """What waited behind the job may be free to run now."""
        self.bus.wake()
        for job_id, lane in self.store.waiting(self.max_queued):
            self.engine.send(job_id, lane)


def _input(job_id: str, name: str, ref: ImageRef) -> File:
    return File(
        id=str(uuid7()),
        job_id=job_id,
        role=Role.INPUT,
        name=name,
        sha256=ref.sha256,
        media_type=ref.media_type,
        size=ref.size,
        width=ref.width,
        height=ref.height,
    )
