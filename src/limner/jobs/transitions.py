"""Every change of a job's state, told once. Each function runs in one transaction: it locks, reads, decides, writes.

A write relies on the status, attempt and leader that were read, and says whether it took effect (`Transaction.change`).
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from uuid_utils import uuid7

from limner.domain.blob import BlobState
from limner.domain.errors import (
    InvalidRequestError,
    JobCrashedError,
    JobFinishedError,
    JobTimeoutError,
    LimnerError,
    NotFoundError,
    QueueFullError,
    UnavailableError,
)
from limner.domain.event import EventType
from limner.domain.job import File, Job, Outcome, Status
from limner.ports import LossReason, Transaction

IsStored = Callable[[str], bool]
"""Whether the caller has stored a blob's bytes, and they are still there."""

Sent = tuple[str, str]
"""Id and lane of a job that an engine should be told of."""


class Decision(StrEnum):
    """What became of a submission."""

    NEW = "new"
    SHARED = "shared"
    """The same work is in flight: this job waits for its result."""
    CACHED = "exact"
    REPEAT = "repeat"
    """The idempotency key is known: the job is the earlier one."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job as it is stored."""

    job: Job
    decision: Decision


@dataclass(frozen=True, slots=True)
class Missing:
    """Nothing was written: these bytes must be stored first. `leaving`: some are being removed just now."""

    sha256s: tuple[str, ...]
    leaving: bool


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure leaves to do: bytes to remove, and a job that may run now."""

    operation: str
    marked: list[str]
    promoted: Sent | None


def submit(
    tx: Transaction, job: Job, *, max_queued: int, cache_for: timedelta, is_stored: IsStored
) -> Submitted | Missing:
    """Take in a new job (status queued, files = its inputs). The first of these that applies:

    its idempotency key is known → that job, unchanged (InvalidRequestError if its cache key differs);
    a job with this cache key succeeded within `cache_for` → stored as succeeded, with that result and its artifacts;
    `max_queued` jobs are queued → QueueFullError, nothing stored;
    a job with this cache key is queued or running → stored as queued behind it (`leader_id`);
    else stored as queued.
    """
    now = _now()
    tx.lock(_work(job) if job.idempotency_key is None else [*_work(job), f"idempotency {job.idempotency_key}"])
    known = tx.known(job, computed_since=now - cache_for, max_queued=max_queued)
    prior = tx.job(known.repeat_id) if known.repeat_id is not None else None
    if prior is not None:
        if prior.cache_key != job.cache_key:
            raise InvalidRequestError("this Idempotency-Key was used for another request")
        return Submitted(prior, Decision.REPEAT)
    source = tx.job(known.cached_id) if known.cached_id is not None else None
    if source is None and known.full:
        raise QueueFullError
    missing = _keep(tx, job.inputs if source is None else (*job.inputs, *source.artifacts), is_stored, now)
    if missing is not None:
        return missing
    if source is not None:
        taken, decision = _answered(job, source, now), Decision.CACHED
    elif known.leader_id is not None:
        taken, decision = replace(job, leader_id=known.leader_id), Decision.SHARED
    else:
        taken, decision = job, Decision.NEW
    if not tx.insert(taken):  # another submission with its idempotency key was quicker
        raise UnavailableError("another request with this Idempotency-Key is being taken in; try again")
    tx.log(taken)
    return Submitted(taken, decision)


def start(tx: Transaction, job_id: str, *, worker: str, lease: timedelta) -> Job | None:
    """Queued → running on `worker`, attempt + 1. None if it is not there, not queued, or has a leader."""
    job = tx.job(job_id)
    if job is None or job.status is not Status.QUEUED or job.leader_id is not None:
        return None
    now = _now()
    started = tx.change(
        job,
        status=Status.RUNNING,
        attempt=job.attempt + 1,
        worker=worker,
        lease_until=now + lease,
        started_at=now,
        progress=0.0,
    )
    if started is not None:
        tx.log(started)
    return started


def renew(tx: Transaction, job_id: str, attempt: int, *, lease: timedelta) -> bool:
    """Extend the attempt's lease. False if it was overtaken."""
    job = _attempt(tx, job_id, attempt)
    return job is not None and tx.change(job, lease_until=_now() + lease) is not None


def progress(tx: Transaction, job_id: str, attempt: int, fraction: float) -> bool:
    """Record progress 0..1 with its event. False if the attempt was overtaken."""
    job = _attempt(tx, job_id, attempt)
    changed = tx.change(job, progress=fraction) if job is not None else None
    if changed is None:
        return False
    tx.log(changed, EventType.PROGRESS)
    return True


