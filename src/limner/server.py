"""uvicorn, set up for this service: where it listens, how it stops."""

import gc
import logging
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn

from limner.assembly import application, build
from limner.domain.errors import SettingsError
from limner.settings import Settings
from limner.telemetry import set_up_log
from limner.web.socket_protocol import SocketProtocol

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 1024
PING_S = 20.0
SWITCH_S = 0.0005


class _Server(uvicorn.Server):
    """Tells the application of a stop at once, so that open streams and waiting requests end by themselves.

    A stop that was asked for is no failure: unlike uvicorn's own, this one does not raise the signal again at the
    end, which would cut off the tidying up behind it and the exit status 0.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        app = self.config.app
        services = app.state.services  # type: ignore[union-attr]  # it is our FastAPI
        if services.submissions.open:
            log.info("stopping", extra={"signal": signal.Signals(sig).name})
        services.submissions.open = False
        services.streams.close_soon()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True  # Ctrl-C twice: at once
        self.should_exit = True


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. SettingsError, ModelError before anything listens."""
    set_up_log(settings.log_level, settings.log_format)
    house = build(settings)
    try:
        house.models.detector()
        listener = _listen(settings.host, settings.port)
        app = application(house)
        config = uvicorn.Config(
            app,
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
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("Limner listens on http://%s:%s", shown, port)
        # Workers hold the interpreter's lock in short turns; waiting for it longer leaves processors idle.
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()  # what was loaded stays: the collector need not look at it again and again
        _Server(config).run([listener])
    finally:
        house.close()
    if house.engine.running():
        # A thread is still inside a codec or a model, its job handed back: the interpreter's end would crash under it.
        logging.shutdown()
        os._exit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    listener.set_inheritable(True)
    return listener
