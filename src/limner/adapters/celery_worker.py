"""What a Celery worker's child does about its own job, since nobody supervises it as the embedded engine does.

A child that hangs or is told to end gives up its job and ends; Celery replaces it.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limner import tracing
from limner.domain.errors import UnavailableError
from limner.ports import LossReason, Overseer

log = logging.getLogger(__name__)

TICK_S = 1.0
OWN_CHECK_S = 1.0  # after the timeout, the job has this long to end by itself
UNWANTED_S = 5.0  # a job that is no longer wanted has this long to end
END = signal.SIGQUIT  # Celery sends it to its children with REMAP_SIGTERM=SIGQUIT; they ignore SIGTERM


class Guard:
    """Watches the job of this process from two threads.

    A job past `timeout_s` is ended as such, one that is no longer wanted is given up, and with either the process ends,
    unless the job ends first. When the process is told to end, its job is requeued. If no thread can run for
    `deaf_s`, because the job holds the interpreter's lock, the kernel ends the process.
    """

    def __init__(
        self,
        name: str,
        overseer: Overseer,
        *,
        timeout_s: float,
        deaf_s: float,
    ) -> None:
        self._name = name
        self._overseer = overseer
        self._timeout_s = timeout_s
        self._deaf_s = deaf_s
        self._changed = threading.Condition()
        self._job: str | None = None
        self._since = 0.0

    def start(self) -> None:
        """Begin to watch, after `prepare`."""
        threading.Thread(target=self._await_end, name="guard-end", daemon=True).start()
        threading.Thread(target=self._watch, name="guard", daemon=True).start()

    @contextmanager
    def of(self, job_id: str) -> Iterator[None]:
        """Watch this job meanwhile."""
        self._set(job_id)
        try:
            yield
        finally:
            self._set(None)
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _set(self, job_id: str | None) -> None:
        with self._changed:
            self._job, self._since = job_id, time.monotonic()
            if job_id is not None:
                signal.setitimer(signal.ITIMER_REAL, self._deaf_s)
            self._changed.notify()

    def _await_end(self) -> None:
        signal.sigwait({END})
        with self._changed:
            job = self._job
        if job is not None:
            try:
                self._overseer.lost(self._name, "stopped")
                log.info("job handed back", extra={"job": job})
            except Exception:  # it runs again when its lease ends
                log.exception("job not handed back", extra={"job": job})
        tracing.stop()
        os._exit(0)

    def _watch(self) -> None:
        unwanted_since: float | None = None
        while True:
            with self._changed:
                self._changed.wait(None if self._job is None else TICK_S)
                job, since, now = self._job, self._since, time.monotonic()
                if job is None:
                    continue
                signal.setitimer(signal.ITIMER_REAL, self._deaf_s)
            reason: LossReason | None = None
            if now > since + self._timeout_s + OWN_CHECK_S:
                reason = "timeout"
            elif self._is_wanted(job):
                unwanted_since = None
            else:
                unwanted_since = max(since, unwanted_since or now)
                reason = "died" if now > unwanted_since + UNWANTED_S else None
            if reason is not None:
                self._give_up(job, since, reason)

    def _is_wanted(self, job: str) -> bool:
        try:
            return self._overseer.wanted(self._name)
        except UnavailableError as error:
            log.warning("could not check whether a job is still wanted", extra={"job": job, "detail": error.detail})
        except Exception:
            log.exception("could not check whether a job is still wanted", extra={"job": job})
        return True

    def _give_up(self, job: str, since: float, reason: LossReason) -> None:
        try:
            self._overseer.lost(self._name, reason)
        except UnavailableError as error:  # the next tick tries again
            log.warning("could not give up a job", extra={"job": job, "detail": error.detail})
            return
        except Exception:
            log.exception("could not give up a job", extra={"job": job})
            return
        with self._changed:
            if (self._job, self._since) == (job, since):  # else it has just ended by itself
                log.warning("a job did not end; its worker does", extra={"job": job, "reason": reason})
                os.kill(os.getpid(), signal.SIGKILL)


def prepare() -> None:
    """Keep the signals for the guard. Call it in the main thread, before any other thread is started."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {END})  # threads inherit it, so only `sigwait` receives the signal


def name_of(pid: int) -> str:
    """The name of a worker process of this machine. It tells the process from a later one with the same number."""
    return f"{socket.gethostname()[:48]}/{_namespace()}/{pid}/{_started(pid)}"


def has_ended(name: str) -> bool:
    """Whether this worker was a process of this machine (or container), and has ended. False for all others."""
    parts = name.rsplit("/", 3)
    if len(parts) != 4 or not parts[2].isdigit() or parts[:2] != name_of(os.getpid()).rsplit("/", 3)[:2]:
        return False
    return _started(int(parts[2])) != parts[3]


def _namespace() -> str:
    """What makes a process's number unique here: the boot and the container. Empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When the process was started, in ticks; None if there is none, or only its exit status is left."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return None if fields[0] in "ZX" else fields[19]
