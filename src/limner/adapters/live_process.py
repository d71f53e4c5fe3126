"""The web process's side of the process that looks at live frames; the other side is `limner/live_worker.py`.

A frame is a line of JSON with its size, and its bytes; the answer is a line of JSON.
"""

import json
import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from limner.domain.errors import UnavailableError

log = logging.getLogger(__name__)

START_S = 60.0
LOOK_S = 5.0  # a look takes milliseconds; a process that takes longer hangs
END_S = 2.0
BACK_OFF_S, BACK_OFF_MAX_S = 0.2, 30.0
MAX_LINE = 1 << 17


class LiveProcess:
    """One process, started when it is wanted. Use it in one thread, which must not end before it: the kernel ends the
    process with the thread that has started it. Only `stop` may be called from another thread.
    """

    def __init__(
        self,
        command: Sequence[str],
        greeting: Mapping[str, Any],
        *,
        environment: Mapping[str, str],
        start_s: float = START_S,
        look_s: float = LOOK_S,
    ) -> None:
        """The process runs `command` with the pipe as its standard input; its first line is `greeting`."""
        self._command = list(command)
        self._greeting = dict(greeting)
        self._environment = dict(environment)
        self._start_s, self._look_s = start_s, look_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: socket.socket | None = None
        self._looked = False  # whether this process has answered a frame
        self._failures = 0  # processes in a row that ended before they had answered one
        self._not_before = 0.0
        self._stopping = threading.Event()

    @property
    def ready(self) -> bool:
        """Whether a process is waiting for frames, as far as is known."""
        return self._pipe is not None

    def prepare(self) -> None:
        """Start the process, if there is none, and wait until it is ready. After failures, wait before the next try,
        longer each time. UnavailableError if it does not become ready.
        """
        if self.ready:
            return
        if self._stopping.wait(max(0.0, self._not_before - time.monotonic())):
            raise UnavailableError("The service is stopping.")
        try:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    self._process = subprocess.Popen(  # noqa: S603  # a constant command
                        self._command, stdin=theirs.fileno(), env=self._environment
                    )
                except OSError:
                    ours.close()
                    raise
        except OSError as error:  # no process or file descriptor is left
            self._failed()
            log.error("live detection could not be started: %s", error)  # noqa: TRY400  # the message says it all
            raise UnavailableError("Live detection could not be started. Try again later.") from None
        self._pipe, self._looked = ours, False
        log.debug("live detection starts", extra={"pid": self._process.pid})
        try:
            self._send(json.dumps({**self._greeting, "parent": os.getpid()}).encode() + b"\n", self._start_s)
            self._receive(self._start_s)
        except (OSError, ValueError) as error:
            self._lose(error)
            raise UnavailableError("Live detection could not be started. Try again later.") from None

    def look(self, frame: bytes, *, landmarks: bool) -> dict[str, Any]:
        """What the process says of a frame: `width`, `height` and `faces`, or `error`, a problem.

        UnavailableError if the process has ended over it, or hung; the next `prepare` starts another.
        """
        try:
            self._send(json.dumps({"bytes": len(frame), "landmarks": landmarks}).encode() + b"\n" + frame, self._look_s)
            answer = self._receive(self._look_s)
        except (OSError, ValueError) as error:
            self._lose(error)
            raise UnavailableError("The process that looks at frames has ended. Send the next frame.") from None
        self._looked, self._failures = True, 0
        return answer

    def rest(self) -> None:
        """End the process, if there is one. The next `prepare` starts another."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop(self) -> None:
        """End the process soon, and every wait for it, for good. Any thread may call it."""
        self._stopping.set()
        process = self._process
        if process is not None:
            with suppress(OSError):
                process.kill()  # nothing that it does outlives the socket that asked for it

    def _send(self, data: bytes, within_s: float) -> None:
        assert self._pipe is not None
        self._pipe.settimeout(within_s)
        self._pipe.sendall(data)

    def _receive(self, within_s: float) -> dict[str, Any]:
        """One message. OSError if the process has ended or takes too long, ValueError for what is no message."""
        assert self._pipe is not None
        until, line = time.monotonic() + within_s, b""
        while not line.endswith(b"\n"):
            self._pipe.settimeout(max(until - time.monotonic(), 0.001))
            chunk = self._pipe.recv(1 << 16)
            if not chunk:
                raise ConnectionResetError("the process has ended")
            line += chunk
            if len(line) > MAX_LINE:
                raise ValueError("the line is too long")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("the message is no object")  # noqa: TRY004  # as for what is no JSON
        return message

    def _lose(self, error: Exception) -> None:
        """The process has ended, or must: it hangs, or sends what is no message."""
        process = self._process
        assert process is not None
        with suppress(subprocess.TimeoutExpired):
            process.wait(0 if isinstance(error, (TimeoutError, ValueError)) else 0.2)
        process.kill()
        looked = self._looked
        self.rest()
        if not looked:
            self._failed()
        if not self._stopping.is_set():
            log.warning(
                "the process of live detection ended: %s", error or "it hung", extra={"status": process.returncode}
            )

    def _failed(self) -> None:
        self._not_before = time.monotonic() + min(BACK_OFF_S * 2**self._failures, BACK_OFF_MAX_S)
        self._failures = min(self._failures + 1, 16)
