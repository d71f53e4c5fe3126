"""A cache in memory over a blob store, for small blobs that were read recently.

Many clients fetch the same marked photo, so it is then read from the disk only once.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from limner.blob_ports import BlobStore

SMALL_BYTES = 1_000_000
LIMIT_BYTES = 32_000_000  # about two hundred marked photos
KEEP_S = 60.0


class RememberedBlobs:
    """`blob_ports.BlobStore` that caches those of another store, at most `limit` bytes, for a process that serves them.

    Another process may have removed a blob that is cached, so read the job's row before each `get`. Such a blob is
    dropped about `keep_s` after it was read, at the next call of `get` or `ping`; health checks call `ping`.
    """

    def __init__(
        self,
        blobs: BlobStore,
        *,
        limit: int = LIMIT_BYTES,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._blobs = blobs
        self._limit = limit
        self._keep_s = keep_s
        self._clock = clock
        self._held: OrderedDict[str, tuple[bytes, float]] = (
            OrderedDict()
        )  # with the time of reading; the least recently used first
        self._size = 0
        self._removals = 0
        self._next_look = 0.0
        self._lock = threading.Lock()

    def get(self, sha256: str) -> bytes:
        """See `blob_ports.BlobStore.get`."""
        with self._lock:
            self._forget_old()
            held = self._held.get(sha256)
            if held is not None:
                self._held.move_to_end(sha256)
                return held[0]
            removals = self._removals
        data = self._blobs.get(sha256)
        with self._lock:
            # If anything was removed meanwhile, it may have been this blob: then it is not cached.
            if removals == self._removals and sha256 not in self._held and len(data) <= SMALL_BYTES:
                self._held[sha256] = data, self._clock()
                self._size += len(data)
                while self._size > self._limit:
                    self._size -= len(self._held.popitem(last=False)[1][0])
        return data

    def delete(self, sha256: str) -> None:
        """See `blob_ports.BlobStore.delete`."""
        try:
            self._blobs.delete(sha256)
        finally:
            with self._lock:
                self._removals += 1
                self._size -= len(self._held.pop(sha256, (b"", 0.0))[0])

    def _forget_old(self) -> None:
        """Drop what was read more than `keep_s` ago. Called with the lock held; looks at all only now and then."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + self._keep_s / 4
        for sha256 in [each for each, (_, read_at) in self._held.items() if read_at + self._keep_s <= now]:
            self._size -= len(self._held.pop(sha256)[0])

    def put(self, data: bytes, *, sha256: str | None = None, media_type: str | None = None) -> str:
        """See `blob_ports.BlobStore.put`."""
        return self._blobs.put(data, sha256=sha256, media_type=media_type)

    def part(self, sha256: str, *, start: int, stop: int) -> bytes:
        """See `blob_ports.BlobStore.part`."""
        return self._blobs.part(sha256, start=start, stop=stop)

    def has(self, sha256: str, *, size: int | None = None) -> bool:
        """See `blob_ports.BlobStore.has`."""
        return self._blobs.has(sha256, size=size)

    def check_removable(self) -> None:
        """See `blob_ports.BlobStore.check_removable`."""
        self._blobs.check_removable()

    def local_path(self, sha256: str, *, size: int | None = None) -> Path | None:
        """See `blob_ports.BlobStore.local_path`."""
        return self._blobs.local_path(sha256, size=size)

    def temporary_url(self, sha256: str, *, head: bool = False) -> str | None:
        """See `blob_ports.BlobStore.temporary_url`."""
        return self._blobs.temporary_url(sha256, head=head)

    def written(self, *, before: datetime, since: datetime | None = None) -> Iterator[str]:
        """See `blob_ports.BlobStore.written`."""
        return self._blobs.written(before=before, since=since)

    def ping(self) -> None:
        """See `blob_ports.BlobStore.ping`."""
        with self._lock:
            self._forget_old()
        self._blobs.ping()
