"""`limner serve` with `misbehave`, and with workers that know it."""

import os
import sys
from datetime import timedelta

from limner import cli
from limner.assembly import engines
from tests.journeys.misbehaving import operation

operation.add()  # here: each of several web processes imports this module, under another name

if __name__ == "__main__":
    engines.WORKER = (sys.executable, "-m", "tests.journeys.misbehaving.worker")
    if "LOST_AFTER_S" in os.environ:
        from limner.adapters.celery_engine import CeleryEngine

        CeleryEngine.__init__.__kwdefaults__["lost_after"] = timedelta(seconds=float(os.environ["LOST_AFTER_S"]))
    cli.main(["serve", *sys.argv[2:]])
