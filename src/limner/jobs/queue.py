"""Where a queued job stands, and about when it will have finished. Everything is bounded, whatever the queue's length.

The estimate takes the lane's running jobs for the number of its workers (while jobs wait, all workers are busy), and
the mean duration of its newest jobs for that of the next ones.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from limner.domain.job import Job, Status
from limner.ports import JobReader

FARTHEST = 1000
RECENT = 100
REMEMBERED_S = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """`position` 1 is started next; 0 waits for the result of a running job; None is beyond `FARTHEST`.

    `age_s` is the time since the submission, `eta_s` an estimate of the time until the job has finished.
    """

    position: int | None
    age_s: float
    eta_s: float | None


@dataclass
class Queue:
    """Answers for queued jobs. The durations are read again every two seconds at most."""

    reader: JobReader
    clock: Callable[[], float] = time.monotonic
    _means: dict[str, float] = field(default_factory=dict)
    _read_at: float | None = None

    def place(self, job: Job) -> Place | None:
        """The place of a job, None if it is not queued."""
        if job.status is not Status.QUEUED:
            return None
        age_s = max(0.0, (datetime.now(UTC) - job.created_at).total_seconds())
        leader = self.reader.get(job.leader_id) if job.leader_id is not None else job
        if leader is not None and leader.status is Status.QUEUED:
            ahead, running = self.reader.ahead(leader.id, leader.lane, limit=FARTHEST)
            position = ahead + 1 if ahead < FARTHEST else None
        else:  # it runs, or has just ended
            position, running = 0, 1
        mean_s = self._mean_s(job.lane)
        eta_s = None if position is None or mean_s is None else remaining_s(position, running, mean_s)
        return Place(position, age_s, eta_s)

    def _mean_s(self, lane: str) -> float | None:
        now = self.clock()
        if self._read_at is None or now - self._read_at > REMEMBERED_S:
            durations: dict[str, list[float]] = {}
            for ran_in, seconds in self.reader.recent_runs(RECENT):
                durations.setdefault(ran_in, []).append(seconds)
            self._means = {each: sum(listed) / len(listed) for each, listed in durations.items()}
            self._read_at = now
        return self._means.get(lane)


def remaining_s(position: int, running: int, mean_s: float) -> float:
    """The expected time until a job has finished: its wait for a free worker, and its own run.

    Running jobs are half done on average, so the first worker is free after half of what the next ones need.
    """
    if position == 0:
        return mean_s / 2
    return mean_s * (max(0.0, position - 0.5) / max(1, running) + 1) if running else mean_s * position
