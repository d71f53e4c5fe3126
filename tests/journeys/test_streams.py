"""`web/event_streams.py` with a log in memory, for timings that a client cannot produce reliably."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count

import pytest

from limner.adapters.local_bus import LocalBus
from limner.domain.errors import UnavailableError
from limner.domain.event import Event, EventType
from limner.domain.key import ANYONE
from limner.web.event_streams import EncodedEvent, Streams, TooSlowError

BUFFER = 10
SOON_S = 30


class Log:
    """`ports.EventLog`: a list."""

    def __init__(self) -> None:
        self.rows: list[Event] = []
        self._jobs = count()

    def add(self, job_id: str | None = None, kind: EventType = EventType.QUEUED, *, key_id: str | None = None) -> str:
        """One more event, of a new job unless one is named; the job's id."""
        job_id = job_id or f"job-{next(self._jobs)}"
        self.rows.append(Event(len(self.rows) + 1, kind, datetime.now(UTC), job_id, "detect", None, key_id))
        return job_id

    def after(
        self,
        event_id: int,
        *,
        limit: int,
        job_id: str | None = None,
        operation: str | None = None,
        key_id: str | None = None,
    ) -> list[Event]:
        """See `ports.EventLog.after`."""
        found = [
            row
            for row in self.rows[event_id:]
            if job_id in (None, row.job_id) and operation in (None, row.operation) and key_id in (None, row.key_id)
        ]
        return found[:limit]

    def last_id(self) -> int:
        """See `ports.EventLog.last_id`."""
        return len(self.rows)


@pytest.fixture
def log() -> Log:
    return Log()


def streams(log: Log, bus: LocalBus) -> Streams:
    return Streams(log, bus, buffer=BUFFER, max_sockets=2)


async def ids(listener: AsyncIterator[list[EncodedEvent]], last: int) -> list[int]:
    """Ids of the events up to `last`."""
    seen: list[int] = []
    async with asyncio.timeout(SOON_S):
        async for batch in listener:
            seen += [told.event.id for told in batch]
            if seen and seen[-1] >= last:
                break
    return seen


def test_a_slow_listener_is_closed_and_resumes_without_loss(log: Log) -> None:
    async def story() -> None:
        bus = LocalBus()
        told = streams(log, bus)
        await told.start()
        slow, quick = told.listen(caller=ANYONE, after=None), told.listen(caller=ANYONE, after=None)
        log.add()
        bus.wake()
        seen = await ids(slow, 1)
        assert await ids(quick, 1) == [1]
        for number in range(3 * BUFFER):
            log.add()
            bus.wake()
            assert await ids(quick, number + 2) == [number + 2]  # the slow listener does not delay it
        with pytest.raises(TooSlowError):
            await anext(slow)
        seen += await ids(told.listen(caller=ANYONE, after=seen[-1]), 3 * BUFFER + 1)
        assert seen == list(range(1, 3 * BUFFER + 2))
        await told.stop()

    asyncio.run(story())


def test_a_lost_wake_up_only_delays_events(log: Log) -> None:
    async def story() -> None:
        told = streams(log, LocalBus())
        await told.start()
        listener = told.listen(caller=ANYONE, after=None)
        log.add()  # and there is no wake-up
        assert await ids(listener, 1) == [1]
        await told.stop()

    asyncio.run(story())


def test_replayed_and_new_events_come_once_and_in_order(log: Log) -> None:
    async def story() -> None:
        bus = LocalBus()
        told = streams(log, bus)
        for _ in range(450):  # more than two pages
            log.add()
        await told.start()
        seen: list[int] = []
        async for batch in told.listen(caller=ANYONE, after=0):
            seen += [each.event.id for each in batch]
            if len(seen) >= 480:
                break
            if len(seen) < 475:  # while it is still reading pages, and right after the last
                log.add()
                bus.wake()
                await asyncio.sleep(0.01)
            elif len(seen) < 480:
                log.add()
                bus.wake()
            if seen[-1] == log.last_id():
                log.add()
                bus.wake()
        assert seen == list(range(1, len(seen) + 1))
        await told.stop()

    asyncio.run(story())


def test_an_id_above_the_last_means_new_events_only(log: Log) -> None:
    async def story() -> None:
        bus = LocalBus()
        log.add()
        told = streams(log, bus)
        await told.start()
        listener = told.listen(caller=ANYONE, after=1000)
        first = asyncio.create_task(ids(listener, 2))
        await asyncio.sleep(0.05)
        log.add()
        bus.wake()
        assert await first == [2]
        await told.stop()

    asyncio.run(story())


