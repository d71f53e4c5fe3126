"""`limner work` that knows `misbehave`."""

import sys

from limner import cli
from tests.journeys.misbehaving import operation

if __name__ == "__main__":
    operation.add()
    cli.main(sys.argv[1:])
