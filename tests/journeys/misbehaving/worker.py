"""A worker that knows `misbehave`."""

from limner import worker
from tests.journeys.misbehaving import operation

if __name__ == "__main__":
    operation.add()
    worker.main()
