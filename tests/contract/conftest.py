"""The adapters of each port. A new adapter needs only an entry here to be tested by all suites."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from limner.adapters.disk_blobs import DiskBlobs
from limner.adapters.local_bus import LocalBus
from limner.adapters.redis_bus import RedisBus
from limner.adapters.remembered_blobs import RememberedBlobs
from limner.adapters.s3_blobs import S3Blobs
from limner.blob_ports import BlobStore
from limner.ports import Bus
from tests.contract.databases import Databases
from tests.contract.machine import MACHINES, Machine, open_machine

BLOB_STORES: dict[str, Callable[[Path], BlobStore]] = {
    "disk": lambda folder: DiskBlobs(folder / "blobs", durable=True),
    "remembered": lambda folder: RememberedBlobs(DiskBlobs(folder / "blobs", durable=True)),
    "disk-relaxed": lambda folder: DiskBlobs(folder / "blobs", durable=False),
}
S3_STORES: dict[str, Callable[[str], BlobStore]] = {
    "s3": S3Blobs,
    "s3-prefix": lambda url: S3Blobs(f"{url}/faces/of-all"),
    "s3-remembered": lambda url: RememberedBlobs(S3Blobs(url)),
}
BUSES = ("local", "redis")


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """Gives tests their databases."""
    made = Databases(lambda: request.getfixturevalue("postgres"))
    yield made
    assert not made.taken, "a test has not given back its database"


@pytest.fixture(params=MACHINES)
def database_url(request: pytest.FixtureRequest, databases: Databases, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, of each kind."""
    with databases.one(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def machine(database_url: str) -> Iterator[Machine]:
    """Every job store with its reader and event log, empty."""
    made = open_machine(database_url)
    yield made
    made.close()


@pytest.fixture(params=[*BLOB_STORES, *S3_STORES])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Every blob store, empty."""
    if request.param in BLOB_STORES:
        return BLOB_STORES[request.param](tmp_path)
    return S3_STORES[request.param](f"s3://{request.getfixturevalue('bucket')}")


@pytest.fixture(params=BUSES)
def bus(request: pytest.FixtureRequest) -> Iterator[Bus]:
    """Every bus."""
    if request.param == "local":
        yield LocalBus()
        return
    redis_bus = RedisBus(request.getfixturevalue("redis_server").new_database())
    yield redis_bus
    redis_bus.close()
