"""A second actor on the same jobs and bytes, which stops at a named point until it is told to continue.

It runs in a thread or in a process: `python -m tests.contract.rival DATABASE_URL BLOBS`, with one JSON object per line.
"""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast

from limner.adapters.disk_blobs import DiskBlobs
from limner.blob_ports import BlobStore
from limner.domain.errors import JobFinishedError, NotFoundError
from limner.domain.job import Job, Outcome, Role
from limner.jobs import blobs as bytes_of_jobs
from limner.jobs import transitions
from limner.ports import Transaction
from tests.contract.machine import DAY, FAR, LEASE, SUMMARY, Machine, file_of, new_job, open_machine

Pause = Callable[[str], None]

POINTS: dict[str, tuple[str, ...]] = {
    "submit": ("inside", "after put"),
    "submit same": ("inside",),
    "finish": ("inside", "after put"),
    "cancel": ("inside",),
    "give_up": ("inside",),
    "erase": ("inside", "erased", "before delete", "after delete"),
    "remove": ("before delete", "after delete"),
    "expire": ("inside",),
    "lose": ("inside",),
    "renew": ("inside",),
    "start": ("inside",),
}
"""What a rival can do, and where it can stop; `inside` is between a transaction's reads and its first write."""


def sha256_of(data: str) -> str:
    return hashlib.sha256(data.encode()).hexdigest()


def worker_of(job_id: str) -> str:
    """The worker of this job alone, so that its end concerns no other job."""
    return f"worker of {job_id}"


def act(machine: Machine, blobs: BlobStore, pause: Pause, action: str, job_id: str = "", data: str = "") -> str:
    """Do it as `jobs/` does, and say what came of it. `data`: the bytes of a picture or an artifact."""
    stops = cast("BlobStore", _StoppingBlobs(blobs, pause))

    def transact(work: Callable[[Transaction], Any]) -> Any:
        return machine.store.transact(lambda tx: work(cast("Transaction", _StoppingTransaction(tx, pause))))

    def cancel(tx: Transaction) -> bool:
        transitions.cancel(tx, job_id)
        return True

    far = datetime.now(UTC) + FAR
    short: dict[str, Callable[[Transaction], Any]] = {
        "cancel": cancel,
        "give_up": lambda tx: transitions.give_up(tx, job_id, before=far),
        "expire": lambda tx: transitions.expire(tx, job_id, now=far, max_attempts=5),
        "lose": lambda tx: transitions.lose(tx, worker_of(job_id), "stopped", max_attempts=5),
        "renew": lambda tx: transitions.renew(tx, job_id, 1, lease=LEASE),
        "start": lambda tx: transitions.start(tx, job_id, worker=worker_of(job_id), lease=LEASE),
    }
    try:
        if action in short:
            return action if transact(short[action]) else "overtaken"
        if action == "finish":
            return _finish(machine, stops, pause, job_id, data)
        if action == "erase":
            erased = transact(lambda tx: transitions.erase(tx, job_id))
            pause("erased")
            bytes_of_jobs.remove(machine.store, stops, erased.marked)
            return "erase"
        if action == "remove":
            bytes_of_jobs.remove(machine.store, stops, [sha256_of(data)])
            return "remove"
        assert action in ("submit", "submit same"), action
        return _submit(machine, stops, pause, new_job(job_id, picture=sha256_of(data)), data)
    except (JobFinishedError, NotFoundError) as error:
        return error.slug


def _submit(machine: Machine, blobs: BlobStore, pause: Pause, job: Job, data: str) -> str:
    submitted = bytes_of_jobs.transact_with_bytes(
        machine.store,
        blobs,
        {sha256_of(data): data.encode()},
        lambda tx, is_stored: transitions.submit(
            cast("Transaction", _StoppingTransaction(tx, pause)),
            job,
            max_queued=100_000,
            cache_for=DAY,
            is_stored=is_stored,
            is_intact=lambda _: True,
        ),
    )
    return str(submitted.decision)


