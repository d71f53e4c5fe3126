"""A real server process for journeys."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journeys.server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of its own on an empty database, started."""
    process = Server(tmp_path)
    process.start()
    yield process
    process.stop()
    process.check_log()


StartServer = Callable[..., Server]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers with further settings, all in the test's folder; at the end they stop and their logs are read."""
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
    """One server for a whole file of tests that do not disturb one another."""
    process = Server(tmp_path_factory.mktemp("server"))
    process.start()
    yield process
    process.stop()
    process.check_log()
