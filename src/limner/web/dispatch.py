"""Calls the functions of the API's routes. FastAPI only describes them.

FastAPI's own routing takes several times as much time on the event loop as the functions themselves.
"""

from collections.abc import Iterable
from typing import Any

from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner.web import problems
from limner.web.services import Services, find_services


class Dispatch:
    """ASGI middleware. All but API routes goes on to `app`: sockets, documentation, the page, 404 and 405."""

    def __init__(self, app: ASGIApp, *, routes: Iterable[APIRoute], services: Services) -> None:
        """The first of `routes` that matches the path is called. Each function returns a `Response`."""
        self._app = app
        self._routes: dict[tuple[str, int], list[_Route]] = {}
        for route in routes:
            for method in route.methods or ():
                self._routes.setdefault((method, route.path.count("/")), []).append(_Route(route, services))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on to `app`."""
        if scope["type"] == "http":
            path = scope["path"]
            for route in self._routes.get((scope["method"], path.count("/")), ()):
                found = route.match(path)
                if found is not None:
                    scope["route"] = route.described
                    scope["path_params"] = found.groupdict()
                    await route.answer(scope, receive, send)
                    return
        await self._app(scope, receive, send)


class _Route:
    """A route and its function's arguments: the request, the services, texts of the path, fields of the query."""

    def __init__(self, described: APIRoute, services: Services) -> None:
        needs = described.dependant
        assert not [*needs.header_params, *needs.cookie_params, *needs.body_params], described.path
        assert all(each.call is find_services for each in needs.dependencies), described.path
        assert all(field.field_info.annotation is str for field in needs.path_params), described.path
        self.described = described
        self.match = described.path_regex.match
        self._function = described.endpoint
        self._request = needs.request_param_name
        self._services = {str(each.name): services for each in needs.dependencies}
        self._query = needs.query_params

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the function's response, or the problem if the function or its response raised an error."""
        started = False

        async def sender(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            response: Response = await self._function(**self._arguments(Request(scope, receive, send)))
            await response(scope, receive, sender)
        except Exception as error:
            if started:
                raise
            await problems.answer(error)(scope, receive, send)

    def _arguments(self, request: Request) -> dict[str, Any]:
        values = {**request.scope["path_params"], **self._services}
        if self._request is not None:
            values[self._request] = request
        if self._query:
            asked, errors = request_params_to_args(self._query, request.query_params)
            if errors:
                raise RequestValidationError(errors)
            values.update(asked)
        return values
