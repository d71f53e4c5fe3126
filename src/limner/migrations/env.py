"""Alembic's entry point: runs the migrations on the connection opened by `adapters/sql/migrate.py`."""

from alembic import context

from limner.adapters.sql.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
