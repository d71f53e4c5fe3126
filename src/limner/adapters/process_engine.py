"""The embedded engine: worker processes, and a thread in the web process that supervises them.

This is the web process's side of the pipe; the worker's side is `process_worker.py`. A message is one line of JSON.
"""

import json
import logging
import math
import os
import queue
import secrets
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

from limner.domain.errors import UnavailableError
from limner.domain.lane import Lane
from limner.ports import LossReason, Overseer, Waiting

log = logging.getLogger(__name__)

TICK_S = 1.0  # the supervisor runs at least this often, because `send` sets deadlines without waking it
OWN_CHECK_S = 1.0  # after the timeout, the worker itself has this long to end the job before it is killed
ASK_S = 1.0  # time between two checks whether a running job is still wanted
UNWANTED_S = 5.0  # a job that is no longer wanted has this long to end before its worker is killed
RETRY_S = 1.0  # time between two attempts to report a lost worker to the database
BACK_OFF_S, BACK_OFF_MAX_S = 0.2, 30.0
RETIRE_S, STOP_S = 5.0, 0.1  # an idle worker that is told to end has this long before it is killed
START_S = 60.0  # loading the models takes about a second; a worker that hangs there is replaced after this time
MAX_LINE = 1 << 20


@dataclass(eq=False)
class _Lane:
    name: str
    plan: Lane
    line: deque[str] = field(default_factory=deque)
    workers: list["_Worker"] = field(default_factory=list)
    idle: list["_Worker"] = field(default_factory=list)
    failures: int = 0  # workers in a row that died before their first job
    not_before: float = 0.0  # when the next worker may be started

    @property
    def size(self) -> int:
        """How many workers it has; one that has them on demand gets no more than it has jobs."""
        if not self.plan.on_demand:
            return self.plan.workers
        return min(self.plan.workers, len(self.line) + sum(worker.job is not None for worker in self.workers))


@dataclass(eq=False)
class _Worker:
    name: str
    lane: _Lane
    process: subprocess.Popen[bytes]
    pipe: socket.socket
    unread: bytes = b""  # the beginning of an incomplete line
    ready: bool = False
    job: str | None = None
    jobs: int = 0  # number of jobs passed to it so far
    retiring: bool = False  # works until its successor is ready
    ending: bool = False  # gets no further job
    killed: bool = False
    ask_at: float = math.inf
    unwanted_at: float = math.inf  # when its job was first found to be unwanted
    kill_at: float = math.inf
    kill_reason: LossReason = "died"


