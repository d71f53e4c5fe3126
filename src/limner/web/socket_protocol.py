"""uvicorn's WebSocket protocol with an extension: write ready frames to a socket without a task switch."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State

EXTENSION = "limner.write_frames"
"""Key in an ASGI scope's `extensions`: `write_frames(data: bytes) -> bool`."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """Offers `write_frames` to the application, in the scope's extensions."""

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake. The application starts in the loop's next iteration and then sees the extension."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions = self.scope["extensions"]
            assert extensions is not None
            extensions[EXTENSION] = self.write_frames  # type: ignore[assignment]  # typed for ASGI's own extensions

    def write_frames(self, data: bytes) -> bool:
        """Write complete frames. False if they must wait or cannot be sent: then use ASGI's `send`."""
        ready = self.writable.is_set() and self.conn.state is State.OPEN and not self.transport.is_closing()
        if ready:
            self.transport.write(data)
        return ready


def text_frame(text: str) -> bytes:
    """The server's frame of one complete text message, without extensions."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
