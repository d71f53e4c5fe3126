"""Runs jobs in a worker. Read `Runner.run`.

Starting a job increases its attempt number and takes a lease, which the runner renews. Finishing is refused if a newer
attempt exists. So a job that is sent twice, or whose worker was killed, is neither lost nor finished twice.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pydantic import ValidationError
from uuid_utils import uuid7

from limner.blob_ports import BlobStore
from limner.context import CancelledError, Context
from limner.domain.errors import (
    JobMemoryError,
    LimnerError,
    NotFoundError,
    UnavailableError,
    UnknownWorkError,
)
from limner.domain.job import File, Job, Outcome, Role
from limner.domain.lane import Lane
from limner.jobs import blobs as bytes_of_jobs
from limner.jobs import transitions
from limner.jobs.renewal import Renewal
from limner.operation import Operation
from limner.ports import Bus, JobReader, JobStore, Transaction
from limner.telemetry import JobReport
from limner.tracing import Attributes, Span, record, span, step
from limner.vision.header import Limits
from limner.vision.image import Pixels, encode, within
from limner.vision.memory import is_out_of_memory
from limner.vision.models import Models
from limner.vision.thumbnail import Thumbnail

T = TypeVar("T")

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 0.5
PREVIEW_SIDE, PREVIEW_QUALITY = 768, 80  # the longer side at most, pixels
_THUMBNAIL_NAME, _THUMBNAIL_TYPE = "thumbnail.webp", "image/webp"
CHECK_EVERY_S = 0.2  # each check is a query, which is too slow to repeat after every short step
RETRY_S = 1.0
PATIENCE_S = 20.0  # a store that restarts is back by then; a full disk stays full, and others need the worker
MOST_SIMILAR = 2000  # a perceptual hash is compared with at most this many of the newest results


class SimilarResult(Exception):  # noqa: N818  # not an error: it ends the operation early
    """The result of a photo that looks the same was found, so the operation need not go on."""

    def __init__(self, source: Job, distance: int) -> None:
        super().__init__(source.id)
        self.source = source
        self.distance = distance


@dataclass
class Runner:
    """Runs jobs of the catalogue's operations, one at a time, under the worker name `worker`."""

    worker: str
    catalogue: Mapping[str, Operation[Any, Any]]
    store: JobStore
    reader: JobReader
    blobs: BlobStore
    bus: Bus
    models: Models
    limits: Limits
    lease: timedelta
    lanes: Mapping[str, Lane]
    cache_for: timedelta
    _renewal: Renewal = field(init=False)

    def __post_init__(self) -> None:
        self._renewal = Renewal(self.store, self.lease)

    def run(self, job_id: str) -> JobReport | None:
        """Run the job if it is still queued. Errors of the operation are stored in the job and not raised.

        Returns None if the job was not started or was overtaken. After a report the caller must wake the bus, because
        there is a new event. UnavailableError if the job could not be started, or its outcome not be stored.
        """
        job = self.store.transact(lambda tx: transitions.start(tx, job_id, worker=self.worker, lease=self.lease))
        if job is None:
            return None
        self.bus.wake()
        if job.attempt == 1 and job.started_at is not None:
            record("waiting", job.created_at, job.started_at, parent=job.traceparent)
        attributes: Attributes = {
            "limner.operation": job.operation,
            "limner.job.id": job.id,
            "limner.attempt": job.attempt,
        }
        with span(f"run {job.operation}", kind="consumer", parent=job.traceparent, attributes=attributes) as made:
            return self._run(job, made)

    def _run(self, job: Job, made: Span) -> JobReport | None:
        attempt = _Attempt(self, job)
        with self._renewal.of(job):
            outcome = attempt.outcome()
            with step("finish"):
                finished = outcome is not None and self._finish(job, outcome, attempt.data)
        if outcome is None or not finished:
            made.set({"limner.status": "overtaken"})
            self.remove(job, attempt.stored())
            log.info("job overtaken", extra={"job": job.id, "operation": job.operation, "attempt": job.attempt})
            return None
        made.set({"limner.status": outcome.status, **({"limner.cached": outcome.cached} if outcome.cached else {})})
        if outcome.error is not None:
            made.failed(outcome.error["type"])
        self.remove(job, attempt.stored() - {file.sha256 for file in outcome.files})
        return attempt.report(outcome)

    def remove(self, job: Job, sha256s: Collection[str]) -> None:
        """Remove the bytes of artifacts and previews that no job refers to."""
        try:
            bytes_of_jobs.remove(self.store, self.blobs, sha256s)
        except UnavailableError as error:
            log.warning("pictures not removed; the sweep tries again", extra={"job": job.id, "detail": error.detail})

    def _finish(self, job: Job, outcome: Outcome, data: Mapping[str, bytes]) -> bool:
        """Store the outcome. If the database cannot be used, try again for the length of a lease."""
        deadline = time.monotonic() + self.lease.total_seconds()
        while True:
            try:
                return bytes_of_jobs.transact_with_bytes(
                    self.store,
                    self.blobs,
                    data,
                    lambda tx, is_stored: transitions.finish(tx, job, outcome, is_stored=is_stored),
                    media_types={file.sha256: file.media_type for file in outcome.files},
                    stored=data,
                )
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("result not stored yet; trying again", extra={"job": job.id, "detail": error.detail})
                time.sleep(RETRY_S)


