"""The contract of `blob_ports.BlobStore`, tested on every adapter."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from limner.adapters.disk_blobs import DiskBlobs
from limner.blob_ports import BlobStore
from limner.domain.errors import NotFoundError, SettingsError, UnavailableError

DATA = bytes(range(256)) * 100
SHA256 = hashlib.sha256(DATA).hexdigest()
UNKNOWN = "0" * 64
HOUR = timedelta(hours=1)


def test_stored_bytes_can_be_read(blobs: BlobStore) -> None:
    assert blobs.put(DATA) == SHA256
    assert blobs.get(SHA256) == DATA
    assert blobs.has(SHA256)
    path = blobs.local_path(SHA256)
    assert path is None or path.read_bytes() == DATA


def test_empty_bytes_can_be_stored(blobs: BlobStore) -> None:
    assert blobs.get(blobs.put(b"")) == b""


def test_what_was_not_put_is_not_found(blobs: BlobStore) -> None:
    assert not blobs.has(UNKNOWN)
    for ask in (blobs.get, blobs.local_path):
        with pytest.raises(NotFoundError):
            ask(UNKNOWN)


def test_a_part_can_be_read(blobs: BlobStore) -> None:
    blobs.put(DATA)
    for start, stop in ((0, len(DATA)), (0, 1), (300, 5000), (len(DATA) - 1, len(DATA)), (7, 7)):
        assert blobs.part(SHA256, start=start, stop=stop) == DATA[start:stop]
    for start, stop in ((0, len(DATA) + 1), (len(DATA), len(DATA) + 1), (10**9, 10**9 + 5)):
        with pytest.raises(NotFoundError):
            blobs.part(SHA256, start=start, stop=stop)
    with pytest.raises(NotFoundError):
        blobs.part(UNKNOWN, start=0, stop=1)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "ab/" + "c" * 61, SHA256.upper(), "\0" * 64, "é" * 64])
def test_other_names_than_a_sha256_are_refused(blobs: BlobStore, name: str) -> None:
    blobs.put(DATA)
    with pytest.raises(NotFoundError):
        blobs.get(name)


def test_putting_again_changes_nothing(blobs: BlobStore) -> None:
    assert blobs.put(DATA) == blobs.put(DATA)
    assert list(blobs.written(before=datetime.now(UTC) + HOUR)) == [SHA256]


def test_many_put_the_same_at_once(blobs: BlobStore) -> None:
    barrier = threading.Barrier(20)

    def put() -> str:
        barrier.wait()
        return blobs.put(DATA)

    with ThreadPoolExecutor(20) as pool:
        assert {future.result() for future in [pool.submit(put) for _ in range(20)]} == {SHA256}
    assert blobs.get(SHA256) == DATA


def test_delete_removes_and_may_be_repeated(blobs: BlobStore) -> None:
    blobs.put(DATA)
    blobs.delete(SHA256)
    blobs.delete(SHA256)
    assert not blobs.has(SHA256)
    assert blobs.put(DATA) == SHA256
    assert blobs.get(SHA256) == DATA


def test_written_lists_those_of_a_time(blobs: BlobStore) -> None:
    blobs.put(DATA)
    now = datetime.now(UTC)
    assert list(blobs.written(before=now - HOUR)) == []
    assert list(blobs.written(before=now + HOUR)) == [SHA256]
    assert list(blobs.written(before=now + HOUR, since=now - HOUR)) == [SHA256]
    assert list(blobs.written(before=now + 2 * HOUR, since=now + HOUR)) == []


def test_a_size_tells_whole_bytes_from_others(blobs: BlobStore) -> None:
    blobs.put(DATA)
    assert blobs.has(SHA256, size=len(DATA))
    assert not blobs.has(SHA256, size=len(DATA) - 1)
    blobs.local_path(SHA256, size=len(DATA))
    with pytest.raises(NotFoundError):
        blobs.local_path(SHA256, size=len(DATA) - 1)


def test_what_is_there_can_be_removed(blobs: BlobStore) -> None:
    blobs.check_removable()


def test_ping(blobs: BlobStore) -> None:
    blobs.ping()
    assert list(blobs.written(before=datetime.now(UTC) + HOUR)) == []


# --- of the folder alone ---------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> DiskBlobs:
    return DiskBlobs(tmp_path / "blobs", durable=True)


def _age(path: Path) -> None:
    long_ago = (datetime.now(UTC) - 2 * HOUR).timestamp()
    os.utime(path, (long_ago, long_ago))


def test_storing_again_renews_the_date(disk: DiskBlobs) -> None:
    _age(disk.local_path(disk.put(DATA)))
    assert list(disk.written(before=datetime.now(UTC) - HOUR)) == [SHA256]
    disk.put(DATA)
    assert list(disk.written(before=datetime.now(UTC) - HOUR)) == []


def test_the_sweep_of_old_blobs_takes_left_over_parts_and_leaves_what_is_not_ours(
    disk: DiskBlobs, tmp_path: Path
) -> None:
    folder = tmp_path / "blobs"
    left_over, young, foreign = folder / "new-abc", folder / "new-def", folder / "lost+found" / "thing"
    foreign.parent.mkdir()
    for path in (left_over, young, foreign):
        path.write_bytes(b"x")
    _age(left_over)
    _age(foreign)
    assert list(disk.written(before=datetime.now(UTC) - HOUR)) == []
    assert not left_over.exists()
    assert young.exists()
    assert foreign.exists()


def test_truncated_bytes_are_stored_again(disk: DiskBlobs) -> None:
    path = disk.local_path(disk.put(DATA))
    path.write_bytes(DATA[:-1])
    assert disk.put(DATA) == SHA256
    assert disk.get(SHA256) == DATA


def test_damaged_bytes_are_not_found_and_can_be_stored_again(disk: DiskBlobs) -> None:
    path = disk.local_path(disk.put(DATA))
    path.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(NotFoundError, match="damaged"):
        disk.get(SHA256)
    assert not disk.has(SHA256)
    assert disk.get(disk.put(DATA)) == DATA


def test_bytes_that_cannot_be_read_or_removed_are_unavailable(disk: DiskBlobs) -> None:
    path = disk.local_path(disk.put(DATA))
    path.unlink()
    path.mkdir()
    for refused in (disk.get, disk.delete):
        with pytest.raises(UnavailableError, match="folder of photos"):
            refused(SHA256)


def test_nobody_else_may_read_the_photos(disk: DiskBlobs) -> None:
    path = disk.local_path(disk.put(DATA))
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.parent.stat().st_mode & 0o077 == 0


def test_a_folder_that_is_gone_is_unavailable_until_it_is_back(disk: DiskBlobs, tmp_path: Path) -> None:
    folder = tmp_path / "blobs"
    folder.rename(tmp_path / "away")
    with pytest.raises(UnavailableError, match="cannot be written"):
        disk.put(DATA)
    with pytest.raises(UnavailableError, match="cannot be written"):
        disk.ping()
    with pytest.raises(UnavailableError, match="nothing was erased"):
        disk.check_removable()
    (tmp_path / "away").rename(folder)
    assert disk.get(disk.put(DATA)) == DATA


def test_a_failed_write_leaves_no_part_behind(disk: DiskBlobs, tmp_path: Path) -> None:
    shelf = tmp_path / "blobs" / SHA256[:2]
    shelf.write_bytes(b"a file where the shelf should be")
    with pytest.raises(UnavailableError):
        disk.put(DATA)
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [shelf.name]


def test_a_folder_that_cannot_be_made_is_a_setting_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="LIMNER_BLOBS_URL"):
        DiskBlobs(tmp_path / "file" / "blobs", durable=True)
