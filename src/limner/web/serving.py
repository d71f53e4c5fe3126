"""The uvicorn server of this service: its protocols, the bounds of its connections, and its stop.

With several web processes uvicorn's supervisor starts plain servers (`web_processes.py`), so what each of them needs is
in the lifespan of the application: `attend`.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from limner.settings import Settings
from limner.web.connections import STATE, Connections
from limner.web.http_protocol import HttpProtocol
from limner.web.socket_protocol import SocketProtocol

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1024
PING_S = 20.0
TICK_S, TICKS_A_SWEEP = 0.1, 10


def options(settings: Settings) -> dict[str, Any]:
    """The arguments of `uvicorn.Config` that do not depend on the number of processes."""
    return {
        "http": HttpProtocol,
        "ws": SocketProtocol,
        "ws_max_size": MAX_MESSAGE_BYTES,
        "ws_ping_interval": PING_S,
        "ws_ping_timeout": PING_S,
        "ws_per_message_deflate": False,
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "forwarded_allow_ips": list(settings.proxy_addresses),
        "timeout_graceful_shutdown": max(round(settings.drain_s), 1),  # None would be for ever
    }


class Server(uvicorn.Server):
    """Unlike uvicorn's own server it does not raise the signal again at the end: that would prevent the clean-up that
    follows and the exit status 0.
    """

    def __init__(self, app: object, settings: Settings) -> None:
        super().__init__(uvicorn.Config(app, **options(settings)))  # type: ignore[arg-type]  # an ASGI application

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """See `uvicorn.Server.handle_exit`."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True  # a second Ctrl-C stops at once
        self.should_exit = True


@asynccontextmanager
async def attend(settings: Settings, on_stop: Callable[[], None], *, part: bool) -> AsyncIterator[dict[str, Any]]:
    """Bound the connections of this process meanwhile. Yields the state of the lifespan, for the protocols.

    `on_stop` is called, in the signal handler, as soon as the server is told to stop, so that open streams and waiting
    requests end by themselves. With `part`, open connections may then send one more request: their clients cannot know.
    """
    connections = Connections(settings)
    connections.tick()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if not connections.stopping:
            connections.stopping = True
            log.info("stopping", extra={"signal": signal.Signals(number).name})
        if part:
            loop.call_soon_threadsafe(connections.part)
        on_stop()

    _tell_of_signals(stop)
    watch = asyncio.create_task(_watch(connections))
    try:
        yield {STATE: connections}
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


def _tell_of_signals(stop: Callable[[int], None]) -> None:
    """Have `stop` called before the handlers that are there already, uvicorn's."""
    if threading.current_thread() is not threading.main_thread():
        return  # no signal comes to another thread

    def handle(before: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None) -> None:
        stop(number)
        before(number, frame)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        before = signal.getsignal(number)
        if callable(before):
            signal.signal(number, partial(handle, before))


async def _watch(connections: Connections) -> None:
    ticks = 0
    while True:
        try:
            connections.tick()
            if ticks % TICKS_A_SWEEP == 0:
                connections.sweep()
        except Exception:
            log.exception("error while looking after connections")
        ticks += 1
        await asyncio.sleep(TICK_S)
