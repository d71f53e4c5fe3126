"""A worker process for the engine's tests. A job's id says what it does: `<number> <deed> <argument>`.

It writes a line to a file in the greeting's `folder` when a job begins and ends. A job that begins again just ends.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from limner.adapters.process_worker import Pipe, PipeBus, connect, limit_memory, serve


def note(file: Path, line: str) -> None:
    """Append a line in one write."""
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def wake(bus: PipeBus, times: int) -> None:
    """Send wake-ups repeatedly."""
    for _ in range(times):
        bus.wake()


def perform(deed: str, argument: str, pipe: Pipe) -> None:  # noqa: C901, PLR0912  # a branch for each deed
    """Do what the job's id says."""
    match deed:
        case "abort":
            os.abort()
        case "segv":
            ctypes.string_at(0)
        case "exit":
            os._exit(int(argument))
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(float(argument))
        case "hold":  # a C function that does not release the interpreter's lock
            ctypes.PyDLL(None).usleep(int(float(argument) * 1e6))
        case "raise":
            raise RuntimeError("what no job should do")
        case "wake":
            threads = [threading.Thread(target=wake, args=(PipeBus(pipe), int(argument))) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        case "garbage":
            os.write(pipe._fd, b"\x7f\xff no JSON\n" if argument == "line" else b"x" * (1 << 21))
            time.sleep(60)
        case "hoard":
            bytearray(int(argument))
        case "grandchild":  # holds the pipe open after this process
            if not os.fork():
                time.sleep(float(argument))
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Take the greeting, and serve."""
    pipe, greeting = connect()
    folder, name = Path(greeting["folder"]), greeting["worker"]
    note(folder / "processes", f"{name} {os.getpid()}")
    if (fails := folder / "fail at start").exists():
        sys.exit(int(fails.read_text()))
    limit_memory(greeting.get("memory", 0))
    time.sleep(greeting.get("start_s", 0))

    def run(job_id: str) -> dict[str, Any] | None:
        number, deed, argument = job_id.split()
        begun = (folder / "begun").read_text().splitlines() if (folder / "begun").exists() else []
        note(folder / "begun", job_id)
        if job_id not in begun or number == "always":
            perform(deed, argument, pipe)
        note(folder / "ended", job_id)
        return {"job": job_id, "worker": name, "pid": os.getpid()}

    serve(pipe, run)


if __name__ == "__main__":
    main()
