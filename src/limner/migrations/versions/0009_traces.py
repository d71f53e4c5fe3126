"""What names the span of a job's request to its worker, where traces are wanted."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"


def upgrade() -> None:
    """Add the column. It is empty where no traces are wanted."""
    op.add_column("jobs", sa.Column("traceparent", sa.String(55)))
