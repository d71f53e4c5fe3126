"""`RememberedBlobs`: which blobs it caches, and that removed blobs leave the cache."""

from pathlib import Path

import pytest

from limner.adapters.disk_blobs import DiskBlobs
from limner.adapters.remembered_blobs import SMALL_BYTES, RememberedBlobs
from limner.domain.errors import NotFoundError


class CountedBlobs(DiskBlobs):
    """Counts how often each blob is read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, durable=False)
        self.reads: list[str] = []

    def get(self, sha256: str) -> bytes:
        self.reads.append(sha256)
        return super().get(sha256)


@pytest.fixture
def folder(tmp_path: Path) -> CountedBlobs:
    return CountedBlobs(tmp_path / "blobs")


def test_a_blob_that_is_read_again_is_remembered(folder: CountedBlobs) -> None:
    blobs = RememberedBlobs(folder)
    one = blobs.put(b"one")
    assert [blobs.get(one) for _ in range(3)] == [b"one"] * 3
    assert folder.reads == [one]


def test_it_is_bounded_and_keeps_what_was_read_last(folder: CountedBlobs) -> None:
    blobs = RememberedBlobs(folder, limit=100)
    a, b, c = (blobs.put(letter * 40) for letter in (b"a", b"b", b"c"))
    for sha256 in (a, b, a, c, a, b):  # c takes the place of b
        blobs.get(sha256)
    assert folder.reads == [a, b, c, b]


def test_a_large_blob_is_not_remembered(folder: CountedBlobs) -> None:
    blobs = RememberedBlobs(folder)
    large = blobs.put(bytes(SMALL_BYTES + 1))
    for _ in range(2):
        blobs.get(large)
    assert folder.reads == [large, large]


def test_a_removed_blob_is_forgotten(folder: CountedBlobs) -> None:
    blobs = RememberedBlobs(folder)
    one = blobs.put(b"one")
    blobs.get(one)
    blobs.delete(one)
    with pytest.raises(NotFoundError):
        blobs.get(one)


def test_a_blob_that_is_removed_while_it_is_read_is_not_remembered(tmp_path: Path) -> None:
    class RemovedMeanwhile(CountedBlobs):
        def get(self, sha256: str) -> bytes:
            data = super().get(sha256)
            if len(self.reads) == 1:
                blobs.delete(sha256)
            return data

    blobs = RememberedBlobs(RemovedMeanwhile(tmp_path / "blobs"))
    one = blobs.put(b"one")
    assert blobs.get(one) == b"one"
    with pytest.raises(NotFoundError):
        blobs.get(one)


def test_what_another_process_has_removed_is_forgotten_after_a_minute(folder: CountedBlobs) -> None:
    now = [0.0]
    blobs = RememberedBlobs(folder, clock=lambda: now[0])
    one, two = blobs.put(b"one"), blobs.put(b"two")
    blobs.get(one)
    now[0] = 40.0
    blobs.get(two)
    folder.delete(one)
    assert blobs.get(one) == b"one", "the contract: its reader looks at the job's row first"
    now[0] = 80.0
    blobs.ping()
    with pytest.raises(NotFoundError):
        blobs.get(one)
    assert blobs.get(two) == b"two"
    assert folder.reads == [one, two, one]
