"""Types of options on the command line, and groups of commands."""

import re
from datetime import timedelta
from typing import Any

import click

LONGEST = 400
MOST = timedelta(days=30)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Commands(click.Group):
    """A group whose list of commands has the whole first sentence of each, on several lines if need be."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list."""
        known = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(LONGEST)) for name, command in known if command])


class Duration(click.ParamType[timedelta]):
    """A time such as `90s`, `30m`, `1h` or `7d`, at most 30 days."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """See `click.ParamType.convert`."""
        found = re.fullmatch(r"(\d{1,7})([smhd])", str(value))
        if found is None:
            self.fail("must be a number and a unit, s, m, h or d, such as 1h", param, ctx)
        given = timedelta(**{UNITS[found[2]]: int(found[1])})
        if given > MOST:
            self.fail("must be at most 30d", param, ctx)
        return given
