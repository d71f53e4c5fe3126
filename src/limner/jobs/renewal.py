"""Renewing the lease of a running job. Read `Renewal.of`."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from limner.domain.errors import UnavailableError
from limner.domain.job import Job
from limner.jobs import transitions
from limner.ports import JobStore

log = logging.getLogger(__name__)


class Renewal:
    """Renews the lease of the running job, in a separate thread."""

    def __init__(self, store: JobStore, lease: timedelta) -> None:
        self._store = store
        self._lease = lease
        self._changed = threading.Condition()
        self._job: Job | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def of(self, job: Job) -> Iterator[None]:
        """Renew this job's lease each time a third of it has passed."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="lease", daemon=True)
            self._thread.start()
        self._set(job)
        try:
            yield
        finally:
            self._set(None)

    def _set(self, job: Job | None) -> None:
        with self._changed:
            self._job = job
            self._changed.notify()

    def _loop(self) -> None:
        while True:
            with self._changed:
                job = self._job
                if self._changed.wait(None if job is None else self._lease.total_seconds() / 3):
                    continue
            if job is not None:
                self._renew(job)

    def _renew(self, job: Job) -> None:
        try:
            self._store.transact(lambda tx: transitions.renew(tx, job.id, job.attempt, lease=self._lease))
        except UnavailableError as error:  # the lease allows two failures before it expires
            log.warning("lease not renewed", extra={"job": job.id, "detail": error.detail})
        except Exception:  # the thread must go on
            log.exception("lease not renewed", extra={"job": job.id})
