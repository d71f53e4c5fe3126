"""When a queued job was last sent to the engine, so that the sweep does not send it again too often."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column. Jobs that wait now have none, so the next sweep sends them."""
    op.add_column("jobs", sa.Column("sent_at", sa.BigInteger))
