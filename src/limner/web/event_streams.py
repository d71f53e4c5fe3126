"""The event streams, whatever they are sent by. Read `Streams`; `event_sockets.py` sends them by WebSocket.

One task reads the new rows of the event log and keeps the newest in a ring buffer, from which all listeners are served.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from weakref import WeakSet

from limner.domain.errors import UnavailableError
from limner.domain.event import Event, EventType
from limner.domain.key import Caller, Scope
from limner.ports import Bus, EventLog
from limner.telemetry import SOCKETS
from limner.web.links import Links
from limner.web.socket_protocol import text_frame

log = logging.getLogger(__name__)

PAGE = 200
MISSED_PAGE = 50  # what one listener has missed; a thousand that do not read have a page each in memory
READERS = 4
SETTLE_S = 0.002  # a job's events follow each other quickly, so a short wait lets one query read several
POLL_S = 1.0  # a wake-up may be lost, so the log is read at least this often
QUIET_S = 15.0
BASES = 8
AT_ONCE = 100  # sockets written to (in about a millisecond) before other tasks of the event loop may run
FINAL = (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED)


Encode = Callable[[Event, Links], str | None]


class TooSlowError(Exception):
    """The listener has missed events that are no longer in the ring."""


class RefusedError(Exception):
    """The listener's key was revoked or has expired since it began to listen."""


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call `function` in the loop, from any thread. Does nothing if the loop has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


@dataclass(eq=False)
class EncodedEvent:
    """An event with its encoded texts, one for all listeners with the same encoder and links."""

    event: Event
    _texts: dict[tuple[Encode, Links], tuple[str, bytes] | None] = field(default_factory=dict)

    def text(self, encode: Encode, links: Links) -> str | None:
        """`encode(event, links)`, cached. None if this kind of listener does not receive the event."""
        encoded = self._encoded(encode, links)
        return None if encoded is None else encoded[0]

    def frame(self, encode: Encode, links: Links) -> bytes | None:
        """The text as a WebSocket frame."""
        encoded = self._encoded(encode, links)
        return None if encoded is None else encoded[1]

    def _encoded(self, encode: Encode, links: Links) -> tuple[str, bytes] | None:
        key = (encode, links)
        if key not in self._texts:
            if len(self._texts) >= BASES:  # the base comes from clients' Host headers
                self._texts.clear()
            text = encode(self.event, links)
            self._texts[key] = None if text is None else (text, text_frame(text))
        return self._texts[key]


