"""A real server process for journeys."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journeys.server import Cluster, Server
from tests.services.postgres import Postgres
from tests.services.redis_server import RedisServer

BOTH = ["embedded", "distributed"]
"""For tests that run on one process with SQLite and its own workers, and on a web process and a worker of their own,
with PostgreSQL and Redis."""

BOTH_IF_SLOW = ["embedded", pytest.param("distributed", marks=pytest.mark.slow)]
"""The same where the distributed variant belongs to the slow tests, because others test its parts."""


USUAL = os.environ.get("JOURNEYS", "embedded")
"""What the other tests run on: the first, or with JOURNEYS=distributed the second (`make test-distributed`)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is only so in one process with SQLite."""
    if USUAL == "distributed":
        items[:] = [item for item in items if item.get_closest_marker("embedded") is None]


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A started server with an empty database, for one test. Its parameter (see `BOTH`) is what it consists of."""
    yield from served(make_server(tmp_path, request))


def make_server(folder: Path, request: pytest.FixtureRequest, **variables: str) -> Server:
    """A server as the fixture's parameter says, not started."""
    if getattr(request, "param", USUAL) == "embedded":
        return Server(folder, **variables)
    return make_cluster(folder, request, **variables)


def make_cluster(folder: Path, request: pytest.FixtureRequest, **variables: str) -> Cluster:
    """A web process and a worker with a new database of PostgreSQL and one of Redis, not started."""
    database: Postgres = request.getfixturevalue("postgres")
    redis: RedisServer = request.getfixturevalue("redis_server")
    return Cluster(folder, redis.new_database(), LIMNER_DATABASE_URL=database.new_service_database(), **variables)


StartServer = Callable[..., Server]


@pytest.fixture
def start_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StartServer]:
    """Starts servers with other settings in the test's folder. At the end they are stopped and their logs checked."""
    started: list[Server] = []

    def start(**variables: str) -> Server:
        process = make_server(tmp_path, request, **variables)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()
        process.check_log()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for all tests of a file, which must not disturb each other."""
    yield from served(make_server(tmp_path_factory.mktemp("server"), request))


def served(process: Server) -> Iterator[Server]:
    """It, running. At the end its log is checked."""
    process.start()
    yield process
    process.stop()
    process.check_log()
