"""Adds rows for blobs, totals, summaries and workers, renames columns, and adds indexes for a million jobs."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OLD_INDEXES = {
    "jobs": ("jobs_by_cache_key", "jobs_by_rest_key", "jobs_by_leader", "jobs_by_status", "jobs_by_operation"),
    "files": ("files_by_job",),
    "events": ("events_by_job", "events_by_time"),
}


def upgrade() -> None:
    """Rename and add columns and tables, and fill them from the existing rows."""
    for table, names in _OLD_INDEXES.items():
        for name in names:
            op.drop_index(name, table)
    _rebuild_jobs()
    for name, table, columns in (
        ("jobs_by_age", "jobs", ["created_at"]),
        ("jobs_by_status", "jobs", ["status", "id"]),
        ("jobs_by_operation", "jobs", ["operation", "id"]),
        ("jobs_by_operation_and_status", "jobs", ["operation", "status", "id"]),
        ("jobs_by_cache_key", "jobs", ["cache_key", "status", "id"]),
        ("files_by_job", "files", ["job_id", "position"]),
        ("events_by_job", "events", ["job_id", "id"]),
        ("events_by_operation", "events", ["operation", "id"]),
    ):
        op.create_index(name, table, columns)
    for name, columns, where, unique in (
        ("jobs_by_similarity_key", ["similarity_key", "status", "id"], "similarity_key IS NOT NULL", False),
        ("jobs_by_idempotency_key", ["idempotency_key"], "idempotency_key IS NOT NULL", True),
        ("jobs_by_leader", ["leader_id", "id"], "leader_id IS NOT NULL", False),
    ):
        op.create_index(
            name, "jobs", columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
        )
    _add_blobs_and_totals()
    _rename_in_events()


def _rebuild_jobs() -> None:
    """Rebuild the table in the order of the job's fields, because SQLite cannot drop a UNIQUE of a column."""
    op.execute("ALTER TABLE jobs RENAME TO old_jobs")
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("lane", sa.String(32), nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("cache_key", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("cached", sa.String(16)),
        sa.Column("cache_distance", sa.Integer),
        sa.Column("similarity_key", sa.String(64)),
        sa.Column("phash", sa.String(16)),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("leader_id", sa.String(36)),
        sa.Column("worker", sa.String(128)),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("computed_at", sa.BigInteger),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("summary", sa.Text),
    )
    op.execute(
        "INSERT INTO jobs SELECT id, operation, lane, params, cache_key, created_at, status, progress, cached,"
        " cache_distance, rest_key, look, idempotency_key, attempt, leader_id, NULL, lease_until, started_at,"
        " finished_at, computed_at, result, error,"
        " CASE WHEN faces_count IS NULL THEN NULL ELSE '{\"faces_count\":' || faces_count || '}' END FROM old_jobs"
    )
    # The foreign key of `files` has followed the renaming of `jobs`, so this table is rebuilt too.
    op.execute("ALTER TABLE files RENAME TO old_files")
    op.drop_index("files_by_sha256", "old_files")
    op.create_table(
        "files",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("media_type", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("position", sa.Integer, nullable=False),
    )
    op.execute(
        "INSERT INTO files SELECT id, job_id, role, name, sha256, media_type, size, width, height, position"
        " FROM old_files"
    )
    op.drop_table("old_files")
    op.drop_table("old_jobs")
    op.create_index("files_by_sha256", "files", ["sha256"])
    if op.get_bind().dialect.name == "postgresql":  # its indexes have kept their names when the tables were renamed
        for table in ("jobs", "files"):
            op.execute(f"ALTER INDEX {table}_pkey1 RENAME TO {table}_pkey")


def _add_blobs_and_totals() -> None:
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
    )
    leaving = sa.text("state <> 'kept'")
    op.create_index("blobs_leaving", "blobs", ["state", "changed_at"], sqlite_where=leaving, postgresql_where=leaving)
    op.execute("INSERT INTO blobs SELECT sha256, 'kept', max(size), 0 FROM files GROUP BY sha256")
    op.create_table(
        "totals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO totals (name, amount) SELECT 'bytes', coalesce(sum(size), 0) FROM blobs")
    op.execute(
        "INSERT INTO totals (name, amount) SELECT 'results', count(*) FROM jobs"
        " WHERE status = 'succeeded' AND cached IS NULL"
    )


def _rename_in_events() -> None:
    """Replace `faces_count` of each event by `summary`, which holds it as an entry."""
    events = sa.table("events", sa.column("id"), sa.column("content"))
    connection = op.get_bind()
    change = sa.update(events).where(events.c.id == sa.bindparam("of")).values(content=sa.bindparam("new_content"))
    last = 0
    while page := connection.execute(  # page by page, because there may be millions
        sa.select(events).where(events.c.id > last, events.c.content.is_not(None)).order_by(events.c.id).limit(1000)
    ).all():
        connection.execute(change, [{"of": number, "new_content": _with_summary(content)} for number, content in page])
        last = page[-1][0]


def _with_summary(content: str) -> str:
    changed = json.loads(content)
    count = changed.pop("faces_count", None)
    changed["summary"] = None if count is None else {"faces_count": count}
    return json.dumps(changed, separators=(",", ":"))
