"""Accepts jobs, and cancels or erases them on request.

First the bytes are stored, then the row, then the client is answered, so an accepted job is never lost.
`transitions.submit` decides in one transaction: a repeat, a cache hit, a follower of a job with the same work, or new.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from uuid_utils import uuid7

from limner.blob_ports import BlobStore
from limner.domain.errors import GoneError, QueueFullError, UnavailableError
from limner.domain.job import File, Job, Role
from limner.domain.key import owned
from limner.domain.lane import Lane
from limner.image_ref import ImageRef
from limner.jobs import blobs as bytes_of_jobs
from limner.jobs import receipts, transitions, webhooks
from limner.jobs.ids import JobIds
from limner.jobs.receipts import Issuer, Receipt
from limner.jobs.transitions import Decision, Erased, IsStored, Missing, Sent, Submitted
from limner.jobs.webhooks import Webhook
from limner.operation import Operation, P, R
from limner.ports import Bus, Engine, JobReader, JobStore, Transaction
from limner.telemetry import JOBS_SUBMITTED, request_id
from limner.tracing import Span, span, step, traceparent

log = logging.getLogger(__name__)


@dataclass
class Submissions:
    """Accepts, cancels and erases jobs. `open` becomes False when the service stops."""

    store: JobStore
    reader: JobReader
    blobs: BlobStore
    engine: Engine
    bus: Bus
    fingerprint: Callable[[tuple[str, ...]], str]
    lanes: Mapping[str, Lane]
    cache_for: timedelta
    ids: JobIds = field(default_factory=JobIds)
    open: bool = True

    def submit(
        self,
        operation: Operation[P, R],
        params: P,
        pictures: Mapping[str, bytes],
        *,
        job_id: str | None = None,
        key_id: str | None = None,
        idempotency_key: str | None = None,
        webhook: Webhook | None = None,
        label: str | None = None,
        source_id: str | None = None,
    ) -> Job:
        """Store the pictures (bytes by parameter name) and the job, and send it to the engine.

        `job_id` is the id for a new job; a repeat of a request returns the earlier job, with its own id. `key_id` owns
        the job: its cache and its idempotency keys are its own, because an answer from another owner's job would tell
        that somebody else sent the same photo. `webhook` is told when a new job ends, `label` is what the client calls
        it (see `domain/label.py`); for a repeat, those of the first request stay. `source_id` is the job whose pictures
        these are: if it is erased meanwhile, nothing is stored.

        UnavailableError while stopping, QueueFullError, InvalidRequestError if the idempotency key belongs to another
        request, GoneError if the source is erased.
        """
        if not self.open:
            raise UnavailableError("The service is stopping. Try again later.")
        job_id = job_id or self.ids.new()
        attributes = {"limner.operation": operation.name, "limner.job.id": job_id}
        with span(f"submit {operation.name}", kind="producer", attributes=attributes) as made:
            return self._accept(
                operation, params, pictures, job_id, key_id, idempotency_key, webhook, label, source_id, made
            )

    def _accept(
        self,
        operation: Operation[P, R],
        params: P,
        pictures: Mapping[str, bytes],
        job_id: str,
        key_id: str | None,
        idempotency_key: str | None,
        webhook: Webhook | None,
        label: str | None,
        source_id: str | None,
        made: Span,
    ) -> Job:
        request = idempotency_key or job_id
        params = operation.settled(params, request)
        fingerprint = operation.fingerprint(params, self.fingerprint, request)
        lane = operation.lane(params)
        max_queued = self._max_queued(lane)
        if operation.yields:
            max_queued = min(max_queued, 1)
        similarity_key = operation.similarity_key(params, fingerprint)
        job = Job(
            id=job_id,
            operation=operation.name,
            lane=lane,
            params=params.model_dump(mode="json"),
            cache_key=owned(operation.cache_key(params, fingerprint), key_id),
            similarity_key=None if similarity_key is None else owned(similarity_key, key_id),
            idempotency_key=None if idempotency_key is None else owned(idempotency_key, key_id),
            key_id=key_id,
            created_at=datetime.now(UTC),
            traceparent=traceparent(),
            label=label,
            files=tuple(_input(job_id, name, getattr(params, name)) for name in pictures),
        )
        data = {file.sha256: pictures[file.name] for file in job.files}
        # Bytes that are not stored belong to no job, so no cached result can exist, but the queue may be full. (After
        # a restored backup, bytes of known jobs may be missing: then they are stored again.)
        unseen = [sha256 for sha256 in data if not self.blobs.has(sha256, size=len(data[sha256]))]
        if unseen and self.reader.is_full(lane, max_queued):
            raise QueueFullError
        submitted = bytes_of_jobs.transact_with_bytes(
            self.store,
            self.blobs,
            data,
            lambda tx, is_stored: self._submit(tx, job, max_queued, webhook, source_id, is_stored),
            media_types={file.sha256: file.media_type for file in job.files},
            unseen=unseen,
        )
        stored, decision = submitted.job, submitted.decision
        made.set({"limner.decision": decision, "limner.job.id": stored.id})
        if decision is Decision.NEW:
            self.engine.send(stored.id, stored.lane)
        if decision is not Decision.REPEAT:
            self.bus.wake()
            JOBS_SUBMITTED.labels(operation.name, decision).inc()
        log.debug(
            "job submitted",
            extra={"job": stored.id, "operation": operation.name, "how": decision, "request": request_id.get()},
        )
        return stored

    def _max_queued(self, lane: str) -> int:
        """How many jobs may wait in a lane. UnavailableError if nobody serves it."""
        found = self.lanes.get(lane)
        if found is None or not found.workers:
            raise UnavailableError(
                f"No worker of this service runs jobs of the lane {lane}; see LIMNER_{lane.upper()}_WORKERS."
            )
        return found.max_queued

    def _submit(
        self,
        tx: Transaction,
        job: Job,
        max_queued: int,
        webhook: Webhook | None,
        source_id: str | None,
        is_stored: IsStored,
    ) -> Submitted | Missing:
        if source_id is not None and not transitions.hold(tx, [source_id]):
            raise GoneError("The job was erased meanwhile, and its pictures with it.")
        since = tx.hooks.last_event_id() if webhook is not None else 0
        with step("transaction"):
            submitted = transitions.submit(
                tx,
                job,
                max_queued=max_queued,
                cache_for=self.cache_for,
                is_stored=is_stored,
                is_intact=self._is_intact,
            )
            if webhook is not None and isinstance(submitted, Submitted) and submitted.decision is not Decision.REPEAT:
                webhooks.attach(tx, submitted.job.id, webhook, since, job.key_id)
            return submitted

    def _is_intact(self, file: File) -> bool:
        intact = self.blobs.has(file.sha256, size=file.size)
        if not intact:
            log.warning(
                "an artifact is missing or damaged; its result is made anew",
                extra={"job": file.job_id, "artifact": file.name},
            )
        return intact

    def cancel(self, job_id: str) -> Job:
        """Cancel a job. A running one stops at its next step. NotFoundError, JobFinishedError."""
        job, promoted = self.store.transact(lambda tx: transitions.cancel(tx, job_id))
        self._send(promoted)
        log.info("job cancelled", extra={"job": job_id, "operation": job.operation})
        return job

    def erase(self, job_id: str, *, tell_others: bool = True) -> Receipt:
        """Erase a job with its pictures and the contents of its events. Returns the receipt. NotFoundError.

        Without `tell_others`, the receipt does not tell which pictures other jobs use, which may be another owner's.

        UnavailableError: either nothing was erased, or (as its detail says) all except the bytes of some pictures,
        which the sweep removes later. Then its member `receipt` lists all pictures as pending.
        """
        self.blobs.check_removable()

        def work(tx: Transaction) -> tuple[Erased, Issuer]:
            return transitions.erase(tx, job_id), receipts.issuer(tx)

        erased, issuer = self.store.transact(work)
        self._send(erased.promoted)
        removed: list[str] = []

        def receipt() -> Receipt:
            return receipts.make(
                issuer,
                job_id,
                erased.job.files,
                erased.counts,
                marked=erased.marked,
                removed=removed,
                tell_others=tell_others,
            )

        try:
            removed = bytes_of_jobs.remove(self.store, self.blobs, erased.marked)
        except UnavailableError as error:
            raise UnavailableError(
                f"The job is erased, but not yet all of its pictures; the service keeps trying. {error.detail}",
                receipt=receipt(),
            ) from error
        log.info("job erased", extra={"job": job_id, "operation": erased.job.operation})
        return receipt()

    def _send(self, promoted: Sent | None) -> None:
        """Wake the event streams, and send the follower that became a leader, if there is one."""
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