@dataclass(eq=False)
class _Listener:
    """The filter of a listener, and its position in the ring."""

    position: int
    seen: int
    job_id: str | None
    operation: str | None
    caller: Caller
    push: Callable[[list[EncodedEvent]], bool] | None
    prepare: Callable[[EncodedEvent], object]
    refused: bool = False
    """Its key is not valid any more."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wants(self, encoded: EncodedEvent) -> bool:
        event = encoded.event
        return (
            event.id > self.seen
            and not self.refused
            and (self.job_id is None or event.job_id == self.job_id)
            and (self.operation is None or event.operation == self.operation)
            and self.caller.sees(event.key_id)
        )


class Streams:
    """All listeners of this process. Use it on the event loop only.

    A listener with `after` first gets the rows that it has missed, then continues in the ring. At the end of the ring
    it waits: new events are pushed to its socket at once. If the socket cannot take them, the listener's own task sends
    them. A listener that has missed events of the ring gets TooSlowError; its client reconnects with `after`.
    """

    scope = Scope.READ
    """What a key must be allowed, so that its streams stay open."""

    def __init__(
        self,
        events: EventLog,
        bus: Bus,
        *,
        buffer: int,
        max_sockets: int,
    ) -> None:
        self._log = events
        self._bus = bus
        self._ring: deque[EncodedEvent] = deque(maxlen=buffer)
        self._end = 0  # number of events that were ever added to the ring
        self._tail = 0  # id of the newest event
        self._waiting: dict[_Listener, None] = {}  # listeners at the end of the ring
        self._wake = asyncio.Event()
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._of_keys: dict[str, WeakSet[_Listener]] = {}
        # A separate pool, so that slow work in the common pool does not delay events; and a small one, so that a
        # thousand clients that reconnect at once do not use up the connections to the database.
        self._readers = ThreadPoolExecutor(READERS, "events")
        self._catching_up = asyncio.Lock()
        self._max_sockets = max_sockets
        self._open = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._unsubscribe: Callable[[], None] = lambda: None
        self.closing = asyncio.Event()

    async def start(self) -> None:
        """Begin to read the log, from its end."""
        self._loop = loop = asyncio.get_running_loop()
        self._tail = await loop.run_in_executor(self._readers, self._log.last_id)
        self._unsubscribe = self._bus.subscribe(lambda: _call_soon(loop, self._wake.set))
        self._tasks = [asyncio.create_task(self._follow())]

    async def stop(self) -> None:
        """End all streams."""
        self._unsubscribe()
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._readers.shutdown(wait=False)

    def close(self) -> None:
        """Tell all streams to end, because the service stops."""
        self.closing.set()
        for job_id in list(self._waiters):
            self._ended(job_id)
        for listener in self._waiting:
            listener.woken.set()

    def close_soon(self) -> None:
        """The same from a signal handler."""
        if self._loop is not None:
            _call_soon(self._loop, self.close)

    async def _follow(self) -> None:
        while True:
            # Not wait_for: before Python 3.12 it loses a cancellation that arrives together with the wake-up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()
            await asyncio.sleep(SETTLE_S)
            self._wake.clear()
            try:
                rows = await self._read(self._tail)
                await self._take(rows)
                if len(rows) == PAGE:
                    self._wake.set()  # there may be more
            except UnavailableError as error:
                # The next round tries again from the same id, so no row is skipped.
                log.warning("events cannot be read", extra={"detail": error.detail})
                await asyncio.sleep(POLL_S)
            except Exception:
                log.exception("events cannot be read")
                await asyncio.sleep(POLL_S)

    async def _read(
        self,
        after: int,
        *,
        limit: int = PAGE,
        job_id: str | None = None,
        operation: str | None = None,
        key_id: str | None = None,
    ) -> list[Event]:
        return await asyncio.get_running_loop().run_in_executor(
            self._readers,
            lambda: self._log.after(after, limit=limit, job_id=job_id, operation=operation, key_id=key_id),
        )

    async def _read_for(self, listener: _Listener, after: int) -> list[EncodedEvent]:
        """A page of what a listener has missed, encoded.

        One page at a time is read and encoded, so that others have their turn between: those of 600 listeners who came
        at once kept everybody else waiting for 8 s. More at a time would be no quicker, for it is work in Python.
        """
        async with self._catching_up:
            rows = await self._read(
                after,
                limit=MISSED_PAGE,
                job_id=listener.job_id,
                operation=listener.operation,
                key_id=listener.caller.only,
            )
            page = [EncodedEvent(event) for event in rows]
            for encoded in page:
                listener.prepare(encoded)
        return page

    async def _seen(self, listener: _Listener, after: int) -> int:
        """The id after which a listener gets events, if there are none after `after`.

        An id above the log's last one is from an earlier database: the next new event follows. But another process may
        have sent an event that this one has not read yet.
        """
        if after <= listener.seen:
            return after
        last = await asyncio.get_running_loop().run_in_executor(self._readers, self._log.last_id)
        return after if after <= last else listener.seen

    async def _take(self, rows: list[Event]) -> None:
        if not rows:
            return
        for event in rows:
            self._ring.append(EncodedEvent(event))
            self._tail = event.id
            if event.type in FINAL:
                self._ended(event.job_id)
        self._end += len(rows)
        for number, listener in enumerate(list(self._waiting), 1):
            self._deliver(listener)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def _deliver(self, listener: _Listener) -> None:
        """Push the new events to a listener that waits, or wake it; not for events that it does not want."""
        if listener not in self._waiting:
            return  # it has ended or gone on meanwhile
        try:
            wanted = self._next(listener)
        except TooSlowError:
            listener.woken.set()  # its own task gets the same error and closes the stream
            return
        if not wanted or (listener.push is not None and listener.push(wanted)):
            listener.position = self._end
        else:
            listener.woken.set()

    def _next(self, listener: _Listener) -> list[EncodedEvent]:
        """The events after the listener's position that it wants. TooSlowError if some are no longer in the ring."""
        behind = self._end - listener.position
        if behind > len(self._ring):
            raise TooSlowError
        return [each for each in islice(self._ring, len(self._ring) - behind, None) if listener.wants(each)]

    @contextmanager
    def expecting(self, job_id: str) -> Iterator[asyncio.Future[None]]:
        """A future that is done when the job ends or the service stops. Read the job only after entering this."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(job_id, set()).add(future)
        if self.closing.is_set():
            future.set_result(None)
        try:
            yield future
        finally:
            waiting = self._waiters.get(job_id, set())
            waiting.discard(future)
            if not waiting:
                self._waiters.pop(job_id, None)

    def _ended(self, job_id: str) -> None:
        for future in self._waiters.pop(job_id, ()):
            if not future.done():
                future.set_result(None)

    def listen(
        self,
        *,
        after: int | None,
        job_id: str | None = None,
        operation: str | None = None,
        caller: Caller,
        quiet_s: float | None = None,
        push: Callable[[list[EncodedEvent]], bool] | None = None,
        prepare: Callable[[EncodedEvent], object] = lambda _: None,
    ) -> AsyncIterator[list[EncodedEvent]]:
        """The events after the id `after` (None: from this call on), in batches; an empty batch after each `quiet_s`.

        While the caller waits for a batch, `push` is called with it first, and returns True if it has sent all of it.
        `prepare` is called with each event that is read for this listener alone, to encode it in good time.
        The iterator ends when the service stops. TooSlowError when the listener has missed events of the ring,
        RefusedError when the caller's key is not valid any more. Only events that the caller may see are sent.
        """
        listener = _Listener(self._end, self._tail, job_id, operation, caller, push, prepare)
        if caller.key_id is not None:
            self._of_keys.setdefault(caller.key_id, WeakSet()).add(listener)
        return self._walk(listener, after, quiet_s)

    def open_keys(self) -> list[str]:
        """The ids of the keys with which streams are open."""
        self._of_keys = {key_id: listeners for key_id, listeners in self._of_keys.items() if listeners}
        return list(self._of_keys)

    def refuse(self, key_id: str) -> None:
        """End the streams of a key."""
        for listener in self._of_keys.pop(key_id, ()):
            listener.refused = True
            listener.woken.set()

    async def _walk(
        self, listener: _Listener, after: int | None, quiet_s: float | None
    ) -> AsyncIterator[list[EncodedEvent]]:
        while after is not None:
            listener.position = self._end  # events added from here on are newer than the next page, or part of it
            page = await self._read_for(listener, after)
            if listener.refused:
                raise RefusedError
            if page:
                after = page[-1].event.id
                yield page
            if len(page) < MISSED_PAGE:
                listener.seen = after if page else await self._seen(listener, after)
                break
        while not self.closing.is_set():
            if listener.refused:
                raise RefusedError
            if listener.position == self._end:
                if not await self._news(listener, quiet_s):
                    yield []
                continue
            wanted = self._next(listener)
            listener.position = self._end
            if wanted:
                yield wanted

    async def _news(self, listener: _Listener, quiet_s: float | None) -> bool:
        """Wait until there are events that were not pushed. False if there were none for `quiet_s`."""
        listener.woken.clear()
        self._waiting[listener] = None
        try:
            async with asyncio.timeout(quiet_s):
                await listener.woken.wait()
        except TimeoutError:
            return False
        finally:
            del self._waiting[listener]
        return True

    @contextmanager
    def place(self, stream: str) -> Iterator[None]:
        """Count one open stream. UnavailableError if `max_sockets` are open."""
        if self._open >= self._max_sockets:
            raise UnavailableError("Too many event streams are open. Try again later.")
        self._open += 1
        SOCKETS.labels(stream).inc()
        try:
            yield
        finally:
            self._open -= 1
            SOCKETS.labels(stream).dec()
