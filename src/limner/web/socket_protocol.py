"""uvicorn's WebSocket protocol with limits on what clients send, and an extension: write ready frames to a socket
without a task switch.
"""

import logging
from asyncio.transports import BaseTransport
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

from limner.web.connections import FROM_PROXY, PEER, STATE, Connections, ReportsStalls

EXTENSION = "limner.write_frames"
"""Key in an ASGI scope's `extensions`: `write_frames(data: bytes) -> bool`."""

LISTEN_EXTENSION = "limner.listen"
"""The same: `listen(hearing: Hearing)` lets this socket's client send binary messages. Call it before the accept."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """What a client may send: bytes of a message, frames at once, and frames a second."""

    max_bytes: int
    at_once: int
    a_second: float


# Clients have nothing to say: a browser sends a pong every 20 s, other libraries a ping as well. Each frame is parsed
# in Python and each ping is answered, so that a flood of them would keep the event loop from everyone else.
FRAMES_AT_ONCE = 100
FRAMES_A_SECOND = 10.0
SLICE_BYTES = 512  # parsed before the frames are counted: 85 at most
HEARD_SLICE_BYTES = 4096  # the same where messages are large: 682 at most
REASON_BYTES = 123  # a close frame holds no more


log = logging.getLogger("limner.sockets")


class _WithoutQuery(logging.Filter):
    """Removes the query from uvicorn's lines about sockets: it may be a ticket."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        if isinstance(record.args, tuple):
            record.args = tuple(each.partition("?")[0] if isinstance(each, str) else each for each in record.args)
        return True


log.addFilter(_WithoutQuery())


class SocketProtocol(ReportsStalls, WebSocketsSansIOProtocol):
    """Offers `write_frames` to the application, in the scope's extensions. Closes (1008) who sends too many frames."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: None = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = log
        self._connections: Connections = app_state[STATE]
        self._connection = None
        self._hearing: Hearing | None = None  # none: what the client says is not for the application
        self._at_once, self._a_second = float(FRAMES_AT_ONCE), FRAMES_A_SECOND
        self._slice = SLICE_BYTES
        self._frames_left = self._at_once
        self._counted_at = 0.0

    def connection_made(self, transport: BaseTransport) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self._connection = self._connections.find(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._connection is not None:
            self._connections.leave(self._connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if not self.handshake_initiated:
            super().data_received(data)
            if not self.handshake_initiated:  # refused by its header, which uvicorn 0.54 forgets to tell
                self.transport.write(b"".join(self.conn.data_to_send()))
                self.transport.close()
            return
        for start in range(0, len(data), self._slice):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + self._slice])

    def handle_events(self) -> None:
        """Handle the frames that were parsed, if their number is in order."""
        if self.handshake_initiated:
            now = self._connections.now
            earned = (now - self._counted_at) * self._a_second
            self._frames_left = min(self._at_once, self._frames_left + earned) - len(self.conn.events)
            self._counted_at = now
            if self._frames_left < 0:
                self._connections.count("too many frames")
                self.conn.fail(CloseCode.POLICY_VIOLATION, "too many messages")
                self.handle_parser_exception()
                return
        super().handle_events()

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake. The application starts in the loop's next iteration and then sees the extension."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions = self.scope["extensions"]
            assert extensions is not None
            extensions[EXTENSION] = self.write_frames  # type: ignore[assignment]  # typed for ASGI's own extensions
            extensions[LISTEN_EXTENSION] = self.listen  # type: ignore[assignment]
            self.scope[PEER] = self.client  # type: ignore[literal-required]
            self.scope[FROM_PROXY] = self._connection is not None and self._connection.client is None  # type: ignore[literal-required]

    def listen(self, hearing: Hearing) -> None:
        """Let the client send binary messages within these limits."""
        self._hearing = hearing
        self.conn.max_message_size = hearing.max_bytes
        self._at_once, self._a_second = float(hearing.at_once), hearing.a_second
        self._slice = HEARD_SLICE_BYTES
        self._frames_left = self._at_once

    def handle_text(self, event: Frame) -> None:
        """Do not decode what clients say: uvicorn logs a traceback for what is not UTF-8. Close (1003) if they are to
        send frames of pictures."""
        if self._hearing is not None and not self.close_sent:
            self.conn.fail(CloseCode.UNSUPPORTED_DATA, "send binary messages")
            self.handle_parser_exception()
            return
        super().handle_bytes(event)

    async def send(self, message: Any) -> None:
        """See ASGI. The reason of a close is cut to what a frame holds.

        A response in place of the handshake completes it, which uvicorn 0.54 forgets: it logs an error.
        """
        if message["type"] == "websocket.close" and message.get("reason"):
            reason = str(message["reason"])  # FastAPI gives a list of errors
            message = {**message, "reason": reason.encode()[:REASON_BYTES].decode(errors="ignore")}
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and self.close_sent:
            self.handshake_complete = True

    def write_frames(self, data: bytes) -> bool:
        """Write complete frames. False if they must wait or cannot be sent: then use ASGI's `send`."""
        ready = self.writable.is_set() and self.conn.state is State.OPEN and not self.transport.is_closing()
        if ready:
            self.transport.write(data)
        return ready


def text_frame(text: str) -> bytes:
    """The server's frame of one complete text message, without extensions."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
