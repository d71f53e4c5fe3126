"""The adapters that stand behind each port. A further adapter is a further entry here; the suites stay as they are."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from limner.adapters.disk_blobs import DiskBlobs
from limner.adapters.local_bus import LocalBus
from limner.adapters.sql_engine import migrate, open_database
from limner.adapters.sql_jobs import SqlJobs
from limner.adapters.thread_engine import ThreadEngine
from limner.ports import BlobStore, Bus, Engine, JobStore

Run = Callable[[str, Callable[[int], None]], None]


def sql_jobs(url: str) -> SqlJobs:
    """A job store on a database with the newest tables."""
    database = open_database(url, durable=False)
    migrate(database)
    return SqlJobs(database)


JOB_STORES: dict[str, Callable[[Path], JobStore]] = {
    "sqlite": lambda folder: sql_jobs(f"sqlite:///{folder}/jobs.db"),
    "memory": lambda _: sql_jobs("memory:"),
}
BLOB_STORES: dict[str, Callable[[Path], BlobStore]] = {
    "disk": lambda folder: DiskBlobs(folder / "blobs", durable=True),
    "disk-relaxed": lambda folder: DiskBlobs(folder / "blobs", durable=False),
}
BUSES: dict[str, Callable[[], Bus]] = {"local": LocalBus}
ENGINES: dict[str, Callable[[Run, int, int], Engine]] = {
    "threads": lambda run, workers, capacity: ThreadEngine(run, workers=workers, capacity=capacity),
}


@pytest.fixture(params=JOB_STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    """Every job store, empty."""
    made = JOB_STORES[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture(params=BLOB_STORES)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Every blob store, empty."""
    return BLOB_STORES[request.param](tmp_path)


@pytest.fixture(params=BUSES)
def bus(request: pytest.FixtureRequest) -> Bus:
    """Every bus."""
    return BUSES[request.param]()


@pytest.fixture(params=ENGINES)
def make_engine(request: pytest.FixtureRequest) -> Callable[[Run, int, int], Engine]:
    """Makes an engine from `run`, the number of workers and the length of the line."""
    return ENGINES[request.param]
