"""Clients that are generated from `/openapi.json` compile and run."""

import json
import shutil
from pathlib import Path

import pytest

from tests.journeys.client import get
from tests.journeys.server import Server
from tests.journeys.test_requests import HERE, photo, run
from tests.services.tools import node_folder, python_folder

__all__ = ["photo"]  # the fixture

pytestmark = pytest.mark.timeout(600)  # the generators are installed first, once

# The generator wants to be told which of its few kinds of content a picture is.
CONFIGURATION = """
content_type_overrides: {"image/*": application/octet-stream, image/jpeg: application/octet-stream,
                         text/event-stream: text/plain, application/zip: application/octet-stream,
                         application/x-amz-json-1.1: application/json}
post_hooks: []
"""


def test_openapi_python_client(shared_server: Server, photo: Path, tmp_path: Path) -> None:
    document, configuration = tmp_path / "openapi.json", tmp_path / "configuration.yml"
    document.write_bytes(get(shared_server, "/openapi.json").content)
    configuration.write_text(CONFIGURATION)
    programs = python_folder()
    made = tmp_path / "made"
    told = run(
        *(programs / "openapi-python-client", "generate", "--fail-on-warning", "--path", document),
        *("--config", configuration, "--output-path", made),
    )
    assert "WARNING" not in told
    script = made / "generated.py"  # beside the package
    script.write_bytes((HERE / "habits/generated.py").read_bytes())
    run(programs / "python", "-m", "compileall", "-q", made)
    answers = json.loads(run(programs / "python", script, shared_server.url, photo))
    assert 200 < answers.pop("left_eye") < 230
    assert answers.pop("bytes") > 10_000
    assert answers == {
        "raw": "succeeded",
        "pipeline": "succeeded",
        "listed": 1,
        "refused": "urn:limner:problem:unsupported-media",
        "gone": 404,
    }


def test_openapi_typescript(shared_server: Server, photo: Path, tmp_path: Path) -> None:
    packages = node_folder()
    document = tmp_path / "openapi.json"
    document.write_bytes(get(shared_server, "/openapi.json").content)
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(HERE / "habits/generated.ts", tmp_path)
    programs = packages / "node_modules/.bin"
    run(programs / "openapi-typescript", document, "-o", tmp_path / "api.d.ts", folder=tmp_path)
    options = ["--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--module", "nodenext"]
    run(programs / "tsc", *options, "--skipLibCheck", tmp_path / "generated.ts", folder=tmp_path)
    told = json.loads(run("node", tmp_path / "generated.js", shared_server.url, photo))
    assert 200 < told.pop("x") < 230
    assert told == {"faces": 1, "refused": "urn:limner:problem:unsupported-media", "event": "job.succeeded"}
