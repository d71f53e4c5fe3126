"""The container image, built and run as docs/deploy.md says: read-only, without rights, as any user.

Needs docker or podman. `TEST_IMAGE` names an image that is built already; else `scripts/build_image.sh` builds
one, and its variables (`ENGINE`, `PYTHON_TAG`, `BUILD_ARGS`) can be set.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HARDENED = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp")
BUILD_TIMEOUT_S = 1200
START_TIMEOUT_S = 30


@pytest.fixture(scope="session")
def engine() -> str:
    """The container engine."""
    for name in ("docker", "podman"):
        # A docker client without a daemon is no docker.
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            return name
    pytest.skip("neither docker nor podman works here")


@pytest.fixture(scope="session")
def image(engine: str) -> str:
    """The image's name."""
    given = os.environ.get("TEST_IMAGE")
    if given:
        return given
    name = "localhost/limner:test"
    chosen = {"ENGINE": engine} | dict(os.environ) | {"IMAGE": name}
    subprocess.run([str(ROOT / "scripts/build_image.sh")], env=chosen, check=True, timeout=BUILD_TIMEOUT_S)
    return name


@dataclass
class Container:
    """A running container."""

    engine: str
    name: str
    url: str
    key: str = ""
    """An API key, which `limner keys create` has made in the container, because it listens on all addresses."""

    def do(self, *words: str) -> str:
        """Run a command of the engine; its output."""
        return _run(self.engine, *words)

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(self.url + path, headers=self._headers())
        with urllib.request.urlopen(request, timeout=10) as answer:
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
        self.do("stop", "--time", "15", self.name)
        return int(self.do("inspect", "--format", "{{.State.ExitCode}}", self.name))

    def detect(self, jpeg: bytes) -> dict[str, Any]:
        """The finished job of a photo."""
        request = urllib.request.Request(
            self.url + "/v1/detect",
            data=b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + jpeg + b"\r\n--b--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=b", "Prefer": "wait=20", **self._headers()},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            job: dict[str, Any] = json.load(answer)
            return job


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def _start(engine: str, image: str, volume: str, *options: str) -> Container:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = f"limner-test-{uuid.uuid4().hex[:8]}"
    place = ("--name", name, "--publish", f"127.0.0.1:{port}:8282", "--volume", f"{volume}:/data")
    _run(engine, "run", "--detach", *place, *HARDENED, *options, image)
    container = Container(engine, name, f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + START_TIMEOUT_S
    while not container.ready():
        assert time.monotonic() < deadline, container.do("logs", name)
        time.sleep(0.1)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        container.get("/v1/jobs")
    container.key = _run(engine, "exec", name, "limner", "keys", "create", "--scope", "admin", "of the test")
    return container


@pytest.fixture
def volume(engine: str) -> Iterator[str]:
    """A named volume of its own."""
    name = f"limner-test-{uuid.uuid4().hex[:8]}"
    _run(engine, "volume", "create", name)
    yield name
    for each in _run(engine, "ps", "--all", "--quiet", "--filter", f"volume={name}").split():
        _run(engine, "rm", "--force", each)
    _run(engine, "volume", "rm", name)


@pytest.mark.parametrize("user", [(), ("--user", "12345")], ids=["its own user", "another user"])
def test_works_hardened_and_remembers(
    engine: str, image: str, volume: str, user: tuple[str, ...], astronaut_jpeg: bytes
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


def test_health_check_and_what_is_inside(engine: str, image: str, volume: str) -> None:
    container = _start(engine, image, volume)
    inside = (engine, "exec", container.name)
    _run(*inside, "python", "/opt/limner/bin/healthcheck.py")
    assert _run(*inside, "id", "-u") == "10001"
    assert "expected" in _run(*inside, "limner", "models", "check")
    _run(*inside, "python", "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('pip') is not None)")
    _run(*inside, "sh", "-c", "! command -v gcc cc make")
    assert container.stop() == 0


def test_image_says_what_it_is(engine: str, image: str) -> None:
    config = json.loads(_run(engine, "inspect", "--type", "image", "--format", "{{json .Config}}", image))
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert "8282/tcp" in config["ExposedPorts"]
    assert config["User"] == "10001:0"
