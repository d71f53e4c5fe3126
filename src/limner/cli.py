"""The command line: `limner serve`, `detect`, `models`, `migrate`, `doctor`, `bench`.

Imports stand inside the commands: `--help` should not wait for the models' libraries.
"""

import sys
from typing import Any

import click

from limner import __version__
from limner.domain.errors import LimnerError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Limner, one who paints faces."""


class _Told(click.ClickException):
    """An error of ours, told in a line."""

    def __init__(self, error: LimnerError) -> None:
        super().__init__(f"{error.title}: {error.detail}")


@main.command()
@click.option("--host", help="Address to listen on (LIMNER_HOST, 127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on (LIMNER_PORT, 8282).")
def serve(host: str | None, port: int | None) -> None:
    """Start the service: web, workers and sweep in one process."""
    from limner import settings
    from limner.server import run_server

    chosen: dict[str, Any] = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    try:
        run_server(settings.load(**chosen))
    except LimnerError as error:
        raise _Told(error) from None


@main.command()
def migrate() -> None:
    """Bring the database's tables up to date (`serve` does it by itself)."""
    from limner import settings
    from limner.adapters.sql_engine import migrate as bring_up_to_date
    from limner.adapters.sql_engine import open_database

    try:
        chosen = settings.load()
        changed = bring_up_to_date(open_database(chosen.database_url, durable=True))
    except LimnerError as error:
        raise _Told(error) from None
    click.echo("brought up to date" if changed else "up to date already")


if __name__ == "__main__":
    sys.exit(main())
