"""`limner doctor`: a correct finding for each part, and no file or folder created or changed."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import make_url

from limner.adapters.sql.migrate import head_revision, migrate
from limner.adapters.sql.sqlite import SqliteDatabase
from limner.assembly.stores import open_stores
from limner.domain.key import Key
from limner.settings import Settings
from tests.conftest import MODELS
from tests.journeys.server import Cluster, Server
from tests.services.otlp import Collector
from tests.services.postgres import Postgres
from tests.services.redis_server import RedisServer

Doctor = Callable[..., tuple[int, str]]


def listing(folder: Path) -> dict[str, tuple[int, str]]:
    """Everything below a folder: each path with its modification time and the hash of its content.

    For SQLite's shared memory only the path, because each reader of a database in use writes to it.
    """
    found = {}
    for path in (folder, *folder.rglob("*")):
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (0, "") if path.name.endswith("-shm") else (path.lstat().st_mtime_ns, content)
    return found


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Runs the command with its own home folder; returns exit status and output. Fails if it changes a file."""
    home = tmp_path / "home"
    home.mkdir()

    def run(**variables: str) -> tuple[int, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LIMNER_", "XDG_"))}
        before = listing(tmp_path)
        done = subprocess.run(
            [sys.executable, "-m", "limner", "doctor"],
            env=inherited | {"HOME": str(home), "LIMNER_MODELS_DIR": str(MODELS), **variables},
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert listing(tmp_path) == before
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """An empty database with the newest tables."""
    path = tmp_path / "limner.db"
    made = SqliteDatabase(make_url(f"sqlite:///{path}"), durable=True)
    migrate(made)
    made.close()
    return path


def test_before_the_first_start_doctor_says_what_would_be_created(doctor: Doctor, tmp_path: Path) -> None:
    status, told = doctor(XDG_DATA_HOME=str(tmp_path / "data"))
    assert status == 0, told
    assert f"database: `limner serve` will create {tmp_path}/data/limner/limner.db" in told
    assert f"photos: `limner serve` will create {tmp_path}/data/limner/blobs" in told


def test_entries_of_painters_that_cannot_be_used(doctor: Doctor, tmp_path: Path) -> None:
    folder = tmp_path / "painters" / "openai"
    folder.mkdir(parents=True)
    variables = {"XDG_DATA_HOME": str(tmp_path / "data"), "LIMNER_PAINTERS_DIR": str(tmp_path / "painters")}
    (folder / "mine.toml").write_text('base_url = "http://127.0.0.1:9/v1"\ntimeout_s = 900\n')
    status, told = doctor(**variables)
    assert (status, "painters: entries of your own: openai/mine" in told) == (0, True), told
    status, told = doctor(**variables, LIMNER_REMOTE_JOB_TIMEOUT_S="600")
    assert status == 1
    assert "BAD painters: openai/mine: timeout_s is 900, but a job may only run for 600 s" in " ".join(told.split())


def test_without_models_it_says_the_command(doctor: Doctor, tmp_path: Path) -> None:
    status, told = doctor(LIMNER_MODELS_DIR=str(tmp_path / "models"))
    assert status == 1
    assert "BAD  models" in told
    assert "limner models fetch" in told


def test_a_database_that_is_up_to_date(doctor: Doctor, database: Path) -> None:
    status, told = doctor(LIMNER_DATABASE_URL=f"sqlite:///{database}")
    assert (status, f"{database}, tables up to date" in told) == (0, True), told


def test_a_database_of_a_running_server(doctor: Doctor, tmp_path: Path) -> None:
    database = tmp_path / "limner.db"
    made = SqliteDatabase(make_url(f"sqlite:///{database}"), durable=True)
    migrate(made)  # only in the write-ahead log, while this connection is open
    with made.engine.connect():
        assert database.with_name("limner.db-wal").stat().st_size > 0
        status, told = doctor(LIMNER_DATABASE_URL=f"sqlite:///{database}")
    made.close()
    assert (status, "tables up to date" in told) == (0, True), told


def test_the_photos_of_another_database(doctor: Doctor, tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    server.stop()
    photos = {"LIMNER_BLOBS_URL": str(tmp_path / "blobs")}
    status, told = doctor(LIMNER_DATABASE_URL=f"sqlite:///{tmp_path}/limner.db", **photos)
    assert (status, f"photos: {tmp_path}/blobs" in told) == (0, True), told
    status, told = doctor(LIMNER_DATABASE_URL=f"sqlite:///{tmp_path}/limmer.db", **photos)
    assert status == 1
    assert "BAD  photos" in told
    assert "another database" in told


def test_a_database_that_was_not_closed(doctor: Doctor, tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    server.kill()
    for shared in (True, False):
        if not shared:
            (tmp_path / "limner.db-shm").unlink()
        status, told = doctor(LIMNER_DATABASE_URL=f"sqlite:///{tmp_path}/limner.db")
        assert (status, ("tables up to date" if shared else "will recover it") in told) == (0, True), told


def test_tables_that_a_start_would_make(doctor: Doctor, tmp_path: Path) -> None:
    database = tmp_path / "empty.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM")
    status, told = doctor(LIMNER_DATABASE_URL=f"sqlite:///{database}")
    assert (status, f"migrate its tables from none to {head_revision()}" in told) == (0, True), told


def test_tables_of_another_version(doctor: Doctor, database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from the future'")
    status, told = doctor(LIMNER_DATABASE_URL=f"sqlite:///{database}")
    assert (status, "another version of Limner" in told) == (1, True), told


def test_a_file_that_is_no_database(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "photo.db").write_bytes(b"this is no database, " * 100)
    status, told = doctor(LIMNER_DATABASE_URL=f"sqlite:///{tmp_path}/photo.db")
    assert (status, "cannot be read as a database" in told) == (1, True), told


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"LIMNER_DATABASE_URL": "sqlite:////dev/null/x.db"}, "BAD  database: /dev/null is not a folder"),
        ({"LIMNER_DATABASE_URL": "mysql://u:secret@host/db"}, "BAD  database: LIMNER_DATABASE_URL must be"),
        ({"LIMNER_DATABASE_URL": "no URL at all"}, "BAD  database: LIMNER_DATABASE_URL is not a URL"),
        ({"LIMNER_BLOBS_URL": "/dev/null/blobs"}, "BAD  photos: /dev/null is not a folder"),
        ({"LIMNER_BLOBS_URL": "ftp://u:secret@host/x"}, "BAD  settings: LIMNER_BLOBS_URL must be a folder"),
        (
            {"LIMNER_S3_PUBLIC_URL": "https://s3.example"},
            "BAD  settings: LIMNER_S3_PUBLIC_URL needs LIMNER_ARTIFACT_URLS=presigned",
        ),
        (
            {"LIMNER_S3_PUBLIC_URL": "https://s3.example/path?query"},
            "BAD  settings: LIMNER_S3_PUBLIC_URL: String should match",
        ),
        (
            {"LIMNER_BLOBS_URL": "photos", "LIMNER_ARTIFACT_URLS": "presigned"},
            "BAD  settings: LIMNER_ARTIFACT_URLS=presigned needs LIMNER_BLOBS_URL=s3://",
        ),
        ({"LIMNER_WORKERS": "0"}, "BAD  settings: LIMNER_WORKERS"),
        ({"LIMNER_WORKER": "2"}, "did you mean LIMNER_WORKERS?"),
    ],
)
def test_invalid_settings(doctor: Doctor, variables: dict[str, str], reason: str) -> None:
    status, told = doctor(**variables)
    assert (status, reason in told) == (1, True), told
    assert "secret" not in told


