"""The index of queued jobs by lane has followers too, so that each lane's queue has a bound of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Replace the index. Processes of the version before do without it, more slowly."""
    condition = sa.text("status = 'queued'")
    op.create_index(
        "jobs_queued", "jobs", ["lane", "leader_id", "id"], sqlite_where=condition, postgresql_where=condition
    )
    op.drop_index("jobs_in_lane", "jobs")
