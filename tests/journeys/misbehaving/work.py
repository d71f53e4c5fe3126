"""`limner work` that knows `misbehave`; with CLOCK_OFF_S, the clock of its machine is wrong."""

import datetime
import os
import sys

if "CLOCK_OFF_S" in os.environ:  # before any other module takes the class

    class WrongClock(datetime.datetime):
        """The time, so many seconds too late or too early."""

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "WrongClock":
            """The time by the wrong clock."""
            return super().now(tz) + datetime.timedelta(seconds=float(os.environ["CLOCK_OFF_S"]))

    datetime.datetime = WrongClock  # type: ignore[misc]

from limner import cli
from tests.journeys.misbehaving import operation

if __name__ == "__main__":
    operation.add()
    cli.main(sys.argv[1:])
