"""A cache in memory over a blob store, for small blobs that were read recently.

Many clients fetch the same marked photo, so it is then read from the disk only once.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from limner.ports import BlobStore

SMALL_BYTES = 1_000_000
LIMIT_BYTES = 32_000_000  # about two hundred marked photos


class RememberedBlobs:
    """`ports.BlobStore` that caches blobs of another store, at most `limit` bytes, for a process that serves blobs.

    The cache may hold a blob that another process has removed, so read the job's row before each `get`.
    """

    def __init__(self, blobs: BlobStore, *, limit: int = LIMIT_BYTES) -> None:
        self._blobs = blobs
        self._limit = limit
        self._held: OrderedDict[str, bytes] = OrderedDict()  # the least recently read first
        self._size = 0
        self._removals = 0
        self._lock = threading.Lock()

    def get(self, sha256: str) -> bytes:
        """See `ports.BlobStore.get`."""
        with self._lock:
            data = self._held.get(sha256)
            if data is not None:
                self._held.move_to_end(sha256)
                return data
            removals = self._removals
        data = self._blobs.get(sha256)
        with self._lock:
            # If anything was removed meanwhile, it may have been this blob: then it is not cached.
            if removals == self._removals and sha256 not in self._held and len(data) <= SMALL_BYTES:
                self._held[sha256] = data
                self._size += len(data)
                while self._size > self._limit:
                    self._size -= len(self._held.popitem(last=False)[1])
        return data

    def delete(self, sha256: str) -> None:
        """See `ports.BlobStore.delete`."""
        try:
            self._blobs.delete(sha256)
        finally:
            with self._lock:
                self._removals += 1
                self._size -= len(self._held.pop(sha256, b""))

    def put(self, data: bytes, *, sha256: str | None = None) -> str:
        """See `ports.BlobStore.put`."""
        return self._blobs.put(data, sha256=sha256)

    def has(self, sha256: str, *, size: int | None = None) -> bool:
        """See `ports.BlobStore.has`."""
        return self._blobs.has(sha256, size=size)

    def check_removable(self) -> None:
        """See `ports.BlobStore.check_removable`."""
        self._blobs.check_removable()

    def local_path(self, sha256: str, *, size: int | None = None) -> Path | None:
        """See `ports.BlobStore.local_path`."""
        return self._blobs.local_path(sha256, size=size)

    def written(self, *, before: datetime, since: datetime | None = None) -> Iterator[str]:
        """See `ports.BlobStore.written`."""
        return self._blobs.written(before=before, since=since)

    def ping(self) -> None:
        """See `ports.BlobStore.ping`."""
        self._blobs.ping()
