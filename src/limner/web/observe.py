"""Middleware: a log line, metrics and a request id for each request."""

import logging
import os
import re
import time
from functools import lru_cache
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner.domain.key import Caller
from limner.telemetry import REQUEST_SECONDS, REQUESTS, request_id

log = logging.getLogger("limner.access")

_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FIXED_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class Observe:
    """ASGI middleware. `quiet` omits the log lines (for load tests), but not the metrics."""

    def __init__(self, app: ASGIApp, *, quiet: bool) -> None:
        self._app = app
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Observe one HTTP request. Sockets and lifespan events pass unchanged."""
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
            method = scope["method"] if scope["method"] in METHODS else "other"
            handler = route_template(scope)
            count, duration = _metrics(method, handler, status)
            count.inc()
            duration.observe(seconds)
            if not self._quiet and handler not in QUIET:
                log.info(
                    "request",
                    extra={
                        "request": chosen,
                        "method": method,
                        "route": handler,
                        "status": status,
                        "ms": round(seconds * 1000, 1),
                        "job": _job_id(scope),
                        **_key_id(scope),
                    },
                )


@lru_cache(maxsize=1024)  # clients cannot fill the cache: there are few methods, routes and statuses
def _metrics(method: str, handler: str, status: int) -> tuple[Counter, Histogram]:
    labels = (method, handler, str(status))
    return REQUESTS.labels(*labels), REQUEST_SECONDS.labels(*labels)


def _sent_id(scope: Scope) -> str | None:
    """The request id sent by the client, if it is valid."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return _sane(value.decode("latin-1"))
    return None


def _job_id(scope: Scope) -> str | None:
    """The id of the job that the request has created or refers to."""
    found: Any = scope.get("state", {}).get("job") or scope.get("path_params", {}).get("job_id")
    return _sane(str(found)) if found else None


def _key_id(scope: Scope) -> dict[str, str]:
    """The id of the key that the request came with, if there was one."""
    caller = scope.get("caller")
    return {"key": caller.key_id} if isinstance(caller, Caller) and caller.key_id is not None else {}


def _sane(given: str) -> str | None:
    """An id sent by a client, if its characters are safe in a log line; else None."""
    return given if _SANE_ID.fullmatch(given) else None


def route_template(scope: Scope) -> str:
    """The template of the route, such as `/v1/jobs/{job_id}`, so that metrics have few labels."""
    route = scope.get("route")
    return getattr(route, "path", None) or "unmatched"
