"""The job store on a SQL database (SQLite now). The contract is `ports.JobStore`'s, the tables are `schema.py`'s,
the statements that every job takes `sql_statements.py`'s.

SQLite has one writer, and every change here begins as that writer: so no row lock is needed, and what a transaction
reads first is still true when it writes.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from uuid_utils import uuid7

from limner.adapters import sql_rows
from limner.adapters import sql_statements as sql
from limner.adapters.schema import events, files, jobs
from limner.domain.errors import (
    InvalidRequestError,
    JobCrashedError,
    JobFinishedError,
    NotFoundError,
    QueueFullError,
    UnavailableError,
)
from limner.domain.event import Event, EventType, content_of
from limner.domain.job import File, Job, Outcome, Status

TURN_S = 5  # as long as a writer waits for another process: see `sql_engine.py`


class SqlJobs:
    """`ports.JobStore` on SQLAlchemy Core. Every method raises UnavailableError when the database cannot be used."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = engine.execution_options(write=True)
        self._turn = threading.Lock()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        # SQLite lets a second writer sleep and look again; a lock wakes it the moment the first is done.
        if not self._turn.acquire(timeout=TURN_S):
            raise UnavailableError("the database cannot be used just now (others wait for it too)")
        try:
            with _told_as_unavailable(), self._writer.begin() as db:
                yield db
        finally:
            self._turn.release()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _told_as_unavailable(), self._engine.connect() as db:
            yield db

    # --- taking in -------------------------------------------------------------------------------------------------

    def submit(
        self,
        job: Job,
        *,
        max_queued: int,
        cache_for: timedelta,
        similar_within: int = 0,
        idempotency_key: str | None = None,
    ) -> Job:
        """See `ports.JobStore.submit`."""
        with self._writing() as db:
            if idempotency_key is not None:
                row = db.execute(sql.BY_IDEMPOTENCY_KEY, {"key": idempotency_key}).first()
                if row is not None:
                    if row.cache_key != job.cache_key:
                        raise InvalidRequestError("this Idempotency-Key was used for another request")
                    return _known(db, row.id)
            since = sql_rows.micros(datetime.now(UTC) - cache_for)
            (found,) = sql.AT_SUBMISSION.rows(db, {"key": job.cache_key, "since": since})
            done = _exact(db, job, found["cached_id"]) or _similar(db, job, since, similar_within)
            if done is not None:
                _insert(db, done, idempotency_key)
                _log(db, done)
                return done
            if found["queued"] >= max_queued:
                raise QueueFullError
            job = replace(job, leader_id=found["leader_id"])
            _insert(db, job, idempotency_key)
            _log(db, job)
            return job

    # --- running ---------------------------------------------------------------------------------------------------

    def start(self, job_id: str, *, lease: timedelta) -> Job | None:
        """See `ports.JobStore.start`."""
        now = datetime.now(UTC)
        with self._writing() as db:
            times = {"now": sql_rows.micros(now), "until": sql_rows.micros(now + lease)}
            started = sql.START.rows(db, {"of_job": job_id, **times})
            if not started:
                return None
            job = _with_files(db, started[0])
            _log(db, job)
            return job

    def alive(self, job_id: str, attempt: int) -> bool:
        """See `ports.JobStore.alive`."""
        with self._reading() as db:
            return db.scalar(sql.COUNT_ATTEMPT, _of(job_id, attempt)) == 1

    def renew(self, attempts: Iterable[tuple[str, int]], *, lease: timedelta) -> None:
        """See `ports.JobStore.renew`."""
        until = sql_rows.micros(datetime.now(UTC) + lease)
        rows = [{**_of(job_id, attempt), "until": until} for job_id, attempt in attempts]
        if rows:
            with self._writing() as db:
                db.execute(sql.RENEW, rows)

    def progress(self, job_id: str, attempt: int, fraction: float) -> bool:
        """See `ports.JobStore.progress`."""
        with self._writing() as db:
            changed = db.execute(update(jobs).where(sql.ATTEMPT).values(progress=fraction), _of(job_id, attempt))
            if changed.rowcount == 0:
                return False
            _log(db, _known(db, job_id), EventType.PROGRESS)
            return True

    def finish(self, job_id: str, attempt: int, outcome: Outcome) -> bool:
        """See `ports.JobStore.finish`."""
        with self._writing() as db:
            held = sql.HOLD.rows(db, _of(job_id, attempt))
            if not held:
                return False
            _finish(db, _with_files(db, held[0]), outcome)
            return True

    def release(self, job_id: str, attempt: int) -> bool:
        """See `ports.JobStore.release`."""
        with self._writing() as db:
            return _requeue(db, job_id, attempt)

    def expire(self, *, max_attempts: int, now: datetime) -> int:
        """See `ports.JobStore.expire`."""
        with self._writing() as db:
            rows = db.execute(
                select(jobs.c.id, jobs.c.attempt).where(
                    jobs.c.status == Status.RUNNING, jobs.c.lease_until < sql_rows.micros(now)
                )
            ).all()
            for row in rows:
                if row.attempt < max_attempts:
                    _requeue(db, row.id, row.attempt)
                else:
                    error = JobCrashedError(f"started {row.attempt} times, never finished")
                    _finish(db, _known(db, row.id), Outcome(error=error.problem()))
            return len(rows)

    # --- ending ----------------------------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> Job:
        """See `ports.JobStore.cancel`."""
        with self._writing() as db:
            job = _known(db, job_id)
            if job.status.final:
                raise JobFinishedError(f"the job has {job.status} already")
            now = datetime.now(UTC)
            job = replace(job, status=Status.CANCELLED, finished_at=now, leader_id=None)
            ended = {"status": job.status, "finished_at": sql_rows.micros(now), "lease_until": None, "leader_id": None}
            db.execute(update(jobs).where(jobs.c.id == job_id).values(ended))
            _log(db, job)
            _promote(db, job_id)
            return job

    def erase(self, job_id: str, delete_blob: Callable[[str], None]) -> None:
        """See `ports.JobStore.erase`."""
        with self._writing() as db:
            job = _known(db, job_id)
            _promote(db, job_id)
            db.execute(delete(files).where(files.c.job_id == job_id))
            db.execute(delete(jobs).where(jobs.c.id == job_id))
            db.execute(update(events).where(events.c.job_id == job_id).values(content=None))
            _forget(db, {file.sha256 for file in job.files}, delete_blob)

    def forget(self, sha256s: Sequence[str], delete_blob: Callable[[str], None]) -> None:
        """See `ports.JobStore.forget`."""
        with self._writing() as db:
            _forget(db, sha256s, delete_blob)

    def outdated(self, before: datetime, limit: int) -> list[str]:
        """See `ports.JobStore.outdated`."""
        with self._reading() as db:
            return list(
                db.scalars(
                    select(jobs.c.id)
                    .where(jobs.c.created_at < sql_rows.micros(before), jobs.c.status.not_in(sql.OPEN))
                    .order_by(jobs.c.id)
                    .limit(limit)
                )
            )

    def drop_events(self, before: datetime) -> None:
        """See `ports.JobStore.drop_events`."""
        with self._writing() as db:
            db.execute(delete(events).where(events.c.time < sql_rows.micros(before)))

    # --- reading ---------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Job | None:
        """See `ports.JobStore.get`."""
        with self._reading() as db:
            return _find(db, job_id)

    def page(
        self, *, operation: str | None = None, status: Status | None = None, before: str | None = None, limit: int = 50
    ) -> list[Job]:
        """See `ports.JobStore.page`."""
        query = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if operation is not None:
            query = query.where(jobs.c.operation == operation)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if before is not None:
            query = query.where(jobs.c.id < before)
        with self._reading() as db:
            rows = db.execute(query).mappings().all()
            named: dict[str, list[File]] = {row["id"]: [] for row in rows}
            for file in db.execute(
                select(files).where(files.c.job_id.in_(list(named))).order_by(files.c.position)
            ).mappings():
                named[file["job_id"]].append(sql_rows.file(file))
            return [sql_rows.job(row, named[row["id"]]) for row in rows]

    def file(self, file_id: str) -> File | None:
        """See `ports.JobStore.file`."""
        with self._reading() as db:
            row = db.execute(select(files).where(files.c.id == file_id)).mappings().first()
            return sql_rows.file(row) if row is not None else None

    def artifact(self, job_id: str, name: str) -> File | None:
        """See `ports.JobStore.artifact`."""
        with self._reading() as db:
            found = sql.ARTIFACT.rows(db, {"of_job": job_id, "of_name": name})
            return sql_rows.file(found[0]) if found else None

    def waiting(self, limit: int) -> list[tuple[str, str]]:
        """See `ports.JobStore.waiting`."""
        with self._reading() as db:
            rows = db.execute(
                select(jobs.c.id, jobs.c.lane)
                .where(jobs.c.status == Status.QUEUED, jobs.c.leader_id.is_(None))
                .order_by(jobs.c.id)
                .limit(limit)
            )
            return [(row.id, row.lane) for row in rows]

    def queued(self) -> int:
        """See `ports.JobStore.queued`."""
        with self._reading() as db:
            return _count_queued(db)

    def sizes(self, cache_for: timedelta) -> tuple[int, int]:
        """See `ports.JobStore.sizes`."""
        since = sql_rows.micros(datetime.now(UTC) - cache_for)
        blobs = select(files.c.sha256, files.c.size).distinct().subquery()
        results = select(func.count(jobs.c.cache_key.distinct())).where(
            jobs.c.status == Status.SUCCEEDED, jobs.c.computed_at >= since
        )
        with self._reading() as db:
            return db.scalar(results) or 0, int(db.scalar(select(func.sum(blobs.c.size))) or 0)

    def events(self, after: int, *, limit: int, job_id: str | None = None, operation: str | None = None) -> list[Event]:
        """See `ports.JobStore.events`."""
        after_and_most = {"after": after, "most": limit}
        if job_id is None and operation is None:
            with self._reading() as db:
                return [sql_rows.event(row) for row in sql.ALL_EVENTS.rows(db, after_and_most)]
        query = sql.EVENTS
        if job_id is not None:
            query = query.where(events.c.job_id == job_id)
        if operation is not None:
            query = query.where(events.c.operation == operation)
        with self._reading() as db:
            return [sql_rows.event(row) for row in db.execute(query, after_and_most).mappings()]

    def last_event_id(self) -> int:
        """See `ports.JobStore.last_event_id`."""
        with self._reading() as db:
            # The sequence, not max(id): it remembers also what was dropped.
            last = db.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'events'").scalar()
            return int(last or 0)

    def ping(self) -> None:
        """See `ports.JobStore.ping`."""
        with self._writing() as db:
            # The migrations' own row, as it is: a write like any other, which a full disk refuses.
            db.execute(text("UPDATE alembic_version SET version_num = version_num"))

    def close(self) -> None:
        """See `ports.JobStore.close`."""
        self._engine.dispose()