def test_all_waiters_of_a_job_learn_its_end(log: Log) -> None:
    async def story() -> None:
        bus = LocalBus()
        told = streams(log, bus)
        await told.start()
        job = log.add()
        with told.expecting(job) as one, told.expecting(job) as two, told.expecting("another") as other:
            with told.expecting(job):
                pass  # a listener that ends does not affect the others
            log.add(job, EventType.SUCCEEDED)
            bus.wake()
            async with asyncio.timeout(SOON_S):
                await asyncio.gather(one, two)
            assert not other.done()
            told.close()
            async with asyncio.timeout(SOON_S):
                await other  # when the service stops, nobody has to wait
        with told.expecting("late") as late:
            assert late.done()
        await told.stop()

    asyncio.run(story())


def test_a_stop_is_not_lost_if_a_wake_up_comes_with_it(log: Log) -> None:
    async def story() -> None:
        for steps in range(12):  # that the loop takes between a wake-up and the stop
            bus = LocalBus()
            told = streams(log, bus)
            await told.start()
            await asyncio.sleep(0.02)
            bus.wake()
            for _ in range(steps):
                await asyncio.sleep(0)
            async with asyncio.timeout(SOON_S):
                await told.stop()

    asyncio.run(story())


def test_listeners_end_when_the_service_stops(log: Log) -> None:
    async def story() -> None:
        told = streams(log, LocalBus())
        await told.start()
        listeners = [told.listen(caller=ANYONE, after=None), told.listen(caller=ANYONE, after=0)]
        waiting = [asyncio.create_task(ids(listener, 1)) for listener in listeners]
        await asyncio.sleep(0.05)
        await told.stop()
        assert [await each for each in waiting] == [[], []]

    asyncio.run(story())


def test_a_listener_without_events_gets_empty_batches(log: Log) -> None:
    async def story() -> None:
        told = streams(log, LocalBus())
        await told.start()
        assert await anext(told.listen(caller=ANYONE, after=None, quiet_s=0.01)) == []
        await told.stop()

    asyncio.run(story())


def test_what_can_be_pushed_is_not_yielded_and_the_order_holds(log: Log) -> None:
    async def story() -> None:
        bus = LocalBus()
        told = streams(log, bus)
        await told.start()
        pushed: list[int] = []
        seen: list[int] = []
        takes = True

        def push(batch: list[EncodedEvent]) -> bool:
            if takes:
                pushed.extend(each.event.id for each in batch)
                seen.extend(each.event.id for each in batch)
            return takes

        async def walk() -> None:
            async for batch in told.listen(caller=ANYONE, after=None, push=push):
                seen.extend(each.event.id for each in batch)

        walker = asyncio.create_task(walk())
        witness = told.listen(caller=ANYONE, after=None)
        for number in range(1, 7):
            takes = number % 3 != 0
            await asyncio.sleep(0)
            log.add()
            bus.wake()
            assert await ids(witness, number) == [number]
            await asyncio.sleep(0.01)  # let the listener's task run
        assert seen == [1, 2, 3, 4, 5, 6]
        assert pushed == [1, 2, 4, 5]
        await told.stop()
        await asyncio.wait_for(walker, SOON_S)

    asyncio.run(story())


def test_listeners_are_not_woken_for_events_they_do_not_want(log: Log) -> None:
    async def story() -> None:
        bus = LocalBus()
        told = streams(log, bus)
        await told.start()
        offered: list[int] = []

        def push(batch: list[EncodedEvent]) -> bool:
            offered.extend(each.event.id for each in batch)
            return True

        witness = told.listen(caller=ANYONE, after=None)
        job = log.add()
        bus.wake()
        await ids(witness, 1)
        walker = asyncio.create_task(anext(told.listen(caller=ANYONE, after=None, job_id=job, push=push), None))
        await asyncio.sleep(0)
        for number in range(2, 2 + 3 * BUFFER):  # more than the ring holds, but it is not too slow
            log.add()
            bus.wake()
            await ids(witness, number)
        assert offered == []
        log.add(job, EventType.CANCELLED)
        bus.wake()
        await ids(witness, 2 + 3 * BUFFER)
        assert offered == [2 + 3 * BUFFER]
        await told.stop()
        assert await asyncio.wait_for(walker, SOON_S) is None

    asyncio.run(story())


def test_open_streams_are_limited_and_released(log: Log) -> None:
    told = streams(log, LocalBus())
    with told.place("sse"), told.place("events"), pytest.raises(UnavailableError), told.place("faces"):
        pass
    with told.place("sse"), told.place("sse"):
        pass


def test_an_event_is_encoded_once_for_all_and_the_memory_for_it_is_bounded(log: Log) -> None:
    calls: list[str] = []

    def encode(_event: object, base: str) -> str:
        calls.append(base)
        return base

    log.add()
    told = EncodedEvent(log.after(0, limit=1)[0])
    assert [told.text(encode, "a") for _ in range(5)] == ["a"] * 5
    assert calls == ["a"]
    for number in range(1000):  # as many Host headers
        told.text(encode, str(number))
    assert len(told._texts) < 20
