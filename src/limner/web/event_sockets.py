"""Event streams (`event_streams.py`) by WebSocket. Read `serve_socket`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from limner.domain.errors import UnavailableError
from limner.domain.key import Caller
from limner.telemetry import EVENTS_SENT, SOCKETS_SLOW
from limner.web import problems
from limner.web.event_streams import Encode, EncodedEvent, RefusedError, Streams, TooSlowError
from limner.web.links import Links
from limner.web.socket_protocol import EXTENSION

SEND_TIMEOUT_S = 30.0

# The client has disconnected, or the server has closed the socket because its pings were not answered.
_GONE = (WebSocketDisconnect, RuntimeError)


async def serve_socket(
    socket: WebSocket,
    streams: Streams,
    encode: Encode,
    links: Links,
    *,
    stream: str,
    caller: Caller,
    after: int | None = None,
    job_id: str | None = None,
    operation: str | None = None,
) -> None:
    """Accept the socket and send each event as `encode` returns it, until client, server or slowness ends it."""
    try:
        with streams.place(stream):
            # Listening begins before `accept`, so that a client gets the events of all that it does once connected.
            push = _pusher(socket, encode, links, stream)
            events = streams.listen(
                after=after,
                job_id=job_id,
                operation=operation,
                caller=caller,
                push=push,
                prepare=lambda encoded: encoded.frame(encode, links),
            )
            await socket.accept()
            sender = asyncio.create_task(_send(socket, events, push, encode, links, stream))
            reader = asyncio.create_task(_read_nothing(socket))
            done, pending = await asyncio.wait({sender, reader}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for task in done:
                task.result()
    except UnavailableError as error:
        if socket.application_state is WebSocketState.CONNECTING:
            await socket.send_denial_response(problems.response(error))  # a close would be answered 403
        else:
            await socket.close(1013, error.detail)


def _pusher(
    socket: WebSocket, encode: Encode, links: Links, stream: str
) -> Callable[[list[EncodedEvent]], bool] | None:
    """A function that writes events to the socket without a task switch; None if the server has no such extension."""
    write: Callable[[bytes], bool] | None = socket.scope.get("extensions", {}).get(EXTENSION)
    if write is None:
        return None
    sent = EVENTS_SENT.labels(stream)

    def push(batch: list[EncodedEvent]) -> bool:
        frames = [frame for encoded in batch if (frame := encoded.frame(encode, links)) is not None]
        done = not frames or write(b"".join(frames))
        if done and frames:
            sent.inc(len(frames))
        return done

    return push


async def _send(
    socket: WebSocket,
    events: AsyncIterator[list[EncodedEvent]],
    push: Callable[[list[EncodedEvent]], bool] | None,
    encode: Encode,
    links: Links,
    stream: str,
) -> None:
    sent = EVENTS_SENT.labels(stream)
    try:
        async for batch in events:
            if push is not None and push(batch):
                continue
            texts = [text for encoded in batch if (text := encoded.text(encode, links)) is not None]
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    for text in texts:
                        await socket.send_text(text)
                        sent.inc()
            except _GONE:
                return
        await _close(socket, 1012)
    except RefusedError:
        await _close(socket, 1008)
    except (TooSlowError, TimeoutError):
        SOCKETS_SLOW.labels(stream).inc()
        await _close(socket, 1013)


async def _close(socket: WebSocket, code: int) -> None:
    with contextlib.suppress(TimeoutError, *_GONE):
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await socket.close(code)


async def _read_nothing(socket: WebSocket) -> None:
    """Discard all messages of the client (the server limits their size) until it disconnects."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