@contextmanager
def _told_as_unavailable() -> Iterator[None]:
    """What the database says when it is locked, full, read-only or gone; it may be another time."""
    try:
        yield
    except (OperationalError, NoConnectionError) as error:
        reason = error.orig if isinstance(error, OperationalError) else error
        raise UnavailableError(f"the database cannot be used just now ({reason})") from error


# --- inside one transaction ----------------------------------------------------------------------------------------


def _of(job_id: str, attempt: int) -> dict[str, Any]:
    """The parameters of `sql.ATTEMPT`."""
    return {"of_job": job_id, "of_attempt": attempt}


def _count_queued(db: Connection) -> int:
    return db.scalar(sql.COUNT_QUEUED) or 0


def _find(db: Connection, job_id: str) -> Job | None:
    found = sql.JOB.rows(db, {"of_job": job_id})
    return _with_files(db, found[0]) if found else None


def _with_files(db: Connection, row: Mapping[Any, Any]) -> Job:
    return sql_rows.job(row, [sql_rows.file(file) for file in sql.FILES.rows(db, {"of_job": row["id"]})])


def _known(db: Connection, job_id: str) -> Job:
    job = _find(db, job_id)
    if job is None:
        raise NotFoundError("no such job")
    return job


def _exact(db: Connection, job: Job, source_id: str | None) -> Job | None:
    """The job as it stands when `source_id`'s result answers it; None without one."""
    return None if source_id is None else _answered(_known(db, source_id), job, datetime.now(UTC))


