"""`web/event_streams.py` on a real store: what needs moments that no client can bring about for sure."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from limner.adapters.local_bus import LocalBus
from limner.domain.errors import UnavailableError
from limner.domain.job import Job, Outcome
from limner.ports import JobStore
from limner.web.event_streams import EncodedEvent, Streams, TooSlowError
from tests.contract.conftest import sql_jobs
from tests.contract.test_job_store import new_job

BUFFER = 10
SOON_S = 10


@pytest.fixture
def store() -> Iterator[JobStore]:
    made = sql_jobs("memory:")
    yield made
    made.close()


def submit(store: JobStore, **changes: object) -> Job:
    return store.submit(new_job(**changes), max_queued=10_000, cache_for=timedelta(0))


def streams(store: JobStore, bus: LocalBus) -> Streams:
    return Streams(store, bus, buffer=BUFFER, max_sockets=2)


async def ids(listener: AsyncIterator[list[EncodedEvent]], last: int) -> list[int]:
    """Ids of the events up to `last`."""
    seen: list[int] = []
    async with asyncio.timeout(SOON_S):
        async for batch in listener:
            seen += [told.event.id for told in batch]
            if seen and seen[-1] >= last:
                break
    return seen


def test_who_falls_behind_the_ring_is_let_go_and_resumes_without_loss(store: JobStore) -> None:
    async def story() -> None:
        bus = LocalBus()
        told = streams(store, bus)
        await told.start()
        slow, quick = told.listen(after=None), told.listen(after=None)
        submit(store)
        bus.wake()
        seen = await ids(slow, 1)
        assert await ids(quick, 1) == [1]
        for number in range(3 * BUFFER):
            submit(store)
            bus.wake()
            assert await ids(quick, number + 2) == [number + 2]  # whom the slow one does not hold up
        with pytest.raises(TooSlowError):
            await anext(slow)
        seen += await ids(told.listen(after=seen[-1]), 3 * BUFFER + 1)
        assert seen == list(range(1, 3 * BUFFER + 2))
        await told.stop()

    asyncio.run(story())


def test_a_lost_wake_up_only_costs_time(store: JobStore) -> None:
    async def story() -> None:
        told = streams(store, LocalBus())
        await told.start()
        listener = told.listen(after=None)
        submit(store)  # and nobody wakes
        assert await ids(listener, 1) == [1]
        await told.stop()

    asyncio.run(story())


def test_replay_and_what_happens_meanwhile_are_one_row_without_gap_or_double(store: JobStore) -> None:
    async def story() -> None:
        bus = LocalBus()
        told = streams(store, bus)
        for _ in range(450):  # more than two pages
            submit(store)
        await told.start()
        seen: list[int] = []
        async for batch in told.listen(after=0):
            seen += [each.event.id for each in batch]
            if len(seen) >= 480:
                break
            if len(seen) < 475:  # while it is still reading pages, and right after the last
                submit(store)
                bus.wake()
                await asyncio.sleep(0.01)
            elif len(seen) < 480:
                submit(store)
                bus.wake()
            if seen[-1] == store.last_event_id():
                submit(store)
                bus.wake()
        assert seen == list(range(1, len(seen) + 1))
        await told.stop()

    asyncio.run(story())


def test_an_id_from_the_future_means_from_now_on(store: JobStore) -> None:
    async def story() -> None:
        bus = LocalBus()
        submit(store)
        told = streams(store, bus)
        await told.start()
        listener = told.listen(after=1000)
        first = asyncio.create_task(ids(listener, 2))
        await asyncio.sleep(0.05)
        submit(store)
        bus.wake()
        assert await first == [2]
        await told.stop()

    asyncio.run(story())


def test_all_who_expect_a_job_are_told_of_its_end(store: JobStore) -> None:
    async def story() -> None:
        bus = LocalBus()
        told = streams(store, bus)
        await told.start()
        job = submit(store)
        with told.expecting(job.id) as one, told.expecting(job.id) as two, told.expecting("another") as other:
            with told.expecting(job.id):
                pass  # who leaves takes nothing from those who stay
            started = store.start(job.id, lease=timedelta(minutes=1))
            assert started is not None
            store.finish(job.id, started.attempt, Outcome(result={}))
            bus.wake()
            async with asyncio.timeout(SOON_S):
                await asyncio.gather(one, two)
            assert not other.done()
            told.close()
            async with asyncio.timeout(SOON_S):
                await other  # the service stops: nobody is kept waiting
        with told.expecting("late") as late:
            assert late.done()
        await told.stop()

    asyncio.run(story())


def test_a_stop_comes_through_whatever_comes_with_it(store: JobStore) -> None:
    async def story() -> None:
        for steps in range(12):  # that the loop takes between a wake-up and the stop
            bus = LocalBus()
            told = streams(store, bus)
            await told.start()
            await asyncio.sleep(0.02)
            bus.wake()
            for _ in range(steps):
                await asyncio.sleep(0)
            async with asyncio.timeout(SOON_S):
                await told.stop()

    asyncio.run(story())


def test_listeners_end_when_the_service_stops(store: JobStore) -> None:
    async def story() -> None:
        told = streams(store, LocalBus())
        await told.start()
        listeners = [told.listen(after=None), told.listen(after=0)]
        waiting = [asyncio.create_task(ids(listener, 1)) for listener in listeners]
        await asyncio.sleep(0.05)
        await told.stop()
        assert [await each for each in waiting] == [[], []]

    asyncio.run(story())


def test_a_quiet_listener_is_told_that_all_is_well(store: JobStore) -> None:
    async def story() -> None:
        told = streams(store, LocalBus())
        await told.start()
        assert await anext(told.listen(after=None, quiet_s=0.01)) == []
        await told.stop()

    asyncio.run(story())


def test_what_can_be_pushed_is_not_yielded_and_the_order_holds(store: JobStore) -> None:
    async def story() -> None:
        bus = LocalBus()
        told = streams(store, bus)
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
            async for batch in told.listen(after=None, push=push):
                seen.extend(each.event.id for each in batch)

        walker = asyncio.create_task(walk())
        witness = told.listen(after=None)
        for number in range(1, 7):
            takes = number % 3 != 0
            await asyncio.sleep(0)
            submit(store)
            bus.wake()
            assert await ids(witness, number) == [number]
            await asyncio.sleep(0.01)  # for the walker's turn
        assert seen == [1, 2, 3, 4, 5, 6]
        assert pushed == [1, 2, 4, 5]
        await told.stop()
        await asyncio.wait_for(walker, SOON_S)

    asyncio.run(story())


def test_nobody_is_woken_for_what_they_do_not_want(store: JobStore) -> None:
    async def story() -> None:
        bus = LocalBus()
        told = streams(store, bus)
        await told.start()
        offered: list[int] = []

        def push(batch: list[EncodedEvent]) -> bool:
            offered.extend(each.event.id for each in batch)
            return True

        witness = told.listen(after=None)
        job = submit(store)
        bus.wake()
        await ids(witness, 1)
        walker = asyncio.create_task(anext(told.listen(after=None, job_id=job.id, push=push), None))
        await asyncio.sleep(0)
        for number in range(2, 2 + 3 * BUFFER):  # more than the ring holds, and still it is not too slow
            submit(store)
            bus.wake()
            await ids(witness, number)
        assert offered == []
        store.cancel(job.id)
        bus.wake()
        await ids(witness, 2 + 3 * BUFFER)
        assert offered == [2 + 3 * BUFFER]
        await told.stop()
        assert await asyncio.wait_for(walker, SOON_S) is None

    asyncio.run(story())


def test_places_are_bounded_and_given_back(store: JobStore) -> None:
    told = streams(store, LocalBus())
    with told.place("sse"), told.place("events"), pytest.raises(UnavailableError), told.place("faces"):
        pass
    with told.place("sse"), told.place("sse"):
        pass


def test_an_event_is_encoded_once_for_all_and_the_memory_for_it_is_bounded(store: JobStore) -> None:
    calls: list[str] = []

    def encode(_event: object, base: str) -> str:
        calls.append(base)
        return base

    submit(store, created_at=datetime.now(UTC))
    told = EncodedEvent(store.events(0, limit=1)[0])
    assert [told.text(encode, "a") for _ in range(5)] == ["a"] * 5
    assert calls == ["a"]
    for number in range(1000):  # as many Host headers
        told.text(encode, str(number))
    assert len(told._texts) < 20
