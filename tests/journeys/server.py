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
        deadline = time.monotonic() + 30
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


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
