"""`ports.JobReader` in SQL. Every query uses an index, so its time does not grow with the number of jobs."""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, exists, func, literal_column, or_, select, text

from limner.adapters.sql.database import Database
from limner.adapters.sql.pages import NUMBERED, filtered_page, of_operation, read_page
from limner.adapters.sql.schema import LEAVING, blobs, files, jobs, totals
from limner.adapters.sql.statement import Statement
from limner.adapters.sql.transaction import BYTES, FILE_FIELDS, RESULTS, columns, read_job
from limner.domain.blob import BlobState
from limner.domain.job import File, Job, Role, Status
from limner.ports import ANY_JOB, JobFilter, LaneLoad, Waiting


def _is_open(status: ColumnElement[Status]) -> ColumnElement[bool]:
    return or_(status == Status.QUEUED, status == Status.RUNNING)


def _count_of(rows: Select[Any]) -> Statement:
    return Statement(select(func.count()).select_from(rows.subquery("counted")))


_FILE = select(*columns(files, FILE_FIELDS)).where(files.c.id == bindparam("id"))
_ARTIFACT = select(*columns(files, FILE_FIELDS)).where(
    files.c.job_id == bindparam("job_id"), files.c.role == Role.ARTIFACT, files.c.name == bindparam("name")
)
_OF_OWNER = exists().where(jobs.c.id == files.c.job_id, jobs.c.key_id == bindparam("key_id"))
# Each for all owners and for one.
_FILE_OF = {False: Statement(_FILE), True: Statement(_FILE.where(_OF_OWNER))}
_ARTIFACT_OF = {False: Statement(_ARTIFACT), True: Statement(_ARTIFACT.where(_OF_OWNER))}
_CURRENT = Statement(
    select(jobs.c.id).where(
        jobs.c.id == bindparam("id"), jobs.c.attempt == bindparam("attempt"), jobs.c.status == Status.RUNNING
    )
)
_RUNNING_ON = Statement(
    select(jobs.c.id).where(jobs.c.status == Status.RUNNING, jobs.c.worker == bindparam("worker")).limit(1)
)
_SIMILAR = Statement(
    select(jobs.c.id, jobs.c.phash)
    .where(
        jobs.c.similarity_key == bindparam("similarity_key"),
        jobs.c.status == Status.SUCCEEDED,
        jobs.c.computed_at >= bindparam("since"),
        jobs.c.phash.is_not(None),
    )
    .order_by(jobs.c.id.desc())
    .limit(bindparam("most"))
)
_WAITING = Statement(
    select(jobs.c.id, jobs.c.lane, jobs.c.sent_at)
    .where(jobs.c.status == Status.QUEUED, jobs.c.leader_id.is_(None))
    .order_by(jobs.c.id)
    .limit(bindparam("most"))
)
# The counts end at a limit. The first one's condition is literally that of its index.
_AHEAD = _count_of(
    select(literal_column("1"))
    .where(
        text("jobs.status = 'queued' AND jobs.leader_id IS NULL"),
        jobs.c.lane == bindparam("lane"),
        jobs.c.id < bindparam("id"),
    )
    .limit(bindparam("most"))
)
_RUNNING_IN = _count_of(
    select(literal_column("1"))
    .select_from(jobs)
    .where(jobs.c.status == Status.RUNNING, jobs.c.lane == bindparam("lane"))
    .limit(bindparam("most"))
)
_RECENT_RUNS = Statement(
    select(jobs.c.lane, jobs.c.cached, jobs.c.started_at, jobs.c.finished_at)
    .where(jobs.c.status == Status.SUCCEEDED)
    .order_by(jobs.c.id.desc())
    .limit(bindparam("most"))
)
_OVERDUE = Statement(
    select(jobs.c.id)
    .where(jobs.c.status == Status.RUNNING, jobs.c.lease_until < bindparam("now"))
    .order_by(jobs.c.lease_until)
    .limit(bindparam("most"))
)
_leaders = jobs.alias("leaders")
_STRANDED = Statement(
    select(jobs.c.id)
    .where(
        jobs.c.leader_id.is_not(None),
        jobs.c.status == Status.QUEUED,
        ~exists().where(_leaders.c.id == jobs.c.leader_id, _is_open(_leaders.c.status)),
    )
    .limit(bindparam("most"))
)
_OUTDATED = Statement(
    select(jobs.c.id)
    .where(jobs.c.created_at < bindparam("before"), ~_is_open(jobs.c.status))
    .order_by(jobs.c.created_at)
    .limit(bindparam("most"))
)
_STALE = Statement(
    select(jobs.c.id)
    .where(jobs.c.status == Status.QUEUED, jobs.c.created_at < bindparam("before"))
    .order_by(jobs.c.id)
    .limit(bindparam("most"))
)
_FULL = Statement(
    select(literal_column("1"))
    .select_from(jobs)
    .where(text("jobs.status = 'queued'"), jobs.c.lane == bindparam("lane"))
    .limit(1)
    .offset(bindparam("last_place"))
)
_COUNT = Statement(select(func.count()).select_from(jobs).where(jobs.c.status == bindparam("status")))
_LANES = Statement(
    select(jobs.c.lane, jobs.c.status, func.count(), func.min(jobs.c.created_at))
    .where(_is_open(jobs.c.status))
    .group_by(jobs.c.lane, jobs.c.status)
    .order_by(jobs.c.lane)
)
_BLOBS_IN = Statement(
    select(blobs.c.sha256)
    .where(LEAVING, blobs.c.state == bindparam("state"), blobs.c.changed_at < bindparam("before"))
    .limit(bindparam("most"))
)
_ROW = Statement(select(blobs.c.sha256).where(blobs.c.sha256 == bindparam("sha256")))
_TOTALS = Statement(select(totals.c.name, func.sum(totals.c.amount)).group_by(totals.c.name))


