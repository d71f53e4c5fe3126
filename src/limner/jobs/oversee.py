"""Decides about jobs in worker processes: what happens when a worker ends, and whether its job must go on."""

import logging
from dataclasses import dataclass

from limner.jobs import transitions
from limner.jobs.transitions import Sent
from limner.ports import Bus, JobReader, JobStore, LossReason

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobOverseer:
    """`ports.Overseer`."""

    store: JobStore
    reader: JobReader
    bus: Bus
    max_attempts: int

    def lost(self, worker: str, reason: LossReason) -> list[Sent]:
        """See `ports.Overseer.lost`."""
        again = self.store.transact(lambda tx: transitions.lose(tx, worker, reason, max_attempts=self.max_attempts))
        self.bus.wake()
        for job_id, _ in again:
            log.warning("job requeued because its worker ended", extra={"job": job_id, "reason": reason})
        return again

    def wanted(self, worker: str) -> bool:
        """See `ports.Overseer.wanted`."""
        return self.reader.is_running_on(worker)
