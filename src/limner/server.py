"""`limner serve`: opens the listening socket and starts the parts in order."""

import gc
import logging
import socket

from limner.assembly import build
from limner.domain.errors import SettingsError
from limner.settings import Settings
from limner.telemetry import set_up_log
from limner.vision import weights

log = logging.getLogger(__name__)


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. SettingsError, ModelError before anything listens."""
    set_up_log(settings.log_level, settings.log_format)
    for entry in weights.MANIFEST:
        weights.path(settings.models_dir, entry.name)
    listener = _listen(settings.host, settings.port)
    application = build(settings)
    try:
        from limner.web.serving import Server  # a slow import, so the workers start first

        server = Server(application.app, application.services, settings)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("Limner listens on http://%s:%s", shown, port)
        gc.freeze()  # loaded modules stay, so the garbage collector need not visit them again
        server.run([listener])
    finally:
        application.close()


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
    return listener
