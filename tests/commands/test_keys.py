"""`limner keys`: what is printed, what is stored, and that a running server takes it."""

import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from limner.cli import main
from limner.domain.key import hash_of
from tests.journeys.keys import key_server, with_key

Keys = Callable[..., Result]
TOKEN = re.compile(r"lim_[A-Za-z0-9_-]{43}")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "limner.db"
    monkeypatch.setenv("LIMNER_DATABASE_URL", f"sqlite:///{file}")
    return file


def keys(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments])


def _row(database: Path) -> dict[str, object]:
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        (row,) = connection.execute("SELECT * FROM keys").fetchall()
        return dict(row)


def test_a_key_is_printed_once_and_stored_as_its_hash(database: Path) -> None:
    done = keys("create", "a photo booth")
    token = done.stdout.strip()
    assert (done.exit_code, bool(TOKEN.fullmatch(token))) == (0, True), "the only line on standard output"
    assert "shown only once" in done.stderr
    assert str(database) in done.stderr, "whose settings are others than the service's sees it"
    row = _row(database)
    assert (row["name"], row["prefix"], row["hash"]) == ("a photo booth", token[:10], hash_of(token))
    assert (row["scopes"], row["rate_per_minute"], row["daily_quota"]) == ("erase read submit", None, None)
    assert token not in keys("list").output
    assert token.encode() not in database.read_bytes()


def test_scopes_limits_and_an_end(database: Path) -> None:
    done = keys("create", "x", "--scope", "read", "--scope", "admin", "--rate", "60", "--quota", "5", "--days", "0.5")
    assert done.exit_code == 0, done.output
    row = _row(database)
    assert (row["scopes"], row["rate_per_minute"], row["daily_quota"]) == ("admin read", 60, 5)
    end = datetime.fromtimestamp(int(str(row["expires_at"])) / 1e6, UTC)
    assert abs(end - datetime.now(UTC) - timedelta(hours=12)) < timedelta(minutes=1)
    listed = keys("list").output
    for part in (str(row["id"]), "x:", "valid", "admin read", "60/min", "5/day", "never used", "expires 20"):
        assert part in listed


@pytest.mark.parametrize(
    "arguments",
    [
        ("",),
        ("x" * 65,),
        ("a\nb",),
        ("x", "--scope", "all"),
        ("x", "--rate", "0"),
        ("x", "--quota", "-1"),
        ("x", "--days", "0"),
        ("x", "--days", "nan"),
        ("x", "--days", "1e9"),
        ("x", "--rate", "3000000000"),
        ("x", "--quota", "99999999999999999999"),
    ],
)
def test_what_makes_no_sense_is_refused(database: Path, arguments: tuple[str, ...]) -> None:
    assert keys("create", *arguments).exit_code == 2
    assert not database.exists()


def test_a_temporary_database_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_DATABASE_URL", "memory:")
    done = keys("create", "x")
    assert (done.exit_code, "LIMNER_ADMIN_KEY" in done.output) == (1, True)


def test_keys_are_named_by_id_or_by_what_is_shown(database: Path) -> None:
    done = keys("list")
    assert (done.exit_code, database.exists()) == (1, False), "the settings may be those of no service"
    assert str(database) in done.output
    token = keys("create", "x").stdout.strip()
    for unknown in ("lim_", token[:9], "nothing", token):
        done = keys("revoke", unknown)
        assert (done.exit_code, "No keys are named" in done.output) == (1, True), unknown
    new = keys("rotate", f"{token[:10]}…").stdout.strip()
    assert TOKEN.fullmatch(new)
    row = _row(database)
    assert (row["hash"], row["prefix"], row["name"]) == (hash_of(new), new[:10], "x")
    assert keys("revoke", str(row["id"])).exit_code == 0
    assert "revoked" in keys("list").output
    done = keys("rotate", str(row["id"]))
    assert (done.exit_code, "Create another" in done.output) == (1, True)


def test_a_running_server_takes_new_keys_and_forgets_old_ones(tmp_path: Path, database: Path) -> None:
    server = key_server(tmp_path)
    server.start()
    try:

        def status(token: str) -> int:
            return httpx.get(f"{server.url}/v1/jobs", headers=with_key(token)).status_code

        token = keys("create", "x").stdout.strip()
        new = keys("rotate", token[:10]).stdout.strip()
        assert (status(token), status(new)) == (401, 200)
        assert "used 20" in keys("list").output
    finally:
        server.stop()
    server.check_log()


def test_a_rotation_with_an_overlap_lets_both_work_meanwhile(tmp_path: Path, database: Path) -> None:
    server = key_server(tmp_path)
    old = keys("create", "booth").stdout.strip()
    server.start()
    try:

        def status(token: str) -> int:
            return httpx.get(f"{server.url}/v1/jobs", headers=with_key(token)).status_code

        assert status(old) == 200
        began = time.monotonic()
        new = keys("rotate", old[:10], "--overlap", "8s").stdout.strip()
        assert "the one before works until" in keys("list").stdout
        assert status(new) == 200
        while (left := began + 7 - time.monotonic()) > 0:
            assert status(old) == 200
            time.sleep(min(1, left))
        while status(old) != 401:
            assert time.monotonic() - began < 12
            time.sleep(0.2)
        assert status(new) == 200
        assert time.monotonic() - began >= 8
    finally:
        server.stop()
    server.check_log()


@pytest.mark.parametrize("overlap", ["1", "h", "-1h", "1.5h", "31d", "9999999999d", "1w"])
def test_an_overlap_that_is_no_time_is_refused(database: Path, overlap: str) -> None:
    done = keys("rotate", "lim_abcdef", "--overlap", overlap)
    assert done.exit_code == 2
    assert "--overlap" in done.stderr


def test_each_key_has_a_secret_for_its_webhooks(database: Path) -> None:
    def secret(*options: str) -> str:
        done = CliRunner().invoke(main, ["webhooks", "secret", *options])
        assert done.exit_code == 0, done.output
        return done.output.strip()

    token = keys("create", "a photo booth").stdout.strip()
    of_key = secret("--key", token[:10])
    assert len({of_key, secret(), secret("--key", "admin")}) == 3
    assert secret("--key", str(_row(database)["id"])) == of_key
    assert secret("--key", token[:10], "--new") != of_key
    unknown = CliRunner().invoke(main, ["webhooks", "secret", "--key", "lim_nobody"])
    assert unknown.exit_code != 0
    assert "No keys are named 'lim_nobody'" in unknown.output


def test_a_webhook_can_be_of_one_key(database: Path) -> None:
    def webhooks(*words: str, status: int = 0) -> str:
        done = CliRunner().invoke(main, ["webhooks", *words])
        assert done.exit_code == status, done.output
        return done.output

    keys("create", "a photo booth")
    key = _row(database)
    webhooks("add", "https://example.org/a", "--key", str(key["prefix"]))
    added = webhooks("add", "https://example.org/b", "--key", "admin").split()
    webhooks("add", "https://example.org/c")
    whose = [line.split("  ")[4] for line in webhooks("list").splitlines()]
    assert whose == [f"jobs of key {key['id']}", "jobs of key admin", "all jobs"]
    assert webhooks("secret", "--webhook", added[1]).strip() == added[-1]
    webhooks("add", "https://example.org/d", "--key", "lim_nobody", status=1)
    webhooks("secret", "--webhook", added[1], "--key", "admin", status=2)
    for command in (["secret", "--webhook", "nothing"], ["replay", "--webhook", "nothing"]):
        assert "There is no webhook nothing" in webhooks(*command, status=1)
