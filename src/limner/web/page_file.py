"""The page as it is sent: its file, what it may load, and a message in it."""

import html
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.responses import FileResponse, Response

from limner.blob_ports import BlobStore
from limner.domain.errors import LimnerError
from limner.web.admission import OPEN, needs
from limner.web.problems import headers_of
from limner.web.query import any_query
from limner.web.services import ServicesDep

router = APIRouter()

FOLDER = Path(__file__).parent / "page"
_PLACE = "<!-- a message -->"


def policy(blobs: BlobStore) -> str:
    """The page's Content-Security-Policy. Where clients read artifacts from the store itself, it allows the store."""
    store = blobs.temporary_url("0" * 64)
    origin = "" if store is None else f" {urlsplit(store).scheme}://{urlsplit(store).netloc}"
    return (
        f"default-src 'self'; img-src 'self' blob: data:{origin}; connect-src 'self' ws: wss:{origin}; "
        "media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


@router.get("/", include_in_schema=False)
@any_query
@needs(OPEN)
async def get_page(services: ServicesDep) -> Response:
    """The page."""
    return page(policy(services.blobs))


def page(policy: str) -> FileResponse:
    """The page."""
    return FileResponse(FOLDER / "index.html", headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})


def page_with(error: LimnerError, policy: str) -> Response:
    """The page, which tells the error to a person."""
    told = f'<p class="problem-box" role="alert">{html.escape(error.title)}. {html.escape(error.detail)}</p>'
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store", **headers_of(error)}
    whole = (FOLDER / "index.html").read_text(encoding="utf-8").replace(_PLACE, told)
    return Response(whole, status_code=error.status, media_type="text/html", headers=headers)
