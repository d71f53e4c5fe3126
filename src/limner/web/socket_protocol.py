"""uvicorn's WebSocket protocol, with a way to send the same frames to many sockets without a task switch for each."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

EXTENSION = "limner.write_frames"
"""Key in an ASGI scope's `extensions`: `write_frames(data: bytes) -> bool`."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """Offers `write_frames` to the application, in the scope's extensions."""

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake; the application starts at the loop's next turn, with the extension."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions = self.scope["extensions"]
            assert extensions is not None
            extensions[EXTENSION] = self.write_frames  # type: ignore[assignment]  # typed for ASGI's own extensions

    def write_frames(self, data: bytes) -> bool:
        """Hand whole frames to the transport. False where they must wait or cannot be sent: then use ASGI's `send`."""
        ready = self.writable.is_set() and self.conn.state is State.OPEN and not self.transport.is_closing()
        if ready:
            self.transport.write(data)
        return ready


def text_frame(text: str) -> bytes:
    """A server's frame of one whole text message, without extensions."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
