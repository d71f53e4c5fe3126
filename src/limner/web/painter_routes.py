"""`GET /v1/painters`: what can paint for `generate`, and what is missing where it cannot."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from limner.painters import PAINTERS
from limner.web.admission import ANY_KEY, needs
from limner.web.services import ServicesDep

router = APIRouter(tags=["operations"])

EXAMPLES = Path(__file__).parent / "page" / "painters"
"""An example of each painter, and of some of their styles: `drawn.jpg`, `drawn-ink.jpg`."""


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
            reason = each.ready()
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
