"""Live detection: sockets that send frames and get the faces in them. Read `Live.serve`, then `Live._work`.

The newest frame wins: of each socket one frame waits at most, one of all sockets is looked at, the others are dropped.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, TypeVarTuple

from pydantic_core import to_json
from starlette.websockets import WebSocket, WebSocketDisconnect

from limner.domain.errors import UnavailableError
from limner.domain.key import Caller, Scope
from limner.telemetry import LIVE_FRAMES, LIVE_SECONDS, SOCKETS, SOCKETS_SLOW
from limner.vision.header import LIVE_LIMITS
from limner.web.socket_protocol import LISTEN_EXTENSION, Hearing

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LOOKS_A_SECOND = 30.0
"""Of one socket's frames; a camera sends as many."""
HEARING = Hearing(max_bytes=LIVE_LIMITS.max_bytes, at_once=200, a_second=90.0)
"""Browsers send large messages in several frames of the protocol."""
MAX_UNSENT = 16  # answers that a client has not taken
SEND_TIMEOUT_S = 10.0
STREAM = "live"

_GONE = (WebSocketDisconnect, RuntimeError)


class Looker(Protocol):
    """What looks at frames. Its methods block; `stop` may be called from any thread, the others from one."""

    @property
    def ready(self) -> bool:
        """Whether `look` answers at once."""
        ...

    def prepare(self) -> None:
        """Become ready, which may take seconds. UnavailableError."""
        ...

    def look(self, frame: bytes, *, landmarks: bool) -> dict[str, Any]:
        """`width`, `height` and `faces` of a frame, or `error`. UnavailableError if it is not ready any more."""
        ...

    def rest(self) -> None:
        """Give back what it takes to be ready."""
        ...

    def stop(self) -> None:
        """End what is going on."""
        ...


@dataclass(frozen=True, slots=True)
class _Frame:
    number: int
    arrived: float
    content: bytes = field(repr=False)


