"""Erasing a job leaves nothing, and its receipt can be checked against everything that the service stores."""

import hashlib
import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from limner.cli import main
from tests.conftest import another
from tests.journeys.client import all_events, get, problem, submit
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server

REPRESENTATION = {"Prefer": "return=representation"}


@pytest.fixture
def sweeping(start_server: StartServer) -> Server:
    """A server that sweeps often, so that the database's log is soon emptied."""
    return start_server(LIMNER_SWEEP_S="0.2")


def erase(server: Server, job: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.delete(job["url"], headers=REPRESENTATION, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["preference-applied"] == "return=representation"
    receipt: dict[str, Any] = answer.json()
    return receipt


def verify(server: Server, receipt: object) -> tuple[int, str]:
    """Exit status and output of `limner verify-erasure`."""
    file = server.folder / "receipt.json"
    file.write_text(receipt if isinstance(receipt, str) else json.dumps(receipt))
    done = CliRunner().invoke(main, ["verify-erasure", str(file)], env=server.variables, catch_exceptions=False)
    return done.exit_code, done.output


def names(folder: Path, words: list[bytes]) -> list[str]:
    """Files of the service whose content or name has one of these words."""
    found = []
    for file in [*folder.glob("limner.db*"), *folder.glob("blobs/**/*")]:
        if file.is_file():
            content = file.read_bytes()
            found += [f"{file.name}: {word!r}" for word in words if word in content or word.decode() in str(file)]
    return found


@pytest.mark.embedded
def test_nothing_is_left_and_the_receipt_says_so(sweeping: Server, astronaut_jpeg: bytes) -> None:
    photo = another(astronaut_jpeg, 4711)
    job = submit(sweeping, photo, wait=True, min_score="0.4321", label="Label 4712")
    (artifact,) = job["artifacts"]
    small = get(sweeping, job["thumbnail"]).content
    made = get(sweeping, artifact["url"]).content
    hashes = {hashlib.sha256(each).hexdigest() for each in (photo, made, small)}
    eye = str(job["result"]["faces"][0]["landmarks"]["left_eye"]["x"])
    words = [*(each.encode() for each in hashes), b"0.4321", eye.encode(), b"photo 4711", b"Label 4712", b"label 4712"]
    assert len(names(sweeping.folder, words)) >= len(words)
    receipt = erase(sweeping, job)
    assert {each["sha256"] for each in receipt["removed"]["blobs"]} == hashes
    assert {each["size"] for each in receipt["removed"]["blobs"]} == {len(photo), artifact["size"], len(small)}
    counts = {name: receipt["removed"][name] for name in ("jobs", "files", "events_emptied")}
    assert counts == {"jobs": 1, "files": 3, "events_emptied": len(all_events(sweeping))}
    assert (receipt["kept"], receipt["pending"], receipt["version"]) == ([], [], 1)
    status, text = verify(sweeping, receipt)
    assert (status, "BAD" in text) == (0, False), text
    deadline = time.monotonic() + 10
    while left := names(sweeping.folder, words):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_without_the_preference_it_is_204(sweeping: Server, astronaut_jpeg: bytes) -> None:
    job = submit(sweeping, another(astronaut_jpeg, 1), wait=True)
    answer = httpx.delete(job["url"], headers={"Prefer": "return=minimal"}, timeout=60)
    assert (answer.status_code, answer.content) == (204, b"")
    problem(httpx.delete(job["url"], headers=REPRESENTATION, timeout=60), 404, "not-found")


def test_what_another_job_uses_is_kept_with_the_reason(sweeping: Server, astronaut_jpeg: bytes) -> None:
    photo = another(astronaut_jpeg, 2)
    first, second = (submit(sweeping, photo, wait=True) for _ in range(2))
    receipt = erase(sweeping, first)
    assert len(receipt["kept"]) == 3
    assert {each["reason"] for each in receipt["kept"]} == {"another job uses these bytes"}
    assert receipt["removed"]["blobs"] == []
    assert verify(sweeping, receipt)[0] == 0
    other = erase(sweeping, second)
    assert len(other["removed"]["blobs"]) == 3
    submit(sweeping, photo, wait=True)
    status, text = verify(sweeping, other)
    assert (status, text.count("is stored, because another job uses these bytes")) == (0, 3), text


def test_a_receipt_cannot_be_forged(sweeping: Server, astronaut_jpeg: bytes, tmp_path: Path) -> None:
    kept = submit(sweeping, another(astronaut_jpeg, 3), wait=True)
    receipt = erase(sweeping, submit(sweeping, another(astronaut_jpeg, 4), wait=True))
    for forged in (
        receipt | {"job_id": kept["id"]},
        receipt | {"erased_at": "2020-01-01T00:00:00.000000Z"},
        receipt | {"removed": receipt["removed"] | {"blobs": []}},
        receipt | {"extra": 1},
        receipt | {"signature": "hmac-sha256=" + "0" * 64},
        receipt | {"signature": ""},
    ):
        status, text = verify(sweeping, forged)
        assert (status, "was not issued by this service" in text) == (1, True), text
    no_receipts = ("", "[]", "{}", "not JSON", "[" * 100_000, json.dumps(receipt | {"kept": [{"sha256": 1}]}))
    # Texts that a database or a terminal would not take as they are.
    no_receipts += tuple(
        json.dumps(receipt | {name: text})
        for name in ("job_id", "erased_at", "signature")
        for text in ("ä", "\ud800", "\0", "\x1b[2J", "x" * 256)
    )
    reason = {"sha256": "0" * 64, "reason": "\x1b[2J"}
    no_receipts += (json.dumps(receipt | {"kept": [reason]}),)
    for nothing in (*no_receipts, json.dumps(receipt | {"version": 2}), json.dumps(receipt | {"removed": 1})):
        status, text = verify(sweeping, nothing)
        assert (status, "is not a receipt" in text) == (2, True), text
    # Another service has other keys.
    other = Server(tmp_path / "other")
    other.folder.mkdir()
    other.start()
    assert verify(other, receipt)[0] == 1
    other.stop()


@pytest.mark.embedded
def test_a_restored_backup_makes_it_fail(start_server: StartServer, astronaut_jpeg: bytes, tmp_path: Path) -> None:
    server = start_server(LIMNER_SWEEP_S="0.2")
    erase(server, submit(server, another(astronaut_jpeg, 5), wait=True))  # so the backup has the key
    job = submit(server, another(astronaut_jpeg, 6), wait=True)
    server.stop()
    shutil.copytree(server.folder / "blobs", tmp_path / "backup")
    shutil.copy(server.folder / "limner.db", tmp_path / "backup.db")
    server.start()
    receipt = erase(server, job)
    assert verify(server, receipt)[0] == 0
    server.stop()
    for file in server.folder.glob("limner.db*"):
        file.unlink()
    shutil.rmtree(server.folder / "blobs")
    shutil.copytree(tmp_path / "backup", server.folder / "blobs")
    shutil.copy(tmp_path / "backup.db", server.folder / "limner.db")
    status, text = verify(server, receipt)
    assert status == 1
    for words in ("still has the job", "files of the job", "contents of the job's events", "is still stored"):
        assert words in text
    assert "was issued by this service" in text


def test_bytes_that_could_not_be_removed_are_pending(sweeping: Server, astronaut_jpeg: bytes) -> None:
    photo = another(astronaut_jpeg, 7)
    job = submit(sweeping, photo, wait=True, mark="none")
    sha256 = hashlib.sha256(photo).hexdigest()
    (file,) = (
        each for each in (sweeping.folder / "blobs").glob("**/*") if each.is_file() and sha256.endswith(each.name)
    )
    file.unlink()
    file.mkdir()  # a folder cannot be removed as a file
    (file / "x").touch()
    told = problem(httpx.delete(job["url"], headers=REPRESENTATION, timeout=60), 503, "unavailable")
    receipt = told["receipt"]
    assert sha256 in {each["sha256"] for each in receipt["pending"]}
    assert (len(receipt["pending"]), receipt["removed"]["blobs"]) == (2, [])  # the photo and its thumbnail
    assert verify(sweeping, receipt)[0] == 1
    (file / "x").unlink()
    file.rmdir()
    assert verify(sweeping, receipt)[0] == 0


@pytest.mark.embedded
def test_the_key_is_in_the_database_only(sweeping: Server, astronaut_jpeg: bytes) -> None:
    erase(sweeping, submit(sweeping, another(astronaut_jpeg, 8), wait=True))
    with closing(sqlite3.connect(sweeping.folder / "limner.db")) as connection:
        (key,) = connection.execute("SELECT value FROM facts WHERE name = 'receipt_key'").fetchone()
    assert len(key) == 64
    assert key not in sweeping.log.read_text()
