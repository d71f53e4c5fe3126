"""What only a bucket has: its owner, its URLs, a network that fails, versions, wrong settings."""

import hashlib
import logging
import os
import threading
import time
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from limner.adapters import s3_blobs
from limner.adapters.s3_blobs import S3Blobs
from limner.domain.errors import NotFoundError, SettingsError, UnavailableError
from limner.jobs.pairing import DATABASE_ID, pair
from tests.contract.machine import Machine, new_job, open_sqlite
from tests.contract.rival import act, sha256_of
from tests.services.seaweedfs import SeaweedFS

DATA = bytes(range(256)) * 100
SHA256 = hashlib.sha256(DATA).hexdigest()
LATER = timedelta(hours=1)


def objects(bucket: str) -> list[str]:
    """The keys of a bucket, read directly, except those that are no photos."""
    store = S3Store(bucket, client_options={"allow_http": True})
    keys = [each["path"] for part in obstore.list(store) for each in part]
    return sorted(key for key in keys if key.rpartition("/")[2] not in ("database-id", "write-test"))


def overwrite(bucket: str, key: str, data: bytes) -> None:
    obstore.put(S3Store(bucket, client_options={"allow_http": True}), key, data)


# --- bytes -----------------------------------------------------------------------------------------------------------


def test_prefixes_of_a_bucket_are_separate_and_erasing_really_removes(bucket: str) -> None:
    first, second, whole = (S3Blobs(f"s3://{bucket}{prefix}") for prefix in ("/a", "/a/b", ""))
    first.put(DATA)
    assert objects(bucket) == [f"a/{SHA256}"]
    for other in (second, whole):
        assert not other.has(SHA256)
        assert list(other.written(before=datetime.now(UTC) + LATER)) == []
    second.put(DATA)
    first.delete(SHA256)
    assert objects(bucket) == [f"a/b/{SHA256}"]
    assert second.get(SHA256) == DATA
    second.delete(SHA256)
    assert objects(bucket) == []


@pytest.mark.parametrize("left", [b"", DATA[:-1]])
def test_truncated_bytes_are_stored_again(bucket: str, left: bytes) -> None:
    blobs = S3Blobs(f"s3://{bucket}")
    blobs.put(DATA)
    overwrite(bucket, SHA256, left)
    with pytest.raises(NotFoundError):
        blobs.part(SHA256, start=0, stop=len(DATA))
    blobs.put(DATA)
    assert blobs.get(SHA256) == DATA


def test_damaged_bytes_are_not_found_and_can_be_stored_again(bucket: str) -> None:
    blobs = S3Blobs(f"s3://{bucket}")
    blobs.put(DATA)
    overwrite(bucket, SHA256, DATA[:-1] + b"!")
    with pytest.raises(NotFoundError, match="damaged"):
        blobs.get(SHA256)
    assert objects(bucket) == []
    assert blobs.get(blobs.put(DATA)) == DATA


def test_a_long_list_is_read_in_little_memory(bucket: str) -> None:
    blobs = S3Blobs(f"s3://{bucket}/many")
    store = S3Store(bucket, prefix="many", client_options={"allow_http": True})
    keys = {f"{number:064x}" for number in range(3000)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: obstore.put(store, key, b"x", use_multipart=False), [*keys, "foreign", "f" * 63]))
    tracemalloc.start()
    found = 0
    for sha256 in blobs.written(before=datetime.now(UTC) + LATER):
        assert sha256 in keys
        found += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 3000
    assert peak < 2_500_000, "more than one part of the list was held"  # a part: 1,000 entries
    assert len(blobs.sample(10)) == 10


# --- URLs ------------------------------------------------------------------------------------------------------------


