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
    archive_routes,
    classic_generation_routes,
    classic_routes,
    compat_compreface,
    compat_rekognition,
    compat_vision,
    docs_routes,
    event_routes,
    health_routes,
    image_routes,
    job_file_routes,
    job_routes,
    live_routes,
    openapi,
    operation_routes,
    page_file,
    painter_routes,
    problems,
    rerun_routes,
    ticket_routes,
    webhook_routes,
)
from limner.web.access import Access
from limner.web.compress import Compress
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
        await services.live.start()
        await services.admission.start(services.streams, services.live)
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
            await services.live.stop()
            services.pool.shutdown(wait=False)
            services.readers.shutdown(wait=False)

    app = FastAPI(
        title="Limner",
        version=__version__,
        summary="Face imaging: send a photo, get the faces marked. Every request is a durable job with live events.",
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,  # FastAPI's own load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
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
        archive_routes.router,  # before `/v1/jobs/{job_id}`
        job_routes.router,
        image_routes.router,
        job_file_routes.router,
        rerun_routes.router,
        event_routes.router,
        live_routes.router,
        webhook_routes.router,
        ticket_routes.router,
        classic_routes.router,
        classic_generation_routes.router,
        compat_rekognition.router,
        compat_vision.router,
        compat_compreface.router,
        health_routes.router,
        docs_routes.router,
        page_file.router,
    )
    for router in routers:
        app.include_router(router)
    app.mount("/page", _PageFiles(directory=page_file.FOLDER), name="page")
    for path, folder in docs_routes.assets().items():
        app.mount(path, StaticFiles(directory=folder))
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    openapi.complete(app, services, routes)
    sockets = [route for router in routers for route in router.routes if isinstance(route, APIWebSocketRoute)]
    app.add_middleware(Dispatch, routes=routes, sockets=sockets, services=services)
    app.add_middleware(Compress)
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