def _similar(db: Connection, job: Job, since: int | None, similar_within: int) -> Job | None:
    """The job as it stands when the result of a photo that looks the same answers it, or None."""
    if job.look is None or job.rest_key is None:
        return None
    rows = db.execute(sql.SIMILAR, {"rest": job.rest_key, "since": since}).all()
    look = int(job.look, 16)
    distance, source_id = min((((look ^ int(row.look, 16)).bit_count(), row.id) for row in rows), default=(65, ""))
    if distance > similar_within:
        return None
    answered = _answered(_known(db, source_id), job, datetime.now(UTC))
    return replace(answered, cached="similar", cache_distance=distance)


def _answered(source: Job, job: Job, now: datetime) -> Job:
    """`job`, finished with what `source` found; the cache ages from when that was worked out."""
    shared = tuple(replace(file, id=str(uuid7()), job_id=job.id) for file in source.artifacts)
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
        faces_count=source.faces_count,
        files=(*job.files, *shared),
    )


def _finish(db: Connection, job: Job, outcome: Outcome) -> None:
    """End the job, and answer those that wait behind it with the same outcome."""
    now = datetime.now(UTC)
    done = replace(
        job,
        status=outcome.status,
        progress=1.0 if outcome.status is Status.SUCCEEDED else job.progress,
        finished_at=now,
        computed_at=now,
        look=outcome.look or job.look,
        result=outcome.result,
        error=outcome.error,
        faces_count=outcome.faces_count,
        files=(*job.inputs, *outcome.artifacts),
    )
    _store_end(db, done)
    for row in sql.FOLLOWERS.rows(db, {"of_job": job.id}):
        follower = _known(db, row["id"])
        if outcome.status is Status.SUCCEEDED:
            _store_end(db, _answered(done, follower, now))
        else:
            _store_end(
                db, replace(follower, status=outcome.status, error=outcome.error, finished_at=now, leader_id=None)
            )


