"""Work that several requests wait for: done once, bounded, and not ended by those who leave."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from limner.domain.errors import StillRunningError, UnavailableError
from limner.web.flights import Flights


async def never() -> None:
    """A client that stays."""
    await asyncio.Event().wait()


async def at_once() -> None:
    """A client that leaves."""


class Work:
    """Counts how often it is done; each time it waits for `may_end`."""

    def __init__(self) -> None:
        self.done = 0
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        await self.may_end.wait()
        self.done += 1
        return self.done


def join(flights: Flights, name: str, work: Callable[[], Coroutine[Any, Any, int]], **changes: Any) -> Any:
    return flights.join(name, work, **{"wait_s": 30, "keep_s": 30, "gone": never, **changes})


def test_all_who_wait_get_what_was_made_once() -> None:
    async def run() -> None:
        flights, work = Flights(), Work()
        waiting = [asyncio.create_task(join(flights, "a", work)) for _ in range(5)]
        with pytest.raises(StillRunningError):
            await join(flights, "a", work, gone=at_once)  # who leaves ends nothing
        with pytest.raises(StillRunningError):
            await join(flights, "a", work, wait_s=0.01)
        waiting[0].cancel()
        work.may_end.set()
        assert await asyncio.gather(*waiting[1:]) == [1] * 4
        assert flights.known("a") == 1
        flights.forget("a")
        assert flights.known("a") is None
        assert await join(flights, "a", work) == 2

    asyncio.run(run())


def test_an_error_is_told_to_all_and_not_remembered() -> None:
    async def fail() -> int:
        await asyncio.sleep(0.01)
        raise UnavailableError("not now")

    async def run() -> None:
        flights = Flights()
        found = await asyncio.gather(*(join(flights, "a", fail) for _ in range(3)), return_exceptions=True)
        assert [type(each) for each in found] == [UnavailableError] * 3
        assert flights.known("a") is None
        work = Work()
        work.may_end.set()
        assert await join(flights, "a", work) == 1

    asyncio.run(run())


def test_no_more_work_and_no_more_requests_than_allowed() -> None:
    async def run() -> None:
        flights, work = Flights(flights=2, waiting=3), Work()
        waiting = [asyncio.create_task(join(flights, name, work)) for name in "ab"]
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError):
            await join(flights, "c", work)
        waiting.append(asyncio.create_task(join(flights, "b", work)))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError):
            await join(flights, "a", work)
        work.may_end.set()
        await asyncio.gather(*waiting)
        assert await join(flights, "c", work) == 3

    asyncio.run(run())


def test_what_is_remembered_is_bounded_and_ends() -> None:
    async def run() -> None:
        flights, work = Flights(remembered=2), Work()
        work.may_end.set()
        for name in "abc":
            await join(flights, name, work)
        assert [flights.known(name) for name in "abc"] == [None, 2, 3]
        await join(flights, "d", work, keep_s=0)
        assert flights.known("d") is None

    asyncio.run(run())
