"""`limner migrate` and `limner doctor` with a PostgreSQL database."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from limner.adapters.sql.inspect_postgres import Found
from limner.adapters.sql.migrate import head_revision
from tests.conftest import MODELS
from tests.services.postgres import Postgres
from tests.services.process import free_port

Limner = Callable[..., tuple[int, str]]


@pytest.fixture
def limner(tmp_path: Path) -> Limner:
    """Runs a command of `limner` with a database; its exit status and output."""

    def run(command: str, url: str, **variables: str) -> tuple[int, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LIMNER_", "XDG_"))}
        own = {"HOME": str(tmp_path), "LIMNER_MODELS_DIR": str(MODELS), "LIMNER_DATABASE_URL": url, **variables}
        done = subprocess.run(
            [sys.executable, "-m", "limner", command],
            env=inherited | own,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert "secret" not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


def with_password(url: str) -> str:
    return url.replace("limner@", "limner:secret@")


def test_migrate_says_what_it_did(limner: Limner, postgres: Postgres) -> None:
    url = with_password(postgres.new_database())
    name = url.partition("@")[2]
    assert limner("migrate", url) == (0, f"{name}: migrated, no tables → {head_revision()}\n")
    assert limner("migrate", url) == (0, f"{name}: up to date already\n")


def test_doctor_before_and_after_the_tables_are_made(limner: Limner, postgres: Postgres) -> None:
    url = with_password(postgres.new_database())
    name = url.partition("@")[2]
    status, told = limner("doctor", url, LIMNER_WORKERS="4")
    assert f"ok   database: {name}; `limner serve` will migrate its tables from none to {head_revision()}" in told
    assert "up to 16 of 197 connections" in told
    assert "a power cut may lose accepted jobs" in told, "the tests' server has no fsync"
    assert status == 0, told
    limner("migrate", url)
    status, told = limner("doctor", url)
    assert (status, f"ok   database: {name}, tables up to date; PostgreSQL " in told) == (0, True), told


def test_doctor_says_that_the_server_has_too_few_connections(limner: Limner, postgres: Postgres) -> None:
    status, told = limner("doctor", postgres.new_database(), LIMNER_WORKERS="100")
    assert (status, "may open 208 connections, but" in told, "raise max_connections" in told) == (1, True, True), told


@pytest.mark.parametrize(("ahead_s", "told"), [(60, "60 s ahead of"), (-3600, "3600 s behind"), (0.5, None)])
def test_doctor_compares_the_clocks(ahead_s: float, told: str | None) -> None:
    found = Found("host:5432/limner", "15.1", None, True, False, room=100, taken=0, is_durable=True, ahead_s=ahead_s)
    assert ("its clock is" in found.notes(8)) == (told is not None)
    assert told is None or told in found.notes(8)


def test_doctor_with_tables_of_another_version(limner: Limner, postgres: Postgres) -> None:
    url = postgres.new_database()
    limner("migrate", url)
    postgres.execute(url, "UPDATE alembic_version SET version_num = 'from the future'")
    status, told = limner("doctor", url)
    assert (status, "belongs to another version of Limner" in told) == (1, True), told


def test_doctor_without_a_server(limner: Limner) -> None:
    status, told = limner("doctor", "postgresql://limner:secret@127.0.0.1:1/faces")
    assert (status, "BAD  database: 127.0.0.1:1/faces cannot be used" in told) == (1, True), told


@pytest.mark.parametrize("command", ["serve", "serve in two processes", "migrate"])
def test_a_start_that_waits_for_the_database_stops_when_it_is_told(tmp_path: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # no answer, as with a name that takes long to look up
        variables = {
            "HOME": str(tmp_path),
            "LIMNER_ADMIN_KEY": "0123456789abcdef" * 2,
            "LIMNER_BUS_URL": "redis://127.0.0.1:1/0",
            "LIMNER_DATABASE_URL": f"postgresql://limner@127.0.0.1:{silent.getsockname()[1]}/limner",
            "LIMNER_ENGINE_URL": "redis://127.0.0.1:1/0",
            "LIMNER_MODELS_DIR": str(MODELS),
            "LIMNER_PORT": str(free_port()),
            "LIMNER_WEB_PROCESSES": "2" if "two" in command else "1",
        }
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "limner", command.partition(" ")[0]],
                env={name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")} | variables,
                cwd=tmp_path,
                stdout=log,
                stderr=log,
            )
        try:
            silent.settimeout(60)
            waiting = [silent.accept()[0] for _ in range(2 if "two" in command else 1)]  # they have begun to wait
            process.terminate()
            assert process.wait(30) == (143 if command == "migrate" else 0), "at once, not after a minute"
        finally:
            process.kill()
            process.wait()
        for each in waiting:
            each.close()
    assert "Traceback" not in (tmp_path / "log").read_text()
