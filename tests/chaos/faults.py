"""The faults: what is killed, stopped, frozen, cut off, emptied or filled up, and for how long."""

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from limner.adapters.sql.postgres import lock_key
from tests.chaos.stack import LINK, Service, Stack, below, run

LEFT_FREE = 64 * 1024  # of a full disk, so that its file system can still be worked with
FIND_LEADER_S = 5.0
FIND_BUSY_S = 2.0
JOINED = 0.25


@dataclass(frozen=True)
class Fault:
    """One fault of the plan. `share` 0 to 1 chooses among several processes; `joined`: the next one comes with it."""

    kind: str
    seconds: float
    share: float
    pause_s: float
    joined: bool

    @property
    def part(self) -> str:
        """The part of the deployment that fails. Two faults at the same time are in different parts."""
        return re.split(r"[' ]", self.kind)[0]


def plan(random_: random.Random, count: int) -> list[Fault]:
    """`count` faults; every kind is as frequent as the others."""
    made: list[Fault] = []
    while len(made) < count:
        kinds = list(KINDS)
        random_.shuffle(kinds)
        for kind in kinds:
            shortest, longest = KINDS[kind][1:]
            made.append(
                Fault(
                    kind,
                    random_.uniform(shortest, longest),
                    random_.random(),
                    random_.choice((0.1, 0.5, 1.0, 2.5)),
                    random_.random() < JOINED,
                )
            )
    return made[:count]


def together(faults: list[Fault]) -> Iterator[list[Fault]]:
    """The faults in their order: one alone, or two at the same time."""
    left = list(faults)
    while left:
        first = left.pop(0)
        yield [first, left.pop(0)] if first.joined and left and left[0].part != first.part else [first]


class Missed(Exception):  # noqa: N818  # no error: what should fail was not there
    """The fault did not happen, because what it strikes was not there."""


def inject(stack: Stack, faults: list[Fault]) -> list[Fault]:
    """Make these faults together, and end them again; those that happened. The stack restarts what has ended."""
    happened = []
    with ThreadPoolExecutor() as pool:
        for each, done in [(each, pool.submit(KINDS[each.kind][0], stack, each)) for each in faults]:
            with suppress(Missed):
                done.result()
                happened.append(each)
    return happened


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _strike(pid: int, number: signal.Signals) -> None:
    """Send a signal. Missed if the process has gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        raise Missed from None


def _one(processes: list[int], fault: Fault) -> int:
    """The one that the fault chooses. Missed if there is none."""
    if not processes:
        raise Missed
    return processes[int(fault.share * len(processes))]


def _worker(stack: Stack, fault: Fault) -> Service:
    return stack.workers[int(fault.share * 1000) % len(stack.workers)]


def _kill_child(service: Service, fault: Fault) -> None:
    _strike(_one(service.children(), fault), signal.SIGKILL)


def _busy_worker(stack: Stack, fault: Fault) -> int:
    """A worker's child that is running a job, if one is seen soon, else any."""
    deadline = time.monotonic() + FIND_BUSY_S
    with suppress(psycopg.Error), psycopg.connect(stack.database_url, autocommit=True, connect_timeout=3) as watching:
        while time.monotonic() < deadline:
            rows = watching.execute("SELECT worker FROM jobs WHERE status = 'running' ORDER BY id").fetchall()
            if rows:
                return int(rows[int(fault.share * len(rows))][0].rsplit("/", 2)[1])
    return _one(_worker(stack, fault).children(), fault)


def _kill_busy(stack: Stack, fault: Fault) -> None:
    _strike(_busy_worker(stack, fault), signal.SIGKILL)


def _freeze_busy(stack: Stack, fault: Fault) -> None:
    _freeze([_busy_worker(stack, fault)], fault.seconds)


def _freeze(pids: list[int], seconds: float) -> None:
    """Freeze, and let go on. Who was replaced meanwhile has gone. Missed if the first has gone already."""
    _strike(pids[0], signal.SIGSTOP)
    for pid in pids[1:]:
        _signal(pid, signal.SIGSTOP)
    time.sleep(seconds)
    for pid in pids:
        _signal(pid, signal.SIGCONT)


def _freeze_child(service: Service, fault: Fault) -> None:
    _freeze([_one(service.children(), fault)], fault.seconds)


def _down(service: Service, fault: Fault, number: signal.Signals) -> None:
    """End the whole service, and keep it down."""
    service.wanted = False
    if number is signal.SIGKILL:
        service.send_all(number)
    else:
        service.send(number)
    time.sleep(fault.seconds)
    service.wanted = True


def _kill_sweep_leader(stack: Stack, fault: Fault) -> None:
    """Kill the process that holds the sweep's lock, as soon as one is seen to hold it."""
    key = lock_key("leader sweep")
    holder = (
        "SELECT a.client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' "
        "AND l.granted AND l.classid::bigint = %s AND l.objid::bigint = %s"
    )
    parts = ((key >> 32) & 0xFFFFFFFF, key & 0xFFFFFFFF)
    deadline = time.monotonic() + FIND_LEADER_S
    with suppress(psycopg.Error), psycopg.connect(stack.database_url, autocommit=True, connect_timeout=3) as watching:
        while time.monotonic() < deadline:
            row = watching.execute(holder, parts).fetchone()
            pid = _owner_of_port(row[0], stack.web.children()) if row else None
            if pid is not None:
                _strike(pid, signal.SIGKILL)
                return
    raise Missed


