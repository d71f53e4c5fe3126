"""The turn to write, among all processes that share a SQLite database: locks on two files beside it."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from limner.domain.errors import UnavailableError

PAUSE_S = 0.0002  # a transaction takes about a millisecond


class Turn:
    """SQLite lets a writer that waits sleep ever longer, and whoever asks at the right moment wins. This is fair.

    Whoever wants the turn first becomes the next one, of which there is one at a time. So whoever has just had the turn
    cannot have it again before the one that waits. Locks are asked for again and again, because a wait for `flock`
    cannot be given up; a process that dies loses them.
    """

    def __init__(self, database: Path, *, timeout_s: float) -> None:
        """OSError when the files cannot be made."""
        self._timeout_s = timeout_s
        self._next = database.with_name(database.name + ".next").open("ab")
        self._turn = database.with_name(database.name + ".turn").open("ab")

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn and keep it. UnavailableError after `timeout_s`."""
        deadline = time.monotonic() + self._timeout_s
        _lock(self._next, deadline)
        try:
            _lock(self._turn, deadline)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files."""
        self._next.close()
        self._turn.close()


def _lock(file: IO[bytes], deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UnavailableError("the database is busy; try again") from None
            time.sleep(PAUSE_S)
        else:
            return
