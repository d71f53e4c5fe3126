"""The paths of an earlier picture-generation service, answered from `generate` jobs."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from limner.domain.errors import LimnerError, NotFoundError
from limner.domain.job import Job, Status
from limner.domain.key import Scope
from limner.web import page_file
from limner.web.admission import needs
from limner.web.classic_routes import NOT_FOUND, image_url, submit_form
from limner.web.links import Links
from limner.web.query import any_query
from limner.web.services import CallerDep, ServicesDep

router = APIRouter(tags=["classic"])

LISTED = 5_000
"""The list ends after so many of the newest jobs, because the time of a numbered page grows with its number."""
PAGE_SIZE = 20
_OPERATION = "generate"
_STATES: dict[Status, Literal["R", "C", "E"]] = {
    Status.QUEUED: "R",
    Status.RUNNING: "R",
    Status.SUCCEEDED: "C",
    Status.FAILED: "E",
    Status.CANCELLED: "E",
}
_PROMPT = "portrait of the same person as a character of a hand-drawn cartoon film"
_PRESETS: dict[str, dict[str, Any]] = {
    "stability-ai": {"painter": "stability", "service": "v1", "prompt": _PROMPT},
    "offline-model": {"painter": "diffusion", "preset": "cartoon-film"},
}
_PIX2PIX: dict[str, Any] = {"painter": "diffusion", "preset": "faces-like"}


class ClassicPictureShape(BaseModel):
    """A picture that was asked for. `status`: R runs or waits, C is complete, E ended without a picture."""

    id: str
    original_image: str | None = Field(description="URL of the photo, null without one")
    generated_image: str | None = Field(description="URL of the first picture that was made, null before there is one")
    status: Literal["R", "C", "E"]


class ClassicPicturesShape(BaseModel):
    """A page of the list, newest first."""

    count: int = Field(description="How many there are on all pages, at most 5000: the list ends there")
    next: str | None
    previous: str | None
    results: list[ClassicPictureShape]


@router.get("/api/v1/images/", response_model=ClassicPicturesShape, responses={**NOT_FOUND})
@any_query
@needs(Scope.READ)
async def list_pictures(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    page: Annotated[int, Query(ge=1, le=LISTED)] = 1,
    page_size: Annotated[int, Query(ge=1, le=100)] = PAGE_SIZE,
) -> Response:
    """The pictures that were asked for, newest first."""
    skip = (page - 1) * page_size

    def read() -> tuple[int, list[Job]]:
        count = services.reader.count_of(_OPERATION, key_id=caller.only, limit=LISTED)
        if page > 1 and skip >= count:
            raise NotFoundError("The list has no such page.")
        limit = min(page_size, LISTED - skip)
        return count, services.reader.numbered_page(_OPERATION, key_id=caller.only, skip=skip, limit=limit)

    count, jobs = await services.read(read)
    links = services.links(request)

    def address(number: int) -> str:
        size = "" if page_size == PAGE_SIZE else f"&page_size={page_size}"
        return links.to(f"/api/v1/images/?page={number}{size}")

    listed = ClassicPicturesShape(
        count=count,
        next=address(page + 1) if skip + page_size < count else None,
        previous=address(page - 1) if page > 1 else None,
        results=[_picture(job, links) for job in jobs],
    )
    return Response(to_json(listed), media_type="application/json")


@router.get("/api/v1/images/{job_id}/", response_model=ClassicPictureShape, responses={**NOT_FOUND})
@any_query
@needs(Scope.READ)
async def get_picture(job_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """One of them."""
    job = await services.job(job_id, caller)
    if job.operation != _OPERATION:
        raise NotFoundError("no such picture")
    return Response(to_json(_picture(job, services.links(request))), media_type="application/json")


def _picture(job: Job, links: Links) -> ClassicPictureShape:
    photo = job.photo
    made = next(iter(job.artifacts), None)
    return ClassicPictureShape(
        id=job.id,
        original_image=None if photo is None else image_url(links, photo.id),
        generated_image=None if made is None else image_url(links, made.id),
        status=_STATES[job.status],
    )


@router.post("/", include_in_schema=False)  # it answers with the page, which is no part of the API
@needs(Scope.SUBMIT)
async def post_page_form(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Submit the form's `image` for a picture by the preset `models`. The page shows the job, or why there is none."""
    policy = page_file.policy(services.blobs)

    def values(form: Mapping[str, str | bytes]) -> dict[str, Any]:
        chosen = form.get("models")
        return _PRESETS.get(chosen, _PIX2PIX) if isinstance(chosen, str) else _PIX2PIX

    try:
        await submit_form(request, services, caller, _OPERATION, ("image",), values)
    except LimnerError as error:
        return page_file.page_with(error, policy)
    return page_file.page(policy)
