"""API keys, and the key that owns each job and event. What is there already has no owner: only an admin sees it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the table, and add the owner's column."""
    op.create_table(
        "keys",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("prefix", sa.String(16), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("rate_per_minute", sa.Integer),
        sa.Column("daily_quota", sa.Integer),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
        sa.Column("last_used_at", sa.BigInteger),
    )
    op.create_index("keys_by_hash", "keys", ["hash"], unique=True)
    tables = sa.inspect(op.get_bind()).get_table_names()
    for table in ("jobs", "events", "outbox"):
        if table in tables:
            op.add_column(table, sa.Column("key_id", sa.String(36)))
    # Partial: a service without keys does not pay for them.
    for name, table, columns in (
        ("jobs_by_key", "jobs", ["key_id", "id"]),
        ("jobs_by_key_and_operation", "jobs", ["key_id", "operation", "id"]),
        ("jobs_by_key_and_status", "jobs", ["key_id", "status", "id"]),
        ("events_by_key", "events", ["key_id", "id"]),
    ):
        condition = sa.text("key_id IS NOT NULL")
        op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
