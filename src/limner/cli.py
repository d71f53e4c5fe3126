"""The command line: `serve`, `work`, `keys`, `webhooks`, `migrate`, `doctor`, `bench` and others, and each operation.

Imports are inside the commands, so that `--help` does not wait for the libraries of the models.
"""

import signal
import sys
from typing import Any

import click

from limner import __version__
from limner.bench.commands import bench
from limner.command_types import Commands
from limner.domain.errors import LimnerError
from limner.erasure_commands import verify_erasure
from limner.key_commands import keys
from limner.model_commands import models
from limner.operation_commands import operation_commands
from limner.sign_commands import sign
from limner.webhook_commands import webhooks


class _Commands(Commands):
    """Prints a LimnerError as one line instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:  # click's signature
        try:
            return super().invoke(ctx)
        except LimnerError as error:
            raise click.ClickException(f"{error.title}: {error.detail}") from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Limner finds faces in photos, marks and outlines them, and crops and paints photos."""


# --- the service ----------------------------------------------------------------------------------------------------


@main.command()
@click.option("--host", help="Address to listen on (LIMNER_HOST, 127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on (LIMNER_PORT, 8282).")
def serve(host: str | None, port: int | None) -> None:
    """Start the service: web, workers and sweep in one process."""
    from limner import settings

    chosen = settings.load(**_given(host=host, port=port))
    from limner.server import run_server

    run_server(chosen)


@main.command()
@click.option("--lanes", default="", help="Comma-separated lanes of jobs to run; default: all but gpu.")
@click.option("--concurrency", type=click.IntRange(1, 256), help="Worker processes (LIMNER_WORKERS, the cores).")
def work(lanes: str, concurrency: int | None) -> None:
    """Run jobs that Celery brings: for more than one machine, with LIMNER_ENGINE_URL a broker."""
    from limner.assembly.stores import cluster_libraries

    with cluster_libraries("limner work"):
        from limner import celery_app
    celery_app.work([lane.strip() for lane in lanes.split(",") if lane.strip()], concurrency)


@main.command()
def openapi() -> None:
    """Print the OpenAPI document, as the service would answer it, to make a client from."""
    import json

    from limner import settings
    from limner.assembly.application import build

    application = build(settings.load(database_url="memory:"))
    try:
        click.echo(json.dumps(application.app.openapi(), indent=1))
    finally:
        application.close()


@main.command()
def migrate() -> None:
    """Bring the tables of the database up to date (`serve` does this at start).

    Waits up to a minute for a database server that is not ready yet. Several may run at once: one does the work.
    """
    from limner import settings
    from limner.adapters.sql.migrate import migrate as bring_up_to_date
    from limner.adapters.sql.opening import open_stores

    url = settings.load().database_url
    if url == "memory:":
        click.echo("memory: has no tables that last")
        return
    # The first process of a container would ignore the signal.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    stores = open_stores(url, durable=True)
    try:
        done = bring_up_to_date(stores.database)
    finally:
        stores.close()
        signal.signal(signal.SIGTERM, before)
    click.echo(f"{stores.database.name}: migrated, {done}" if done else f"{stores.database.name}: up to date already")


@main.command()
def doctor() -> None:
    """Check whether the service can start, and say what `serve` would create. Changes nothing."""
    from limner import doctor as checks

    healthy = True
    for finding in checks.examine():
        healthy = healthy and finding.well
        click.echo(f"{'ok  ' if finding.well else 'BAD '} {finding.part}: {finding.note}")
    sys.exit(0 if healthy else 1)


def _given(**options: object) -> dict[str, Any]:
    """The options that were given on the command line."""
    return {name: value for name, value in options.items() if value is not None}


main.add_command(models)
main.add_command(bench)
main.add_command(webhooks)
main.add_command(verify_erasure)
main.add_command(keys)
main.add_command(sign)
for _command in operation_commands():
    main.add_command(_command)


if __name__ == "__main__":
    main()
