"""The backup of a SQLite database and its folder, by the command of docs/backup.md, while the service works."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx

from tests.conftest import another
from tests.journeys.client import finished, submit
from tests.journeys.conftest import StartServer

ROOT = Path(__file__).resolve().parents[2]


def _program(before: str) -> str:
    """What the document gives to `python -c` after `before`."""
    text = (ROOT / "docs/backup.md").read_text()
    found = re.search(re.escape(before) + r'python -c (?:\\\n\s+)?"((?:[^"\\]|\\.)*)"', text)
    assert found is not None
    return found[1].replace('\\"', '"')


def test_both_documented_commands_are_the_same() -> None:
    inside = _program("docker exec limner ")
    assert inside.replace("/data/", "") == _program("/opt/limner/.venv/bin/")


def test_a_backup_under_load_brings_back_every_picture_that_it_names(
    start_server: StartServer, tmp_path: Path, astronaut_jpeg: bytes
) -> None:
    server = start_server(LIMNER_WORKERS="1")
    first = submit(server, another(astronaut_jpeg, 0), wait=True)
    waiting = [submit(server, another(astronaut_jpeg, number)) for number in range(1, 6)]
    command = [sys.executable, "-c", _program("/opt/limner/.venv/bin/")]
    subprocess.run(command, cwd=server.folder, check=True, timeout=60)
    shutil.copytree(server.folder / "blobs", server.folder / "copied-blobs")
    later = submit(server, another(astronaut_jpeg, 9), wait=True)
    server.stop()

    for path in server.folder.glob("limner.db*"):
        path.unlink()
    shutil.rmtree(server.folder / "blobs")
    (server.folder / "copied-blobs").rename(server.folder / "blobs")
    (server.folder / "copy.db").rename(server.folder / "limner.db")
    server.start()
    for job in (first, *waiting):
        told = finished(server, job["id"])
        assert told["status"] == "succeeded"
        for artifact in told["artifacts"]:
            assert len(httpx.get(artifact["url"]).content) == artifact["size"]
    assert httpx.get(later["url"]).status_code == 404
