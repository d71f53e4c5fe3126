"""The only code that runs a job.

Starting is a conditional update that raises the attempt number; finishing is refused when the attempt was overtaken
(cancelled, erased, its lease given to another). So a job sent twice, or left by a worker killed at any instruction,
is never lost and never finished twice.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import ValidationError
from uuid_utils import uuid7

from limner.domain.errors import JobTimeoutError, LimnerError
from limner.domain.job import File, Job, Outcome, Role
from limner.jobs.keep import keep_named
from limner.operation import Attached, CancelledError, Context, Operation
from limner.ports import BlobStore, Bus, JobStore
from limner.telemetry import FACES, JOB_SECONDS, JOBS_FINISHED, JOBS_RUNNING, STAGE_SECONDS
from limner.vision.image import Limits
from limner.vision.models import Models

log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 0.5
CHECK_EVERY_S = 0.2  # a question to the database: not worth asking between two quick steps


@dataclass(frozen=True)
class Runner:
    """Runs jobs of the catalogue's operations."""

    catalogue: Mapping[str, Operation[Any, Any]]
    store: JobStore
    blobs: BlobStore
    bus: Bus
    models: Models
    limits: Limits
    lease: timedelta
    timeout_s: float

    def run(self, job_id: str, on_start: Callable[[int], None] = lambda _: None) -> None:
        """Run the job if it still waits; `on_start` is told the attempt's number. Errors end in the job, not here."""
        job = self.store.start(job_id, lease=self.lease)
        if job is None:
            return
        on_start(job.attempt)
        self.bus.wake()
        attempt = _Attempt(self, job)
        with JOBS_RUNNING.track_inprogress():
            outcome = attempt.outcome()
        if outcome is None or not self.store.finish(job.id, job.attempt, outcome):
            self.store.forget([each.file.sha256 for each in attempt.attached], self.blobs.delete)
            log.info("job overtaken", extra={"job": job.id, "operation": job.operation, "attempt": job.attempt})
            return
        for each in attempt.attached:
            keep_named(self.store, self.blobs, each.file.sha256, each.data)
        self.bus.wake()
        attempt.tell(outcome)


@dataclass
class _Attempt:
    """One try at one job."""

    runner: Runner
    job: Job
    attached: list[Attached] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    progressed: float = 0.0
    checked: float = field(default_factory=time.monotonic)
    stages: dict[str, float] = field(default_factory=dict)

    def outcome(self) -> Outcome | None:
        """What came of it; None if it was overtaken."""
        try:
            operation = self.runner.catalogue[self.job.operation]
            ctx = Context(
                models=self.runner.models,
                limits=self.runner.limits,
                read=self.runner.blobs.get,
                attach=self.attach,
                progress=self.progress,
                check=self.check,
            )
            self.stages = ctx.stages
            result = operation.run(operation.params.model_validate(self.job.params), ctx)
            return Outcome(
                result=result.model_dump(mode="json", exclude_none=True),
                faces_count=result.faces_count(),
                look=None if ctx.look is None else f"{ctx.look:016x}",
                artifacts=tuple(each.file for each in self.attached),
            )
        except CancelledError:
            return None
        except LimnerError as error:
            return self._failed(error)
        except (KeyError, ValidationError):
            # Stored by another version of the service, whose operation or parameters this one does not have.
            log.exception("job of an unknown kind", extra={"job": self.job.id, "operation": self.job.operation})
            return self._failed(LimnerError("this version of the service cannot run the job"))
        except Exception:
            log.exception("job error", extra={"job": self.job.id, "operation": self.job.operation})
            return self._failed(LimnerError("an unexpected error; the log has it under the job's id"))

    @staticmethod
    def _failed(error: LimnerError) -> Outcome:
        return Outcome(error=error.problem())

    def attach(self, name: str, data: bytes, media_type: str, width: int | None, height: int | None) -> None:
        file = File(
            id=str(uuid7()),
            job_id=self.job.id,
            role=Role.ARTIFACT,
            name=name,
            sha256=self.runner.blobs.put(data),
            media_type=media_type,
            size=len(data),
            width=width,
            height=height,
        )
        self.attached.append(Attached(file, data))

    def progress(self, fraction: float) -> None:
        if time.monotonic() - self.progressed < PROGRESS_EVERY_S:
            return
        self.progressed = time.monotonic()
        if not self.runner.store.progress(self.job.id, self.job.attempt, fraction):
            raise CancelledError
        self.runner.bus.wake()

    def check(self) -> None:
        now = time.monotonic()
        if now - self.started > self.runner.timeout_s:
            raise JobTimeoutError(f"the job ran longer than {self.runner.timeout_s:g} s")
        if now - self.checked < CHECK_EVERY_S:
            return
        self.checked = now
        if not self.runner.store.alive(self.job.id, self.job.attempt):
            raise CancelledError

    def tell(self, outcome: Outcome) -> None:
        seconds = time.monotonic() - self.started
        operation = self.job.operation
        JOBS_FINISHED.labels(operation, outcome.status).inc()
        JOB_SECONDS.labels(operation).observe(seconds)
        for stage, spent in self.stages.items():
            STAGE_SECONDS.labels(operation, stage).observe(spent)
        if outcome.faces_count:
            FACES.labels(operation).inc(outcome.faces_count)
        log.info(
            "job %s",
            outcome.status,
            extra={
                "job": self.job.id,
                "operation": operation,
                "attempt": self.job.attempt,
                "faces": outcome.faces_count,
                "ms": round(seconds * 1000, 1),
                **({"error": outcome.error["type"]} if outcome.error else {}),
            },
        )
