"""Jobs, their files and their events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("lane", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("cached", sa.String(16)),
        sa.Column("cache_distance", sa.Integer),
        sa.Column("look", sa.String(16)),
        sa.Column("rest_key", sa.String(64)),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("cache_key", sa.String(64), nullable=False),
        sa.Column("leader_id", sa.String(36)),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.BigInteger),
        sa.Column("idempotency_key", sa.String(255), unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("computed_at", sa.BigInteger),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("faces_count", sa.Integer),
    )
    op.create_index("jobs_by_status", "jobs", ["status", "id"])
    op.create_index("jobs_by_operation", "jobs", ["operation", "id"])
    op.create_index("jobs_by_cache_key", "jobs", ["cache_key", "status"])
    op.create_index("jobs_by_rest_key", "jobs", ["rest_key", "status"])
    op.create_index("jobs_by_leader", "jobs", ["leader_id"])
    op.create_table(
        "files",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("media_type", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
    )
    op.create_index("files_by_job", "files", ["job_id"])
    op.create_index("files_by_sha256", "files", ["sha256"])
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("content", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_job", "events", ["job_id"])
    op.create_index("events_by_time", "events", ["time"])


def downgrade() -> None:
    """Drop the three tables."""
    for table in ("events", "files", "jobs"):
        op.drop_table(table)
