"""The engine in this process: a bounded line of job ids and a few threads that run them."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger(__name__)


class ThreadEngine:
    """`ports.Engine` on threads. `run(job_id, on_start)` runs one job and never raises.

    `run` calls `on_start(attempt)` once it holds the job, so that `running()` can tell the sweep whose lease to renew.
    """

    def __init__(self, run: Callable[[str, Callable[[int], None]], None], *, workers: int, capacity: int) -> None:
        self._run = run
        self._line: queue.Queue[str | None] = queue.Queue(capacity + workers)  # None: look whether to stop
        self._known: set[str] = set()  # in line or running: a job is not put in line twice
        self._attempts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        # Daemons: a job that does not end in time must not keep the process from stopping; its row hands it back.
        self._threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True) for number in range(workers)
        ]

    def send(self, job_id: str, lane: str) -> None:  # noqa: ARG002  # one pool serves all lanes
        """See `ports.Engine.send`."""
        with self._lock:
            if job_id in self._known or self._stopping.is_set():
                return
            try:
                self._line.put_nowait(job_id)
            except queue.Full:
                return  # the sweep sends it again
            self._known.add(job_id)

    def running(self) -> list[tuple[str, int]]:
        """See `ports.Engine.running`."""
        with self._lock:
            return list(self._attempts.items())

    def start(self) -> None:
        """See `ports.Engine.start`."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """See `ports.Engine.stop`."""
        self._stopping.set()
        for _ in self._threads:
            with suppress(queue.Full):  # then nobody waits for work
                self._line.put_nowait(None)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while not self._stopping.is_set():
            job_id = self._line.get()
            if job_id is None or self._stopping.is_set():
                return
            try:
                self._run(job_id, lambda attempt, job_id=job_id: self._started(job_id, attempt))  # type: ignore[misc]
            except Exception:  # the last line of defence: a worker thread must outlive any job
                log.exception("worker error", extra={"job": job_id})
            finally:
                with self._lock:
                    self._known.discard(job_id)
                    self._attempts.pop(job_id, None)

    def _started(self, job_id: str, attempt: int) -> None:
        with self._lock:
            self._attempts[job_id] = attempt
