"""Starts the processes that are measured (Limner with its workers, a bare uvicorn, nginx) and reads their CPU time."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from limner.bench.client import Client
from limner.domain.errors import SettingsError
from limner.settings import Settings

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 90


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its address, its first process, the time that it took to become ready, and a key for it."""

    port: int
    pid: int
    ready_s: float
    token: str | None = None
    workers_pid: int | None = None  # of the first process of workers that the server has not started itself

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def client(self, token: str | None = None) -> Client:
        """A new connection to it, with its own key or another one."""
        return Client("127.0.0.1", self.port, token=token or self.token)

    def cpu_s(self) -> float:
        """CPU seconds so far of the process, the workers' process and the descendants of both."""
        return cpu_of_tree(self.pid) + (0.0 if self.workers_pid is None else cpu_of_tree(self.workers_pid))


def cpu_of_tree(pid: int) -> float:
    """CPU seconds of a process and its descendants, ended ones included once their parent has waited for them.

    From `/proc/PID/stat` (proc(5)): fields utime, stime, cutime and cstime, in clock ticks. Linux only.
    """
    parents: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
                parent, spent = parse_stat((entry / "stat").read_text())
                parents.setdefault(parent, []).append(int(entry.name))
                ticks[int(entry.name)] = spent
    total, waiting = 0, [pid]
    while waiting:
        each = waiting.pop()
        total += ticks.get(each, 0)
        waiting += parents.get(each, [])
    return total / os.sysconf("SC_CLK_TCK")


def parse_stat(text: str) -> tuple[int, int]:
    """Parent's id and CPU ticks from a line of `/proc/PID/stat`; the name, in brackets, may hold anything."""
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), sum(map(int, fields[11:15]))


@contextmanager
def server(settings: Settings, folder: Path | None = None, **variables: str) -> Iterator[Server]:
    """`limner serve` on the database in `folder`, or on an empty one in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as temporary:
        folder = folder or Path(temporary)
        port = free_port()
        environment = {**os.environ, **environment_of(settings, folder), **variables}
        command = [sys.executable, "-m", "limner.cli", "serve", "--host", "127.0.0.1", "--port", str(port)]
        with started(command, port, "/readyz", Path(temporary) / "log", environment) as alone:
            running = replace(alone, token=environment.get("LIMNER_ADMIN_KEY"))
            if "LIMNER_ENGINE_URL" not in variables:
                until_workers(running, settings.workers)
            yield running


def until_workers(running: Server, count: int) -> None:
    """Wait until all workers have their models: ready means that one has. SettingsError."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while f"\nlimner_workers {count}.0\n".encode() not in _metrics(running):
        if time.monotonic() > deadline:
            raise SettingsError(f"not all of {count} workers started")
        time.sleep(0.05)


def _metrics(running: Server) -> bytes:
    client = running.client()  # a new one: the workers' port answers one request on a connection
    _, body = client.get("/metrics")
    client.close()
    return body


def environment_of(settings: Settings, folder: Path) -> dict[str, str]:
    """The variables of a service that keeps everything in `folder`."""
    return {
        "LIMNER_DATABASE_URL": f"sqlite:///{folder}/limner.db",
        "LIMNER_BLOBS_URL": f"{folder}/blobs",
        "LIMNER_MODELS_DIR": str(settings.models_dir.absolute()),
        "LIMNER_WORKERS": str(settings.workers),
    }


@contextmanager
def cluster(
    settings: Settings, database_url: str, redis_url: str, *, workers: int, web_processes: int = 1
) -> Iterator[Server]:
    """`limner serve` with Celery workers in a process of their own, on PostgreSQL and Redis that run already.

    Both databases must be empty, and nobody else may use them.
    """
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as name:
        folder, metrics_port = Path(name), free_port()
        variables = {
            "LIMNER_DATABASE_URL": database_url,
            "LIMNER_ENGINE_URL": redis_url,
            "LIMNER_BUS_URL": redis_url,
            "LIMNER_WORKERS": str(workers),
            "LIMNER_WEB_PROCESSES": str(web_processes),
        }
        environment = {**os.environ, **environment_of(settings, folder), **variables}
        environment["LIMNER_WORKER_METRICS_PORT"] = str(metrics_port)
        work = [sys.executable, "-m", "limner.cli", "work"]
        with (
            server(settings, folder, **variables) as web,
            started(work, metrics_port, "/metrics", folder / "work.log", environment) as working,
        ):
            until_workers(working, workers)
            yield replace(web, workers_pid=working.pid)


@contextmanager
def bare_server() -> Iterator[Server]:
    """Start `bare_server.py`, which shows what uvicorn can reach on this machine without any work."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as folder:
        command = [sys.executable, "-m", "limner.bench.bare_server", str(port)]
        with started(command, port, "/2", Path(folder) / "log", dict(os.environ)) as running:
            yield running


@contextmanager
def nginx(content: bytes) -> Iterator[Server | None]:
    """nginx with one worker process, sending `content` as `/artifact` by sendfile. None where it is not installed."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        yield None
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="limner-bench-") as name:
        folder = Path(name)
        (folder / "artifact").write_bytes(content)
        temporary = "".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            ("user root;" if os.geteuid() == 0 else "")  # its workers must be able to read this folder
            + f"daemon off; worker_processes 1; pid {folder}/pid; events {{}} http {{ access_log off; sendfile on;"
            f" keepalive_requests 1000000000; {temporary} server {{ listen 127.0.0.1:{port}; root {folder}; }} }}"
        )
        command = [program, "-e", "stderr", "-p", name, "-c", str(folder / "nginx.conf")]
        with started(command, port, "/artifact", folder / "log", dict(os.environ)) as running:
            yield running


@contextmanager
def started(command: list[str], port: int, path: str, log: Path, environment: dict[str, str]) -> Iterator[Server]:
    """The command, from when `path` answers 200 to its end. SettingsError with its log when it does not."""
    begun = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)  # noqa: S603  # our own
    try:
        _until_ready(process, port, path, log)
        yield Server(port, process.pid, time.monotonic() - begun)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT_S)


def _until_ready(process: "subprocess.Popen[bytes]", port: int, path: str, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client = Client("127.0.0.1", port, 2)
            status, _ = client.get(path)
            client.close()
        except OSError:
            time.sleep(0.02)
            continue
        if status == 200:
            return
    raise SettingsError(f"the server did not start: {log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
