"""Alembic's entry: runs the migrations on the connection that `adapters/sql/database.py:migrate` opened."""

from alembic import context

from limner.adapters.sql.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
