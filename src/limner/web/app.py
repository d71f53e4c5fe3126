"""The web application: routes, error handlers and middleware put together."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from limner import __version__, tracing
from limner.web import (
    classic_generation_routes,
    classic_routes,
    compat_compreface,
    compat_rekognition,
    compat_vision,
    health_routes,
    image_routes,
    job_file_routes,
    job_routes,
    operation_routes,
    page_file,
    painter_routes,
    problems,
    shapes,
    ticket_routes,
    webhook_routes,
)
from limner.web.access import Access
from limner.web.admission import need_of
from limner.web.dispatch import Dispatch
from limner.web.observe import Observe
from limner.web.services import Services
from limner.web.serving import attend
from limner.web.trace_requests import TraceRequests


def create_app(services: Services, at_work: Callable[[], AbstractContextManager[None]]) -> FastAPI:
    """Make the application. It enters the context `at_work` while it runs, which starts and stops sweep and engine."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await services.streams.start()
        await services.admission.start(services.streams)
        work = at_work()
        await services.call(work.__enter__)
        part = services.settings.engine_url != "processes:"
        try:
            async with attend(services.settings, services.stop_soon, part=part) as state:
                yield state
        finally:
            services.submissions.open = False
            await services.call(lambda: work.__exit__(None, None, None))
            await services.admission.stop()
            await services.streams.stop()
            services.pool.shutdown(wait=False)
            services.readers.shutdown(wait=False)

    app = FastAPI(
        title="Limner",
        version=__version__,
        summary="Face imaging: send a photo, get the faces marked. Every request is a durable job with live events.",
        lifespan=lifespan,
        # FastAPI's own traces would tell addresses and queries; ours are `trace_requests.py`.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.services = services
    problems.install(app)
    operations = APIRouter(tags=["operations"])
    for operation in services.catalogue.values():
        operation_routes.add_operation(operations, operation)
    routers = (
        operations,
        operation_routes.router,
        painter_routes.router,
        job_routes.router,
        image_routes.router,
        job_file_routes.router,
        webhook_routes.router,
        ticket_routes.router,
        classic_routes.router,
        classic_generation_routes.router,
        compat_rekognition.router,
        compat_vision.router,
        compat_compreface.router,
        health_routes.router,
    )
    for router in routers:
        app.include_router(router)

    policy = page_file.policy(services.blobs)

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return page_file.page(policy)

    app.mount("/page", _PageFiles(directory=page_file.FOLDER), name="page")
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    _complete_schema(app, routes)
    sockets = [route for router in routers for route in router.routes if isinstance(route, APIWebSocketRoute)]
    app.add_middleware(Dispatch, routes=routes, sockets=sockets, services=services)
    origins = services.settings.allowed_origins
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=[
                *("Location", "Retry-After", "X-Request-ID", "ETag"),
                *("RateLimit", "RateLimit-Policy", "WWW-Authenticate"),
            ],
        )
    app.add_middleware(Access, settings=services.settings)  # outside CORS: what is refused names no origin
    app.add_middleware(Observe, quiet=services.settings.load_test_mode)
    if tracing.on():
        app.add_middleware(TraceRequests)
    return app


class _PageFiles(StaticFiles):
    """The page's modules. Browsers must revalidate them, because an old module may not work with a new one."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _correct_validation_errors(schema: dict[str, Any]) -> None:
    """Describe 422 as a problem, instead of FastAPI's own format."""
    own = schema["components"]["schemas"].pop("HTTPValidationError", None)
    schema["components"]["schemas"].pop("ValidationError", None)
    for methods in schema["paths"].values() if own else ():
        for entry in methods.values():
            if "HTTPValidationError" in str(entry["responses"].get("422")):
                entry["responses"]["422"] = operation_routes.problem_response("Invalid parameters")


def _describe_keys(schema: dict[str, Any], routes: list[APIRoute]) -> None:
    """Add how keys are sent, and which routes need one."""
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `limner keys create` makes one"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "signature": {"type": "apiKey", "in": "query", "name": "signature", "description": "In URLs of pictures"},
        "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": "From `POST /v1/tickets`"},
    }
    for route in routes:
        need = need_of(route.endpoint)
        if need.open or not route.include_in_schema:
            continue
        ways = ["bearer", "header", *(["signature"] if need.signed else []), *(["ticket"] if need.ticket else [])]
        for method in route.methods or ():
            entry = schema["paths"][route.path][method.lower()]
            entry["security"] = [{way: []} for way in ways]
            scope = "any key" if need.scope is None else f"the scope `{need.scope}`"
            for status, why in (
                ("401", "The key is missing or not valid"),
                ("403", f"The key lacks {scope}" + (", or the signature is wrong" if need.signed else "")),
                ("429", "A limit is reached; see `Retry-After`"),
            ):
                entry["responses"].setdefault(status, operation_routes.problem_response(why))


def _complete_schema(app: FastAPI, routes: list[APIRoute]) -> None:
    """Add the models to OpenAPI that no route declares as its response."""
    make = app.openapi

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = make()
            known = schema.setdefault("components", {}).setdefault("schemas", {})
            for shape in (shapes.ProblemShape, shapes.EventShape):
                described = shape.model_json_schema(ref_template="#/components/schemas/{model}")
                known.update(described.pop("$defs", {}))
                known[shape.__name__] = described
            _correct_validation_errors(schema)
            if app.state.services.admission.required:
                _describe_keys(schema, routes)
            for operation in app.state.services.catalogue.values():
                for model in (operation.params, operation.result):
                    described = model.model_json_schema(ref_template=f"#/components/schemas/{operation.name}.{{model}}")
                    for name, part in described.pop("$defs", {}).items():
                        known[f"{operation.name}.{name}"] = part
                    known[model.__name__] = described
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the schema
