"""A service of several web processes on our supervisor, protocols and bounds, without a database or workers.

`python -m tests.web.small_service PORT PROCESSES FOLDER`, FOLDER for its metrics.
"""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from limner import shared_metrics
from limner.domain.errors import SettingsError, UnavailableError
from limner.settings import Settings, load
from limner.telemetry import JOBS_FINISHED, set_up_log
from limner.web import web_processes
from limner.web.serving import attend


def make_app(settings: Settings, folder: Path) -> Starlette:
    """Answers with its process id; fails to start as the files `unavailable`, `wrong` and `deaf` say."""
    if (folder / "wrong").exists():
        from uvicorn.config import STARTUP_FAILURE

        sys.exit(STARTUP_FAILURE)
    if (folder / "deaf").exists():
        (folder / "deaf").rename(folder / "starting")
        with suppress(SystemExit):  # as compiled code may
            time.sleep(30)
    stopping = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        if (folder / "unavailable").exists():
            raise UnavailableError("the database is away")
        loop = asyncio.get_running_loop()
        async with attend(settings, lambda: loop.call_soon_threadsafe(stopping.set) and None, part=True) as state:
            yield state

    async def answer(request: Request) -> Response:
        await request.body()
        await asyncio.sleep(float(request.query_params.get("wait", "0")))
        JOBS_FINISHED.labels("detect", "succeeded").inc()
        return JSONResponse({"pid": os.getpid()})

    async def metrics(_: Request) -> Response:
        return Response(shared_metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def greet(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(str(os.getpid()))
        if "reason" in socket.query_params:
            await socket.close(1013, socket.query_params["reason"])
            return
        await stopping.wait()
        with suppress(WebSocketDisconnect, RuntimeError):  # the server may have closed it already
            await socket.close(1012)

    return Starlette(
        routes=[
            Route("/", answer, methods=["GET", "POST"]),
            Route("/metrics", metrics),
            WebSocketRoute("/socket", greet),
        ],
        lifespan=lifespan,
    )


def main() -> None:
    """Serve."""
    port, processes, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    settings = load(port=port, web_processes=processes, drain_s=5)
    set_up_log("info", "json")
    os.environ[shared_metrics.FOLDER] = str(folder)
    listener = socket.create_server(("127.0.0.1", port))
    try:
        web_processes.run(settings, listener, partial(make_app, settings, folder))
    except SettingsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
