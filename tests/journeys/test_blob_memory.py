"""`web/blob_memory.py`: what it may hold, and that it lets go."""

import pytest

from limner.domain.errors import NotFoundError
from limner.web.blob_memory import SMALL_BYTES, BlobMemory


class Folder:
    """Blobs that count how often they are read."""

    def __init__(self, **blobs: bytes) -> None:
        self.blobs = blobs
        self.reads: list[str] = []

    def get(self, name: str) -> bytes:
        self.reads.append(name)
        if name not in self.blobs:
            raise NotFoundError
        return self.blobs[name]


def test_what_is_asked_for_again_is_read_once() -> None:
    folder, memory = Folder(a=b"one"), BlobMemory()
    assert [memory.read("a", folder.get) for _ in range(3)] == [b"one"] * 3
    assert folder.reads == ["a"]


def test_it_is_bounded_by_bytes_and_keeps_what_was_asked_for_last() -> None:
    folder = Folder(a=b"a" * 40, b=b"b" * 40, c=b"c" * 40, big=bytes(SMALL_BYTES + 1))
    memory = BlobMemory(limit=100)
    for name in ("a", "b", "a", "c", "a", "b"):  # `c` pushed `b` out
        memory.read(name, folder.get)
    assert folder.reads == ["a", "b", "c", "b"]
    memory = BlobMemory()
    memory.read("big", folder.get)
    memory.read("big", folder.get)
    assert folder.reads[-2:] == ["big", "big"]


def test_what_is_forgotten_is_gone_even_if_it_was_just_being_read() -> None:
    folder, memory = Folder(a=b"one"), BlobMemory()
    memory.read("a", folder.get)
    memory.forget("a")
    folder.blobs.clear()
    with pytest.raises(NotFoundError):
        memory.read("a", folder.get)

    def erased_meanwhile(_: str) -> bytes:
        memory.forget("a")
        return b"one"

    assert memory.read("a", erased_meanwhile) == b"one"
    with pytest.raises(NotFoundError):
        memory.read("a", folder.get)
