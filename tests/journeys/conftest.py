"""A real server process for journeys."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journeys.server import Cluster, Server

BOTH = ["embedded", "distributed"]
"""For tests that are run on one process with its workers, and on a web process and a worker of their own."""


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A started server with an empty database, for one test. Its parameter (see `BOTH`) is what it consists of."""
    process = make_server(tmp_path, request)
    process.start()
    yield process
    process.stop()
    process.check_log()


def make_server(folder: Path, request: pytest.FixtureRequest, **variables: str) -> Server:
    """A server as the fixture's parameter says, not started."""
    if getattr(request, "param", "embedded") == "embedded":
        return Server(folder, **variables)
    return Cluster(folder, request.getfixturevalue("redis_server").new_database(), **variables)


StartServer = Callable[..., Server]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers with other settings in the test's folder. At the end they are stopped and their logs checked."""
    started: list[Server] = []

    def start(**variables: str) -> Server:
        process = Server(tmp_path, **variables)
        started.append(process)
        process.start()
        return process

    yield start
    for process in started:
        process.kill()
        process.check_log()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a file, which must not disturb each other."""
    process = Server(tmp_path_factory.mktemp("server"))
    process.start()
    yield process
    process.stop()
    process.check_log()
