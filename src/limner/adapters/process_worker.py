"""A worker's side of the pipe to the web process; the other side is `process_engine.py`.

A worker process has the pipe as its standard input. It calls `connect`, loads the models and calls `serve`. This module
has no slow imports.
"""

import ctypes
import json
import logging
import os
import resource
import signal
import stat
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from limner.domain.errors import UnavailableError

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1


class Pipe:
    """Lines of JSON in both directions. Any thread may call `send`, but only one thread `receive`."""

    def __init__(self, fd: int) -> None:
        # A plain descriptor that is never closed: when it closes, the web process takes this process as ended.
        self._fd = fd
        self._lock = threading.Lock()
        self._unread = bytearray()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message. If the web process has ended, this process exits at once."""
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except ConnectionError:
                os._exit(1)

    def receive(self) -> dict[str, Any] | None:
        """Wait for a message. None if the web process has ended or has told this worker to end."""
        while b"\n" not in self._unread:
            if not self._read():
                return None
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def receive_bytes(self, size: int) -> bytes | None:
        """Wait for so many bytes, which follow the last message. None as for `receive`."""
        while len(self._unread) < size:
            if not self._read():
                return None
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    def _read(self) -> bool:
        try:
            chunk = os.read(self._fd, 1 << 16)
        except ConnectionError:
            return False
        self._unread += chunk
        return bool(chunk)


class PipeBus:
    """`ports.Bus` of a worker: sends wake-ups to the web process, which has the listeners."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def wake(self) -> None:
        """See `ports.Bus.wake`."""
        self._pipe.send({"type": "wake"})

    def subscribe(self, on_wake: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        """Not supported in a worker: RuntimeError."""
        raise RuntimeError("a worker has no listeners: only the web process subscribes")


def connect() -> tuple[Pipe, dict[str, Any]]:
    """Take the pipe from standard input and wait for the greeting. Call it before anything else.

    Afterwards only SIGKILL, the end of the pipe and the end of the parent end this process. SystemExit without a pipe.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole process group; the web process decides
        signal.signal(number, signal.SIG_IGN)
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise SystemExit("a worker is started by the service, not by hand")
    fd = os.dup(0)  # not inheritable
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    make_expendable()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    pipe = Pipe(fd)
    greeting = pipe.receive()
    if greeting is None or os.getppid() != greeting["parent"]:  # it ended before this process was tied to it
        raise SystemExit(1)
    return pipe, greeting


def serve(pipe: Pipe, run: Callable[[str], dict[str, Any] | None]) -> None:
    """Report that the worker is ready, then run one job after another until the pipe is closed.

    `run` takes a job's id and may return a report (a JSON object) for the web process. Its errors are logged.
    """
    pipe.send({"type": "ready"})
    while (message := pipe.receive()) is not None:
        job_id, report = message["job"], None
        try:
            report = run(job_id)
        except UnavailableError as error:  # it stays queued, or its lease ends
            log.warning("job not run", extra={"job": job_id, "detail": error.detail})
        except Exception:  # the worker must outlive any job
            log.exception("error in a worker", extra={"job": job_id})
        pipe.send({"type": "done", "job": job_id, "report": report})


def make_expendable() -> None:
    """Have no core dumps, and be ended first where memory runs out."""
    # Core dumps contain people's photos and delay the next attempt at the job. The limit is 1 because 0 does not stop
    # dumps that are piped to a handler (core(5)).
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (1 if hard else 0, hard))
    if sys.platform == "linux":
        with suppress(OSError):  # a hint: end a worker rather than what it works for
            Path("/proc/self/oom_score_adj").write_text("500")


def limit_memory(limit: int) -> None:
    """Limit this process's address space to `limit` bytes (0: no limit). If that is not possible, log a warning."""
    if not limit:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    except (OSError, ValueError) as error:
        log.warning("the memory limit of workers could not be set: %s", error)
