"""The deployment under test: PostgreSQL, Redis, two web processes, workers on two machines, disks of their own.

Everything runs in the namespaces that `test_chaos.py` makes, so a disk may be filled and a network be cut. The second
machine is a network namespace with a host name of its own.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.conftest import MODELS
from tests.services.postgres import Postgres
from tests.services.process import free_port
from tests.services.redis_server import RedisServer

HERE, THERE, NETWORK = "10.99.0.1", "10.99.0.2", "10.99.0.0/24"
LINK = "here0"
RESTART_S = 0.3
LEASE_S = 6
DISKS = {"photos": "2g", "postgres": "600m", "redis": "64m"}


def run(*command: str) -> None:
    """Run a command of the system."""
    subprocess.run(command, check=True, capture_output=True, timeout=20)


def all_processes() -> dict[int, tuple[int, str]]:
    """The processes that have not ended: their parent and their command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[:2]
            command = folder.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if state not in "ZX":
                found[int(folder.name)] = (int(parent), command.strip())
    return found


def below(pid: int) -> list[int]:
    """The process and everything that it has started, itself first."""
    processes, found = all_processes(), [pid]
    for each in found:
        found += [child for child, (parent, _) in processes.items() if parent == each]
    return found


class Service:
    """A program that is started again when it ends, unless it is to be down."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, *, user: str | None = None, env: Mapping[str, str] = {}
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self.wanted = False
        self.starts = 0
        self._user = user
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """The id of the newest process."""
        assert self._process is not None
        return self._process.pid

    def keep(self) -> None:
        """Start the program if it is to run and does not."""
        with self._lock:
            if not self.wanted or (self._process is not None and self._process.poll() is None):
                return
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    self.command,
                    env={**inherited, **self._env},
                    stdout=log,
                    stderr=log,
                    user=self._user,
                    group=self._user,
                    extra_groups=[] if self._user else None,
                    start_new_session=True,
                )
            self.starts += 1

    def send(self, number: signal.Signals) -> None:
        """Signal the main process."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def send_all(self, number: signal.Signals) -> None:
        """Signal the main process and everything below it."""
        for pid in below(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def children(self) -> list[int]:
        """The processes that serve: without the main process and its resource tracker."""
        processes = all_processes()
        return [pid for pid in below(self.pid)[1:] if "resource_tracker" not in processes.get(pid, (0, ""))[1]]

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 40) -> int | None:
        """Keep it down, and wait for its end. The exit status; None if it had to be killed."""
        with self._lock:
            self.wanted = False
        if self._process is None:
            return 0
        self.send(number)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.send_all(signal.SIGKILL)
            self._process.wait()
            return None


class Stack:
    """All services, and a thread that starts those again that have ended."""

    def __init__(self, folder: Path, receiver_port: int) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir()
        for name, size in DISKS.items():
            (folder / name).mkdir()
            run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder / name))
        self.photos = folder / "photos"
        self._second_machine = self._connect_second_machine()
        self._postgres = Postgres(
            folder / "postgres", durable=True, network=NETWORK, max_wal_size="64MB", min_wal_size="32MB"
        )
        self._redis = RedisServer(folder / "redis", persistent=True, address=HERE)
        self.redis_port, self.postgres_port, self.receiver_port = (
            self._redis.port,
            self._postgres.port,
            receiver_port,
        )
        user = "postgres" if os.geteuid() == 0 else None
        self.postgres = Service("postgres", self._postgres.process.command, self.logs / "postgres.log", user=user)
        self.redis = Service("redis", self._redis.process.command, self.logs / "redis.log")
        self.database_url = f"postgresql://limner@{HERE}:{self.postgres_port}/postgres"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            "LIMNER_DATABASE_URL": self.database_url,
            "LIMNER_BLOBS_URL": str(self.photos),
            "LIMNER_MODELS_DIR": str(MODELS),
            "LIMNER_ENGINE_URL": f"redis://{HERE}:{self.redis_port}/0",
            "LIMNER_BUS_URL": f"redis://{HERE}:{self.redis_port}/0",
            "LIMNER_WEB_PROCESSES": "2",
            "LIMNER_WORKERS": "2",
            "LIMNER_LEASE_S": str(LEASE_S),
            "LIMNER_SWEEP_S": "1",
            "LIMNER_DRAIN_S": "4",
            "LIMNER_LOG_FORMAT": "json",
            "LIMNER_FETCH_PRIVATE_HOSTS": "127.0.0.1",
            "LIMNER_FETCH_PORTS": str(receiver_port),
            "LIMNER_WEBHOOK_RETRY_S": "0.2",
            "LIMNER_WEBHOOK_TIMEOUT_S": "3",
            "LIMNER_KEEP_DAYS": "1",
        }
        serve = [sys.executable, "-m", "limner.cli", "serve", "--port", str(self.port)]
        work = [sys.executable, "-m", "limner.cli", "work"]
        there = ["nsenter", "-t", str(self._second_machine.pid), "-n", "-u"]
        self.web = Service("web", serve, self.logs / "web.log", env=self.env)
        self.workers = [
            Service("worker-here", work, self.logs / "worker-here.log", env=self.env),
            Service("worker-there", [*there, *work], self.logs / "worker-there.log", env=self.env),
        ]
        self.services = [self.postgres, self.redis, self.web, *self.workers]
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def _connect_second_machine(self) -> subprocess.Popen[bytes]:
        run("ip", "link", "set", "lo", "up")
        machine = subprocess.Popen(
            ["unshare", "--net", "--uts", "sh", "-c", "hostname second; echo ready; exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert machine.stdout is not None
        assert machine.stdout.readline() == b"ready\n"
        run("ip", "link", "add", LINK, "type", "veth", "peer", "name", "there0", "netns", str(machine.pid))
        run("ip", "addr", "add", f"{HERE}/24", "dev", LINK)
        run("ip", "link", "set", LINK, "up")
        inside = ["nsenter", "-t", str(machine.pid), "-n", "ip"]
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "addr", "add", f"{THERE}/24", "dev", "there0")
        run(*inside, "link", "set", "there0", "up")
        return machine

    def start(self) -> None:
        """Start everything, and the thread that keeps it running."""
        self._keeper.start()
        for service in self.services:
            service.wanted = True

    def _keep(self) -> None:
        while not self._ending.wait(RESTART_S):
            for service in self.services:
                if service is self.postgres and service.wanted:
                    # A number of an ended process may belong to another one now, which PostgreSQL would wait for.
                    mark = self._postgres.data / "postmaster.pid"
                    if not any("postgres" in command for _, command in all_processes().values()):
                        mark.unlink(missing_ok=True)
                service.keep()

    def stop_product(self) -> dict[str, int | None]:
        """Stop web and workers as an operator would. Their exit statuses; None: one had to be killed."""
        return {service.name: service.stop() for service in (self.web, *self.workers)}

    def stop_rest(self) -> None:
        """Stop everything else."""
        self._ending.set()
        self._keeper.join()
        self.redis.stop()
        self.postgres.stop(signal.SIGINT)
        self._second_machine.kill()
        self._second_machine.wait()

    def wait_until(self, what: str, is_so: Callable[[], bool], timeout_s: float) -> None:
        """Wait for something. AssertionError if it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
            time.sleep(0.1)
