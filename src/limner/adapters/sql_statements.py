"""The statements of the paths that every job takes, built once: building one costs more than running it on SQLite."""

from sqlalchemy import and_, bindparam, func, insert, or_, select, update

from limner.adapters.schema import events, files, jobs
from limner.adapters.sql_prepared import Prepared
from limner.domain.job import Role, Status

OPEN = (Status.QUEUED, Status.RUNNING)
_MOST_LOOKS = 2000  # the newest results that a look is compared with

ATTEMPT = and_(
    jobs.c.id == bindparam("of_job"), jobs.c.attempt == bindparam("of_attempt"), jobs.c.status == Status.RUNNING
)
JOB = Prepared(select(jobs).where(jobs.c.id == bindparam("of_job")))
FILES = Prepared(select(files).where(files.c.job_id == bindparam("of_job")).order_by(files.c.position))
ARTIFACT = Prepared(
    select(files).where(
        files.c.job_id == bindparam("of_job"), files.c.role == Role.ARTIFACT, files.c.name == bindparam("of_name")
    )
)
BY_IDEMPOTENCY_KEY = select(jobs.c.id, jobs.c.cache_key).where(jobs.c.idempotency_key == bindparam("key"))
CACHED = (
    select(jobs.c.id)
    .where(
        jobs.c.cache_key == bindparam("key"),
        jobs.c.status == Status.SUCCEEDED,
        jobs.c.computed_at >= bindparam("since"),
    )
    .order_by(jobs.c.id.desc())
    .limit(1)
)
SIMILAR = (
    select(jobs.c.id, jobs.c.look)
    .where(
        jobs.c.rest_key == bindparam("rest"),
        jobs.c.status == Status.SUCCEEDED,
        jobs.c.computed_at >= bindparam("since"),
        jobs.c.look.is_not(None),
    )
    .order_by(jobs.c.id.desc())
    .limit(_MOST_LOOKS)
)
LEADER = (
    select(jobs.c.id)
    .where(
        jobs.c.cache_key == bindparam("key"),
        or_(*(jobs.c.status == status for status in OPEN)),
        jobs.c.leader_id.is_(None),
    )
    .limit(1)
)
FOLLOWERS = Prepared(select(jobs.c.id).where(jobs.c.leader_id == bindparam("of_job")).order_by(jobs.c.id))
COUNT_QUEUED = select(func.count()).select_from(jobs).where(jobs.c.status == Status.QUEUED)
AT_SUBMISSION = Prepared(
    select(
        CACHED.scalar_subquery().label("cached_id"),
        LEADER.scalar_subquery().label("leader_id"),
        COUNT_QUEUED.scalar_subquery().label("queued"),
    )
)
COUNT_ATTEMPT = select(func.count()).select_from(jobs).where(ATTEMPT)
START = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"), jobs.c.status == Status.QUEUED, jobs.c.leader_id.is_(None))
    .values(
        status=Status.RUNNING,
        attempt=jobs.c.attempt + 1,
        started_at=bindparam("now"),
        lease_until=bindparam("until"),
        progress=0.0,
    )
    .returning(jobs)
)
HOLD = Prepared(update(jobs).where(ATTEMPT).values(lease_until=None).returning(jobs))
RENEW = update(jobs).where(ATTEMPT).values(lease_until=bindparam("until"))
END = Prepared(
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "status",
                "progress",
                "cached",
                "look",
                "started_at",
                "finished_at",
                "computed_at",
                "result",
                "error",
                "faces_count",
            )
        }
        | {"leader_id": None, "lease_until": None}
    )
)
ADD_JOB = Prepared(insert(jobs).values({column.name: bindparam(column.name) for column in jobs.c}))
ADD_FILE = Prepared(insert(files).values({column.name: bindparam(column.name) for column in files.c}))
ADD_EVENT = Prepared(insert(events), ("type", "time", "job_id", "operation", "content"))
EVENTS = select(events).where(events.c.id > bindparam("after")).order_by(events.c.id).limit(bindparam("most"))
ALL_EVENTS = Prepared(EVENTS)
