"""The container image, built and run as docs/deploy.md says: read-only, without rights, as any user.

`TEST_IMAGE` names an image of Limner that is built already.
"""

import json
import os
import socket
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.deploy.containers import Engine, find_engine

pytestmark = pytest.mark.slow

HARDENED = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp")
START_TIMEOUT_S = 120  # of a busy machine


@pytest.fixture(scope="module")
def built() -> tuple[Engine, str]:
    """The container engine, and the name of the image."""
    python = "3.12-slim-bookworm"
    engine = find_engine(f"docker.io/library/python:{python}")
    if engine.stands_in:
        python = "3.11-slim-bookworm"  # Debian's
        engine.provide({f"docker.io/library/python:{python}": "python"})
    image = os.environ.get("TEST_IMAGE", "localhost/limner:test")
    if "TEST_IMAGE" not in os.environ:
        engine.build(image, python)
    return engine, image


@pytest.fixture
def engine(built: tuple[Engine, str]) -> Engine:
    return built[0]


@pytest.fixture
def image(built: tuple[Engine, str]) -> str:
    return built[1]


@dataclass
class Container:
    """A running container."""

    engine: Engine
    name: str
    url: str
    key: str = ""
    """An API key, which `limner keys create` has made in the container, because it listens on all addresses."""

    def do(self, *words: str) -> str:
        """Run a command of the engine; its output."""
        return self.engine.run(*words)

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(self.url + path, headers=self._headers())
        with urllib.request.urlopen(request, timeout=60) as answer:
            body: bytes = answer.read()
            return body

    def _headers(self) -> dict[str, str]:
        return {"X-API-Key": self.key} if self.key else {}

    def ready(self) -> bool:
        try:
            return bool(json.loads(self.get("/readyz")))
        except OSError:
            return False

    def stop(self) -> int:
        """Stop it as an orchestrator does; the exit status."""
        self.do("stop", "--time", "60", self.name)
        return int(self.do("inspect", "--format", "{{.State.ExitCode}}", self.name))

    def detect(self, jpeg: bytes) -> dict[str, Any]:
        """The finished job of a photo."""
        request = urllib.request.Request(
            self.url + "/v1/detect",
            data=b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + jpeg + b"\r\n--b--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=b", "Prefer": "wait=60", **self._headers()},
        )
        with urllib.request.urlopen(request, timeout=90) as answer:
            job: dict[str, Any] = json.load(answer)
            return job


def _start(engine: Engine, image: str, volume: str, *options: str) -> Container:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = f"limner-test-{uuid.uuid4().hex[:8]}"
    place = ("--name", name, "--publish", f"127.0.0.1:{port}:8282", "--volume", f"{volume}:/data")
    engine.run("run", "--detach", *place, *HARDENED, *options, image)
    container = Container(engine, name, f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + START_TIMEOUT_S
    while not container.ready():
        assert time.monotonic() < deadline, container.do("logs", name)
        time.sleep(0.1)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        container.get("/v1/jobs")
    container.key = engine.run("exec", name, "limner", "keys", "create", "--scope", "admin", "of the test")
    return container


@pytest.fixture
def volume(engine: Engine) -> Iterator[str]:
    """A named volume of its own."""
    name = f"limner-test-{uuid.uuid4().hex[:8]}"
    engine.run("volume", "create", name)
    yield name
    for each in engine.run("ps", "--all", "--quiet", "--filter", f"volume={name}").split():
        engine.run("rm", "--force", each)
    engine.run("volume", "rm", name)


@pytest.mark.parametrize("user", [(), ("--user", "12345")], ids=["its own user", "another user"])
def test_works_hardened_and_remembers(
    engine: Engine, image: str, volume: str, user: tuple[str, ...], astronaut_jpeg: bytes
) -> None:
    first = _start(engine, image, volume, *user)
    job = first.detect(astronaut_jpeg)
    assert job["status"] == "succeeded"
    assert len(job["result"]["faces"]) == 1
    picture = first.get(f"/v1/jobs/{job['id']}/artifacts/marked.jpg")
    assert picture[:2] == b"\xff\xd8"
    assert first.stop() == 0

    second = _start(engine, image, volume, *user)
    assert json.loads(second.get(f"/v1/jobs/{job['id']}"))["status"] == "succeeded"
    assert second.get(f"/v1/jobs/{job['id']}/artifacts/marked.jpg") == picture
    assert second.stop() == 0


def test_health_check_and_what_is_inside(engine: Engine, image: str, volume: str) -> None:
    container = _start(engine, image, volume)
    inside = ("exec", container.name)
    engine.run(*inside, "python", "/opt/limner/bin/healthcheck.py")
    assert engine.run(*inside, "id", "-u") == "10001"
    assert "expected" in engine.run(*inside, "limner", "models", "check")
    engine.run(*inside, "python", "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('pip') is not None)")
    engine.run(*inside, "sh", "-c", "! command -v gcc cc make")
    assert container.stop() == 0


def test_image_says_what_it_is(engine: Engine, image: str) -> None:
    config = json.loads(engine.run("inspect", "--type", "image", "--format", "{{json .Config}}", image))
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert "8282/tcp" in config["ExposedPorts"]
    assert config["User"] == "10001:0"
