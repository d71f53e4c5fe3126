"""`limner serve`: opens the listening socket and starts the parts in order."""

import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

from limner.assembly import build
from limner.domain.errors import SettingsError
from limner.settings import Settings
from limner.telemetry import set_up_log
from limner.vision import weights

log = logging.getLogger(__name__)

ENOUGH_FILES = 1_048_576  # asked for where there is no limit: a system refuses a far larger number
OWN_FILES = 150  # for the database, blobs, models and the sockets of threads; workers need a few more each


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM, SIGHUP or Ctrl-C. SettingsError, ModelError, UnavailableError before anything listens."""
    set_up_log(settings.log_level, settings.log_format)
    _tidy_up_at(_leave)
    for entry in weights.MANIFEST:
        weights.path(settings.models_dir, entry.name)
    max_connections = _make_room_for_connections(settings)
    listener = _listen(settings.host, settings.port)
    application = build(settings)
    try:
        from limner.web.serving import Server  # a slow import, so the workers start first

        server = Server(application.app, application.services, settings, max_connections=max_connections)
        _tidy_up_at(server.handle_exit)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        log.info("Limner listens on http://%s:%s", shown, port)
        gc.freeze()  # loaded modules stay, so the garbage collector need not visit them again
        server.run([listener])
    finally:
        application.close()


def _tidy_up_at(stop: Callable[[int, FrameType | None], None]) -> None:
    """Have `stop` called when the service is to end, or its terminal is closed: photos in a temporary folder must go.

    Under `nohup` SIGHUP is ignored, and stays so.
    """
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """A stop before the server runs: nothing is under way yet."""
    sys.exit(0)


def _make_room_for_connections(settings: Settings) -> int:
    """Raise the limit of open files as far as the system allows. Returns how many connections fit below it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    own = OWN_FILES + 8 * settings.workers
    raised = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft == resource.RLIM_INFINITY or soft >= raised:
        raised = soft
    else:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        except (ValueError, OSError) as error:  # macOS has a second, lower limit
            log.warning("the limit of open files cannot be raised", extra={"limit": soft, "error": str(error)})
            raised = soft
        else:
            log.info("the limit of open files was raised", extra={"old": soft, "new": raised})
    fitting = settings.max_connections
    if raised != resource.RLIM_INFINITY and raised - own < fitting:
        fitting = max(raised - own, 16)
        log.warning(
            "LIMNER_MAX_CONNECTIONS is above the limit of open files",
            extra={"limit": raised, "needed": settings.max_connections + own, "connections": fitting},
        )
    return fitting


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
