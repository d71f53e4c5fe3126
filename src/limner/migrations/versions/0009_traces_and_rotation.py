"""The trace of a job's request, where traces are wanted; earlier keys and secrets that are valid for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns. They are empty where there are no traces, and after a rotation without an overlap."""
    op.add_column("jobs", sa.Column("traceparent", sa.String(55)))
    op.add_column("keys", sa.Column("old_hash", sa.String(64)))
    op.add_column("keys", sa.Column("old_until", sa.BigInteger))
    op.add_column("webhook_secrets", sa.Column("old_secret", sa.String(128)))
    op.add_column("webhook_secrets", sa.Column("old_until", sa.BigInteger))
    where = sa.text("old_hash IS NOT NULL")
    op.create_index("keys_by_old_hash", "keys", ["old_hash"], sqlite_where=where, postgresql_where=where)