def finish(tx: Transaction, job: Job, outcome: Outcome, *, is_stored: IsStored) -> bool | Missing:
    """Running → succeeded or failed, for this attempt at the job and for the jobs that wait behind it.

    False if the attempt was overtaken.
    """
    tx.lock(_work(job))
    current = _attempt(tx, job.id, job.attempt)
    if current is None:
        return False
    missing = _keep(tx, outcome.artifacts, is_stored, _now())
    if missing is not None:
        return missing
    if _end(tx, current, outcome):
        return True
    tx.mark_unnamed({file.sha256 for file in outcome.artifacts}, _now())  # kept for nothing
    return False


def requeue(tx: Transaction, job_id: str, attempt: int) -> bool:
    """Running → queued: hand it back unfinished. False if the attempt was overtaken."""
    job = _attempt(tx, job_id, attempt)
    return job is not None and _requeue(tx, job)


def lose(tx: Transaction, worker: str, reason: LossReason, *, max_attempts: int) -> list[Sent]:
    """End or requeue what runs on a worker that is gone; the jobs that may run again.

    `timeout` ends a job as `job-timeout`; `died` as `job-crashed` after `max_attempts` starts; else it is requeued.
    """
    again: list[Sent] = []
    for job in tx.running_on(worker):
        tx.lock(_work(job))
        error: LimnerError | None = None
        if reason == "timeout":
            error = JobTimeoutError()
        elif reason == "died" and job.attempt >= max_attempts:
            error = _crashed(job)
        if error is not None:
            _end(tx, job, Outcome(error=error.problem()))
        elif _requeue(tx, job):
            again.append((job.id, job.lane))
    return again


def expire(tx: Transaction, job_id: str, *, now: datetime, max_attempts: int) -> bool:
    """A running job whose lease ended before `now` → queued, or failed (`job-crashed`) after `max_attempts` starts.

    False if the lease was renewed meanwhile, or the job no longer runs.
    """
    job = tx.job(job_id)
    if job is None:
        return False
    tx.lock(_work(job))
    job = tx.job(job_id)
    if job is None or job.status is not Status.RUNNING or job.lease_until is None or job.lease_until >= now:
        return False
    if job.attempt >= max_attempts:
        return _end(tx, job, Outcome(error=_crashed(job).problem()), same_lease=True)
    return _requeue(tx, job, same_lease=True)


def cancel(tx: Transaction, job_id: str) -> tuple[Job, Sent | None]:
    """Queued or running → cancelled; what waited behind it takes its place, and is given back second.

    NotFoundError, JobFinishedError.
    """
    job = _known(tx, job_id)
    tx.lock(_work(job))
    job = _known(tx, job_id)
    while not job.status.final:
        cancelled = tx.change(
            job, status=Status.CANCELLED, finished_at=_now(), leader_id=None, worker=None, lease_until=None
        )
        if cancelled is not None:
            tx.log(cancelled)
            return cancelled, _promote(tx, job_id)
        job = _known(tx, job_id)  # it was started meanwhile, which takes no lock
    raise JobFinishedError(f"the job has {job.status} already")


def erase(tx: Transaction, job_id: str) -> Erased:
    """Remove the job, its files and its events' contents, and mark the blobs that no other job names. NotFoundError."""
    job = _known(tx, job_id)
    tx.lock(_work(job))
    job = _known(tx, job_id)
    sha256s = {file.sha256 for file in job.files}
    tx.lock(_bytes(sha256s))
    promoted = _promote(tx, job_id)
    tx.remove(job)
    return Erased(job.operation, tx.mark_unnamed(sha256s, _now()), promoted)


def adopt(tx: Transaction, job_id: str) -> bool:
    """Free a queued job whose leader is gone or has ended, so that it runs by itself."""
    job = tx.job(job_id)
    if job is None or job.status is not Status.QUEUED or job.leader_id is None:
        return False
    tx.lock(_work(job))
    leader = tx.job(job.leader_id)
    if leader is not None and not leader.status.final:
        return False
    return tx.change(job, leader_id=None) is not None


def claim_removal(tx: Transaction, sha256s: Iterable[str]) -> list[str]:
    """Marked → removing, and bytes without a row → removing; those that are now the caller's to remove."""
    wanted = sorted(set(sha256s))
    tx.lock(_bytes(wanted))
    now = _now()
    claimed = [sha256 for sha256 in wanted if tx.blob_state(sha256) in (None, BlobState.MARKED)]
    for sha256 in claimed:
        tx.set_blob(sha256, BlobState.REMOVING, size=0, now=now)
    return claimed


def without_row(tx: Transaction, sha256s: Collection[str]) -> list[str]:
    """Those of these blobs that have no row; none can get one before the transaction ends."""
    tx.lock(_bytes(sha256s))
    return [sha256 for sha256 in sha256s if tx.blob_state(sha256) is None]


# --- inside one transaction ----------------------------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC)