def test_photos_in_a_bucket(doctor: Doctor, tmp_path: Path, bucket: str) -> None:
    place = {"LIMNER_BLOBS_URL": f"s3://{bucket}/faces", "LIMNER_ARTIFACT_URLS": "presigned"}
    status, told = doctor(**place)
    assert (status, f"photos: s3://{bucket}/faces, not used yet" in told) == (0, True), told
    server = Server(tmp_path, **place)
    server.start()
    server.stop()
    status, told = doctor(LIMNER_DATABASE_URL=f"sqlite:///{tmp_path}/limner.db", **place)
    assert (status, f"photos: s3://{bucket}/faces, in use" in told) == (0, True), told
    status, told = doctor(LIMNER_DATABASE_URL=f"sqlite:///{tmp_path}/limmer.db", **place)
    assert (status, "belongs to another database" in told) == (1, True), told


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"LIMNER_BLOBS_URL": "s3://there-is-none"}, "`aws s3 mb s3://there-is-none`"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, "it answered 403 SignatureDoesNotMatch. Check AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "it does not answer"),
        ({"AWS_ALLOW_HTTP": ""}, "AWS_ENDPOINT_URL is not https: set AWS_ALLOW_HTTP=true"),
        ({"LIMNER_BLOBS_URL": "s3://user:secret@host/x"}, "must be 's3://bucket/prefix'"),
    ],
)
def test_a_bucket_that_cannot_be_used(doctor: Doctor, bucket: str, variables: dict[str, str], reason: str) -> None:
    place = {"LIMNER_BLOBS_URL": f"s3://{bucket}", "LIMNER_ARTIFACT_URLS": "presigned"}
    for _ in range(2):  # it creates none
        status, told = doctor(**place | variables)
        assert (status, reason in told) == (1, True), told
        assert "BAD  photos" in told
        assert "secret" not in told


