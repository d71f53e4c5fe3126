"""Alembic's entry: runs the migrations on the connection that `adapters/sql_engine.py:migrate` opened."""

from alembic import context

from limner.adapters.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
