"""Labels of jobs, and the indexes in which they are searched."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the columns and indexes. Processes of the version before go on: jobs that they store have no label."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    op.add_column("jobs", sa.Column("label", sa.String(200)))
    op.add_column("jobs", sa.Column("searched_label", sa.String(400, collation="C" if postgresql else None)))
    labelled = sa.text("searched_label IS NOT NULL")
    for name, columns in (
        ("jobs_labelled", ["id", "searched_label"]),
        ("jobs_by_key_labelled", ["key_id", "id", "searched_label"]),
    ):
        op.create_index(name, "jobs", columns, sqlite_where=labelled, postgresql_where=labelled)
