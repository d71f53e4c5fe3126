"""Ids of jobs: UUIDv7s that rise whatever the clock does, because the list and the newest result go by them."""

import threading
from uuid import UUID

from uuid_utils import uuid7

RANDOM_BITS = 80  # below the milliseconds: version, variant and what is random


class JobIds:
    """Gives ids, each higher than `newest` and than those before."""

    def __init__(self, newest: str | None = None) -> None:
        self._last = 0 if newest is None else UUID(newest).int
        self._lock = threading.Lock()

    def new(self) -> str:
        """An id of now, or of a millisecond after the last one while the clock is behind that."""
        with self._lock:
            fresh = uuid7().int
            if fresh <= self._last:
                fresh = ((self._last >> RANDOM_BITS) + 1 << RANDOM_BITS) | (fresh & (1 << RANDOM_BITS) - 1)
            self._last = fresh
            return str(UUID(int=fresh))