def fetch(url: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b"", {}


def test_a_temporary_url_gives_the_bytes_and_nothing_else(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = S3Blobs(f"s3://{bucket}/faces", presigned=True)
    blobs.put(DATA, media_type="image/webp")
    other = blobs.put(b"other")
    url = blobs.temporary_url(SHA256)
    assert url is not None
    status, data, headers = fetch(url)
    assert (status, data, headers["Content-Type"]) == (200, DATA, "image/webp")
    assert headers["Cache-Control"] == "private, no-store"
    head = blobs.temporary_url(SHA256, head=True)
    assert head is not None
    assert fetch(head, "HEAD")[0] == 200
    signature = url.rpartition("=")[2]
    wrong = [
        url.replace(SHA256, other),
        url.replace(signature, signature[:-1] + ("0" if signature[-1] != "0" else "1")),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"),
        url.partition("?")[0],
        head,
    ]
    assert [fetch(each)[0] for each in wrong] == [403] * len(wrong)
    assert fetch(url, "DELETE")[0] == 403
    monkeypatch.setattr(s3_blobs, "URL_S", 1.0)
    short = blobs.temporary_url(SHA256)
    assert short is not None
    assert fetch(short)[0] == 200
    time.sleep(2.1)
    assert fetch(short)[0] == 403
    blobs.delete(SHA256)
    assert fetch(url)[0] == 404
    assert S3Blobs(f"s3://{bucket}/faces").temporary_url(SHA256) is None


def test_a_temporary_url_may_name_another_address(bucket: str) -> None:
    inside = os.environ["AWS_ENDPOINT_URL"]
    outside = inside.replace("127.0.0.1", "localhost")
    blobs = S3Blobs(f"s3://{bucket}/faces", presigned=True, public_url=outside + "/")
    blobs.put(DATA)
    url = blobs.temporary_url(SHA256)
    assert url is not None
    assert url.startswith(f"{outside}/{bucket}/faces/{SHA256}?")
    assert fetch(url)[:2] == (200, DATA)
    assert fetch(url.replace(outside, inside))[0] == 403  # the address is part of the signature


# --- the owner -------------------------------------------------------------------------------------------------------


class Databases:
    """Databases by name, paired with a bucket as a start does."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def open(self, name: str) -> tuple[Machine, S3Blobs]:
        return open_sqlite(self.folder / name), S3Blobs(self.url, start_s=0)

    def pair(self, name: str) -> str | None:
        machine, blobs = self.open(name)
        try:
            pair(machine.store, machine.reader, blobs, database=name, folder=self.url)
            return machine.store.transact(lambda tx: tx.fact(DATABASE_ID))
        finally:
            machine.close()

    def store(self, name: str, photo: str) -> None:
        machine, blobs = self.open(name)
        try:
            job = new_job(f"work on {photo}", picture=sha256_of(photo))
            assert act(machine, blobs, lambda _: None, "submit", job.cache_key, photo) == "new"
        finally:
            machine.close()


@pytest.fixture
def databases(bucket: str, tmp_path: Path) -> Databases:
    return Databases(tmp_path, f"s3://{bucket}/faces")


def test_a_prefix_belongs_to_one_database(databases: Databases) -> None:
    owner = databases.pair("a.db")
    assert databases.pair("a.db") == owner
    assert S3Blobs(databases.url).look() == owner
    with pytest.raises(SettingsError, match=r"the bucket s3://.*/faces belongs to another database \(b.db\)"):
        databases.pair("b.db")
    databases.store("a.db", "photo")
    with pytest.raises(SettingsError, match="belongs to another database"):
        databases.pair("b.db")
    assert databases.pair("a.db") == owner


def test_photos_without_an_owner_are_refused_to_a_database_that_names_none(databases: Databases) -> None:
    databases.store("a.db", "photo")
    with pytest.raises(SettingsError, match="names none"):
        databases.pair("b.db")
    assert databases.pair("a.db") is not None


def test_of_databases_that_start_at_once_one_gets_the_prefix(databases: Databases) -> None:
    names = [f"{number}.db" for number in range(4)]
    for name in names:
        databases.open(name)[0].close()  # the tables are made one after another
    barrier = threading.Barrier(len(names))

    def start(name: str) -> str:
        barrier.wait()
        try:
            return f"started {databases.pair(name)}"
        except SettingsError as error:
            return error.detail

    with ThreadPoolExecutor(len(names)) as pool:
        told = list(pool.map(start, names))
    started = [each for each in told if each.startswith("started")]
    assert started == [f"started {S3Blobs(databases.url).look()}"], told
    assert all("another database" in each for each in told if each not in started), told


def test_processes_of_one_database_that_start_at_once_share_the_prefix(databases: Databases) -> None:
    databases.open("a.db")[0].close()
    barrier = threading.Barrier(4)

    def start(_: int) -> str | None:
        barrier.wait()
        return databases.pair("a.db")

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(start, range(4))) == {S3Blobs(databases.url).look()}


# --- a network that fails, and wrong settings ------------------------------------------------------------------------


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SeaweedFS]:
    """A server that the test may stop."""
    server = SeaweedFS(tmp_path / "seaweedfs")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    yield server
    server.process.kill()


def fail_all(blobs: S3Blobs, secret: str) -> None:
    """Check that every call says that the bucket cannot be used."""
    calls = {
        "put": lambda: blobs.put(b"new"),
        "get": lambda: blobs.get(SHA256),
        "part": lambda: blobs.part(SHA256, start=0, stop=5),
        "has": lambda: blobs.has(SHA256),
        "local_path": lambda: blobs.local_path(SHA256),
        "delete": lambda: blobs.delete("0" * 64),
        "written": lambda: list(blobs.written(before=datetime.now(UTC) + LATER)),
        "ping": blobs.ping,
        "check_removable": blobs.check_removable,
    }
    with ThreadPoolExecutor(len(calls)) as pool:
        for name, failed in {name: pool.submit(call) for name, call in calls.items()}.items():
            error = failed.exception()
            assert isinstance(error, UnavailableError), (name, error)
            assert "bucket of photos cannot be" in error.detail
            assert secret not in str(error)


def test_a_server_that_freezes_is_unavailable_until_it_goes_on(
    seaweedfs: SeaweedFS, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_blobs, "QUICK_S", 0.5)
    monkeypatch.setattr(s3_blobs, "SLOW_S", 0.5)
    blobs = S3Blobs(f"s3://{bucket}")
    S3Store(bucket, client_options={"allow_http": True}).put(SHA256, DATA)  # the first write to a bucket takes long
    seaweedfs.process.freeze()
    try:
        since = time.monotonic()
        fail_all(blobs, seaweedfs.secret_key)
        assert time.monotonic() - since < 10
    finally:
        seaweedfs.process.thaw()
    monkeypatch.undo()
    assert blobs.get(SHA256) == DATA


@pytest.mark.slow  # the journey with a store that is away shows the same
def test_a_server_that_dies_is_unavailable_until_it_is_back(own_server: SeaweedFS) -> None:
    own_server.process.start()
    blobs = S3Blobs(f"s3://{own_server.new_bucket()}", start_s=0)
    blobs.put(DATA)
    own_server.process.kill()
    fail_all(blobs, own_server.secret_key)
    with pytest.raises(SettingsError, match="cannot be used: it does not answer"):
        blobs.claim()
    own_server.process.start()
    S3Blobs(f"s3://{own_server.new_bucket()}").claim()  # waits until it can be written
    assert blobs.get(SHA256) == DATA
    assert blobs.get(blobs.put(b"new")) == b"new"


def test_a_start_waits_for_a_bucket(
    seaweedfs: SeaweedFS, bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(s3_blobs, "START_PAUSE_S", 0.05)
    name = f"later-{bucket}"
    timer = threading.Timer(0.5, lambda: seaweedfs.new_bucket(name=name))
    timer.start()
    try:
        with caplog.at_level(logging.WARNING):
            assert S3Blobs(f"s3://{name}", start_s=20).claim() is None
    finally:
        timer.join()
    assert [record.message for record in caplog.records] == ["waiting for the bucket of photos"]


def test_a_bucket_that_does_not_exist_is_told_and_not_created(bucket: str) -> None:
    missing = f"no-{bucket}"
    for _ in range(2):
        with pytest.raises(SettingsError, match=rf"404 NoSuchBucket\. Create it, .*aws s3 mb s3://{missing}"):
            S3Blobs(f"s3://{missing}", start_s=0).claim()


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_wrong_key_is_told_at_once_without_naming_it(
    bucket: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "wrong-and-secret")
    blobs = S3Blobs(f"s3://{bucket}")
    with pytest.raises(SettingsError, match=r"it answered 403 \w+\. Check AWS_ACCESS_KEY_ID") as told:
        blobs.claim()
    with pytest.raises(UnavailableError, match="403"):
        blobs.put(DATA)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3://UPPER/x", "s3://key:secret@bucket/x", "s3://bucket/../x?secret", "s3://bucket//x", "s3://b/x y"],
)
def test_a_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match="must be 's3://bucket/prefix'") as told:
        S3Blobs(url)
    assert "secret" not in str(told.value)


def test_plain_http_must_be_allowed(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL is not https: set AWS_ALLOW_HTTP=true"):
        S3Blobs(f"s3://{bucket}")


def test_a_bucket_that_keeps_old_versions_is_refused(seaweedfs: SeaweedFS, bucket: str) -> None:
    versioned = S3Blobs(f"s3://{seaweedfs.new_bucket(versioned=True)}", start_s=0)
    with pytest.raises(SettingsError, match="keeps old versions"):
        versioned.claim()
    with pytest.raises(UnavailableError, match="nothing was erased"):
        versioned.check_removable()
    blobs = S3Blobs(f"s3://{bucket}", start_s=0)
    assert blobs.claim() is None
    blobs.belong_to("some id")
    seaweedfs.keep_versions(bucket)
    overwrite(bucket, "database-id", b"some id")
    with pytest.raises(SettingsError, match="keeps old versions"):
        blobs.look()


def test_in_a_forked_process_it_fails_instead_of_hanging(bucket: str) -> None:
    S3Blobs(f"s3://{bucket}").ping()
    child = os.fork()
    if child == 0:
        try:
            S3Blobs(f"s3://{bucket}").ping()
        except RuntimeError as error:
            os._exit(7 if "forked" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
