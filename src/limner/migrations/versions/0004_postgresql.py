"""What only PostgreSQL needs: an outbox of events, and identifiers that are compared byte by byte."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_KEYS = {
    "jobs": {"id": 36, "cache_key": 64, "similarity_key": 64, "idempotency_key": 255, "leader_id": 36},
    "files": {"id": 36, "job_id": 36, "sha256": 64},
    "blobs": {"sha256": 64},
    "events": {"job_id": 36},
}


def upgrade() -> None:
    """Create the outbox, which `adapters/sql/outbox.py` explains. SQLite has one writer and needs nothing of this."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, columns in _KEYS.items():
        changes = (f'ALTER COLUMN {name} TYPE varchar({length}) COLLATE "C"' for name, length in columns.items())
        op.execute(f"ALTER TABLE {table} {', '.join(changes)}")
    op.create_table(
        "outbox",
        sa.Column("n", sa.BigInteger, primary_key=True, autoincrement=True),
        sa.Column("type", sa.String(32), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("job_id", sa.String(36, collation="C"), nullable=False),
        sa.Column("operation", sa.String(64), nullable=False),
        sa.Column("content", sa.Text),
    )
    # Its rows leave at once: without frequent vacuums, readers would pass over the dead ones each time.
    op.execute(
        "ALTER TABLE outbox SET (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,"
        " autovacuum_vacuum_insert_threshold = -1)"
    )