def _owner_of_port(port: int, among: list[int]) -> int | None:
    """The process that has a connection from this local port."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == port:
            wanted = f"socket:[{fields[9]}]"
            for pid in among:
                with suppress(OSError):
                    for handle in Path(f"/proc/{pid}/fd").iterdir():
                        with suppress(OSError):
                            if str(handle.readlink()) == wanted:
                                return pid
    return None


def _empty_redis(stack: Stack, fault: Fault) -> None:
    """It loses its disk, and comes back with nothing."""
    stack.redis.wanted = False
    stack.redis.send_all(signal.SIGKILL)
    time.sleep(0.2)
    shutil.rmtree(stack.folder / "redis/appendonlydir", ignore_errors=True)
    time.sleep(fault.seconds)
    stack.redis.wanted = True


def _kill_backend(stack: Stack, fault: Fault) -> None:
    """PostgreSQL ends all its connections and recovers, as after a shortage of memory."""
    _strike(_one(below(stack.postgres.pid)[1:], fault), signal.SIGKILL)


@contextmanager
def _rules(port: int, *target: str) -> Iterator[None]:
    """Rules of the packet filter for what goes to and comes from a port."""
    rules = [["INPUT", "-p", "tcp", f"--{side}", str(port), "-j", *target] for side in ("dport", "sport")]
    for rule in rules:
        run("iptables", "-w", "-I", *rule)
    try:
        yield
    finally:
        for rule in rules:
            run("iptables", "-w", "-D", *rule)


def _cut(port: int, fault: Fault, *target: str) -> None:
    with _rules(port, *(target or ("DROP",))):
        time.sleep(fault.seconds)


def _cut_off_second_machine(_stack: Stack, fault: Fault) -> None:
    run("ip", "link", "set", LINK, "down")
    time.sleep(fault.seconds)
    run("ip", "link", "set", LINK, "up")


def _make_read_only(stack: Stack, fault: Fault) -> None:
    """The kernel refuses it while a file is open for writing."""
    deadline = time.monotonic() + 5
    command = ["mount", "-o", "remount,ro", str(stack.photos)]
    while subprocess.run(command, capture_output=True, timeout=20, check=False).returncode:
        if time.monotonic() > deadline:
            raise Missed
        time.sleep(0.005)
    time.sleep(fault.seconds)
    run("mount", "-o", "remount,rw", str(stack.photos))


def _fill(disk: Path, fault: Fault) -> None:
    """Fill a disk up, also what becomes free meanwhile."""
    filler = disk / "filler"
    deadline = time.monotonic() + fault.seconds
    try:
        with filler.open("wb") as file:
            while time.monotonic() < deadline:
                free = os.statvfs(disk)
                room = free.f_bavail * free.f_frsize - LEFT_FREE
                if room > 0:
                    with suppress(OSError):
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)
                time.sleep(0.05)
    finally:
        filler.unlink()


Act = Callable[[Stack, Fault], None]
KINDS: dict[str, tuple[Act, float, float]] = {
    "web process killed": (lambda s, f: _kill_child(s.web, f), 0, 0),
    "web process frozen": (lambda s, f: _freeze_child(s.web, f), 1, 6),
    "web supervisor killed": (lambda s, _: s.web.send(signal.SIGKILL), 0, 0),
    "web rolling restart": (lambda s, _: s.web.send(signal.SIGHUP), 0, 0),
    "web stopped": (lambda s, _: s.web.send(signal.SIGTERM), 0, 0),
    "sweep's leader killed": (_kill_sweep_leader, 0, 0),
    "worker child killed": (_kill_busy, 0, 0),
    "worker child frozen": (_freeze_busy, 2, 10),
    "worker killed": (lambda s, f: _worker(s, f).send_all(signal.SIGKILL), 0, 0),
    "worker's main process killed": (lambda s, f: _worker(s, f).send(signal.SIGKILL), 0, 0),
    "worker frozen": (lambda s, f: _freeze(below(_worker(s, f).pid), f.seconds), 2, 10),
    "worker stopped": (lambda s, f: _worker(s, f).send(signal.SIGTERM), 0, 0),
    "worker's machine cut off": (_cut_off_second_machine, 2, 10),
    "Redis killed": (lambda s, f: _down(s.redis, f, signal.SIGKILL), 0, 4),
    "Redis emptied": (_empty_redis, 0, 4),
    "Redis frozen": (lambda s, f: _freeze([s.redis.pid], f.seconds), 1, 7),
    "Redis cut off": (lambda s, f: _cut(s.redis_port, f), 1, 6),
    "Redis' disk full": (lambda s, f: _fill(s.folder / "redis", f), 2, 5),
    "PostgreSQL killed": (lambda s, f: _down(s.postgres, f, signal.SIGKILL), 0, 4),
    "PostgreSQL stopped": (lambda s, f: _down(s.postgres, f, signal.SIGINT), 1, 6),
    "PostgreSQL's process killed": (_kill_backend, 0, 0),
    "PostgreSQL frozen": (lambda s, f: _freeze(below(s.postgres.pid), f.seconds), 1, 7),
    "PostgreSQL cut off": (lambda s, f: _cut(s.postgres_port, f), 1, 6),
    "PostgreSQL's connections reset": (
        lambda s, f: _cut(s.postgres_port, f, "REJECT", "--reject-with", "tcp-reset"),
        0.5,
        3,
    ),
    "PostgreSQL's disk full": (lambda s, f: _fill(s.folder / "postgres", f), 2, 5),
    "photos read-only": (_make_read_only, 1, 5),
    "photos' disk full": (lambda s, f: _fill(s.photos, f), 1, 5),
    "receiver of webhooks cut off": (lambda s, f: _cut(s.receiver_port, f), 1, 5),
}
