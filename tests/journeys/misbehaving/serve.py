"""`limner serve` with `misbehave`, and with workers that know it."""

import sys

from limner import assembly, cli
from tests.journeys.misbehaving import operation

if __name__ == "__main__":
    operation.add()
    assembly.WORKER = (sys.executable, "-m", "tests.journeys.misbehaving.worker")
    cli.main(["serve", *sys.argv[2:]])
