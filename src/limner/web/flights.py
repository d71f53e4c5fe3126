"""Work that several requests wait for together: one task for each name, and what it made is remembered."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from limner.domain.errors import StillRunningError, UnavailableError

FLIGHTS = 128
"""Tasks at once. They go on when nobody waits any more, because the work is done already when somebody asks again."""
WAITING = 512
"""Requests that wait at once."""
REMEMBERED = 20_000


class Flights:
    """Use it on the event loop only. Results are plain values; the bounds are for all callers together."""

    def __init__(self, *, flights: int = FLIGHTS, waiting: int = WAITING, remembered: int = REMEMBERED) -> None:
        self._most_flights = flights
        self._most_waiting = waiting
        self._most_remembered = remembered
        self._flying: dict[str, asyncio.Task[Any]] = {}
        self._waiting = 0
        self._known: OrderedDict[str, tuple[Any, float]] = OrderedDict()

    def known(self, name: str) -> Any | None:
        """What was made under this name, None if nothing is, or not for so long as it was to be remembered."""
        found = self._known.get(name)
        if found is None:
            return None
        made, until = found
        if until <= time.monotonic():
            del self._known[name]
            return None
        return made

    def forget(self, name: str) -> None:
        """What was made under this name is gone."""
        self._known.pop(name, None)

    async def join(
        self,
        name: str,
        work: Callable[[], Coroutine[Any, Any, Any]],
        *,
        wait_s: float,
        keep_s: float,
        gone: Callable[[], Awaitable[None]],
    ) -> Any:
        """What `work` makes, or the task that does so already for this name. It is remembered for `keep_s`.

        Raises what the work raises; StillRunningError after `wait_s`, UnavailableError when too many wait or work. A
        caller for whom `gone` ends waits no longer; the work goes on, for others may wait for it.
        """
        if self._waiting >= self._most_waiting:
            raise UnavailableError("Too many requests wait for pictures. Try again in a moment.")
        task = self._flying.get(name) or self._start(name, work, keep_s)
        left = asyncio.ensure_future(gone())
        self._waiting += 1
        try:
            await asyncio.wait({task, left}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting -= 1
            left.cancel()
        if not task.done():
            raise StillRunningError
        return task.result()

    def _start(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], keep_s: float) -> asyncio.Task[Any]:
        if len(self._flying) >= self._most_flights:
            raise UnavailableError("Too many pictures are being made. Try again in a moment.")
        task = asyncio.create_task(work())
        self._flying[name] = task

        def ended(task: asyncio.Task[Any]) -> None:
            del self._flying[name]
            if task.cancelled() or task.exception() is not None:  # asked for, so that it is not logged as forgotten
                return
            self._known[name] = task.result(), time.monotonic() + keep_s
            while len(self._known) > self._most_remembered:
                self._known.popitem(last=False)

        task.add_done_callback(ended)
        return task