def _work(job: Job) -> list[str]:
    """The lock of all jobs that do the same work: followers must not come while their leader ends."""
    return [f"work {job.cache_key}"]


def _bytes(sha256s: Collection[str]) -> list[str]:
    return [f"bytes {sha256}" for sha256 in sha256s]


def _known(tx: Transaction, job_id: str) -> Job:
    job = tx.job(job_id)
    if job is None:
        raise NotFoundError("no such job")
    return job


def _attempt(tx: Transaction, job_id: str, attempt: int) -> Job | None:
    """The job, if this attempt at it still counts."""
    job = tx.job(job_id)
    return job if job is not None and job.status is Status.RUNNING and job.attempt == attempt else None


def _crashed(job: Job) -> JobCrashedError:
    return JobCrashedError(f"the job was started {job.attempt} times and its worker stopped each time")


def _keep(tx: Transaction, files: Collection[File], is_stored: IsStored, now: datetime) -> Missing | None:
    """Have the blobs of these files kept; or, writing nothing, which bytes must be stored first."""
    sizes = {file.sha256: file.size for file in files}
    tx.lock(_bytes(sizes), shared=True)
    states = {sha256: tx.blob_state(sha256) for sha256 in sizes}
    absent = [sha256 for sha256, state in states.items() if state is not BlobState.KEPT]
    # Looked at only now: while a blob's row is locked and not `removing`, nobody begins to remove its bytes.
    missing = [sha256 for sha256 in absent if states[sha256] is BlobState.REMOVING or not is_stored(sha256)]
    if missing:
        return Missing(tuple(missing), leaving=any(states[sha256] is BlobState.REMOVING for sha256 in missing))
    for sha256 in absent:
        tx.set_blob(sha256, BlobState.KEPT, size=sizes[sha256], now=now)
    return None


def _answered(job: Job, source: Job, now: datetime) -> Job:
    """`job`, finished with what `source` found; the cache ages from when that was worked out."""
    return replace(
        job,
        status=Status.SUCCEEDED,
        progress=1.0,
        cached="exact",
        leader_id=None,
        started_at=now,
        finished_at=now,
        computed_at=source.computed_at,
        result=source.result,
        summary=source.summary,
        files=(*job.files, *copies(source.artifacts, job.id)),
    )


def copies(files: Iterable[File], job_id: str) -> tuple[File, ...]:
    """The same blobs as files of another job."""
    return tuple(replace(file, id=str(uuid7()), job_id=job_id) for file in files)


def _end(tx: Transaction, job: Job, outcome: Outcome, *, same_lease: bool = False) -> bool:
    """End a running job, and answer those that wait behind it with the same outcome."""
    now = _now()
    succeeded = outcome.status is Status.SUCCEEDED
    done = tx.change(
        job,
        same_lease=same_lease,
        status=outcome.status,
        progress=1.0 if succeeded else job.progress,
        worker=None,
        lease_until=None,
        finished_at=now,
        computed_at=(outcome.computed_at or now) if succeeded else None,
        cached=outcome.cached,
        cache_distance=outcome.cache_distance,
        phash=outcome.phash,
        result=outcome.result,
        error=outcome.error,
        summary=outcome.summary,
    )
    if done is None:
        return False
    done = replace(done, files=(*job.inputs, *outcome.artifacts))
    tx.add_artifacts(done, outcome.artifacts)
    tx.log(done)
    for follower in tx.followers(job.id):
        if succeeded:
            _answer_follower(tx, follower, done, now)
        else:
            failed = tx.change(follower, status=outcome.status, error=outcome.error, finished_at=now, leader_id=None)
            if failed is not None:
                tx.log(failed)
    return True


def _answer_follower(tx: Transaction, follower: Job, leader: Job, now: datetime) -> None:
    answered = _answered(follower, leader, now)
    changed = tx.change(
        follower,
        status=answered.status,
        progress=answered.progress,
        cached=answered.cached,
        leader_id=None,
        started_at=now,
        finished_at=now,
        computed_at=answered.computed_at,
        result=answered.result,
        summary=answered.summary,
    )
    if changed is not None:
        tx.add_artifacts(changed, answered.artifacts)
        tx.log(answered)


def _requeue(tx: Transaction, job: Job, *, same_lease: bool = False) -> bool:
    queued = tx.change(
        job,
        same_lease=same_lease,
        status=Status.QUEUED,
        worker=None,
        lease_until=None,
        started_at=None,
        progress=0.0,
    )
    if queued is None:
        return False
    tx.log(queued)
    return True


def _promote(tx: Transaction, leader_id: str) -> Sent | None:
    """Let the oldest of those that wait behind a leader lead the others."""
    first: Job | None = None
    for follower in tx.followers(leader_id):
        if tx.change(follower, leader_id=first.id if first else None) is not None:
            first = first or follower
    return (first.id, first.lane) if first else None
