"""A limit on the memory of all uploads that are being received."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from limner.domain.errors import QueueFullError


@dataclass
class UploadMemory:
    """Counts bytes. It is used only on the event loop, so it needs no lock."""

    limit: int
    used: int = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """The share of one request, released at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            share.give_back()


@dataclass
class Share:
    """The bytes that one request has reserved."""

    memory: UploadMemory
    taken: int = 0

    def take(self, size: int) -> None:
        """Reserve `size` more bytes. QueueFullError if that exceeds the limit."""
        if self.memory.used + size > self.memory.limit:
            raise QueueFullError("Too many uploads are arriving at once. Try again in a moment.")
        self.memory.used += size
        self.taken += size

    def give_back(self) -> None:
        """Release all bytes: they are stored, or no longer needed."""
        self.memory.used -= self.taken
        self.taken = 0
