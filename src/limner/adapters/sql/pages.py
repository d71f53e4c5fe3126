"""Pages of jobs in SQL: newest first, by filters, and by a search in labels."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import FromClause, Select, bindparam, func, literal_column, select, text

from limner.adapters.sql.columns import EPOCH
from limner.adapters.sql.schema import files, jobs
from limner.adapters.sql.statement import Driver, Statement
from limner.adapters.sql.transaction import FILE_FIELDS, JOB_FIELDS, columns
from limner.domain.job import File, Job
from limner.domain.label import folded
from limner.ports import JobFilter

_LISTED = tuple(name for name in JOB_FIELDS if name not in ("params", "result"))  # which can be large

SHORT = 201
"""A page of at most so many jobs says so to PostgreSQL. It takes an unknown limit for a tenth of the table, so it would
make a new plan for each query, which takes longer than a page without jobs.
"""

SEARCHED = 100_000
"""A search compares the labels of at most this many jobs, the newest of those that the filters leave."""

LATE = timedelta(hours=1)
"""A job gets its id when its request begins, so the id is older than `created_at`, by less than this."""

_others = jobs.alias("others")
_MILLISECOND = timedelta(milliseconds=1)
RANDOM_BITS = 80  # of a UUIDv7, below the 48 bits of the milliseconds since 1970
_LAST_MILLISECOND = (1 << 48) - 1


def filtered_page(db: Driver, wanted: JobFilter, before: str | None, limit: int) -> list[Job]:
    """See `ports.JobReader.page`."""
    find_jobs, find_files = _page(
        wanted.operation is not None,
        wanted.status is not None,
        wanted.key_id is not None,
        wanted.label is not None,
        before is not None,
        wanted.since is not None,
        wanted.until is not None,
        limit <= SHORT,
    )
    values = {
        "operation": wanted.operation,
        "status": None if wanted.status is None else str(wanted.status),
        "key_id": wanted.key_id,
        "label": None if wanted.label is None else f"%{_literally(folded(wanted.label))}%",
        "before": before,
        "since": wanted.since,
        "since_id": None if wanted.since is None else _first_id(wanted.since, -LATE),
        "until": wanted.until,
        "until_id": None if wanted.until is None else _first_id(wanted.until, _MILLISECOND),
        "most": limit,
    }
    return read_page(db, find_jobs, find_files, values)


def _literally(label: str) -> str:
    """The text for LIKE, which finds only itself."""
    return label.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _first_id(moment: datetime, later: timedelta) -> str:
    """The lowest id of the millisecond that is so much later."""
    milliseconds = (moment - EPOCH) // _MILLISECOND + later // _MILLISECOND
    return str(UUID(int=min(max(0, milliseconds), _LAST_MILLISECOND) << RANDOM_BITS))


@cache
def _page(
    of_operation: bool,
    of_status: bool,
    of_owner: bool,
    labelled: bool,
    from_id: bool,
    since: bool,
    until: bool,
    short: bool,
) -> tuple[Statement, Statement]:
    """The jobs of a page, and their files."""
    page = select(jobs.c.id).order_by(jobs.c.id.desc())
    if of_operation:
        # With all three, the database must not use the index of operation and status, which has other owners' jobs.
        name = jobs.c.operation.concat("") if labelled or (of_owner and of_status) else jobs.c.operation
        page = page.where(name == bindparam("operation"))
    if of_status:
        page = page.where((jobs.c.status.concat("") if labelled else jobs.c.status) == bindparam("status"))
    page = _between(page, of_owner, from_id, since, until)
    if since:
        page = page.where(jobs.c.created_at >= bindparam("since"))
    if until:
        page = page.where(jobs.c.created_at < bindparam("until"))
    if labelled:
        # The labels are compared in their index, from the newest on, and only jobs that match are looked at further:
        # another index, for which the rows would be read, is ruled out above.
        labels = _between(
            select(_others.c.id).where(text("others.searched_label IS NOT NULL")),
            *(of_owner, from_id, since, until),
            of=_others,
        )
        last = labels.order_by(_others.c.id.desc()).limit(1).offset(literal_column(str(SEARCHED - 1))).scalar_subquery()
        page = page.where(
            text("jobs.searched_label IS NOT NULL"),
            jobs.c.searched_label.like(bindparam("label"), escape="!"),
            jobs.c.id >= func.coalesce(last, literal_column("''")),
        )
    return _jobs_and_files(_short(page) if short else page)


def _between(
    found: Select[Any], of_owner: bool, from_id: bool, since: bool, until: bool, *, of: FromClause = jobs
) -> Select[Any]:
    """Those of the owner, from one id to another. The ids of a time are found in the index of ids."""
    if of_owner:
        found = found.where(of.c.key_id == bindparam("key_id"), of.c.key_id.is_not(None))
    if from_id:
        found = found.where(of.c.id < bindparam("before"))
    if since:
        found = found.where(of.c.id >= bindparam("since_id"))
    if until:
        found = found.where(of.c.id < bindparam("until_id"))
    return found


def _short(ids: Select[Any]) -> Select[Any]:
    return select(ids.limit(literal_column(str(SHORT))).subquery("short").c.id)


def _jobs_and_files(page: Select[Any]) -> tuple[Statement, Statement]:
    ids = page.limit(bindparam("most"))
    # IN instead of a join, for which SQLite would read the files of all jobs.
    return (
        Statement(select(*columns(jobs, _LISTED)).where(jobs.c.id.in_(ids)).order_by(jobs.c.id.desc())),
        Statement(
            select(*columns(files, FILE_FIELDS))
            .where(files.c.job_id.in_(ids))
            .order_by(files.c.job_id, files.c.position)
        ),
    )


def of_operation(what: Any, of_owner: bool) -> Select[Any]:
    """The jobs of an operation, of all owners or of one."""
    found = select(what).select_from(jobs).where(jobs.c.operation == bindparam("operation"))
    if of_owner:
        found = found.where(jobs.c.key_id == bindparam("key_id"), jobs.c.key_id.is_not(None))
    return found


def _numbered(of_owner: bool) -> tuple[Statement, Statement]:
    ids = of_operation(jobs.c.id, of_owner).order_by(jobs.c.id.desc())
    return _jobs_and_files(_short(ids.offset(bindparam("skip"))))


NUMBERED = {of_owner: _numbered(of_owner) for of_owner in (False, True)}


def read_page(db: Driver, find_jobs: Statement, find_files: Statement, values: Mapping[str, Any]) -> list[Job]:
    """The jobs of a page with their files, without what no list shows."""
    rows = find_jobs.rows(db, **values)
    named: dict[str, list[File]] = {row[0]: [] for row in rows}
    for row in find_files.rows(db, **values):
        file = File(*row)
        named[file.job_id].append(file)
    return [Job(**dict(zip(_LISTED, row, strict=True)), params={}, files=tuple(named[row[0]])) for row in rows]
