"""A fair lock for the writers of a SQLite database in several processes, made of two lock files beside it."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from limner.domain.errors import UnavailableError

PAUSE_S = 0.0002  # a transaction takes about a millisecond


class Turn:
    """SQLite's own waiting is not fair: a waiting writer sleeps longer and longer, and newer ones overtake it.

    Here a writer takes the lock `next` first, then `turn`, then releases `next`. So a writer that has just had its turn
    cannot have another one before the writer that holds `next`. The locks are polled, because waiting for `flock` has
    no timeout. A process that ends releases its locks.
    """

    def __init__(self, database: Path, *, timeout_s: float) -> None:
        """OSError when the files cannot be created."""
        self._timeout_s = timeout_s
        self._next = database.with_name(database.name + ".next").open("ab")
        self._turn = database.with_name(database.name + ".turn").open("ab")

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn and hold it. UnavailableError after `timeout_s`."""
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
                raise UnavailableError("The database is busy. Try again.") from None
            time.sleep(PAUSE_S)
        else:
            return