class ProcessEngine:
    """`ports.Engine` on worker processes.

    A worker runs `command` with the pipe as its standard input. The first line is `greeting`, with `worker` (a unique
    name), `lane` and `parent` (this process's id) added. `lanes` are those that have workers, `jobs_per_worker` the
    jobs after which a worker is replaced (0: never), `start_s` the time in which it must become ready. `on_wake`,
    `on_report` and `on_ready` (with the number of ready workers of the lanes that always have them) are called from the
    supervisor's thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        greeting: Mapping[str, Any],
        *,
        lanes: Mapping[str, Lane],
        jobs_per_worker: int,
        overseer: Overseer,
        on_wake: Callable[[], None],
        on_report: Callable[[dict[str, Any]], None],
        on_ready: Callable[[int], None],
        start_s: float = START_S,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = list(command)
        self._environment = environment  # None: that of this process
        self._greeting = dict(greeting)
        self._lanes = {name: _Lane(name, plan) for name, plan in lanes.items()}
        self._jobs_per_worker = jobs_per_worker
        self._start_s = start_s
        self._overseer = overseer
        self._on_wake = on_wake
        self._on_report = on_report
        self._on_ready = on_ready
        self._numbers = count(1)
        self._series = secrets.token_hex(4)
        self._lock = threading.Lock()  # protects queues, idle workers and the job of each worker
        self._known: set[str] = set()  # jobs in a queue or at a worker, including a lost one that is not yet reported
        self._unknown_lanes: set[str] = set()
        self._stopping = threading.Event()
        self._stop_at = 0.0
        self._stop_sent = False
        self._unreachable = False  # True when a loss could not be reported during the stop
        self._proven = False  # True when the first worker is ready or has died: then the others may start
        self._ready_reported = 0
        self._selector = selectors.DefaultSelector()
        self._alarm, self._alarm_end = socket.socketpair()
        self._alarm.setblocking(False)
        self._selector.register(self._alarm_end, selectors.EVENT_READ, None)
        # Daemon threads, so that a process that ends without `stop` does not hang. Its workers are ended by the kernel.
        self._supervisor = threading.Thread(target=self._supervise, name="engine", daemon=True)
        # Calls to the overseer have a separate thread, because a slow database must not delay wake-ups and timeouts.
        self._questions: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._asker = threading.Thread(target=self._ask_on, name="engine-overseer", daemon=True)

    def send(self, job_id: str, lane: str) -> None:
        """See `ports.Engine.send`. If a worker is idle, the caller's thread writes to its pipe at once."""
        place = self._lanes.get(lane)
        if place is None:
            if lane not in self._unknown_lanes:  # logged once, because the sweep repeats it
                self._unknown_lanes.add(lane)
                log.error("no worker serves the lane %r: its jobs wait", lane, extra={"job": job_id})
            return
        with self._lock:
            if self._stopping.is_set() or job_id in self._known:
                return
            if len(place.line) >= place.plan.max_queued and not place.idle:
                return  # the sweep sends it again
            self._known.add(job_id)
            place.line.append(job_id)
            self._hand_out(place)
            if place.line and place.plan.on_demand:
                self._ring()

    def _ring(self) -> None:
        """Have the supervisor look after its workers now."""
        with suppress(BlockingIOError):  # it has not heard the last ones yet
            self._alarm.send(b"!")

    def resend(self, waiting: Sequence[Waiting], now: datetime) -> list[str]:
        """See `ports.Engine.resend`. The engine knows which ids it has, so nothing need be remembered."""
        del now
        for each in waiting:
            self.send(each.job_id, each.lane)
        return []

    def start(self) -> None:
        """See `ports.Engine.start`. The first worker starts at once, the others when it is ready."""
        self._asker.start()
        self._supervisor.start()

    def stop(self, timeout_s: float) -> None:
        """See `ports.Engine.stop`. Every worker process has ended when it returns."""
        with self._lock:
            first = not self._stopping.is_set()
            if first:
                self._stop_at = time.monotonic() + timeout_s
                self._stopping.set()
                self._ring()
        if self._supervisor.ident is not None:
            self._supervisor.join()
            self._questions.put(None)
            self._asker.join()
        if first:
            for held in (self._selector, self._alarm, self._alarm_end):
                held.close()

    # --- in the supervisor's thread

    def _supervise(self) -> None:
        while True:
            try:
                self._look_after(time.monotonic())
                if self._stopping.is_set() and not self._workers():
                    return
                for key, _ in self._selector.select(self._pause(time.monotonic())):
                    if key.data is None:
                        self._alarm_end.recv(64)
                    else:
                        self._read(key.data)
            except Exception:  # the thread must go on: without it no job runs
                log.exception("error in the engine's supervisor")
                time.sleep(TICK_S)

    def _workers(self) -> list[_Worker]:
        return [worker for lane in self._lanes.values() for worker in lane.workers]

    def _pause(self, now: float) -> float:
        """Seconds until the next deadline."""
        due = [min(worker.kill_at, worker.ask_at) for worker in self._workers()]
        due += [lane.not_before for lane in self._lanes.values() if lane.not_before > now]
        return max(0.0, min([now + TICK_S, *due]) - now)

    def _look_after(self, now: float) -> None:
        """Do what is due: stop, kill, check, retire and start workers."""
        if self._stopping.is_set() and not self._stop_sent:
            self._tell_to_end(now)
        for worker in self._workers():
            self._check(worker, now)
        ready = sum(worker.ready for worker in self._workers() if not worker.lane.plan.on_demand)
        if ready != self._ready_reported:
            self._ready_reported = ready
            self._call(self._on_ready, ready)
        if not self._stopping.is_set():
            for lane in self._lanes.values():
                self._retire(lane, now)
                self._fill(lane, now)

    def _check(self, worker: _Worker, now: float) -> None:
        if worker.process.poll() is not None:  # checked too, because a child of the worker may keep the pipe open
            self._read(worker)
            if worker in worker.lane.workers:
                self._gone(worker)
        elif worker.killed:
            pass
        elif now >= worker.kill_at:
            if not worker.ready and not worker.ending and worker.kill_at > 0:
                log.error("worker %s was not ready within %g s", worker.name, self._start_s)
            self._kill(worker, worker.kill_reason)
        elif now >= worker.unwanted_at + UNWANTED_S:
            self._kill(worker, "died")
        elif now >= worker.ask_at:
            worker.ask_at = math.inf
            self._questions.put(partial(self._ask_wanted, worker, worker.job))

    def _fill(self, lane: _Lane, now: float) -> None:
        """Start the missing workers of a lane. As long as workers may fail to start, start one at a time."""
        missing = lane.size - sum(not worker.retiring for worker in lane.workers)
        if missing <= 0 or now < lane.not_before:
            return
        if not self._proven or lane.failures:
            others = lane.workers if self._proven else self._workers()
            missing = 0 if any(not worker.ready for worker in others) else 1
        for _ in range(missing):
            self._spawn(lane)

    def _spawn(self, lane: _Lane) -> None:
        # Only in this thread: a worker has the kernel kill it when the thread that started it ends.
        name = f"{lane.name}-{self._series}-{next(self._numbers)}"
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    process = subprocess.Popen(  # noqa: S603  # a constant command
                        self._command, stdin=theirs.fileno(), env=self._environment
                    )
                except OSError:
                    ours.close()
                    raise
        except OSError as error:  # no such command, or no process or file descriptor is left
            self._failed(lane)
            log.error("a worker could not be started: %s", error)  # noqa: TRY400  # the message says it all
            return
        ours.setblocking(False)
        worker = _Worker(name, lane, process, ours, kill_at=time.monotonic() + self._start_s)
        lane.workers.append(worker)
        self._selector.register(ours, selectors.EVENT_READ, worker)
        self._write(worker, {**self._greeting, "worker": name, "lane": lane.name, "parent": os.getpid()})

    def _failed(self, lane: _Lane) -> None:
        """A worker ended before its first job: wait before starting the next one, longer each time."""
        self._proven = True
        lane.not_before = time.monotonic() + min(BACK_OFF_S * 2**lane.failures, BACK_OFF_MAX_S)
        lane.failures = min(lane.failures + 1, 16)

    def _retire(self, lane: _Lane, now: float) -> None:
        """Mark a worker that has run enough jobs, one at a time, and end it when its successor is ready."""
        serving = [worker for worker in lane.workers if worker.ready and not worker.ending and not worker.killed]
        if lane.plan.on_demand:
            with self._lock:
                for worker in serving:
                    if self._jobs_per_worker and worker.jobs >= self._jobs_per_worker:
                        self._end(worker, now + RETIRE_S)  # its successor is started when a job needs it
            return
        marked = next((worker for worker in serving if worker.retiring), None)
        if marked is not None and len(serving) > lane.size:
            with self._lock:
                self._end(marked, now + RETIRE_S)
        elif marked is None and self._jobs_per_worker and serving and len(serving) == lane.size:
            oldest = max(serving, key=lambda worker: worker.jobs)
            oldest.retiring = oldest.jobs >= self._jobs_per_worker

    def _tell_to_end(self, now: float) -> None:
        self._stop_sent = True
        with self._lock:
            for lane in self._lanes.values():
                lane.line.clear()
            for worker in self._workers():
                if worker.job is not None and self._stop_at < worker.kill_at:
                    worker.kill_at, worker.kill_reason = self._stop_at, "stopped"
                self._end(worker, now + STOP_S if worker.ready else now)

    def _read(self, worker: _Worker) -> None:
        """Read a worker's messages. A worker that sends an invalid message is killed."""
        try:
            chunk = worker.pipe.recv(1 << 16)
        except BlockingIOError:
            return
        except ConnectionError:  # it ended with unread data in the pipe
            chunk = b""
        if not chunk:
            self._gone(worker)
            return
        *lines, worker.unread = (worker.unread + chunk).split(b"\n")
        woken = False
        try:
            if len(worker.unread) > MAX_LINE:
                raise ValueError("the line is too long")  # noqa: TRY301  # handled like every invalid message
            for line in lines:
                woken = self._hear(worker, json.loads(line)) or woken
        except ValueError as error:
            log.error("worker %s sent a broken message: %s", worker.name, error)  # noqa: TRY400
            self._kill(worker, "died")
        if woken:
            self._call(self._on_wake)

    def _hear(self, worker: _Worker, message: object) -> bool:
        """Handle one message. True if the readers of events must be woken. ValueError for an unexpected message."""
        match message:
            case {"type": "wake"}:
                return True
            case _ if worker.killed:
                pass  # `_gone` will report it as lost
            case {"type": "ready"} if not worker.ready:
                worker.ready = self._proven = True
                worker.lane.failures = 0
                self._free(worker)
            case {"type": "done", "job": str(job), "report": dict() | None as report} if job == worker.job:
                self._free(worker)
                if report is not None:  # the job has ended, so there is a new event
                    self._call(self._on_report, report)
                    return True
            case _:
                raise ValueError(f"unexpected message: {message!r:.200}")
        return False

    def _free(self, worker: _Worker) -> None:
        """The worker has no job: give it the next one, or end it."""
        with self._lock:
            if worker.job is not None:
                self._known.discard(worker.job)
            worker.job = None
            worker.ask_at = worker.unwanted_at = worker.kill_at = math.inf
            if worker.ending or self._stopping.is_set():
                self._end(worker, time.monotonic() + (STOP_S if self._stopping.is_set() else RETIRE_S))
            else:
                worker.lane.idle.append(worker)
                self._hand_out(worker.lane)

    def _kill(self, worker: _Worker, reason: LossReason) -> None:
        """Kill the worker. Its end of the pipe closes, and `_gone` does the rest."""
        with self._lock:
            if worker in worker.lane.idle:
                worker.lane.idle.remove(worker)
            worker.killed, worker.kill_reason = True, reason
            worker.kill_at = worker.ask_at = math.inf
        worker.process.kill()

    def _gone(self, worker: _Worker) -> None:
        """The worker has ended, for whatever reason: log and report it, so that its job runs on another worker."""
        self._selector.unregister(worker.pipe)
        try:
            status = worker.process.wait(0.2)
        except subprocess.TimeoutExpired:  # it closed the pipe but still runs
            worker.process.kill()
            status = worker.process.wait()
        lane = worker.lane
        with self._lock:
            lane.workers.remove(worker)
            if worker in lane.idle:
                lane.idle.remove(worker)
            worker.pipe.close()
        if worker.ending and worker.job is None:
            return  # it was told to end
        reason = worker.kill_reason if worker.killed else "died"
        log.warning(
            "worker %s ended (%s): %s",
            worker.name,
            reason,
            _in_words(status),
            extra={"job": worker.job, "pid": worker.process.pid},
        )
        if not worker.jobs:
            self._failed(lane)
        if worker.ready:
            self._questions.put(partial(self._tell_lost, worker, reason))

    def _call(self, function: Callable[..., None], *args: object) -> None:
        try:
            function(*args)
        except Exception:
            log.exception("error in a callback of the engine")

    # --- in any thread that holds the lock

    def _hand_out(self, lane: _Lane) -> None:
        while lane.line and lane.idle:
            worker, now = lane.idle.pop(), time.monotonic()  # the one that worked last, because its caches are warm
            worker.job = lane.line.popleft()
            worker.jobs += 1
            worker.ask_at = now + ASK_S
            worker.kill_at, worker.kill_reason = now + lane.plan.timeout_s + OWN_CHECK_S, "timeout"
            self._write(worker, {"job": worker.job})

    def _write(self, worker: _Worker, message: Mapping[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        try:
            sent = worker.pipe.send(data)
        except OSError:  # it has ended, or does not read
            sent = 0
        if sent < len(data):
            worker.kill_at, worker.kill_reason = 0.0, "died"

    def _end(self, worker: _Worker, kill_at: float) -> None:
        """Give this worker no further job. If it has none now, close the pipe, which tells it to end."""
        worker.retiring = worker.ending = True
        if worker in worker.lane.idle:
            worker.lane.idle.remove(worker)
        if worker.job is None:
            worker.kill_at, worker.kill_reason = kill_at, "died"
            with suppress(OSError):  # it has ended already
                worker.pipe.shutdown(socket.SHUT_WR)

    # --- in the overseer's thread

    def _ask_on(self) -> None:
        for question in iter(self._questions.get, None):
            question()

    def _ask_wanted(self, worker: _Worker, job: str | None) -> None:
        wanted = True
        try:
            wanted = self._overseer.wanted(worker.name)
        except UnavailableError as error:
            log.warning("could not check whether a job is still wanted", extra={"job": job, "detail": error.detail})
        except Exception:
            log.exception("could not check whether a job is still wanted", extra={"job": job})
        now = time.monotonic()
        with self._lock:
            if worker.job == job and not worker.killed:
                worker.ask_at = now + ASK_S
                worker.unwanted_at = math.inf if wanted else min(worker.unwanted_at, now)

    def _tell_lost(self, worker: _Worker, reason: LossReason) -> None:
        while True:
            last = self._stopping.is_set()
            if last and self._unreachable:
                return  # another attempt would wait for the database again; the next start requeues the job
            try:
                again = self._overseer.lost(worker.name, reason)
                break
            except UnavailableError as error:
                log.warning("could not report the lost worker %s", worker.name, extra={"detail": error.detail})
            except Exception:
                log.exception("could not report the lost worker %s", worker.name, extra={"job": worker.job})
            if last:
                self._unreachable = True
                return  # the job is requeued when its lease ends
            self._stopping.wait(RETRY_S)
        with self._lock:
            if worker.job is not None:
                self._known.discard(worker.job)
                if reason == "died":
                    again = [(worker.job, worker.lane.name), *again]
            for job_id, name in again:
                if job_id not in self._known and name in self._lanes and not self._stopping.is_set():
                    self._known.add(job_id)
                    self._lanes[name].line.appendleft(job_id)  # first in the queue, since it has waited already
                    self._hand_out(self._lanes[name])


def _in_words(status: int) -> str:
    """The exit status of a process as text."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