def _store_end(db: Connection, job: Job) -> None:
    sql.END.run(
        db,
        {
            "of_job": job.id,
            "new_status": job.status,
            "new_progress": job.progress,
            "new_cached": job.cached,
            "new_look": job.look,
            "new_started_at": sql_rows.micros(job.started_at),
            "new_finished_at": sql_rows.micros(job.finished_at),
            "new_computed_at": sql_rows.micros(job.computed_at),
            "new_result": sql_rows.json_text(job.result),
            "new_error": sql_rows.json_text(job.error),
            "new_faces_count": job.faces_count,
        },
    )
    _insert_files(db, job.artifacts, len(job.inputs))
    _log(db, job)


def _requeue(db: Connection, job_id: str, attempt: int) -> bool:
    changed = db.execute(
        update(jobs).where(sql.ATTEMPT).values(status=Status.QUEUED, lease_until=None, started_at=None, progress=0.0),
        _of(job_id, attempt),
    )
    if changed.rowcount == 0:
        return False
    _log(db, _known(db, job_id))
    return True


def _promote(db: Connection, leader_id: str) -> None:
    """Let the oldest of those that wait behind `leader_id` lead the others; the sweep, or its caller, sends it."""
    followers = [row["id"] for row in sql.FOLLOWERS.rows(db, {"of_job": leader_id})]
    if followers:
        db.execute(update(jobs).where(jobs.c.id == followers[0]).values(leader_id=None))
        db.execute(update(jobs).where(jobs.c.leader_id == leader_id).values(leader_id=followers[0]))


def _forget(db: Connection, sha256s: Iterable[str], delete_blob: Callable[[str], None]) -> None:
    wanted = list(sha256s)
    named = set(db.scalars(select(files.c.sha256).where(files.c.sha256.in_(wanted))))
    for sha256 in wanted:
        if sha256 not in named:
            delete_blob(sha256)


def _insert(db: Connection, job: Job, idempotency_key: str | None) -> None:
    sql.ADD_JOB.run(
        db,
        {
            "id": job.id,
            "operation": job.operation,
            "lane": job.lane,
            "status": job.status,
            "progress": job.progress,
            "cached": job.cached,
            "cache_distance": job.cache_distance,
            "look": job.look,
            "rest_key": job.rest_key,
            "params": sql_rows.json_text(job.params),
            "cache_key": job.cache_key,
            "leader_id": job.leader_id,
            "lease_until": None,
            "attempt": job.attempt,
            "idempotency_key": idempotency_key,
            "created_at": sql_rows.micros(job.created_at),
            "started_at": sql_rows.micros(job.started_at),
            "finished_at": sql_rows.micros(job.finished_at),
            "computed_at": sql_rows.micros(job.computed_at),
            "result": sql_rows.json_text(job.result),
            "error": sql_rows.json_text(job.error),
            "faces_count": job.faces_count,
        },
    )
    _insert_files(db, job.files, 0)


def _insert_files(db: Connection, named: Sequence[File], first: int) -> None:
    for position, file in enumerate(named, first):
        sql.ADD_FILE.run(
            db,
            {
                "id": file.id,
                "job_id": file.job_id,
                "position": position,
                "role": file.role,
                "name": file.name,
                "sha256": file.sha256,
                "media_type": file.media_type,
                "size": file.size,
                "width": file.width,
                "height": file.height,
            },
        )


def _log(db: Connection, job: Job, kind: EventType | None = None) -> None:
    sql.ADD_EVENT.run(
        db,
        {
            "type": kind or EventType.entering(job.status),
            "time": sql_rows.micros(datetime.now(UTC)),
            "job_id": job.id,
            "operation": job.operation,
            "content": sql_rows.json_text(content_of(job)),
        },
    )
