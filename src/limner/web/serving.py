"""The uvicorn server of this service: its protocol settings and its stop."""

import logging
import signal
from types import FrameType

import uvicorn

from limner.settings import Settings
from limner.web.connections import Connections
from limner.web.http_protocol import HttpProtocol
from limner.web.services import Services
from limner.web.socket_protocol import SocketProtocol

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1024
PING_S = 20.0


class Server(uvicorn.Server):
    """Tells the application about a stop at once, so that open streams and waiting requests end by themselves.

    Unlike uvicorn's own server it does not raise the signal again at the end: that would prevent the clean-up that
    follows and the exit status 0.
    """

    def __init__(self, app: object, services: Services, settings: Settings, *, max_connections: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,  # type: ignore[arg-type]  # an ASGI application
                http=HttpProtocol,
                ws=SocketProtocol,
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_ping_interval=PING_S,
                ws_ping_timeout=PING_S,
                ws_per_message_deflate=False,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=round(settings.drain_s) or None,
            )
        )
        self._services = services
        self._connections = Connections(settings, max_connections)
        self.server_state = self._connections

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn, which calls it ten times a second."""
        self._connections.tick()
        if counter % 10 == 0:
            self._connections.sweep()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """See `uvicorn.Server.handle_exit`."""
        if self._services.submissions.open:
            log.info("stopping", extra={"signal": signal.Signals(sig).name})
        self._services.submissions.open = False
        self._services.streams.close_soon()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True  # a second Ctrl-C stops at once
        self.should_exit = True
