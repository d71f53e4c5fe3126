"""`ports.Transaction` in SQL: the statements, and the conversion of rows to objects.

The columns of a table are the fields of a dataclass in the same order, so fields are not listed again.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import Select, Table, bindparam, delete, exists, func, insert, literal_column, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or_not  # SQLite has the same clause

from limner.adapters.sql.schema import blobs, events, facts, files, jobs, keys, totals
from limner.adapters.sql.statement import Driver, Statement
from limner.adapters.sql.webhooks import SqlHookRows
from limner.domain.blob import BlobState
from limner.domain.event import EventType, content_of
from limner.domain.job import File, Job, Status
from limner.domain.key import Key
from limner.ports import Known, Removed

JOB_FIELDS = tuple(each.name for each in fields(Job) if each.name != "files")
EVENT_FIELDS = ("type", "time", "job_id", "operation", "content", "key_id")
FILE_FIELDS = tuple(each.name for each in fields(File))
KEY_FIELDS = tuple(each.name for each in fields(Key))

EVENTS_AT_ONCE = 10_000
"""Looked at in one transaction, which takes a few milliseconds."""

RESULTS = "results"
BYTES = "bytes"


def columns(table: Table, names: Sequence[str]) -> list[Any]:
    """The columns of a table, by name."""
    return [table.c[name] for name in names]


JOB = Statement(select(*columns(jobs, JOB_FIELDS)).where(jobs.c.id == bindparam("id")))
FILES = Statement(
    select(*columns(files, FILE_FIELDS)).where(files.c.job_id == bindparam("job_id")).order_by(files.c.position)
)
_FOLLOWERS = Statement(
    select(jobs.c.id)
    .where(jobs.c.leader_id == bindparam("leader_id"), jobs.c.status == Status.QUEUED)
    .order_by(jobs.c.id)
)
_RUNNING_ON = Statement(select(jobs.c.id).where(jobs.c.status == Status.RUNNING, jobs.c.worker == bindparam("worker")))
_REPEAT = select(jobs.c.id).where(jobs.c.idempotency_key == bindparam("idempotency_key"))
_CACHED = (
    select(jobs.c.id)
    .where(
        jobs.c.cache_key == bindparam("cache_key"),
        jobs.c.status == Status.SUCCEEDED,
        jobs.c.computed_at >= bindparam("since"),
    )
    .order_by(jobs.c.id.desc())
    .limit(1)
)
_LEADER = (
    select(jobs.c.id)
    .where(
        jobs.c.cache_key == bindparam("cache_key"),
        or_(jobs.c.status == Status.QUEUED, jobs.c.status == Status.RUNNING),
        jobs.c.leader_id.is_(None),
    )
    .limit(1)
)
# Whether there is a job at this position of the lane's queue. Counting would read all that are queued there.
_FULL: Select[tuple[int]] = (
    select(literal_column("1"))
    .where(text("jobs.status = 'queued'"), jobs.c.lane == bindparam("lane"))
    .limit(1)
    .offset(bindparam("last_place"))
)
_KNOWN = Statement(
    select(
        _REPEAT.scalar_subquery().label("repeat_id"),
        _CACHED.scalar_subquery().label("cached_id"),
        _LEADER.scalar_subquery().label("leader_id"),
        _FULL.scalar_subquery().label("full"),
    )
)
_STORED_FIELDS = (*JOB_FIELDS, "searched_label")
_ADD_JOB = Statement(insert_or_not(jobs).on_conflict_do_nothing(), _STORED_FIELDS)
_MARK_SENT = Statement(
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"), jobs.c.status == Status.QUEUED)
    .values(sent_at=bindparam("new_sent_at"))
)
_ADD_FILE = Statement(insert(files), (*FILE_FIELDS, "position"))
_ADD_EVENT = Statement(insert(events), EVENT_FIELDS)
_ADD_AMOUNT = Statement(insert(totals), ("name", "amount"))
_REMOVE_FILES = Statement(delete(files).where(files.c.job_id == bindparam("job_id")))
_DROP_FILE = Statement(delete(files).where(files.c.id == bindparam("id")))
_REMOVE_JOB = Statement(delete(jobs).where(jobs.c.id == bindparam("id")))
_EMPTY_EVENTS = Statement(update(events).where(events.c.job_id == bindparam("of_job")).values(content=None))
_BLOB = Statement(select(blobs.c.state).where(blobs.c.sha256 == bindparam("sha256")))
_new_blob = insert_or_not(blobs)
# One statement: another transaction may add the row meanwhile, with another state.
_SET_BLOB = Statement(
    _new_blob.on_conflict_do_update(
        index_elements=[blobs.c.sha256],
        set_={name: _new_blob.excluded[name] for name in ("state", "size", "changed_at")},
        where=blobs.c.state != _new_blob.excluded.state,
    ),
    ("sha256", "state", "size", "changed_at"),
)
_MARK_BLOB = Statement(
    update(blobs)
    .where(
        blobs.c.sha256 == bindparam("of_sha256"),
        blobs.c.state == BlobState.KEPT,
        ~exists().where(files.c.sha256 == blobs.c.sha256),
    )
    .values(state=BlobState.MARKED, changed_at=bindparam("changed_at"))
    .returning(blobs.c.size)
)
_DROP_BLOB = Statement(
    delete(blobs).where(blobs.c.sha256 == bindparam("of_sha256"), blobs.c.state == BlobState.REMOVING)
)
# One statement, because a change that is added between summing and removing would be lost.
_TAKE_TOTALS = Statement(delete(totals).returning(totals.c.name, totals.c.amount))
_NEXT_EVENT = Statement(select(func.min(events.c.id)).where(events.c.id > bindparam("after")))
_these_events = (
    events.c.id >= bindparam("first"),
    events.c.id <= bindparam("last"),
    events.c.time < bindparam("before"),
)
_OLD_EVENTS = Statement(select(events.c.id).where(*_these_events).order_by(events.c.id).limit(bindparam("most")))
_DROP_EVENTS = Statement(delete(events).where(*_these_events))
_FACT = Statement(select(facts.c.value).where(facts.c.name == bindparam("name")))
_new_fact = insert_or_not(facts)
_SET_FACT = Statement(
    _new_fact.on_conflict_do_update(index_elements=[facts.c.name], set_={"value": _new_fact.excluded.value}),
    ("name", "value"),
)
_ADD_KEY = Statement(insert(keys), KEY_FIELDS)
# Writes the row of the migrations unchanged: it fails if the disk is full, like any other write.
_PING = Statement(text("UPDATE alembic_version SET version_num = version_num"))


@cache
def _change_key(names: frozenset[str]) -> Statement:
    changed: dict[str, Any] = {name: bindparam(f"new_{name}") for name in sorted(names)}
    return Statement(update(keys).where(keys.c.id == bindparam("of_key")).values(changed))


@cache
def _change(names: frozenset[str], same_lease: bool) -> Statement:
    """The statement that sets these fields of a job, if it is still as it was read."""
    still = [
        jobs.c.id == bindparam("of_job"),
        jobs.c.status == bindparam("was_status"),
        jobs.c.attempt == bindparam("was_attempt"),
        jobs.c.leader_id.is_not_distinct_from(bindparam("was_leader_id")),
    ]
    if same_lease:
        still.append(jobs.c.lease_until.is_not_distinct_from(bindparam("was_lease_until")))
    return Statement(update(jobs).where(*still).values({name: bindparam(f"new_{name}") for name in sorted(names)}))


class SqlTransaction:
    """`ports.Transaction` on a connection in which a transaction has begun. `postgres_store.py` has its own."""

    _add_event = _ADD_EVENT

    def __init__(self, db: Driver) -> None:
        self._db = db
        self.hooks = SqlHookRows(db)
        self.removed = False  # whether a job was removed

    def lock(self, names: Collection[str], *, shared: bool = False) -> None:
        """See `ports.Transaction.lock`. SQLite has one writer, and a transaction here begins as that writer."""

    # --- jobs ------------------------------------------------------------------------------------------------------

    def job(self, job_id: str) -> Job | None:
        """See `ports.Transaction.job`."""
        return read_job(self._db, job_id)

    def known(self, job: Job, *, computed_since: datetime, max_queued: int) -> Known:
        """See `ports.Transaction.known`."""
        found = _KNOWN.row(
            self._db,
            idempotency_key=job.idempotency_key,
            cache_key=job.cache_key,
            since=computed_since,
            lane=job.lane,
            last_place=max_queued - 1,
        )
        assert found is not None  # a SELECT of subqueries has always one row
        repeat_id, cached_id, leader_id, full = found
        return Known(repeat_id, cached_id, leader_id, full is not None)

    def followers(self, leader_id: str) -> list[Job]:
        """See `ports.Transaction.followers`."""
        return self._jobs(_FOLLOWERS.rows(self._db, leader_id=leader_id))

    def running_on(self, worker: str) -> list[Job]:
        """See `ports.Transaction.running_on`."""
        return self._jobs(_RUNNING_ON.rows(self._db, worker=worker))

    def _jobs(self, ids: list[list[Any]]) -> list[Job]:
        return [job for (job_id,) in ids if (job := self.job(job_id)) is not None]

    def insert(self, job: Job) -> bool:
        """See `ports.Transaction.insert`."""
        if _ADD_JOB.run(self._db, **{name: getattr(job, name) for name in _STORED_FIELDS}) == 0:
            return False
        self._add_files(job.files, 0)
        return True

    def change(self, job: Job, *, same_lease: bool = False, **values: Any) -> Job | None:
        """See `ports.Transaction.change`."""
        changed = _change(frozenset(values), same_lease).run(
            self._db,
            of_job=job.id,
            was_status=job.status,
            was_attempt=job.attempt,
            was_leader_id=job.leader_id,
            was_lease_until=job.lease_until,
            **{f"new_{name}": value for name, value in values.items()},
        )
        if changed == 0:
            return None
        after = replace(job, **values)
        if _is_result(after) and not _is_result(job):
            self._add_up(RESULTS, 1)
        return after

    def add_files(self, job: Job, files: Collection[File]) -> None:
        """See `ports.Transaction.add_files`."""
        self._add_files(files, len(job.inputs))

    def _add_files(self, added: Collection[File], first: int) -> None:
        for position, file in enumerate(added, first):
            _ADD_FILE.run(self._db, position=position, **{name: getattr(file, name) for name in FILE_FIELDS})

    def drop_file(self, file: File) -> bool:
        """See `ports.Transaction.drop_file`."""
        return _DROP_FILE.run(self._db, id=file.id) > 0

    def remove(self, job: Job) -> Removed:
        """See `ports.Transaction.remove`."""
        self.removed = True
        files = _REMOVE_FILES.run(self._db, job_id=job.id)
        jobs = _REMOVE_JOB.run(self._db, id=job.id)
        if jobs and _is_result(job):
            self._add_up(RESULTS, -1)
        emptied = self._empty_events(job.id)
        hooks, deliveries = self.hooks.remove_of_job(job.id)
        return Removed(jobs, files, emptied, hooks, deliveries)

    def _empty_events(self, job_id: str) -> int:
        return _EMPTY_EVENTS.run(self._db, of_job=job_id)

    def log(self, job: Job, kind: EventType | None = None) -> None:
        """See `ports.Transaction.log`."""
        self._add_event.run(
            self._db,
            type=kind or EventType.entering(job.status),
            time=self.now(),
            job_id=job.id,
            operation=job.operation,
            content=content_of(job),
            key_id=job.key_id,
        )

    def drop_events(self, before: datetime, limit: int, *, after: int = 0) -> int | None:
        """See `ports.Transaction.drop_events`. It looks at a limited number of rows, since it may find none to drop."""
        first: int | None = _NEXT_EVENT.value(self._db, after=after)
        if first is None:
            return None
        last = first + EVENTS_AT_ONCE - 1
        old = _OLD_EVENTS.rows(self._db, first=first, last=last, before=before, most=limit)
        if len(old) == limit:
            (last,) = old[-1]
        if old:
            _DROP_EVENTS.run(self._db, first=first, last=last, before=before)
        return last

    # --- blobs -----------------------------------------------------------------------------------------------------

    def blob_state(self, sha256: str) -> BlobState | None:
        """See `ports.Transaction.blob_state`."""
        state: BlobState | None = _BLOB.value(self._db, sha256=sha256)
        return state

    def set_blob(self, sha256: str, state: BlobState, *, size: int, now: datetime) -> None:
        """See `ports.Transaction.set_blob`."""
        changed = _SET_BLOB.run(self._db, sha256=sha256, state=state, size=size, changed_at=now)
        if changed and state is BlobState.KEPT:
            self._add_up(BYTES, size)

    def mark_unnamed(self, sha256s: Collection[str], now: datetime) -> list[str]:
        """See `ports.Transaction.mark_unnamed`."""
        marked = []
        for sha256 in sorted(sha256s):
            size = _MARK_BLOB.value(self._db, of_sha256=sha256, changed_at=now)
            if size is not None:
                marked.append(sha256)
                self._add_up(BYTES, -size)
        return marked

    def drop_blob(self, sha256: str) -> bool:
        """See `ports.Transaction.drop_blob`."""
        return _DROP_BLOB.run(self._db, of_sha256=sha256) > 0

    # --- the rest --------------------------------------------------------------------------------------------------

    def _add_up(self, name: str, amount: int) -> None:
        if amount:
            _ADD_AMOUNT.run(self._db, name=name, amount=amount)

    def mark_sent(self, job_ids: Collection[str], now: datetime) -> None:
        """See `ports.Transaction.mark_sent`."""
        for job_id in sorted(job_ids):  # in one order, so that two sweeps do not wait for each other in a circle
            _MARK_SENT.run(self._db, of_job=job_id, new_sent_at=now)

    def fold_totals(self) -> None:
        """See `ports.Transaction.fold_totals`."""
        sums: Counter[str] = Counter()
        for name, amount in _TAKE_TOTALS.rows(self._db):
            sums[name] += amount
        for name, amount in sums.items():
            self._add_up(name, amount)

    def fact(self, name: str) -> str | None:
        """See `ports.Transaction.fact`."""
        value: str | None = _FACT.value(self._db, name=name)
        return value

    def set_fact(self, name: str, value: str) -> None:
        """See `ports.Transaction.set_fact`."""
        _SET_FACT.run(self._db, name=name, value=value)

    def add_key(self, key: Key) -> None:
        """See `ports.Transaction.add_key`."""
        _ADD_KEY.run(self._db, **{name: getattr(key, name) for name in KEY_FIELDS})

    def change_key(self, key_id: str, **values: Any) -> bool:
        """See `ports.Transaction.change_key`."""
        changed = _change_key(frozenset(values)).run(
            self._db, of_key=key_id, **{f"new_{name}": value for name, value in values.items()}
        )
        return changed > 0

    def now(self) -> datetime:
        """See `ports.Transaction.now`. All processes of a SQLite database are on one machine, with one clock."""
        return datetime.now(UTC)

    def ping(self) -> None:
        """See `ports.Transaction.ping`."""
        _PING.run(self._db)


def read_job(db: Driver, job_id: str) -> Job | None:
    """A job with all its files."""
    row = JOB.row(db, id=job_id)
    return Job(*(*row, read_files(db, job_id))) if row is not None else None


def read_files(db: Driver, job_id: str) -> tuple[File, ...]:
    """The files of a job, in order."""
    return tuple(File(*row) for row in FILES.rows(db, job_id=job_id))


def _is_result(job: Job) -> bool:
    """Whether the job has a result that was computed, not taken from the cache."""
    return job.status is Status.SUCCEEDED and job.cached is None
