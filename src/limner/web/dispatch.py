"""Calls the functions of the API's routes, once their callers are admitted. FastAPI only describes them.

FastAPI's own routing takes several times as much time on the event loop as the functions themselves.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner.domain.errors import LimnerError, MethodNotAllowedError, NotFoundError, UnavailableError
from limner.web import problems, signed_url
from limner.web.admission import Admission, Header, need_of
from limner.web.query import check_names, names_of
from limner.web.services import Services, find_caller, find_services

_ID = re.compile(r"[0-9A-Fa-f-]{1,64}")


class Dispatch:
    """ASGI middleware. All but API routes goes on to `app`: admitted sockets, OpenAPI, the page's files, 404.

    A path with a slash at its end is the path without it, unless a route has it. An answer that redirects would make
    clients send the photo twice, or in clear. Where `GET` is, `HEAD` is.
    """

    def __init__(
        self, app: ASGIApp, *, routes: Iterable[APIRoute], sockets: Iterable[APIWebSocketRoute], services: Services
    ) -> None:
        """The first of `routes` that matches the path is called. Each function returns a `Response`."""
        self._app = app
        self._admission = services.admission
        self._sockets = [(route.path_regex.match, need_of(route.endpoint), names_of(route)) for route in sockets]
        self._routes: dict[int, dict[str, list[_Route]]] = {}
        for each in routes:
            route = _Route(each, services)
            of_methods = self._routes.setdefault(each.path.count("/"), {})
            for method in route.methods:
                of_methods.setdefault(method, []).append(route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on to `app`."""
        if scope["type"] in ("http", "websocket") and not scope["path"].isprintable():
            # `$` of a route's pattern matches before a final line feed, so a proxy and we would read another path.
            await problems.answer(NotFoundError("There is nothing at this path."))(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"].startswith(signed_url.PREFIX):
            # The path as it was sent: an encoded slash is no end of a segment, and other forms are not there at all.
            if not signed_url.has_form(scope["raw_path"]):
                await problems.answer(NotFoundError(signed_url.FORM))(scope, receive, send)
                return
            scope["path"] = scope["raw_path"].decode("latin-1")
        if scope["type"] == "http":
            for path in _readings(scope["path"]):
                for route in self._routes.get(path.count("/"), {}).get(scope["method"], ()):
                    found = route.match(path)
                    if found is not None:
                        scope.update(route.place(path, found))
                        await route.answer(scope, receive, send)
                        return
            allowed = self._methods_at(scope["path"])
            if allowed:
                refused = problems.response(MethodNotAllowedError(), {"Allow": ", ".join(sorted(allowed))})
                await refused(scope, receive, send)
                return
            scope["path"] = [*_readings(scope["path"])][-1]
        elif scope["type"] == "websocket" and not await self._admit_socket(scope, receive, send):
            return
        await self._app(scope, receive, send)

    def _methods_at(self, path: str) -> set[str]:
        """The methods of all routes at a path; empty if there is none."""
        return {
            method
            for reading in _readings(path)
            for method, routes in self._routes.get(reading.count("/"), {}).items()
            if any(route.match(reading) for route in routes)
        }

    async def _admit_socket(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Whether the socket may go on. One that may not is answered with the problem instead of a handshake."""
        for path in _readings(scope["path"]):
            for match, need, names in self._sockets:
                if match(path):
                    scope["path"] = path
                    try:
                        scope["caller"], _ = await self._admission.admit(scope, need)
                        check_names(scope["query_string"], names)
                    except LimnerError as error:
                        await problems.answer(error)(scope, receive, send)
                        return False
                    return True
        return True


def _readings(path: str) -> Iterator[str]:
    """The path as it was sent, and without the slash at its end."""
    yield path
    if len(path) > 1 and path.endswith("/"):
        yield path[:-1]


class _Route:
    """A route and its function's arguments: the request, the services, texts of the path, fields of the query."""

    def __init__(self, described: APIRoute, services: Services) -> None:
        needs = described.dependant
        assert not [*needs.header_params, *needs.cookie_params, *needs.body_params], described.path
        assert all(each.call in (find_services, find_caller) for each in needs.dependencies), described.path
        assert all(field.field_info.annotation is str for field in needs.path_params), described.path
        self.described = described
        self.match = described.path_regex.match
        self._function = described.endpoint
        self._request = needs.request_param_name
        self._services = {str(each.name): services for each in needs.dependencies if each.call is find_services}
        self._caller = next((str(each.name) for each in needs.dependencies if each.call is find_caller), None)
        self._need = need_of(described.endpoint)
        self._admission: Admission = services.admission
        self._query = needs.query_params
        self._refusal: Callable[[Exception], Response] = getattr(described.endpoint, "refusal", problems.answer)
        self._names = names_of(described)
        methods = set(described.methods or ())
        self.methods = methods | ({"HEAD"} if "GET" in methods else set())

    def place(self, path: str, found: re.Match[str]) -> dict[str, Any]:
        """What the scope says of a request of this route. An id in capitals is the same id."""
        values = found.groupdict()
        for name, value in values.items():
            if name.endswith("_id") and _ID.fullmatch(value):
                values[name] = value.lower()
                path = path[: found.start(name)] + values[name] + path[found.end(name) :]
        return {"route": self.described, "path": path, "path_params": values}

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the function's response, or the problem if the function or its response raised an error."""
        started = False
        headers: list[Header] = []

        async def sender(message: Message) -> None:
            nonlocal started
            if not started and headers:
                message["headers"] = [*message["headers"], *headers]
            started = True
            await send(message)

        try:
            scope["caller"], headers = await self._admission.admit(scope, self._need)
            check_names(scope["query_string"], self._names)
            response: Response = await self._function(**self._arguments(Request(scope, receive, send)))
            if scope["method"] == "HEAD" and isinstance(response, StreamingResponse):
                response = _head_of(response)
            await response(scope, receive, sender)
        except asyncio.CancelledError:  # by uvicorn, at a stop, after LIMNER_DRAIN_S; it would answer a plain 500
            if started:
                raise
            await self._refusal(UnavailableError("The service is stopping. Try again."))(scope, receive, sender)
        except Exception as error:
            if started:
                raise
            await self._refusal(error)(scope, receive, sender)

    def _arguments(self, request: Request) -> dict[str, Any]:
        values = {**request.scope["path_params"], **self._services}
        if self._request is not None:
            values[self._request] = request
        if self._caller is not None:
            values[self._caller] = request.scope["caller"]
        if self._query:
            asked, errors = request_params_to_args(self._query, request.query_params)
            if errors:
                raise RequestValidationError(errors)
            values.update(asked)
        return values


def _head_of(stream: StreamingResponse) -> Response:
    """The answer to `HEAD` for a stream, which is not begun: it may have no end."""
    head = Response(status_code=stream.status_code)
    head.raw_headers = stream.raw_headers
    return head
