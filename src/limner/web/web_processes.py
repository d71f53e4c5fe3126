"""Several web processes on one port, by uvicorn's own supervisor.

SIGTERM stops them all; SIGHUP replaces them one after the other; one that dies is replaced.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from limner.domain.errors import SettingsError, UnavailableError
from limner.early_stop import EarlyStop
from limner.settings import Settings
from limner.telemetry import set_up_log
from limner.web.serving import options

log = logging.getLogger(__name__)

START_S = 60  # in which a new process must be ready, or a rolling restart is given up and the old one stays


class _Config(uvicorn.Config):
    """uvicorn's configuration. Each process calls `configure_logging` first of all."""

    def __init__(self, settings: Settings, make_app: Callable[[], object]) -> None:
        self._settings = settings
        super().__init__(
            make_app,
            factory=True,
            workers=settings.web_processes,
            timeout_worker_healthcheck=START_S,
            **options(settings),
        )

    def load_app(self) -> Callable[[], object]:
        """The factory, which uvicorn calls."""
        make = super().load_app()

        def create() -> ASGIApp:
            # uvicorn's own handler would wait for the end of the start, and that may wait for the database.
            stop = EarlyStop()
            later = signal.signal(signal.SIGTERM, stop)
            try:
                app = make()
            finally:
                signal.signal(signal.SIGTERM, later)
            if stop.asked:
                sys.exit(0)
            return _EndsUnlessAvailable(app)

        return create

    def configure_logging(self) -> None:
        """Set up the log, the end of the process, and how it learns of its parent's end."""
        parent = multiprocessing.parent_process()
        if parent is None:
            return
        set_up_log(self._settings.log_level, self._settings.log_format)
        # uvicorn raises SIGTERM again when it has stopped: then exit handlers run. A closing terminal's SIGHUP is for
        # the parent alone.
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        threading.Thread(target=_follow, args=(parent,), name="parent", daemon=True).start()


class _Supervisor(Multiprocess):
    def keep_subprocess_alive(self) -> None:
        """See uvicorn's. A process that ends before it answers is noticed at once.

        uvicorn keeps the child's end of the pipe open in the parent too, which then waits for an answer up to START_S,
        and hears no signal meanwhile.
        """
        for process in self.processes:
            process.child_conn.close()
        super().keep_subprocess_alive()


class _EndsUnlessAvailable:
    """ASGI application whose process ends when it cannot start yet, for example because the database is not there.

    The supervisor then starts another. After a failed start, which uvicorn would report, it would stop everything.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: list[Message] = []

        async def hold(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold)
        except UnavailableError as error:
            log.error("a web process cannot start yet: %s", error.detail)  # noqa: TRY400  # no bug of ours
            logging.shutdown()
            os._exit(1)
        except BaseException:
            for message in failed:
                await send(message)
            raise


def run(settings: Settings, listener: socket.socket, make_app: Callable[[], object]) -> None:
    """Serve until SIGTERM or Ctrl-C. `make_app`, which must be picklable, makes the application in each process.

    SettingsError if it raises SystemExit(STARTUP_FAILURE), because then it would always fail.
    """
    processes = _Supervisor(_Config(settings, make_app), sockets=[listener])
    processes.run()
    if any(process.exitcode == STARTUP_FAILURE for process in processes.processes):
        raise SettingsError("a web process could not start; its log line before this one says why")


def _leave(_number: int, _frame: Any) -> None:
    sys.exit(0)


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    """End this process when its parent has ended, also where that was killed: nobody else would stop it."""
    parent.join()
    log.warning("the parent process has ended, so this one stops too")
    os.kill(os.getpid(), signal.SIGTERM)