def test_without_a_database(doctor: Doctor) -> None:
    status, told = doctor(LIMNER_DATABASE_URL="memory:")
    assert (status, "database: none" in told, "photos:" in told) == (0, True, False), told


def test_settings_that_do_not_work_together(doctor: Doctor) -> None:
    status, output = doctor(LIMNER_WEB_PROCESSES="2")
    assert status == 1
    assert "BAD  settings: LIMNER_WEB_PROCESSES above 1 needs LIMNER_ENGINE_URL" in output


def test_an_engine_that_cannot_be_used_is_a_bad_setting(doctor: Doctor) -> None:
    status, output = doctor(LIMNER_ENGINE_URL="redis://:secret@127.0.0.1:1/0")
    assert status == 1
    assert "BAD  settings: LIMNER_ENGINE_URL with a broker needs LIMNER_BUS_URL" in output
    assert "secret" not in output


def test_broker_bus_and_workers_are_asked(doctor: Doctor, tmp_path: Path, redis_server: RedisServer) -> None:
    away = "redis://:secret@127.0.0.1:1/0"
    status, output = doctor(LIMNER_ENGINE_URL=away, LIMNER_BUS_URL=away)
    assert status == 1
    assert "BAD  workers: the broker 127.0.0.1:1/0 cannot be used" in output
    assert "BAD  bus: Redis at 127.0.0.1:1/0 cannot be used" in output
    assert "secret" not in output
    cluster = Cluster(tmp_path, redis_server.new_database(), LIMNER_WORKERS="1")
    status, output = doctor(**cluster.variables)
    assert status == 1
    assert "BAD  workers: no worker answers for cpu,paint: start `limner work --lanes cpu,paint`" in output
    hosted = {"OPENAI_API_KEY": "a-key"}
    _, output = doctor(**cluster.variables, **hosted)
    assert (
        "BAD  workers: no worker answers for cpu,paint,remote: start `limner work --lanes cpu,paint,remote`" in output
    ), "a painter of another server is set up"
    assert "ok   bus: 127.0.0.1:" in output
    try:
        cluster.start()
        status, output = doctor(**cluster.variables)
    finally:
        cluster.kill()
    assert status == 0, output
    assert "cpu: 1" in output