def _finish(machine: Machine, blobs: BlobStore, pause: Pause, job_id: str, data: str) -> str:
    job = machine.reader.get(job_id)
    if job is None:
        return "not-found"
    sha256 = blobs.put(data.encode())
    artifact = file_of(job_id, Role.ARTIFACT, "a.jpg", sha256, size=len(data))
    outcome = Outcome(result={}, summary=SUMMARY, artifacts=(artifact,))
    took = bytes_of_jobs.transact_with_bytes(
        machine.store,
        blobs,
        {sha256: data.encode()},
        lambda tx, is_stored: transitions.finish(
            cast("Transaction", _StoppingTransaction(tx, pause)), job, outcome, is_stored=is_stored
        ),
        stored={sha256},
    )
    if not took:
        bytes_of_jobs.remove(machine.store, blobs, [sha256])
    return "finish" if took else "overtaken"


class _StoppingBlobs:
    """A blob store that stops before and after its changes."""

    def __init__(self, blobs: BlobStore, pause: Pause) -> None:
        self._blobs = blobs
        self._pause = pause

    def put(self, data: bytes, *, sha256: str | None = None, media_type: str | None = None) -> str:
        stored = self._blobs.put(data, sha256=sha256, media_type=media_type)
        self._pause("after put")
        return stored

    def delete(self, sha256: str) -> None:
        self._pause("before delete")
        self._blobs.delete(sha256)
        self._pause("after delete")

    def has(self, sha256: str, *, size: int | None = None) -> bool:
        return self._blobs.has(sha256, size=size)


class _StoppingTransaction:
    """A transaction that stops before its writes."""

    WRITES = frozenset({"change", "insert", "remove", "set_blob", "mark_unnamed"})

    def __init__(self, tx: Transaction, pause: Pause) -> None:
        self._tx = tx
        self._pause = pause

    def __getattr__(self, name: str) -> Any:
        if name in self.WRITES:
            self._pause("inside")
        return getattr(self._tx, name)


class Rival(Protocol):
    """Begins an action and continues it when told. `begin` returns when the action has stopped or ended."""

    def begin(self, point: str, action: str, job_id: str, data: str) -> None: ...

    def go_on(self) -> str: ...


@dataclass
class ThreadRival:
    """Runs in a thread, with its own store."""

    machine: Machine
    blobs: BlobStore
    _there: threading.Event = field(default_factory=threading.Event)
    _go: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _answer: list[str] = field(default_factory=list)

    def begin(self, point: str, action: str, job_id: str, data: str) -> None:
        self._there.clear()
        self._go.clear()

        def pause(where: str) -> None:
            if where == point and not self._there.is_set():
                self._there.set()
                assert self._go.wait(30)

        def run() -> None:
            try:
                self._answer.append(act(self.machine, self.blobs, pause, action, job_id, data))
            finally:
                self._there.set()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert self._there.wait(30)

    def go_on(self) -> str:
        assert self._thread is not None
        self._go.set()
        self._thread.join(30)
        return self._answer.pop()

    def close(self) -> None:
        """Does nothing: the creator of the machine closes it."""


class ProcessRival:
    """Runs in a separate process."""

    def __init__(self, database_url: str, blobs: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, database_url, str(blobs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._ended: str | None = None
        assert self._read() == "ready"

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the rival has ended; its error stands above"
        return str(json.loads(line))

    def _write(self, message: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")

    def begin(self, point: str, action: str, job_id: str, data: str) -> None:
        self._write([point, action, job_id, data])
        answer = self._read()
        self._ended = None if answer == "stopped" else answer

    def go_on(self) -> str:
        if self._ended is not None:
            return self._ended
        self._write("go on")
        return self._read()

    def kill(self) -> None:
        """Send SIGKILL, at whatever point the process is."""
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0
        self._process.stdout.close()


def _lines() -> Iterator[Any]:
    for line in iter(sys.stdin.readline, ""):
        yield json.loads(line)


def main() -> None:
    """Answer each line with the result, or with `stopped` at the point; the next line continues."""
    machine, blobs = open_machine(sys.argv[1]), DiskBlobs(Path(sys.argv[2]), durable=False)
    lines = _lines()
    tell("ready")
    for point, action, job_id, data in lines:
        stopped = False

        def pause(where: str, point: str = point) -> None:
            nonlocal stopped
            if where == point and not stopped:
                stopped = True
                tell("stopped")
                next(lines)

        tell(act(machine, blobs, pause, action, job_id, data))
    machine.close()


def tell(message: str) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
