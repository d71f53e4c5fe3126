"""`/docs` and `/redoc`: Swagger UI and Redoc, which show `/openapi.json`. Nothing comes from another host.

Their scripts are files of the package `fastapi-standalone-docs`, of which no code is run.
"""

import base64
import hashlib
import importlib.util
from pathlib import Path

from fastapi import APIRouter, Request, Response

from limner.domain.errors import NotFoundError
from limner.web import page_file
from limner.web.admission import OPEN, needs
from limner.web.query import any_query
from limner.web.services import Services, ServicesDep

router = APIRouter()

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Limner API</title>
<link rel="icon" href="{to}page/favicon.svg">
{content}
</html>
"""
# Without `validatorUrl` it would send the description to a foreign host.
_START = """SwaggerUIBundle({
  url: document.querySelector("[data-description]").dataset.description, dom_id: "#docs", deepLinking: true,
  validatorUrl: null, presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout",
})"""
_SWAGGER = """<link rel="stylesheet" href="{to}docs/swagger-ui.css">
</head>
<body>
<div id="docs" data-description="{to}openapi.json"></div>
<script src="{to}docs/swagger-ui-bundle.js"></script>
<script>{start}</script>
</body>"""
_REDOC = """<style>body {{ margin: 0 }}</style>
</head>
<body>
<redoc spec-url="{to}openapi.json"></redoc>
<script src="{to}redoc/redoc.standalone.js"></script>
</body>"""


def assets() -> dict[str, Path]:
    """The folders of Swagger UI's and Redoc's files, by the path below which they are served; empty without them."""
    found = importlib.util.find_spec("fastapi_standalone_docs")
    if found is None or found.origin is None:
        return {}
    static = Path(found.origin).parent / "static"
    return {"/docs": static / "swagger", "/redoc": static / "redoc"}


@router.get("/docs", include_in_schema=False)
@any_query
@needs(OPEN)
async def get_docs(request: Request, services: ServicesDep) -> Response:
    """Swagger UI: the API to read, and to try."""
    return _page(_SWAGGER, request, services)


@router.get("/redoc", include_in_schema=False)
@any_query
@needs(OPEN)
async def get_redoc(request: Request, services: ServicesDep) -> Response:
    """Redoc: the API to read."""
    return _page(_REDOC, request, services)


def _page(content: str, request: Request, services: Services) -> Response:
    """A page with relative addresses, because a proxy may serve it below a path of its own. NotFoundError."""
    if not assets():  # a service that was updated without its dependencies goes on, for it needs them nowhere else
        raise NotFoundError("The package fastapi-standalone-docs is not installed: run `make install`.")
    to = "../" if request.scope.get("raw_path", b"").endswith(b"/") else ""
    start = base64.b64encode(hashlib.sha256(_START.encode()).digest()).decode()
    policy = (
        f"{page_file.policy(services.blobs)}; style-src 'self' 'unsafe-inline'; "
        f"script-src 'self' 'sha256-{start}'; worker-src 'self' blob:"
    )
    return Response(
        _PAGE.format(to=to, content=content.format(to=to, start=_START)),
        media_type="text/html",
        headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"},
    )
