"""`ports.Counters` with the library `limits`: in this process, or in Redis for all processes together."""

import logging
import time
from typing import Any

from limits.storage import MemoryStorage, RedisStorage

log = logging.getLogger(__name__)

TIMEOUT_S = 0.25
REST_S = 5.0
"""How long a server that failed is not asked again, so that not every request waits for it."""


class LocalCounters:
    """Counts in this process. A restart begins anew."""

    remote = False

    def __init__(self) -> None:
        self._storage = MemoryStorage()

    def count(self, name: str, window_s: int) -> int:
        """See `ports.Counters.count`."""
        return self._storage.incr(name, window_s)


class RedisCounters:
    """Counts in Redis. While that cannot be used, each process counts for itself, and the log says so."""

    remote = True

    def __init__(self, url: str) -> None:
        options: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
        self._storage = RedisStorage(url, key_prefix="limner", **options)
        self._local = LocalCounters()
        self._resting_until = 0.0

    def count(self, name: str, window_s: int) -> int:
        """See `ports.Counters.count`."""
        if time.monotonic() >= self._resting_until:
            try:
                return int(self._storage.incr(name, window_s))
            except self._storage.base_exceptions as error:
                self._resting_until = time.monotonic() + REST_S
                log.warning(
                    "rate limits are counted by each process alone: Redis cannot be used",
                    extra={"error": type(error).__name__},
                )
        return self._local.count(name, window_s)