@dataclass(eq=False)
class _Viewer:
    """One open socket."""

    caller: Caller
    landmarks: bool
    ended: asyncio.Future[tuple[int, str]]
    """The code and the reason with which the server closes it."""
    waiting: _Frame | None = None
    received: int = 0
    not_before: float = 0.0
    timer: asyncio.TimerHandle | None = None
    answers: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(MAX_UNSENT))

    def end(self, code: int, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result((code, reason))


class Live:
    """All live sockets of this process, which share one `Looker`. Use it on the event loop only."""

    scope = Scope.SUBMIT
    """What a key must be allowed, so that its sockets stay open."""

    def __init__(self, looker: Looker, *, max_sockets: int, idle_s: float) -> None:
        """`max_sockets` 0: live detection is off. Without a socket for `idle_s`, the looker rests."""
        self._looker = looker
        self._max_sockets = max_sockets
        self._idle_s = idle_s
        self._viewers: set[_Viewer] = set()
        self._line: dict[_Viewer, None] = {}  # those whose waiting frame may be looked at, in turn
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        # One thread, because the looker's process ends with the thread that has started it.
        self._thread = ThreadPoolExecutor(1, "live")
        self._stopped = False

    async def start(self) -> None:
        """Be ready for sockets. Nothing is started before there is one."""
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """End all sockets and the looker."""
        self.close()
        self._looker.stop()
        if self._idle is not None:
            self._idle.cancel()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
            await self._call(self._looker.rest)
        self._thread.shutdown(wait=False)

    def close(self) -> None:
        """Tell all sockets to end, because the service stops."""
        self._stopped = True
        self._end_all(1012, "The service stops.")

    def close_soon(self) -> None:
        """The same from a signal handler."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.close)

    def open_keys(self) -> list[str]:
        """The ids of the keys with which sockets are open."""
        return list({viewer.caller.key_id for viewer in self._viewers if viewer.caller.key_id is not None})

    def refuse(self, key_id: str) -> None:
        """End the sockets of a key."""
        for viewer in self._viewers:
            if viewer.caller.key_id == key_id:
                viewer.end(1008, "The key is not valid any more.")

    async def serve(self, socket: WebSocket, caller: Caller, *, landmarks: bool) -> None:
        """Answer the socket's frames until client or server ends it."""
        listen: Callable[[Hearing], None] | None = socket.scope.get("extensions", {}).get(LISTEN_EXTENSION)
        assert listen is not None, "the server's protocol does not let this socket speak"
        listen(HEARING)
        await socket.accept()
        refused = self._refusal()
        if refused is not None:  # after the handshake, because browsers do not tell pages the answer to one
            await _close(socket, 1012 if self._stopped else 1013, refused)
            return
        viewer = _Viewer(caller, landmarks, asyncio.get_running_loop().create_future())
        self._join(viewer)
        try:
            code, reason = await self._until_end(socket, viewer)
        finally:
            self._leave(viewer)
        if code:
            await _close(socket, code, reason)

    def _refusal(self) -> str | None:
        if self._stopped:
            return "The service stops."
        if not self._max_sockets:
            return "Live detection is switched off on this server."
        if len(self._viewers) >= self._max_sockets:
            return "All places for live detection are taken. Try again later."
        return None

    async def _until_end(self, socket: WebSocket, viewer: _Viewer) -> tuple[int, str]:
        """The code and the reason with which to close; 0 if the client has gone."""
        tasks = [asyncio.create_task(self._read(socket, viewer)), asyncio.create_task(_send(socket, viewer))]
        ends: list[asyncio.Future[Any]] = [*tasks, viewer.ended]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, _GONE):
                raise result
        return viewer.ended.result() if viewer.ended.done() else (0, "")

    async def _read(self, socket: WebSocket, viewer: _Viewer) -> None:
        """Take frames until the client disconnects. (The protocol refuses texts and what is too large.)"""
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            viewer.received += 1
            if viewer.waiting is not None:
                LIVE_FRAMES.labels("dropped").inc()
            viewer.waiting = _Frame(viewer.received, time.monotonic(), message["bytes"])
            if viewer.timer is None and viewer not in self._line:
                early = viewer.not_before - time.monotonic()
                if early > 0:
                    viewer.timer = asyncio.get_running_loop().call_later(early, self._line_up, viewer)
                else:
                    self._line_up(viewer)

    def _line_up(self, viewer: _Viewer) -> None:
        viewer.timer = None
        if viewer in self._viewers and viewer.waiting is not None:
            self._line[viewer] = None
            self._wake.set()

    def _join(self, viewer: _Viewer) -> None:
        self._viewers.add(viewer)
        SOCKETS.labels(STREAM).inc()
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        self._wake.set()

    def _leave(self, viewer: _Viewer) -> None:
        self._viewers.discard(viewer)
        self._line.pop(viewer, None)
        SOCKETS.labels(STREAM).dec()
        if viewer.timer is not None:
            viewer.timer.cancel()
        if viewer.waiting is not None:
            LIVE_FRAMES.labels("dropped").inc()
        viewer.waiting = None
        if not self._viewers and not self._stopped:
            self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._tire)

    def _tire(self) -> None:
        self._idle = None
        self._wake.set()

    async def _work(self) -> None:
        """Look at one frame after the other, of each socket in turn."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                if not self._viewers and self._idle is None:
                    await self._call(self._looker.rest)
                while self._viewers:
                    if not self._looker.ready:  # meanwhile newer frames replace those that wait
                        await self._call(self._looker.prepare)
                    if not self._line:
                        break
                    viewer = next(iter(self._line))
                    del self._line[viewer]
                    await self._look(viewer)
            except UnavailableError as error:
                self._end_all(1013, error.detail)
            except Exception:
                log.exception("error in live detection")
                self._end_all(1011, "Something went wrong.")

    async def _look(self, viewer: _Viewer) -> None:
        frame, viewer.waiting = viewer.waiting, None
        assert frame is not None
        viewer.not_before = time.monotonic() + 1 / LOOKS_A_SECOND
        try:
            answer = await self._call(lambda: self._looker.look(frame.content, landmarks=viewer.landmarks))
        except UnavailableError as error:
            answer = {"error": error.problem()}
        spent = time.monotonic() - frame.arrived
        LIVE_FRAMES.labels("failed" if "error" in answer else "answered").inc()
        LIVE_SECONDS.observe(spent)
        if viewer in self._viewers:
            try:
                viewer.answers.put_nowait(
                    to_json({"frame": frame.number, **answer, "ms": round(spent * 1000, 1)}).decode()
                )
            except asyncio.QueueFull:
                SOCKETS_SLOW.labels(STREAM).inc()
                viewer.end(1013, "You read too slowly.")

    def _end_all(self, code: int, reason: str) -> None:
        for viewer in self._viewers:
            viewer.end(code, reason)

    async def _call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


async def _send(socket: WebSocket, viewer: _Viewer) -> None:
    """Send the answers, until the client has gone or reads too slowly."""
    while True:
        text = await viewer.answers.get()
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await socket.send_text(text)
        except TimeoutError:
            SOCKETS_SLOW.labels(STREAM).inc()
            viewer.end(1013, "You read too slowly.")
            return
        except _GONE:
            return


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    with contextlib.suppress(TimeoutError, *_GONE):
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await socket.close(code, reason)
