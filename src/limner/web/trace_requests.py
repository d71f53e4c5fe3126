"""Middleware: a span for each HTTP request, where traces are wanted."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner import tracing
from limner.web.connections import FROM_PROXY
from limner.web.observe import METHODS, QUIET, route_template


class TraceRequests:
    """ASGI middleware. It records the route's template and the status, and nothing that names a person or a picture.

    A `traceparent` is believed only from a proxy in front: else a client could add to the traces of others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record one HTTP request. Sockets and lifespan events pass unchanged, and so do health checks."""
        if scope["type"] != "http" or scope["path"] in QUIET:
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "other"
        with tracing.span(
            method, kind="server", parent=_sent(scope), attributes={"http.request.method": method}
        ) as span:

            async def traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set({"http.response.status_code": status})
                    if status >= 500:
                        span.failed(str(status))
                await send(message)

            try:
                await self._app(scope, receive, traced)
            finally:
                route = route_template(scope)
                span.rename(f"{method} {route}")
                span.set({"http.route": route})


def _sent(scope: Scope) -> str | None:
    """The `traceparent` of a proxy in front."""
    if not scope.get(FROM_PROXY):
        return None
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
