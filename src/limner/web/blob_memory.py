"""A bounded memory of small blobs that were served of late: what many clients fetch is read from its store once."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

SMALL_BYTES = 1_000_000
LIMIT_BYTES = 32_000_000  # some two hundred marked photos; each is held for seconds where many come


@dataclass
class BlobMemory:
    """Bytes by SHA-256; those that were asked for longest ago go first. Any thread may call.

    It is no record of what exists: ask the job's row first, each time, so that what is erased is not answered.
    """

    limit: int = LIMIT_BYTES
    _held: OrderedDict[str, bytes] = field(default_factory=OrderedDict)
    _size: int = 0
    _forgotten: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, sha256: str, load: Callable[[str], bytes]) -> bytes:
        """The blob, by `load` where it is not held; raises what `load` raises."""
        with self._lock:
            data = self._held.get(sha256)
            if data is not None:
                self._held.move_to_end(sha256)
                return data
            forgotten = self._forgotten
        data = load(sha256)
        with self._lock:
            # An erasure meanwhile may have been of this blob.
            if forgotten == self._forgotten and sha256 not in self._held and len(data) <= SMALL_BYTES:
                self._held[sha256] = data
                self._size += len(data)
                while self._size > self.limit:
                    self._size -= len(self._held.popitem(last=False)[1])
        return data

    def forget(self, sha256: str) -> None:
        """Let go of a blob that is being erased. Call it after the erasure."""
        with self._lock:
            self._forgotten += 1
            self._size -= len(self._held.pop(sha256, b""))
