"""The sweep: requeues jobs without a worker, erases jobs past their retention, removes blobs without a job.

It has two threads. One runs a round every few seconds; the other tidies once an hour, which may take minutes.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice

from limner.blob_ports import BlobStore
from limner.domain.blob import BlobState
from limner.domain.errors import NotFoundError, UnavailableError
from limner.jobs import blobs as bytes_of_jobs
from limner.jobs import retention, transitions
from limner.ports import Bus, Engine, JobReader, JobStore, Transaction

log = logging.getLogger(__name__)

AT_ONCE = 100
ORPHANS_AT_ONCE = 500
PAUSE_S = 0.02  # a million blobs, or 30 million events, are checked in about a minute, without slowing down requests
ORPHAN_AGE = timedelta(hours=1)  # the row of a younger blob may not be committed yet
REMOVAL_AGE = timedelta(minutes=2)  # the thread that began such an old removal has given it up
TIDY_EVERY_S = 3600.0
END = datetime.max.replace(tzinfo=UTC)  # behind every lease, also those written while the clock was wrong
JUMP_S = 5.0  # how far two clocks may part between two rounds


@dataclass
class Sweep:
    """`once()` is one round, run every `every_s` seconds; `tidy()` runs once an hour."""

    store: JobStore
    reader: JobReader
    blobs: BlobStore
    engine: Engine
    bus: Bus
    max_attempts: int
    max_queued: int
    keep: timedelta | None
    every_s: float
    lease: timedelta
    alone: bool = True
    """Whether no other web process uses the store."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    steady_clock: Callable[[], float] = time.monotonic
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _tidied: datetime | None = None
    _ahead_s: float | None = None
    _settled_at: float = 0.0

    def recover(self) -> None:
        """Requeue the running jobs that a crash has left. Call it at start, while this process runs none.

        If other processes use the store too, jobs that run may be theirs: only those whose lease has ended are left.
        """
        left = self._expire(END if self.alone else self.clock())
        if left:
            log.warning("jobs left by a stop or a crash were requeued", extra={"jobs": left})
        try:
            self._remove_blobs(END if self.alone else self.clock() - REMOVAL_AGE)
        except UnavailableError as error:  # no reason not to start: the sweep continues the removal
            log.warning("blobs of erased jobs could not be removed yet", extra={"detail": error.detail})

    def start(self) -> None:
        """Start the two threads."""
        for name, work, pause_s in (
            ("sweep", self.once, self.every_s),
            ("tidy", lambda: self.tidy(self.clock()), TIDY_EVERY_S),
        ):
            thread = threading.Thread(target=self._repeat, args=(work, pause_s), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stop the threads after their present round, or after 30 s each."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _repeat(self, work: Callable[[], None], pause_s: float) -> None:
        while not self._stop.is_set():
            try:
                work()
            except UnavailableError as error:  # it may last: a line each time, no traceback
                log.warning("sweep put off", extra={"detail": error.detail})
            except Exception:
                log.exception("sweep error")  # the next round tries again
            self._stop.wait(pause_s)

    def once(self) -> None:
        """Run one round. Of several processes, one at a time does it."""
        now = self.clock()
        settled = self._is_settled(now)
        with self.store.leading("sweep") as leads:
            if leads:
                self._send_on(now, settled=settled)
            if leads and settled:
                self._remove_blobs(now - REMOVAL_AGE)

    def _send_on(self, now: datetime, *, settled: bool) -> None:
        if (self._expire(now) if settled else 0) + self._adopt():
            self.bus.wake()
        self._resend(now)
        self.store.transact(lambda tx: tx.fold_totals())
        self.store.scrub()

    def _resend(self, now: datetime) -> None:
        sent = self.engine.resend(self.reader.waiting(self.max_queued), now)
        for first in range(0, len(sent), AT_ONCE):
            self.store.transact(partial(_mark_sent, job_ids=sent[first : first + AT_ONCE]))

    def _is_settled(self, now: datetime) -> bool:
        """False for the time of a lease after the clock has jumped: what was written before only looks old.

        Meanwhile workers renew their leases, and whoever removes blobs is done.
        """
        steady = self.steady_clock()
        ahead_s = now.timestamp() - steady
        if self._ahead_s is not None and abs(ahead_s - self._ahead_s) > JUMP_S:
            log.warning("the clock has jumped", extra={"seconds": round(ahead_s - self._ahead_s)})
            self._settled_at = steady + self.lease.total_seconds()
        self._ahead_s = ahead_s
        return steady >= self._settled_at

    def _expire(self, now: datetime) -> int:
        count = 0
        while overdue := self.reader.overdue(now, AT_ONCE):
            ended = [
                self.store.transact(partial(transitions.expire, job_id=job_id, now=now, max_attempts=self.max_attempts))
                for job_id in overdue
            ]
            count += sum(ended)
            if not any(ended):  # all were renewed meanwhile
                break
        return count

    def _adopt(self) -> int:
        """Let followers run whose leader ended without them: that would be a bug, but they must not wait for ever."""
        adopted = sum(
            self.store.transact(partial(transitions.adopt, job_id=job_id)) for job_id in self.reader.stranded(AT_ONCE)
        )
        if adopted:
            log.error("jobs waited for a leader that has ended; they now run by themselves", extra={"jobs": adopted})
        return adopted

    def _remove_blobs(self, before: datetime) -> None:
        """Continue removals that were begun but not finished."""
        marked = self.reader.blobs_in(BlobState.MARKED, before, AT_ONCE)
        bytes_of_jobs.remove(self.store, self.blobs, marked)
        removing = self.reader.blobs_in(BlobState.REMOVING, before, AT_ONCE)
        bytes_of_jobs.finish_removal(self.store, self.blobs, removing)

    def tidy(self, now: datetime) -> None:
        """Erase jobs and events past their retention, and blobs without a row (left by a crash after storing them).

        One process at a time does it; in the others this does nothing.
        """
        with self.store.leading("tidy") as leads:
            if leads:
                self._tidy(now)

    def _tidy(self, now: datetime) -> None:
        if self.keep is not None:
            self.blobs.check_removable()
            before = retention.reached(self.store, self.reader, now) - self.keep
            while old := self.reader.outdated(before, AT_ONCE):
                for job_id in old:
                    self._erase(job_id)
                    if self._stop.is_set():
                        return
                log.info("old jobs erased", extra={"jobs": len(old)})
            self._give_up(before)
            self._drop_events(before)
        self._remove_orphans(now - ORPHAN_AGE)

    def _give_up(self, before: datetime) -> None:
        """End jobs that have waited for as long as jobs are kept, e.g. in a lane without workers.

        They are erased the next time, so that whoever waits for one is told.
        """
        while stale := self.reader.stale(before, AT_ONCE):
            ended = [
                self.store.transact(partial(transitions.give_up, job_id=job_id, before=before)) for job_id in stale
            ]
            if any(ended):
                self.bus.wake()
                log.warning("jobs were given up: no worker was free for them", extra={"jobs": sum(ended)})
            if not all(ended) or self._stop.is_set():
                return

    def _drop_events(self, before: datetime) -> None:
        """Drop old events, wherever they are: a clock that was wrong may have put younger ones before them."""
        looked_at: int | None = 0
        while looked_at is not None and not self._stop.is_set():
            looked_at = self.store.transact(partial(_drop_events, before=before, after=looked_at))
            self._stop.wait(PAUSE_S)

    def _remove_orphans(self, before: datetime) -> None:
        """Remove blobs without a row that were written before `before`, and since the last time this was done."""
        since = self._tidied if self._tidied is not None and self._tidied < before else None  # the clock was set back
        written = self.blobs.written(since=since, before=before)
        while batch := list(islice(written, ORPHANS_AT_ONCE)):
            bytes_of_jobs.remove(self.store, self.blobs, self.reader.without_row(batch))
            if self._stop.wait(PAUSE_S):
                return
        self._tidied = before

    def _erase(self, job_id: str) -> None:
        try:
            erased = self.store.transact(lambda tx: transitions.erase(tx, job_id))
        except NotFoundError:
            return  # a client has erased it meanwhile
        bytes_of_jobs.remove(self.store, self.blobs, erased.marked)


def _drop_events(tx: Transaction, before: datetime, after: int) -> int | None:
    return tx.drop_events(before, AT_ONCE, after=after)


def _mark_sent(tx: Transaction, job_ids: list[str]) -> None:
    tx.mark_sent(job_ids, tx.now())