@dataclass
class _Attempt:
    """One attempt at one job."""

    runner: Runner
    job: Job
    files: list[File] = field(default_factory=list)
    data: dict[str, bytes] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    progressed: float = 0.0
    checked: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)
    phash: str | None = None
    shown: str | None = None  # the blob of the last preview
    thumbnail: Thumbnail | None = None

    def outcome(self) -> Outcome | None:
        """Run the operation and return its outcome; None if the attempt was overtaken."""
        outcome = self._outcome()
        if outcome is None or outcome.cached is not None:
            return outcome
        return replace(outcome, thumbnail=self._small(failed=outcome.error is not None))

    def _small(self, *, failed: bool) -> File | None:
        """The thumbnail, stored; None if there is none. A job without one is better than no job, so it never fails."""
        start = time.perf_counter()
        try:
            small = None if self.thumbnail is None else self.thumbnail.made(failed=failed)
            if small is None:
                return None
            sha256 = self.runner.blobs.put(small.data, media_type=_THUMBNAIL_TYPE)
        except UnavailableError as error:
            log.warning("no thumbnail was stored", extra={"job": self.job.id, "detail": error.detail})
            return None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("no memory for a thumbnail", extra={"job": self.job.id, "operation": self.job.operation})
            return None
        self.data[sha256] = small.data
        self.stages["thumbnail"] = time.perf_counter() - start
        return self._file(
            Role.THUMBNAIL, _THUMBNAIL_NAME, small.data, sha256, _THUMBNAIL_TYPE, small.width, small.height
        )

    def _outcome(self) -> Outcome | None:
        try:
            operation, params = self._work()
            photo = getattr(params, "image", None)
            self.thumbnail = Thumbnail(None if photo is None else photo.sha256, covers=operation.covers(params))
            ctx = Context(
                models=self.runner.models,
                limits=self.runner.limits,
                read=lambda sha256: self._patiently(lambda: self.runner.blobs.get(sha256)),
                attach=self.attach,
                tell=self.tell,
                check=self.check,
                recognise=lambda phash: self.recognise(phash, operation, params),
                thumbnail=self.thumbnail,
            )
            self.stages = ctx.stages
            result = operation.run(params, ctx)
            return Outcome(
                result=result.model_dump(mode="json", exclude_none=True),
                summary=result.summary(),
                phash=self.phash,
                artifacts=tuple(self.files),
            )
        except CancelledError:
            return None
        except SimilarResult as similar:
            return self._answered(similar)
        except LimnerError as error:
            return self._failed(error)
        except Exception as error:
            if is_out_of_memory(error):
                log.warning("job out of memory", extra={"job": self.job.id, "operation": self.job.operation})
                return self._failed(JobMemoryError())
            log.exception("unexpected error in a job", extra={"job": self.job.id, "operation": self.job.operation})
            return self._failed(LimnerError("An unexpected error occurred. Search the log for the job's id."))

    def stored(self) -> set[str]:
        """The blobs that this attempt has stored."""
        return {*self.data, *([] if self.shown is None else [self.shown])}

    def _work(self) -> tuple[Operation[Any, Any], Any]:
        """The operation and its parameters. UnknownWorkError if this version does not know them."""
        operation = self.runner.catalogue.get(self.job.operation)
        if operation is None:
            raise UnknownWorkError(f"This version of the service has no operation {self.job.operation!r}.")
        try:
            return operation, operation.params.model_validate(self.job.params)
        except ValidationError:
            log.exception("job of another version", extra={"job": self.job.id, "operation": self.job.operation})
            raise UnknownWorkError from None

    def _failed(self, error: LimnerError) -> Outcome:
        return Outcome(error=error.problem(), phash=self.phash)

    def _answered(self, similar: SimilarResult) -> Outcome:
        source = similar.source
        copied = replace(source, files=transitions.copies(source.produced, self.job.id))
        return Outcome(
            result=source.result,
            summary=source.summary,
            phash=self.phash,
            artifacts=copied.artifacts,
            thumbnail=copied.thumbnail,
            cached="similar",
            cache_distance=similar.distance,
            computed_at=source.computed_at,
        )

    def recognise(self, phash: int, operation: Operation[Any, Any], params: Any) -> None:
        """Keep the photo's perceptual hash. Raises SimilarResult if the request allows it and a result is found."""
        self.phash = f"{phash:016x}"
        within, key = operation.similar_within, self.job.similarity_key
        if within is None or key is None or getattr(params, "cache", "exact") != "similar":
            return
        since = datetime.now(UTC) - self.runner.cache_for
        try:
            found = self.runner.reader.similar(key, computed_since=since, limit=MOST_SIMILAR)
            distances = ((phash ^ int(other, 16)).bit_count() for _, other in found)
            distance, index = min(((bits, index) for index, bits in enumerate(distances)), default=(within + 1, 0))
            source = self.runner.reader.get(found[index][0]) if distance <= within else None
            if source is None:
                return
            self.data = {file.sha256: self.runner.blobs.get(file.sha256) for file in source.produced}
        except NotFoundError:  # the similar job is being erased
            return
        except UnavailableError as error:
            log.warning("similar results not searched", extra={"job": self.job.id, "detail": error.detail})
            return
        raise SimilarResult(source, distance)

    def attach(self, name: str, data: bytes, media_type: str, width: int | None, height: int | None) -> None:
        sha256 = self._patiently(lambda: self.runner.blobs.put(data, media_type=media_type))
        self.data[sha256] = data
        self.files.append(self._file(Role.ARTIFACT, name, data, sha256, media_type, width, height))

    def _file(
        self, role: Role, name: str, data: bytes, sha256: str, media_type: str, width: int | None, height: int | None
    ) -> File:
        return File(
            id=str(uuid7()),
            job_id=self.job.id,
            role=role,
            name=name,
            sha256=sha256,
            media_type=media_type,
            size=len(data),
            width=width,
            height=height,
        )

    def _patiently(self, call: Callable[[], T]) -> T:
        """The result of a call of the blob store, which is repeated for a while if the store cannot be used.

        UnavailableError after that, what `check` raises.
        """
        patience = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except UnavailableError as error:
                if time.monotonic() > patience:
                    raise
                log.warning("job waits for the blobs", extra={"job": self.job.id, "detail": error.detail})
                self.check()
                time.sleep(RETRY_S)

    def tell(self, fraction: float, preview: Pixels | None) -> None:
        """Tell the clients how far the job is, at most twice a second."""
        if time.monotonic() - self.progressed < PROGRESS_EVERY_S:
            return
        self.progressed = time.monotonic()
        try:
            counts = self._progress(fraction) if preview is None else self._show(fraction, preview)
        except UnavailableError as error:  # the job can go on without it
            log.warning("progress not stored", extra={"job": self.job.id, "detail": error.detail})
            return
        if not counts:
            raise CancelledError
        self.runner.bus.wake()

    def _progress(self, fraction: float) -> bool:
        return self.runner.store.transact(lambda tx: transitions.progress(tx, self.job.id, self.job.attempt, fraction))

    def _show(self, fraction: float, preview: Pixels) -> bool:
        """Store the preview in place of the last one. False if the attempt was overtaken."""
        small = within(preview, PREVIEW_SIDE)
        data = encode(small, "jpeg", quality=PREVIEW_QUALITY, subsampling="420")
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 == self.shown:
            return self._progress(fraction)
        file = self._file(
            Role.PREVIEW, "preview.jpg", data, sha256, "image/jpeg", width=small.shape[1], height=small.shape[0]
        )

        def show(tx: Transaction, is_stored: transitions.IsStored) -> list[str] | transitions.Missing | None:
            return transitions.show(tx, self.job, fraction, file, is_stored=is_stored)

        marked: list[str] | None = bytes_of_jobs.transact_with_bytes(
            self.runner.store,
            self.runner.blobs,
            {sha256: data},
            show,
            media_types={sha256: file.media_type},
            unseen=[sha256],
        )
        if marked is None:
            self.runner.remove(self.job, [sha256])
            return False
        self.shown = sha256
        self.runner.remove(self.job, marked)
        return True

    def check(self) -> None:
        now = time.monotonic()
        lane = self.runner.lanes.get(self.job.lane)
        if lane is not None and now - self.started > lane.timeout_s:
            raise transitions.too_long(self.job, f"The job ran longer than {lane.timeout_s:g} s.")
        if now - self.checked < CHECK_EVERY_S:
            return
        self.checked = now
        try:
            current = self.runner.reader.is_current(self.job.id, self.job.attempt)
        except UnavailableError as error:  # the job can go on without the check
            log.warning("could not check for cancellation", extra={"job": self.job.id, "detail": error.detail})
            return
        if not current:
            raise CancelledError

    def report(self, outcome: Outcome) -> JobReport:
        """Log the end of the job and return its report for the metrics."""
        seconds = time.monotonic() - self.started
        log.info(
            "job %s",
            outcome.status,
            extra={
                "job": self.job.id,
                "operation": self.job.operation,
                "attempt": self.job.attempt,
                "ms": round(seconds * 1000, 1),
                **(outcome.summary or {}),
                **({"cached": outcome.cached} if outcome.cached else {}),
                **({"error": outcome.error["type"]} if outcome.error else {}),
            },
        )
        return JobReport(
            operation=self.job.operation,
            status=outcome.status,
            cached=outcome.cached,
            seconds=seconds,
            stages=dict(self.stages),
            summary=outcome.summary or {},
        )
