"""One log line and one set of metrics per request, and a request id to follow it by."""

import logging
import os
import re
import time
from functools import lru_cache
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner.telemetry import REQUEST_SECONDS, REQUESTS, request_id

log = logging.getLogger("limner.access")

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FIXED_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class Observe:
    """ASGI middleware. `quiet` leaves out the log line (a load test), not the metrics."""

    def __init__(self, app: ASGIApp, *, quiet: bool) -> None:
        self._app = app
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Observe one request; sockets and the application's own start pass by."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        chosen = _sent_id(scope) or os.urandom(16).hex()
        token = request_id.set(chosen)
        start = time.perf_counter()
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", chosen.encode()), *_FIXED_HEADERS]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            request_id.reset(token)
            seconds = time.perf_counter() - start
            method = scope["method"] if scope["method"] in _METHODS else "other"
            handler = route_template(scope)
            count, duration = _metrics(method, handler, status)
            count.inc()
            duration.observe(seconds)
            if not self._quiet and handler not in _QUIET:
                log.info(
                    "request",
                    extra={
                        "request": chosen,
                        "method": method,
                        "route": handler,
                        "status": status,
                        "ms": round(seconds * 1000, 1),
                        "job": _job_id(scope),
                    },
                )


@lru_cache(maxsize=1024)  # labels are few: methods and routes are declared, and statuses are our own
def _metrics(method: str, handler: str, status: int) -> tuple[Counter, Histogram]:
    labels = (method, handler, str(status))
    return REQUESTS.labels(*labels), REQUEST_SECONDS.labels(*labels)


def _sent_id(scope: Scope) -> str | None:
    """The request id that the client chose, if it is one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return _sane(value.decode("latin-1"))
    return None


def _job_id(scope: Scope) -> str | None:
    """The job that the request made or asks for."""
    told: Any = scope.get("state", {}).get("job") or scope.get("path_params", {}).get("job_id")
    return _sane(str(told)) if told else None


def _sane(given: str) -> str | None:
    """What a client sent as an id, if it has a form that cannot forge a log line."""
    return given if _SANE_ID.fullmatch(given) else None


def route_template(scope: Scope) -> str:
    """The route as declared, `/v1/jobs/{job_id}`: so that labels stay few whatever is asked for."""
    route = scope.get("route")
    return getattr(route, "path", None) or "unmatched"
