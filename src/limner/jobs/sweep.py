"""Picks up what was left lying: jobs without a worker, jobs past their time, blobs that no job names."""

import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from limner.ports import BlobStore, Bus, Engine, JobStore
from limner.telemetry import CACHE_RESULTS, QUEUE_DEPTH, STORED_BYTES

log = logging.getLogger(__name__)

ERASE_AT_ONCE = 100
FORGET_AT_ONCE = 500
ORPHAN_AGE = timedelta(hours=1)
TIDY_EVERY = timedelta(hours=1)
COUNT_EVERY = timedelta(minutes=1)  # sizes are sums over whole tables


@dataclass
class Sweep:
    """Sweeps every `every_s` seconds in a thread of its own; `once()` is one round."""

    store: JobStore
    blobs: BlobStore
    engine: Engine
    bus: Bus
    lease: timedelta
    max_attempts: int
    max_queued: int
    keep: timedelta | None
    cache_for: timedelta
    every_s: float
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _tidied: datetime | None = None
    _counted: datetime | None = None

    def recover(self) -> None:
        """At start, when no other process can be at work on this store: every running job was left by a crash."""
        far = datetime.now(UTC) + self.lease + timedelta(days=1)
        left = self.store.expire(max_attempts=self.max_attempts, now=far)
        if left:
            log.warning("jobs left by a stop or a crash are queued again", extra={"jobs": left})

    def start(self) -> None:
        """Begin sweeping."""
        self._thread = threading.Thread(target=self._loop, name="sweep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; a round under way ends first."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self.once()
            except Exception:
                log.exception("sweep error")  # the next round tries again
            # A lease must be renewed well before it ends, however seldom a sweep is wanted.
            self._stop.wait(min(self.every_s, self.lease.total_seconds() / 3))

    def once(self) -> None:
        """One round."""
        now = datetime.now(UTC)
        self.store.renew(self.engine.running(), lease=self.lease)
        if self.store.expire(max_attempts=self.max_attempts, now=now):
            self.bus.wake()
        for job_id, lane in self.store.waiting(self.max_queued):
            self.engine.send(job_id, lane)
        QUEUE_DEPTH.set(self.store.queued())
        if self._counted is None or now - self._counted >= COUNT_EVERY:
            self._counted = now
            results, size = self.store.sizes(self.cache_for)
            CACHE_RESULTS.set(results)
            STORED_BYTES.set(size)
        if self._tidied is None or now - self._tidied >= TIDY_EVERY:
            self._tidied = now
            self.tidy(now)

    def tidy(self, now: datetime) -> None:
        """Erase what is past its time, and blobs that no job names (left by a crash between file and row)."""
        if self.keep is not None:
            while old := self.store.outdated(now - self.keep, ERASE_AT_ONCE):
                for job_id in old:
                    self.store.erase(job_id, self.blobs.delete)
                log.info("old jobs erased", extra={"jobs": len(old)})
                if self._stop.is_set():
                    return
            self.store.drop_events(now - self.keep)
        batch: list[str] = []
        for sha256 in self.blobs.older_than(now - ORPHAN_AGE):
            batch.append(sha256)
            if len(batch) == FORGET_AT_ONCE:
                self.store.forget(batch, self.blobs.delete)
                batch = []
        if batch:
            self.store.forget(batch, self.blobs.delete)
