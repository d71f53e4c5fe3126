"""Types of options on the command line."""

import re
from datetime import timedelta
from typing import Any

import click

MOST = timedelta(days=30)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


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
