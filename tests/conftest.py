"""Fixtures of all tests: real photos, the folder of the models, and servers, which start when a test needs them."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data
from hypothesis import settings
from PIL import Image

from tests.services.postgres import Postgres
from tests.services.redis_server import RedisServer
from tests.services.seaweedfs import SeaweedFS

# A slow test must not fail because the machine is busy.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

MODELS = Path(os.environ.get("LIMNER_MODELS_DIR", Path(__file__).parent.parent / "models"))


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of the fetched models (`make install` fetches them)."""
    return MODELS


@pytest.fixture(scope="session")
def astronaut() -> npt.NDArray[np.uint8]:
    """A public-domain portrait (NASA), (512, 512, 3) RGB, with one face."""
    pixels: npt.NDArray[np.uint8] = skimage.data.astronaut()
    return pixels


@pytest.fixture(scope="session")
def astronaut_jpeg(astronaut: npt.NDArray[np.uint8]) -> bytes:
    """The same as a JPEG file."""
    return as_jpeg(astronaut)


@pytest.fixture(scope="session")
def small_jpeg(astronaut: npt.NDArray[np.uint8]) -> bytes:
    """Its face, (256, 256), which every operation works on quickly."""
    return as_jpeg(np.ascontiguousarray(astronaut[:256, 100:356]))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One PostgreSQL server for all tests; each takes a database of its own (`new_database`)."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.process.stop()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis server for all tests that do not stop it."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.process.start()
    yield server
    server.process.stop()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """One S3 server for all tests; each takes a bucket of its own."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    server.process.start()
    yield server
    server.process.stop()


@pytest.fixture
def bucket(seaweedfs: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, which the variables AWS_* lead to."""
    for name, value in seaweedfs.environment().items():
        monkeypatch.setenv(name, value)
    return seaweedfs.new_bucket()


def as_jpeg(pixels: npt.NDArray[np.uint8], quality: int = 90) -> bytes:
    """A JPEG file of RGB pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def another(jpeg: bytes, number: int) -> bytes:
    """The same photo as a different file (with a numbered JPEG comment), so that it is no cache hit."""
    comment = f"photo {number}".encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]
