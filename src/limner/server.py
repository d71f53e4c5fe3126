"""`limner serve`: opens the listening socket and starts the parts in order."""

import atexit
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import FrameType

from limner import shared_metrics
from limner.assembly.application import build
from limner.domain.errors import LimnerError, SettingsError
from limner.early_stop import EarlyStop
from limner.painters import wrong_entries
from limner.settings import Settings
from limner.telemetry import set_up_log
from limner.together import check_together
from limner.vision import weights

log = logging.getLogger(__name__)

ENOUGH_FILES = 1_048_576  # asked for where there is no limit: a system refuses a far larger number
OWN_FILES = 150  # for the database, blobs, models and the sockets of threads; workers need a few more each


def run_server(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. SettingsError, ModelError, UnavailableError before anything listens.

    SIGHUP stops a single web process, and replaces several one after the other.
    """
    set_up_log(settings.log_level, settings.log_format)
    stop = EarlyStop()
    _tidy_up_at(stop)
    try:
        _serve(settings, stop)
    except Exception as error:
        if not stop.asked:
            raise
        log.info("stopped during the start", extra={"error": type(error).__name__})


def _serve(settings: Settings, stop: EarlyStop) -> None:
    for name in settings.model_names():
        weights.path(settings.models_dir, name)
    check_together(settings)
    for each in wrong_entries():
        log.warning("an entry of a painter cannot be used", extra={"detail": each})
    settings = settings.model_copy(update={"max_connections": _make_room_for_connections(settings)})
    listener = _listen(settings.host, settings.port)
    if settings.web_processes > 1:
        _run_several(settings, listener)
        return
    application = build(settings)
    try:
        from limner.web.serving import Server  # a slow import, so the workers start first

        server = Server(application.app, settings)
        _tidy_up_at(server.handle_exit)
        if stop.asked:
            return
        _tell_where(listener)
        gc.freeze()  # loaded modules stay, so the garbage collector need not visit them again
        server.run([listener])
    finally:
        application.close()


def _run_several(settings: Settings, listener: socket.socket) -> None:
    from limner import private_folder
    from limner.web import web_processes

    with ExitStack() as held:
        # The web processes write their metrics into it; this one has none.
        os.environ[shared_metrics.FOLDER] = str(private_folder.make(None, held))
        _tell_where(listener)
        web_processes.run(settings, listener, partial(_create, settings))


def _create(settings: Settings) -> object:
    """The application of one of several web processes."""
    from uvicorn.config import STARTUP_FAILURE

    try:
        application = build(settings)
    except LimnerError as error:
        log.error("a web process cannot start: %s: %s", error.title, error.detail)  # noqa: TRY400  # no bug of ours
        # Settings do not change by waiting. Other processes, such as the database, may come back.
        sys.exit(STARTUP_FAILURE if isinstance(error, SettingsError) else 1)
    atexit.register(application.close)
    gc.freeze()
    return application.app


def _tell_where(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("Limner listens on http://%s:%s", shown, port)


def _tidy_up_at(stop: Callable[[int, FrameType | None], None]) -> None:
    """Have `stop` called when the service is to end, or its terminal is closed: photos in a temporary folder must go.

    Under `nohup` SIGHUP is ignored, and stays so.
    """
    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop)


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
