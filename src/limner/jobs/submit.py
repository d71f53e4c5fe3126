"""Taking in a job, and ending one on request.

The order is the promise: the bytes are on disk, then the row, then the answer. What one transaction decides (a repeat,
a cached answer, the same work in flight, a full queue, or a new job) is told by `transitions.submit`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from uuid_utils import uuid7

from limner.domain.errors import QueueFullError, UnavailableError
from limner.domain.job import File, Job, Role, Status
from limner.jobs import blobs as bytes_of_jobs
from limner.jobs import transitions
from limner.jobs.transitions import Decision, Sent
from limner.operation import ImageRef, Operation, P, R
from limner.ports import BlobStore, Bus, Engine, JobReader, JobStore
from limner.telemetry import JOBS_SUBMITTED, request_id

log = logging.getLogger(__name__)


@dataclass
class Submissions:
    """Takes in jobs, and ends them on request. `open` turns False when the service stops."""

    store: JobStore
    reader: JobReader
    blobs: BlobStore
    engine: Engine
    bus: Bus
    fingerprint: Callable[[tuple[str, ...]], str]
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
        fingerprint = self.fingerprint(operation.models)
        job = Job(
            id=job_id,
            operation=operation.name,
            lane=operation.lane,
            params=params.model_dump(mode="json"),
            cache_key=operation.cache_key(params, fingerprint),
            similarity_key=operation.similarity_key(params, fingerprint),
            idempotency_key=idempotency_key,
            created_at=datetime.now(UTC),
            files=tuple(_input(job_id, name, getattr(params, name)) for name in pictures),
        )
        data = {file.sha256: pictures[file.name] for file in job.files}
        # No job has had these bytes, so nothing that is stored answers the request; but the queue may be full. (After a
        # backup was restored, bytes may be missing although a job names them: then they are stored again.)
        unseen = [sha256 for sha256 in data if not self.blobs.has(sha256)]
        if unseen and self.reader.count(Status.QUEUED) >= self.max_queued:
            raise QueueFullError
        submitted = bytes_of_jobs.transact_with_bytes(
            self.store,
            self.blobs,
            data,
            lambda tx, is_stored: transitions.submit(
                tx, job, max_queued=self.max_queued, cache_for=self.cache_for, is_stored=is_stored
            ),
            unseen=unseen,
        )
        stored, decision = submitted.job, submitted.decision
        if decision is Decision.NEW:
            self.engine.send(stored.id, stored.lane)
        if decision is not Decision.REPEAT:
            self.bus.wake()
            JOBS_SUBMITTED.labels(operation.name, decision).inc()
        log.debug(
            "job taken in",
            extra={"job": stored.id, "operation": operation.name, "how": decision, "request": request_id.get()},
        )
        return stored

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; NotFoundError, JobFinishedError. A running one stops at its next step."""
        job, promoted = self.store.transact(lambda tx: transitions.cancel(tx, job_id))
        self._send(promoted)
        log.info("job cancelled", extra={"job": job_id, "operation": job.operation})
        return job

    def erase(self, job_id: str) -> None:
        """Erase a job with its pictures and its events' contents; NotFoundError."""
        erased = self.store.transact(lambda tx: transitions.erase(tx, job_id))
        self._send(erased.promoted)
        bytes_of_jobs.remove(self.store, self.blobs, erased.marked)
        log.info("job erased", extra={"job": job_id, "operation": erased.operation})

    def _send(self, promoted: Sent | None) -> None:
        """What waited behind the job may be free to run now."""
        self.bus.wake()
        if promoted is not None:
            self.engine.send(*promoted)


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
