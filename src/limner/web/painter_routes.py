"""`GET /v1/painters`: what can paint for `generate`, and what is missing where it cannot."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import to_json

from limner.domain.errors import LimnerError
from limner.domain.lane import GPU
from limner.painters import PAINTERS
from limner.painters.painter import Painter
from limner.settings import Settings
from limner.web.admission import ANY_KEY, needs
from limner.web.services import ServicesDep

router = APIRouter(tags=["operations"])

EXAMPLES = Path(__file__).parent / "page" / "painters"
"""An example of each painter, and of some of their styles: `drawn.jpg`, `drawn-ink.jpg`."""
EXAMPLE_SIZE = (1024, 1024)


class PainterShape(BaseModel):
    """A painter. Its parameters are those of `generate`, in `GET /v1/operations`."""

    name: str
    summary: str
    licence: str
    lanes: list[str] = Field(
        description="Where its jobs run: `paint`: on a core; `gpu`; or `remote`: on another server"
    )
    ready: bool
    reason: str | None = Field(description="What is missing, if it is not ready")
    preview: str | None = Field(description="URL of an example")
    styles: dict[str, str] = Field(description="URLs of examples of its styles")


class PaintersShape(BaseModel):
    """All painters."""

    painters: list[PainterShape]


@router.get("/v1/painters", response_model=PaintersShape)
@needs(ANY_KEY)
async def list_painters(request: Request, services: ServicesDep) -> Response:
    """The painters, with an example, and what is missing where one is not ready."""
    links = services.links(request)

    def describe() -> list[PainterShape]:
        files = sorted(path.stem for path in EXAMPLES.glob("*.jpg"))
        listed = []
        for each in PAINTERS.values():
            reason = each.ready() or _without_worker(each, services.settings)
            urls = {stem: links.to(f"/page/painters/{stem}.jpg") for stem in files}
            prefix = f"{each.name}-"
            listed.append(
                PainterShape(
                    name=each.name,
                    summary=each.summary,
                    licence=each.licence,
                    lanes=list(each.lanes),
                    ready=reason is None,
                    reason=reason,
                    preview=urls.get(each.name),
                    styles={stem.removeprefix(prefix): url for stem, url in urls.items() if stem.startswith(prefix)},
                )
            )
        return listed

    return Response(to_json({"painters": await services.read(describe)}), media_type="application/json")


def _without_worker(painter: Painter, settings: Settings) -> str | None:
    """Why no worker of this service could run a job of the painter, as far as that can be told without parameters."""
    try:
        params = painter.params.model_validate({})
        lane = painter.lane(params)
        needed = 0 if lane == GPU else painter.estimate(params, EXAMPLE_SIZE)
    except (ValidationError, LimnerError):  # it depends on what is asked for
        return None
    if not settings.lanes()[lane].workers:
        return f"No worker runs such jobs; set LIMNER_{lane.upper()}_WORKERS."
    if settings.worker_memory_bytes and needed > settings.worker_memory_bytes:
        return (
            f"It needs about {needed / 1e6:,.0f} MB, and a worker may take "
            f"{settings.worker_memory_bytes / 1e6:,.0f} MB (LIMNER_WORKER_MEMORY_BYTES)."
        )
    return None
