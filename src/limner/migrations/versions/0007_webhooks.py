"""Webhooks, their deliveries and secrets; an index for the queue of a lane."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0004"


def upgrade() -> None:
    """Create the tables and indexes."""
    op.create_table(
        "hooks",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("events", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("since_event", sa.BigInteger, nullable=False),
        sa.Column("job_id", sa.String(36)),
        sa.Column("key_id", sa.String(36)),
        sa.Column("base_url", sa.String(2048)),
        sa.Column("secret", sa.String(128)),
        sa.Column("failing_since", sa.BigInteger),
        sa.Column("reason", sa.String(255)),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("hook_id", sa.String(36), nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("event_id", sa.BigInteger, nullable=False),
        sa.Column("event_type", sa.String(32), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("next_try_at", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_status", sa.Integer),
        sa.Column("last_error", sa.String(255)),
        sa.Column("ended_at", sa.BigInteger),
    )
    op.create_table(
        "webhook_secrets",
        sa.Column("owner", sa.String(36), primary_key=True),
        sa.Column("secret", sa.String(128), nullable=False),
    )
    op.create_index("deliveries_by_job", "deliveries", ["job_id", "hook_id", "event_id"])
    op.create_index("deliveries_by_hook", "deliveries", ["hook_id", "event_id"])
    for name, table, columns, where in (
        ("hooks_by_job", "hooks", ["job_id", "id"], "job_id IS NOT NULL"),
        ("hooks_of_all", "hooks", ["id"], "job_id IS NULL"),
        ("hooks_active", "hooks", ["since_event"], "state = 'active'"),
        ("deliveries_waiting", "deliveries", ["next_try_at"], "state = 'waiting'"),
        ("jobs_in_lane", "jobs", ["lane", "id"], "status = 'queued' AND leader_id IS NULL"),
    ):
        op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