def test_it_asks_the_collector_of_traces(doctor: Doctor) -> None:
    collector = Collector()
    status, output = doctor(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert status == 0, output
    assert f"ok   traces: {collector.url.removeprefix('http://')}" in output
    collector.stop()
    status, output = doctor(
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://user:hidden@127.0.0.1:{collector.url.rpartition(':')[2]}"
    )
    assert status == 1
    assert "does not take traces" in output
    assert "hidden" not in output
    status, output = doctor(OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318")
    assert status == 1
    assert "must begin with http" in output


def test_it_tells_who_may_call_and_by_which_name(doctor: Doctor, database: Path) -> None:
    place = {"LIMNER_DATABASE_URL": f"sqlite:///{database}"}
    status, told = doctor(**place)
    assert (status, "ok   keys: not required: this machine sees" in told) == (0, True), told
    assert "ok   address: 127.0.0.1:8282; URLs in answers are those that clients call\n" in told
    outside = {**place, "LIMNER_HOST": "0.0.0.0"}
    status, told = doctor(**outside)
    assert (status, "required; 0 valid, 0 of them with the scope admin: run `limner keys create`" in told) == (0, True)
    assert "set LIMNER_PUBLIC_URL: other names than localhost are answered 421" in told
    assert "LIMNER_ADMIN_KEY is set" in doctor(**outside, LIMNER_ADMIN_KEY="a" * 32)[1]
    now = datetime.now(UTC)
    with open_stores(Settings(database_url=place["LIMNER_DATABASE_URL"])) as stores:
        for number, scopes, ends in ((1, "read", None), (2, "admin read", None), (3, "admin", now)):
            key = Key(str(number), "x", f"lim_{number}", str(number) * 64, scopes, now, expires_at=ends)
            stores.store.transact(lambda tx, key=key: tx.add_key(key))  # type: ignore[misc]
    told = doctor(**outside, LIMNER_PUBLIC_URL="https://faces.example/")[1]
    assert "keys: required; 2 valid, 1 of them with the scope admin\n" in told
    assert "known as https://faces.example\n" in told
    assert "must be in LIMNER_PROXY_ADDRESSES" in told
    status, told = doctor(**place, LIMNER_PUBLIC_URL="faces.example")
    assert (status, "BAD  address: LIMNER_PUBLIC_URL must begin with" in told) == (1, True), told


def test_it_tells_which_webhooks_failed_last(doctor: Doctor, database: Path) -> None:
    place = {"LIMNER_DATABASE_URL": f"sqlite:///{database}"}
    assert "webhooks: no failed delivery" in doctor(**place)[1]
    with closing(sqlite3.connect(database)) as connection, connection:
        for number, status in enumerate((500, 410, None)):
            connection.execute(
                "INSERT INTO deliveries "
                "VALUES (?, 'h', 'j', 1, 'job.failed', 'hooks.example', 'failed', 8, 0, 0, ?, ?, ?)",
                (str(number), status, "No answer arrived within 10 s.", number),
            )
    status, told = doctor(**place)
    assert status == 0
    assert "hooks.example (No answer arrived within 10 s.), hooks.example (410), hooks.example (500);" in told


def test_postgresql_and_s3_belong_together(doctor: Doctor, postgres: Postgres, bucket: str, tmp_path: Path) -> None:
    place = {"LIMNER_DATABASE_URL": postgres.new_database(), "LIMNER_BLOBS_URL": f"s3://{bucket}"}
    server = Server(tmp_path, **place, LIMNER_WORKERS="1")
    server.start()
    server.stop()
    status, told = doctor(**place)
    assert (status, f"photos: s3://{bucket}, in use" in told, "webhooks: no failed" in told) == (0, True, True), told
    status, told = doctor(**{**place, "LIMNER_DATABASE_URL": postgres.new_database()})
    assert (status, "belongs to another database" in told) == (1, True), told
    assert "webhooks: none yet" in told
