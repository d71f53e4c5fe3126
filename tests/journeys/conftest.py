"""A real server process for journeys."""

from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for a whole file of tests that do not disturb one another."""
    process = Server(tmp_path_factory.mktemp("server"))
    process.start()
    yield process
    process.stop()
    process.check_log()
