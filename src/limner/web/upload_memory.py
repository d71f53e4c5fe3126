"""A limit on the memory of all uploads that are being received, shared fairly among the clients."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from limner.domain.errors import QueueFullError


class UploadMemory:
    """Counts bytes. It is used only on the event loop, so it needs no lock.

    A client's first upload gets what is free. With further uploads at the same time, a client may hold at most as much
    as is left free: one client gets half of the memory, a second one half of the rest, and so on. So something is free
    for whoever comes next. Those whose client is not known (None) are limited only together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.held: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()

    @contextmanager
    def share(self, client: str | None) -> Iterator["Share"]:
        """The share of one request of this client (see `connections.client_of`), released at the end."""
        share = Share(self, client)
        if client is not None:
            self.uploads[client] += 1
        try:
            yield share
        finally:
            share.give_back()
            if client is not None:
                self.uploads[client] -= 1
                if not self.uploads[client]:
                    del self.uploads[client]
                    del self.held[client]


@dataclass
class Share:
    """The bytes that one request has reserved."""

    memory: UploadMemory
    client: str | None
    taken: int = 0

    def take(self, size: int) -> None:
        """Reserve `size` more bytes. QueueFullError if that exceeds the limit, or the client's share."""
        memory, client = self.memory, self.client
        free = memory.limit - memory.used - size
        if free < 0:
            raise QueueFullError("Too many uploads are arriving at once. Try again in a moment.")
        if client is not None:
            if memory.uploads[client] > 1 and memory.held[client] + size > free:
                raise QueueFullError("Too many uploads are arriving at once from your address. Try again in a moment.")
            memory.held[client] += size
        memory.used += size
        self.taken += size

    @contextmanager
    def part(self) -> Iterator["Share"]:
        """For one of several pictures of the same request: what it takes is released at the end of its own."""
        part = Share(self.memory, self.client)
        try:
            yield part
        finally:
            part.give_back()

    def give_back(self) -> None:
        """Release all bytes: they are stored, or no longer needed."""
        self.memory.used -= self.taken
        if self.client is not None:
            self.memory.held[self.client] -= self.taken
        self.taken = 0
