"""`limner serve` in a separate process, which the tests start, stop and kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import MODELS


class Server:
    """A server on a free port, with its database and photos in `folder`."""

    def __init__(self, folder: Path, *, module: str = "limner.cli", host: str = "127.0.0.1", **variables: str) -> None:
        """`variables` are further LIMNER_* settings, by their full name."""
        self.module = module
        self.host = host
        self.folder = folder
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket_url = f"ws://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.variables = {
            "LIMNER_DATABASE_URL": f"sqlite:///{folder}/limner.db",
            "LIMNER_BLOBS_URL": str(folder / "blobs"),
            "LIMNER_MODELS_DIR": str(MODELS),
            "LIMNER_DURABILITY": "relaxed",
            "LIMNER_WORKERS": "1",
            **variables,
        }

    def launch(self) -> None:
        """Start, and do not wait."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "serve", "--host", self.host, "--port", str(self.port)],
                env=inherited | self.variables,
                stdout=log,
                stderr=log,
            )

    def start(self) -> None:
        """Start, and wait until it is ready."""
        self.launch()
        assert self.process is not None
        deadline = time.monotonic() + 120
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the server did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self, timeout_s: float = 30, number: signal.Signals = signal.SIGTERM) -> int | None:
        """Send SIGTERM (or `number`) and wait; returns the exit status."""
        return self._end(number, timeout_s)

    def kill(self) -> None:
        """Send SIGKILL, so that the server cannot clean up."""
        self._end(signal.SIGKILL, 10)

    def restart(self) -> None:
        """Stop and start on the same database and port."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals, timeout_s: float) -> int | None:
        if self.process is None:
            return None
        self.process.send_signal(number)
        status = self.process.wait(timeout_s)
        self.process = None
        return status

    def workers(self) -> list[int]:
        """The ids of its worker processes."""
        assert self.process is not None
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
                command = folder.joinpath("cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == self.process.pid and b"worker" in command:
                found.append(int(folder.name))
        return found

    def log_lines(self) -> list[dict[str, Any]]:
        """The log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def check_log(self) -> None:
        """Check that the log has no error and no traceback."""
        text = self.log.read_text()
        assert "Traceback" not in text, text[-5000:]
        assert '"level": "ERROR"' not in text, text[-5000:]


class Worker:
    """`limner work` in a process of its own, with the settings of a server."""

    def __init__(self, server: "Cluster", *arguments: str, command: Sequence[str] = ()) -> None:
        self.server = server
        self.command = [*(command or [sys.executable, "-m", server.work, "work"]), *arguments]
        self.log = server.folder / f"worker-{len(server.all_workers)}.log"
        self.process: subprocess.Popen[bytes] | None = None
        server.all_workers.append(self)

    def start(self) -> None:
        """Start it in a process group of its own, and wait until its children have loaded their models."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
        began = self.ready()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=inherited | self.server.variables,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while self.ready() == began:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the worker did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def look_after(self) -> None:
        """Start it again if it has ended by itself, as systemd or a container engine does."""
        if self.process is not None and self.process.poll() is not None:
            self.start()

    def ready(self) -> int:
        """How many times it has become ready."""
        return self.log.read_text().count("worker ready") if self.log.exists() else 0

    def children(self) -> list[int]:
        """The ids of its children."""
        return _children(self.process.pid) if self.process is not None else []

    def stop(self, *, group: bool = False, timeout_s: float = 30) -> int | None:
        """Send SIGTERM, to its children too if `group`, and wait; returns the exit status."""
        assert self.process is not None
        if group:
            os.killpg(self.process.pid, signal.SIGTERM)
        else:
            self.process.terminate()
        status, self.process = self.process.wait(timeout_s), None
        return status

    def kill(self) -> None:
        """Kill the main process. Its children end with it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Cluster(Server):
    """A web service of one or several processes, and a worker, with Redis as broker and bus."""

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        *,
        module: str = "limner.cli",
        work: str = "limner.cli",
        **variables: str,
    ) -> None:
        super().__init__(
            folder,
            module=module,
            **{"LIMNER_ENGINE_URL": redis_url, "LIMNER_BUS_URL": redis_url, "LIMNER_WORKERS": "2", **variables},
        )
        self.work = work
        self.all_workers: list[Worker] = []
        self.worker = Worker(self)

    def start(self) -> None:
        """Start both, and wait until they are ready."""
        self.start_web()
        self.worker.start()

    def start_web(self) -> None:
        """Start the web process, and wait until it is ready."""
        super().start()

    def web_processes(self) -> list[int]:
        """The ids of its web processes, when there are several."""
        assert self.process is not None
        commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in _children(self.process.pid)}
        return [pid for pid, command in commands.items() if command.exists() and b"spawn_main" in command.read_bytes()]

    def stop_web(self) -> int | None:
        """Stop the web process only; returns its exit status."""
        return super()._end(signal.SIGTERM, 30)

    def kill_web(self) -> None:
        """Kill the web process only."""
        super()._end(signal.SIGKILL, 10)

    def _end(self, number: signal.Signals, timeout_s: float) -> int | None:
        status = super()._end(number, timeout_s)
        for worker in self.all_workers:
            if worker.process is not None and number is not signal.SIGKILL:
                worker.stop(timeout_s=timeout_s)
            worker.kill()
        return status

    def log_lines(self) -> list[dict[str, Any]]:
        """The logs of both so far."""
        logs = [worker.log.read_text() for worker in self.all_workers if worker.log.exists()]
        return super().log_lines() + [
            json.loads(line) for text in logs for line in text.splitlines() if line.startswith("{")
        ]

    def check_log(self) -> None:
        """Check that no log has an error or a traceback."""
        super().check_log()
        for worker in self.all_workers:
            text = worker.log.read_text() if worker.log.exists() else ""
            assert "Traceback" not in text, text[-5000:]
            assert '"level": "ERROR"' not in text, text[-5000:]


def address_space(pid: int) -> str:
    """The limit of a process's address space: bytes, or `unlimited`."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line.removeprefix("Max address space").split()[0] for line in lines if line.startswith("Max address"))


def _children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(int(folder.name))
    return sorted(found)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
