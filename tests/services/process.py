"""A server's process, which tests start, stop, kill, freeze and start again on the same data."""

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

START_S = 120.0


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def find_program(name: str) -> str:
    """The path of a program: of Python's environment, or of the system, where Debian keeps some outside PATH.

    `make test` installs what is missing.
    """
    postgresql = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    places = [sysconfig.get_path("scripts"), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    path = os.pathsep.join([*places, *map(str, postgresql)])
    found = shutil.which(name, path=path)
    assert found is not None, f"{name} is not installed: run scripts/install.sh --services"
    return found


class ServerProcess:
    """A program that is started with `command` and is ready when `is_ready` says so. Its output goes to `log`."""

    def __init__(
        self,
        command: list[str],
        is_ready: Callable[[], bool],
        log: Path,
        *,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.command = command
        self.log = log
        self._is_ready = is_ready
        self._user = user
        self._environment = environment
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                env=None if self._environment is None else {**os.environ, **self._environment},
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"{self.command[0]} did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """End it and all its children at once."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it and its children without ending them, so that connections stay open and nothing answers."""
        self._signal_all(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            if number is signal.SIGKILL:
                self._signal_all(process.pid, number)
            else:
                process.send_signal(number)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            self._signal_all(process.pid, signal.SIGKILL)
            process.wait()

    @staticmethod
    def _signal_all(pid: int, number: signal.Signals) -> None:
        """Signal the process, its group, and children that have made groups of their own, as PostgreSQL's do."""
        children = Path(f"/proc/{pid}/task/{pid}/children")
        others = children.read_text().split() if children.exists() else []
        os.killpg(pid, number)
        for child in others:
            with suppress(ProcessLookupError):
                os.kill(int(child), number)
