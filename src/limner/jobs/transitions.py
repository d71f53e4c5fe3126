"""Every change of a job's state. Each function runs in one transaction: it locks, reads, decides and writes.

A write takes effect only if status, attempt and leader are still as read, and reports whether it did
(`Transaction.change`).
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
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
    PainterTimeoutError,
    QueueFullError,
    UnavailableError,
)
from limner.domain.event import EventType
from limner.domain.job import File, Job, Outcome, Status
from limner.domain.lane import REMOTE
from limner.ports import LossReason, Removed, Transaction

IsStored = Callable[[str], bool]
"""Whether the caller has stored the bytes of a blob and they still exist."""

IsIntact = Callable[[File], bool]
"""Whether a file's bytes are there in their full size."""

Sent = tuple[str, str]
"""Id and lane of a job to send to the engine."""


class Decision(StrEnum):
    """The decision about a submission."""

    NEW = "new"
    SHARED = "shared"
    """Another job is doing the same work: this one waits for its result."""
    CACHED = "exact"
    REPEAT = "repeat"
    """The idempotency key is known: the answer is the earlier job."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job as stored, and the decision about it."""

    job: Job
    decision: Decision


@dataclass(frozen=True, slots=True)
class Missing:
    """Nothing was written, because these bytes must be stored first. `leaving`: some of them are being removed."""

    sha256s: tuple[str, ...]
    leaving: bool


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did, and what remains to be done: blobs to remove, and a follower to send to the engine."""

    job: Job
    counts: Removed
    marked: list[str]
    promoted: Sent | None


def submit(
    tx: Transaction, job: Job, *, max_queued: int, cache_for: timedelta, is_stored: IsStored, is_intact: IsIntact
) -> Submitted | Missing:
    """Accept a new job (status queued, files = its inputs). The first rule that applies decides:

        its idempotency key is known → the earlier job, unchanged (InvalidRequestError if the cache keys differ);
    a job with this cache key succeeded within `cache_for`, and its artifacts are intact → stored as succeeded, with
    that result and its artifacts;
    `max_queued` jobs are queued in its lane → QueueFullError, nothing is stored;
    a job with this cache key is queued or running → stored as queued, as its follower (`leader_id`);
    otherwise → stored as queued.
    """
    now = tx.now()
    tx.lock(_work(job) if job.idempotency_key is None else [*_work(job), f"idempotency {job.idempotency_key}"])
    known = tx.known(job, computed_since=now - cache_for, max_queued=max_queued)
    prior = tx.job(known.repeat_id) if known.repeat_id is not None else None
    if prior is not None:
        if prior.cache_key != job.cache_key:
            raise InvalidRequestError("This Idempotency-Key was used for another request. Send a new key.")
        return Submitted(prior, Decision.REPEAT)
    source = tx.job(known.cached_id) if known.cached_id is not None else None
    if source is not None and not all(is_intact(file) for file in source.produced):
        source = None
    if source is None and known.full:
        raise QueueFullError
    missing = _keep(tx, job.inputs if source is None else (*job.inputs, *source.produced), is_stored, now)
    if missing is not None:
        return missing
    if source is not None:
        taken, decision = _answered(job, source, now), Decision.CACHED
    elif known.leader_id is not None:
        taken, decision = replace(job, leader_id=known.leader_id), Decision.SHARED
    else:
        taken, decision = replace(job, sent_at=now), Decision.NEW  # the caller sends it after the commit
    if not tx.insert(taken):  # another submission with the same idempotency key was faster
        raise UnavailableError("Another request with this Idempotency-Key is being processed. Try again.")
    tx.log(taken)
    return Submitted(taken, decision)


def start(tx: Transaction, job_id: str, *, worker: str, lease: timedelta) -> Job | None:
    """Queued → running on `worker`, attempt + 1. None if the job does not exist, is not queued, or has a leader."""
    job = tx.job(job_id)
    if job is None or job.status is not Status.QUEUED or job.leader_id is not None:
        return None
    now = tx.now()
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
    return job is not None and tx.change(job, lease_until=tx.now() + lease) is not None


def progress(tx: Transaction, job_id: str, attempt: int, fraction: float) -> bool:
    """Record progress 0..1 with its event. False if the attempt was overtaken."""
    job = _attempt(tx, job_id, attempt)
    changed = tx.change(job, progress=fraction) if job is not None else None
    if changed is None:
        return False
    tx.log(changed, EventType.PROGRESS)
    return True


def show(
    tx: Transaction, job: Job, fraction: float, preview: File, *, is_stored: IsStored
) -> list[str] | Missing | None:
    """Record progress with a preview, which replaces an earlier one of this attempt at the job.

    Returns the marked blobs, whose bytes are to be removed; None if the attempt was overtaken.
    """
    tx.lock(_work(job))  # an erasure must see the new file
    current = _attempt(tx, job.id, job.attempt)
    if current is None:
        return None
    now = tx.now()
    missing = _keep(tx, [preview], is_stored, now)
    if missing is not None:
        return missing
    changed = tx.change(current, progress=fraction)
    if changed is None:
        tx.mark_unnamed({preview.sha256}, now)
        return None
    tx.add_files(changed, [preview])
    marked = _drop_previews(tx, current, now)
    tx.log(replace(changed, files=(*current.inputs, preview)), EventType.PROGRESS)
    return marked


def finish(tx: Transaction, job: Job, outcome: Outcome, *, is_stored: IsStored) -> bool | Missing:
    """Running → succeeded or failed, for this attempt at the job and for the job's followers.

    False if the attempt was overtaken.
    """
    tx.lock(_work(job))
    current = _attempt(tx, job.id, job.attempt)
    if current is None:
        return False
    missing = _keep(tx, outcome.files, is_stored, tx.now())
    if missing is not None:
        return missing
    if _end(tx, current, outcome):
        return True
    tx.mark_unnamed({file.sha256 for file in outcome.files}, tx.now())  # `_keep` has kept them, but no job uses them
    return False


def lose(tx: Transaction, worker: str, reason: LossReason, *, max_attempts: int) -> list[Sent]:
    """End or requeue the jobs of a worker that has ended; returns the requeued ones.

    `timeout` ends a job as `too_long` says; `died` as `job-crashed` after `max_attempts` starts; else it is requeued,
    unless it may be started only once.
    """
    again: list[Sent] = []
    for seen in tx.running_on(worker):
        tx.lock(_work(seen))
        job = _attempt(tx, seen.id, seen.attempt)  # a preview may have been added before the lock was had
        if job is None:
            continue
        error: LimnerError | None = None
        if reason == "timeout":
            error = too_long(job, "The job exceeded its time limit.")
        elif _only_once(job) or (reason == "died" and job.attempt >= max_attempts):
            error = _crashed(job)
        if error is not None:
            _end(tx, job, Outcome(error=error.problem()))
        elif _requeue(tx, job):
            again.append((job.id, job.lane))
    return again


def expire(tx: Transaction, job_id: str, *, now: datetime, max_attempts: int) -> bool:
    """Running, with a lease that ended before `now` → queued, or failed (`job-crashed`) after `max_attempts` starts.

    A job that may be started only once fails at its first.
    False if the lease was renewed meanwhile or the job is no longer running.
    """
    job = tx.job(job_id)
    if job is None:
        return False
    tx.lock(_work(job))
    job = tx.job(job_id)
    if job is None or job.status is not Status.RUNNING or job.lease_until is None or job.lease_until >= now:
        return False
    if _only_once(job) or job.attempt >= max_attempts:
        return _end(tx, job, Outcome(error=_crashed(job).problem()), same_lease=True)
    return _requeue(tx, job, same_lease=True)


def give_up(tx: Transaction, job_id: str, *, before: datetime) -> bool:
    """Queued, and created before `before` → failed (`job-timeout`); its oldest follower becomes a leader.

    False if it is not so any more.
    """
    job = tx.job(job_id)
    if job is None:
        return False
    tx.lock(_work(job))
    job = tx.job(job_id)
    if job is None or job.status is not Status.QUEUED or job.created_at >= before:
        return False
    error = JobTimeoutError("No worker was free for the job in the time for which jobs are kept.")
    failed = tx.change(job, status=Status.FAILED, error=error.problem(), finished_at=tx.now(), leader_id=None)
    if failed is None:  # it was started meanwhile: `start` takes no lock
        return False
    tx.log(failed)
    _promote(tx, job_id)  # the sweep sends it
    return True


def cancel(tx: Transaction, job_id: str) -> tuple[Job, Sent | None]:
    """Queued or running → cancelled. Returns the job, and its oldest follower if that becomes a leader now.

    NotFoundError, JobFinishedError.
    """
    job = _known(tx, job_id)
    tx.lock(_work(job))
    job = _known(tx, job_id)
    while not job.status.final:
        cancelled = tx.change(
            job, status=Status.CANCELLED, finished_at=tx.now(), leader_id=None, worker=None, lease_until=None
        )
        if cancelled is not None:
            cancelled = _without_previews(tx, cancelled)
            tx.log(cancelled)
            return cancelled, _promote(tx, job_id)
        job = _known(tx, job_id)  # it was started meanwhile: `start` takes no lock
    raise JobFinishedError(f"The job has already finished ({job.status}).")


def erase(tx: Transaction, job_id: str) -> Erased:
    """Remove the job, its files and the contents of its events; mark blobs that no other job uses. NotFoundError."""
    job = _known(tx, job_id)
    tx.lock(_work(job))
    job = _known(tx, job_id)
    sha256s = {file.sha256 for file in job.files}
    tx.lock(_bytes(sha256s))
    promoted = _promote(tx, job_id)
    counts = tx.remove(job)
    return Erased(job, counts, tx.mark_unnamed(sha256s, tx.now()), promoted)


def hold(tx: Transaction, job_ids: Collection[str]) -> set[str]:
    """Those of these jobs that exist. None of them can be erased before the transaction ends."""
    found = [job for job_id in sorted(job_ids) if (job := tx.job(job_id)) is not None]
    tx.lock([name for job in found for name in _work(job)])
    return {job.id for job in found if tx.job(job.id) is not None}


def adopt(tx: Transaction, job_id: str) -> bool:
    """Remove the leader of a queued job if that does not exist or has ended, so that the job runs by itself."""
    job = tx.job(job_id)
    if job is None or job.status is not Status.QUEUED or job.leader_id is None:
        return False
    tx.lock(_work(job))
    leader = tx.job(job.leader_id)
    if leader is not None and not leader.status.final:
        return False
    return tx.change(job, leader_id=None) is not None


def claim_removal(tx: Transaction, sha256s: Iterable[str]) -> list[str]:
    """Marked → removing, and no row → removing. Returns these blobs; the caller must now remove their bytes."""
    wanted = sorted(set(sha256s))
    tx.lock(_bytes(wanted))
    now = tx.now()
    claimed = [sha256 for sha256 in wanted if tx.blob_state(sha256) in (None, BlobState.MARKED)]
    for sha256 in claimed:
        tx.set_blob(sha256, BlobState.REMOVING, size=0, now=now)
    return claimed


def without_row(tx: Transaction, sha256s: Collection[str]) -> list[str]:
    """Those of these blobs that have no row; none can get a row before the transaction ends."""
    tx.lock(_bytes(sha256s))
    return [sha256 for sha256 in sha256s if tx.blob_state(sha256) is None]


# --- inside one transaction ----------------------------------------------------------------------------------------


def _work(job: Job) -> list[str]:
    """The lock of all jobs with the same work. It prevents that a follower is added while its leader ends."""
    return [f"work {job.cache_key}"]


def _bytes(sha256s: Collection[str]) -> list[str]:
    return [f"bytes {sha256}" for sha256 in sha256s]


def _known(tx: Transaction, job_id: str) -> Job:
    job = tx.job(job_id)
    if job is None:
        raise NotFoundError("The job does not exist. It may have been erased.")
    return job


def _attempt(tx: Transaction, job_id: str, attempt: int) -> Job | None:
    """The job, if this is still its current attempt."""
    job = tx.job(job_id)
    return job if job is not None and job.status is Status.RUNNING and job.attempt == attempt else None


def _only_once(job: Job) -> bool:
    """Whether the job may not be started again: what it asks of another server may be charged for each time."""
    return job.lane == REMOTE


def too_long(job: Job, detail: str) -> LimnerError:
    """The error of a job whose time is over; one that waited for another server tells that it may be charged for."""
    if _only_once(job):
        return PainterTimeoutError.of_job(detail)
    return JobTimeoutError(detail)


def _crashed(job: Job) -> JobCrashedError:
    if _only_once(job):
        return JobCrashedError(
            "The worker process ended while another server did the job. That server may have painted, and charged for "
            "it, so the job is not started again."
        )
    return JobCrashedError(f"The job was started {job.attempt} times, and its worker process ended each time.")


def _keep(tx: Transaction, files: Collection[File], is_stored: IsStored, now: datetime) -> Missing | None:
    """Set the blobs of these files to `kept`. If bytes must be stored first, write nothing and return which."""
    sizes = {file.sha256: file.size for file in files}
    tx.lock(_bytes(sizes), shared=True)
    states = {sha256: tx.blob_state(sha256) for sha256 in sizes}
    absent = [sha256 for sha256, state in states.items() if state is not BlobState.KEPT]
    # Checked only after locking: while a blob's row is locked and not `removing`, no removal of its bytes can begin.
    missing = [sha256 for sha256 in absent if states[sha256] is BlobState.REMOVING or not is_stored(sha256)]
    if missing:
        return Missing(tuple(missing), leaving=any(states[sha256] is BlobState.REMOVING for sha256 in missing))
    for sha256 in absent:
        tx.set_blob(sha256, BlobState.KEPT, size=sizes[sha256], now=now)
    return None


def _answered(job: Job, source: Job, now: datetime) -> Job:
    """`job`, finished with the result of `source`. `computed_at` is copied, so that the cache expires on time."""
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
        files=(*job.files, *copies(source.produced, job.id)),
    )


def copies(files: Iterable[File], job_id: str) -> tuple[File, ...]:
    """The same files for another job, with new ids."""
    return tuple(replace(file, id=str(uuid7()), job_id=job_id) for file in files)


def _end(tx: Transaction, job: Job, outcome: Outcome, *, same_lease: bool = False) -> bool:
    """End a running job, and finish its followers with the same outcome."""
    now = tx.now()
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
    _drop_previews(tx, job, now)
    done = replace(done, files=(*job.inputs, *outcome.files))
    tx.add_files(done, outcome.files)
    tx.log(done)
    for follower in tx.followers(job.id):
        if succeeded:
            _answer_follower(tx, follower, done, now)
        else:
            failed = tx.change(follower, status=outcome.status, error=outcome.error, finished_at=now, leader_id=None)
            if failed is not None:
                shown = copies(outcome.files, failed.id)
                tx.add_files(failed, shown)
                tx.log(replace(failed, files=(*failed.files, *shown)))
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
        tx.add_files(changed, answered.produced)
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
        sent_at=None,
    )
    if queued is None:
        return False
    tx.log(_without_previews(tx, queued))
    return True


def _without_previews(tx: Transaction, job: Job) -> Job:
    """The job after its previews were dropped."""
    _drop_previews(tx, job, tx.now())
    return replace(job, files=tuple(file for file in job.files if file not in job.previews))


def _drop_previews(tx: Transaction, job: Job, now: datetime) -> list[str]:
    """Remove the previews of a job. Returns the marked blobs; the sweep removes those that nobody else does."""
    sha256s = {file.sha256 for file in job.previews if tx.drop_file(file)}
    if not sha256s:
        return []
    tx.lock(_bytes(sha256s))
    return tx.mark_unnamed(sha256s, now)


def _promote(tx: Transaction, leader_id: str) -> Sent | None:
    """Make the oldest follower of this leader the leader of the others. Returns it, None if there is no follower."""
    first: Job | None = None
    for follower in tx.followers(leader_id):
        if tx.change(follower, leader_id=first.id if first else None) is not None:
            first = first or follower
    return (first.id, first.lane) if first else None
