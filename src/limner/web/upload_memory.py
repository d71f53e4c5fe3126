"""A bound on the memory that all uploads together may take while they are being received."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from limner.domain.errors import QueueFullError


@dataclass
class UploadMemory:
    """Counts bytes; used from the event loop only, so it needs no lock."""

    limit: int
    used: int = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """A request's share, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            share.give_back()


@dataclass
class Share:
    """What one request holds."""

    memory: UploadMemory
    taken: int = 0

    def take(self, size: int) -> None:
        """Account for `size` more bytes. QueueFullError when there is no room for them."""
        if self.memory.used + size > self.memory.limit:
            raise QueueFullError("too many uploads at once; try again in a moment")
        self.memory.used += size
        self.taken += size

    def give_back(self) -> None:
        """Let go of it all: the bytes are stored, or no longer needed."""
        self.memory.used -= self.taken
        self.taken = 0
