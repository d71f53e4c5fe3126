"""Clients of others, installed once into the user's cache: packages of npm, and of PyPI in an environment apart."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "limner-tests"

# Exact versions, so that a test fails for a change of ours.
NODE_PACKAGES = [
    "@types/node@20.19.43",
    "axios@1.21.1",
    "eventsource@4.1.1",
    "form-data@4.0.6",
    "got@14.6.6",
    "openapi-fetch@0.17.0",
    "openapi-typescript@7.13.0",
    "superagent@10.4.2",
    "typescript@5.9.3",
]
PYTHON_PACKAGES = ["aiohttp==3.14.5", "openapi-python-client==0.29.1"]
PATIENCE_S = 300


def node_folder() -> Path:
    """A folder whose `node_modules` has the packages. Skips the test where there is no Node, or no registry."""
    if shutil.which("npm") is None:
        pytest.skip("Node.js is not installed")
    command = ["npm", "install", "--no-audit", "--no-fund", "--legacy-peer-deps", "--ignore-scripts", *NODE_PACKAGES]
    with _installed("node", NODE_PACKAGES) as missing:
        if missing is not None:
            (missing / "package.json").write_text('{"private": true, "type": "module"}')
            _install(command, missing)
    return _folder("node", NODE_PACKAGES)


def python_folder() -> Path:
    """The `bin` of a virtual environment with the packages. Skips the test where there is no registry."""
    with _installed("python", PYTHON_PACKAGES) as missing:
        if missing is not None:
            _install([sys.executable, "-m", "venv", str(missing)], missing)
            _install([str(missing / "bin/python"), "-m", "pip", "install", "--quiet", *PYTHON_PACKAGES], missing)
    return _folder("python", PYTHON_PACKAGES) / "bin"


def _folder(kind: str, packages: Sequence[str]) -> Path:
    versions = hashlib.sha256("\n".join([sys.version, *packages]).encode()).hexdigest()[:12]
    return CACHE / f"{kind}-{versions}"


@contextmanager
def _installed(kind: str, packages: Sequence[str]) -> Iterator[Path | None]:
    """The empty folder into which to install, or None if that was done. Other test processes wait meanwhile."""
    folder = _folder(kind, packages)
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed"
        if done.exists():
            yield None
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
        done.touch()


def _install(command: Sequence[str], folder: Path) -> None:
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} could not install the clients in {PATIENCE_S} s")
    if ended.returncode:
        pytest.skip(f"{command[0]} could not install the clients: {ended.stderr[-300:]}")