_COUNT_OF = {
    of_owner: _count_of(of_operation(literal_column("1"), of_owner).limit(bindparam("most")))
    for of_owner in (False, True)
}


class SqlReader:
    """`ports.JobReader`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: str) -> Job | None:
        """See `ports.JobReader.get`."""
        with self._database.reading() as db:
            return read_job(db, job_id)

    def page(self, wanted: JobFilter = ANY_JOB, *, before: str | None = None, limit: int = 50) -> list[Job]:
        """See `ports.JobReader.page`."""
        with self._database.reading() as db:
            return filtered_page(db, wanted, before, limit)

    def numbered_page(self, operation: str, *, key_id: str | None = None, skip: int, limit: int) -> list[Job]:
        """See `ports.JobReader.numbered_page`."""
        values = {"operation": operation, "key_id": key_id, "skip": skip, "most": limit}
        with self._database.reading() as db:
            return read_page(db, *NUMBERED[key_id is not None], values)

    def count_of(self, operation: str, *, key_id: str | None = None, limit: int) -> int:
        """See `ports.JobReader.count_of`."""
        with self._database.reading() as db:
            return int(_COUNT_OF[key_id is not None].value(db, operation=operation, key_id=key_id, most=limit))

    def file(self, file_id: str, *, key_id: str | None = None) -> File | None:
        """See `ports.JobReader.file`."""
        with self._database.reading() as db:
            row = _FILE_OF[key_id is not None].row(db, id=file_id, key_id=key_id)
        return File(*row) if row is not None else None

    def artifact(self, job_id: str, name: str, *, key_id: str | None = None) -> File | None:
        """See `ports.JobReader.artifact`."""
        with self._database.reading() as db:
            row = _ARTIFACT_OF[key_id is not None].row(db, job_id=job_id, name=name, key_id=key_id)
        return File(*row) if row is not None else None

    def is_current(self, job_id: str, attempt: int) -> bool:
        """See `ports.JobReader.is_current`."""
        with self._database.reading() as db:
            return _CURRENT.row(db, id=job_id, attempt=attempt) is not None

    def is_running_on(self, worker: str) -> bool:
        """See `ports.JobReader.is_running_on`."""
        with self._database.reading() as db:
            return _RUNNING_ON.row(db, worker=worker) is not None

    def similar(self, similarity_key: str, *, computed_since: datetime, limit: int) -> list[tuple[str, str]]:
        """See `ports.JobReader.similar`."""
        with self._database.reading() as db:
            rows = _SIMILAR.rows(db, similarity_key=similarity_key, since=computed_since, most=limit)
        return [(job_id, phash) for job_id, phash in rows]

    def waiting(self, limit: int) -> list[Waiting]:
        """See `ports.JobReader.waiting`."""
        with self._database.reading() as db:
            return [Waiting(*row) for row in _WAITING.rows(db, most=limit)]

    def ahead(self, job_id: str, lane: str, *, limit: int) -> tuple[int, int]:
        """See `ports.JobReader.ahead`."""
        with self._database.reading() as db:
            before = int(_AHEAD.value(db, id=job_id, lane=lane, most=limit))
            return before, int(_RUNNING_IN.value(db, lane=lane, most=limit))

    def recent_runs(self, limit: int) -> list[tuple[str, float]]:
        """See `ports.JobReader.recent_runs`."""
        with self._database.reading() as db:
            rows = _RECENT_RUNS.rows(db, most=limit)
        return [
            (lane, (finished_at - started_at).total_seconds())
            for lane, cached, started_at, finished_at in rows
            if cached is None and started_at is not None and finished_at is not None
        ]

    def overdue(self, now: datetime, limit: int) -> list[str]:
        """See `ports.JobReader.overdue`."""
        with self._database.reading() as db:
            return [job_id for (job_id,) in _OVERDUE.rows(db, now=now, most=limit)]

    def stranded(self, limit: int) -> list[str]:
        """See `ports.JobReader.stranded`."""
        with self._database.reading() as db:
            return [job_id for (job_id,) in _STRANDED.rows(db, most=limit)]

    def outdated(self, before: datetime, limit: int) -> list[str]:
        """See `ports.JobReader.outdated`."""
        with self._database.reading() as db:
            return [job_id for (job_id,) in _OUTDATED.rows(db, before=before, most=limit)]

    def stale(self, before: datetime, limit: int) -> list[str]:
        """See `ports.JobReader.stale`."""
        with self._database.reading() as db:
            return [job_id for (job_id,) in _STALE.rows(db, before=before, most=limit)]

    def count(self, status: Status) -> int:
        """See `ports.JobReader.count`."""
        with self._database.reading() as db:
            return int(_COUNT.value(db, status=status))

    def is_full(self, lane: str, max_queued: int) -> bool:
        """See `ports.JobReader.is_full`."""
        with self._database.reading() as db:
            return _FULL.value(db, lane=lane, last_place=max_queued - 1) is not None

    def lanes(self) -> list[LaneLoad]:
        """See `ports.JobReader.lanes`."""
        with self._database.reading() as db:
            rows = _LANES.rows(db)
        loads: dict[str, LaneLoad] = {}
        for lane, status, count, oldest in rows:
            load = loads.get(lane, LaneLoad(lane))
            if status == Status.QUEUED:
                loads[lane] = replace(load, queued=count, oldest=oldest)
            else:
                loads[lane] = replace(load, running=count)
        return list(loads.values())

    def blobs_in(self, state: BlobState, before: datetime, limit: int) -> list[str]:
        """See `ports.JobReader.blobs_in`."""
        with self._database.reading() as db:
            return [sha256 for (sha256,) in _BLOBS_IN.rows(db, state=state, before=before, most=limit)]

    def without_row(self, sha256s: Collection[str]) -> list[str]:
        """See `ports.JobReader.without_row`."""
        with self._database.reading() as db:
            return [sha256 for sha256 in sha256s if _ROW.row(db, sha256=sha256) is None]

    def totals(self) -> tuple[int, int]:
        """See `ports.JobReader.totals`."""
        with self._database.reading() as db:
            sums = {name: int(amount) for name, amount in _TOTALS.rows(db)}
        return sums.get(RESULTS, 0), sums.get(BYTES, 0)
