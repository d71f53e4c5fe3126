"""`key_ports.Counters`: in this process, or in Redis for all processes together (with the library `limits`)."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

TIMEOUT_S = 0.25
REST_S = 5.0
"""How long a server that failed is not asked again, so that not every request waits for it."""

TIDY_S = 60.0


class LocalCounters:
    """Counts in this process. A restart begins anew.

    The memory of `limits` would do, but it starts a thread for most counts: 0.3 ms, in which the event loop waits.
    """

    remote = False

    def __init__(self) -> None:
        self._counts: dict[str, tuple[float, int]] = {}  # the end of a name's window, and its count
        self._tidy_at = time.monotonic() + TIDY_S
        self._lock = threading.Lock()  # in place of Redis, they are called in threads

    def count(self, name: str, window_s: int) -> int:
        """See `key_ports.Counters.count`."""
        now = time.monotonic()
        with self._lock:
            if now >= self._tidy_at:
                self._counts = {each: counted for each, counted in self._counts.items() if counted[0] > now}
                self._tidy_at = now + TIDY_S
            ends, before = self._counts.get(name, (0.0, 0))
            if ends <= now:
                ends, before = now + window_s, 0
            self._counts[name] = (ends, before + 1)
            return before + 1

    def counted(self, name: str) -> int:
        """See `key_ports.Counters.counted`."""
        ends, before = self._counts.get(name, (0.0, 0))
        return before if ends > time.monotonic() else 0


class RedisCounters:
    """Counts in Redis. While that cannot be used, each process counts for itself, and the log says so."""

    remote = True

    def __init__(self, url: str) -> None:
        from limits.storage import RedisStorage  # slow, and a service on one machine does not need it

        options: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
        self._storage = RedisStorage(url, key_prefix="limner", **options)
        self._local = LocalCounters()
        self._resting_until = 0.0

    def count(self, name: str, window_s: int) -> int:
        """See `key_ports.Counters.count`."""
        found = self._ask(lambda: self._storage.incr(name, window_s))
        return self._local.count(name, window_s) if found is None else found

    def counted(self, name: str) -> int:
        """See `key_ports.Counters.counted`."""
        found = self._ask(lambda: self._storage.get(name))
        return self._local.counted(name) if found is None else found

    def _ask(self, question: Callable[[], int]) -> int | None:
        """Redis' answer; None while it cannot be used."""
        if time.monotonic() < self._resting_until:
            return None
        try:
            return int(question())
        except self._storage.base_exceptions as error:
            self._resting_until = time.monotonic() + REST_S
            log.warning(
                "rate limits are counted by each process alone: Redis cannot be used",
                extra={"error": type(error).__name__},
            )
            return None
