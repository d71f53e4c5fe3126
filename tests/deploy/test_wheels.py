"""The wheels, installed into empty environments: the client alone, and all of Limner, used from an empty folder."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

import pytest

from tests.conftest import MODELS
from tests.journeys.conftest import served
from tests.journeys.server import Server
from tests.services.process import free_port

ROOT = Path(__file__).resolve().parents[2]
START_S = 120
PROGRAM = """
import sys
from limner.client import Client
job = Client(sys.argv[1]).detect("photo.jpg", mark="blur")
print(len(job.result.faces), job.save("out.jpg")[0])
print(*sorted(name for name in sys.modules if name in ("numpy", "pydantic", "limner.operation")))
"""


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LIMNER_", "PYTHON"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=inherited | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(folder: Path, wheel: Path) -> Path:
    """The programs of a new environment with this wheel and what it needs."""
    venv.create(folder, with_pip=True)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return folder / "bin"


def wheel(folder: Path, source: Path) -> Path:
    """Built of a source folder."""
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def empty(tmp_path: Path, astronaut_jpeg: bytes) -> Path:
    """A folder with nothing but a photo."""
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(astronaut_jpeg)
    return folder


def test_the_client_alone(tmp_path: Path, empty: Path) -> None:
    alone = installed(tmp_path / "alone", wheel(tmp_path, ROOT / "client"))
    libraries = {each["name"] for each in json.loads(run(alone / "pip", "list", "--format", "json", cwd=empty))}
    of_httpx = {"httpx", "httpcore", "h11", "anyio", "idna", "certifi", "sniffio", "typing_extensions"}
    assert {"limner-client", "httpx"} <= libraries <= {"limner-client", "pip", "setuptools"} | of_httpx
    for service in served(Server(tmp_path)):
        told = run(alone / "python", "-c", PROGRAM, service.url, cwd=empty).splitlines()
        assert told == ["1 out.jpg", ""]
    assert sorted(path.name for path in empty.iterdir()) == ["out.jpg", "photo.jpg"]


@pytest.mark.slow
def test_client_command_line_and_service(tmp_path: Path, empty: Path) -> None:
    whole = installed(tmp_path / "whole", wheel(tmp_path, ROOT))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "LIMNER_MODELS_DIR": str(MODELS)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LIMNER_", "PYTHON"))}
    with (tmp_path / "log").open("wb") as log:
        service = subprocess.Popen(
            [whole / "limner", "serve", "--port", str(port)],
            cwd=empty,
            env=inherited | settings,
            stdout=log,
            stderr=log,
        )
    try:
        wait(url)
        told = run(whole / "python", "-c", PROGRAM, url, cwd=empty).splitlines()
        assert told == ["1 out.jpg", ""]
        by_service = run(whole / "limner", "detect", "photo.jpg", "-o", "a.jpg", "--server", url, cwd=empty, **settings)
        here = run(whole / "limner", "detect", "photo.jpg", "-o", "b.jpg", cwd=empty, **settings)
        assert by_service.replace("a.jpg", "b.jpg") == here == "photo.jpg: 1 face (0.93) → b.jpg\n"
        assert (empty / "a.jpg").read_bytes() == (empty / "b.jpg").read_bytes()
    finally:
        service.terminate()
        assert service.wait(60) == 0, (tmp_path / "log").read_text()
    assert sorted(path.name for path in empty.iterdir()) == ["a.jpg", "b.jpg", "out.jpg", "photo.jpg"]


def wait(url: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert time.monotonic() < deadline
            time.sleep(0.2)
