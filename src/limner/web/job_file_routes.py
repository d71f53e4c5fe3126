"""The routes of a job's pictures: what was sent, what was made, and what is small."""

from collections.abc import Callable, Iterable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from limner.domain.errors import NotFoundError
from limner.domain.job import File, Job
from limner.domain.key import Caller
from limner.domain.key import Scope as KeyScope
from limner.web.admission import SIGNED_FOR, needs
from limner.web.file_names import disposition, safe_stem, suffix_of
from limner.web.operation_routes import Responses, problem_response
from limner.web.services import CallerDep, Services, ServicesDep
from limner.web.stored_file import ReadPart, StoredFile, StoredParts

router = APIRouter(tags=["jobs"])

YEAR_S = 31_536_000
SMALL_BYTES = 1_000_000  # what is larger is sent from its file, in parts
_PICTURE: Responses = {
    200: {"content": {"image/*": {}}},
    206: {"description": "The part named by `Range`"},
    304: {"description": "The picture has not changed"},
    404: problem_response("No such job, or it has no such picture"),
    416: problem_response("`Range` is outside the file"),
}


@router.get(
    "/v1/jobs/{job_id}/preview",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 404: problem_response("No such job, or it has no preview now")},
)
@needs(KeyScope.READ, signed=True)
async def get_preview(
    job_id: str,
    services: ServicesDep,
    caller: CallerDep,
    version: Annotated[str | None, Query(description="Any text: another one makes a browser load it again")] = None,
) -> Response:
    """What the result of a running job looks like so far. It changes, and is gone when the job has ended."""
    del version
    job = await services.job(job_id, caller)
    if not job.previews:
        raise NotFoundError("The job has no preview now.")
    data = await services.read(services.blobs.get, job.previews[0].sha256)
    headers = {"Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "cross-origin"}
    return Response(data, media_type=job.previews[0].media_type, headers=headers)


@router.head("/v1/jobs/{job_id}/artifacts/{name}", include_in_schema=False)
@router.get(
    "/v1/jobs/{job_id}/artifacts/{name}",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {}}},
        206: {"description": "The part named by `Range`"},
        304: {"description": "The artifact has not changed"},
        307: {"description": "The artifact is at this URL, which ends after a minute (`LIMNER_ARTIFACT_URLS`)"},
        416: problem_response("`Range` is outside the file"),
        404: problem_response("No such job"),
    },
)
@needs(KeyScope.READ, signed=True)
async def get_artifact(job_id: str, name: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """The bytes of an artifact. They never change: `ETag` is their SHA-256."""

    def find() -> File:
        file = services.reader.artifact(job_id, name, key_id=caller.only)
        if file is None:
            raise NotFoundError("The job or the artifact does not exist. The job may have been erased.")
        return file

    return await send_file(find, request, services, may_redirect=True)


@router.head("/v1/jobs/{job_id}/inputs/{name}", include_in_schema=False)
@router.get("/v1/jobs/{job_id}/inputs/{name}", response_class=Response, responses=_PICTURE)
@needs(KeyScope.READ, signed=True)
async def get_input(job_id: str, name: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """The bytes of a picture that was sent, as they were sent; `name` is its parameter (`image`)."""
    return await send_file(
        lambda: _file_of(job_id, services, caller, lambda job: _named(job.inputs, name)), request, services
    )


@router.head("/v1/jobs/{job_id}/photo", include_in_schema=False)
@router.get("/v1/jobs/{job_id}/photo", response_class=Response, responses=_PICTURE)
@needs(KeyScope.READ, signed=True)
async def get_photo(job_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """The photo that was sent, as it was sent. The name to save it under is the job's label, if that is one."""
    label: list[str | None] = []

    def find() -> File:
        def photo(job: Job) -> File | None:
            label.append(job.label)
            return job.photo

        return _file_of(job_id, services, caller, photo)

    response = await send_file(find, request, services)
    stem, suffix = safe_stem(label[0] or "") or f"photo-{job_id}", suffix_of(response.media_type or "")
    response.headers["Content-Disposition"] = disposition(f"{stem}{suffix}")
    return response


@router.head("/v1/jobs/{job_id}/thumbnail", include_in_schema=False)
@router.get("/v1/jobs/{job_id}/thumbnail", response_class=Response, responses=_PICTURE)
@needs(KeyScope.READ, signed=True)
async def get_thumbnail(job_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """A small WebP picture, at most 480 pixels, of what the job made, or else of its photo."""
    return await send_file(
        lambda: _file_of(job_id, services, caller, lambda job: job.thumbnail), request, services, may_redirect=True
    )


def _file_of(job_id: str, services: Services, caller: Caller, choose: Callable[[Job], File | None]) -> File:
    """A file of a job that the caller may see; blocks. NotFoundError."""
    job = services.reader.get(job_id)
    file = choose(job) if job is not None and caller.sees(job.key_id) else None
    if file is None:
        raise NotFoundError("The job or the picture does not exist. The job may have been erased.")
    return file


def _named(files: Iterable[File], name: str) -> File | None:
    return next((file for file in files if file.name == name), None)


async def send_file(
    find: Callable[[], File],
    request: Request,
    services: Services,
    *,
    may_redirect: bool = False,
    cache_control: str | None = None,
) -> Response:
    """The stored file that `find` returns; supports `Range`, `If-None-Match` and `HEAD`.

    `find` may block. It is called for each request, so that an erased file is not served from memory. With
    `may_redirect`, the answer is a redirect where the store gives URLs of its own. With `cache_control`, a shared cache
    may keep it, so the answer has the bytes itself: nginx caches nothing that it sends by X-Accel-Redirect.
    """
    whole = "range" not in request.headers
    known = request.headers.get("if-none-match")

    def respond() -> Response:
        file = find()
        headers = {
            "ETag": f'"{file.sha256}"',
            # private, because shared caches must not keep photos of faces: they would not learn of an erasure
            "Cache-Control": cache_control or f"private, max-age={request.scope.get(SIGNED_FOR, YEAR_S)}, immutable",
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
        if known is not None and _matches(known, file):
            return Response(status_code=304, headers=headers)
        if may_redirect:
            url = services.blobs.temporary_url(file.sha256, head=request.method == "HEAD")
            if url is not None:
                return Response(status_code=307, headers={"Location": url, "Cache-Control": "no-store"})
        prefix = services.settings.accel_prefix if cache_control is None else None
        if prefix is not None and (path := services.blobs.local_path(file.sha256, size=file.size)) is not None:
            headers["X-Accel-Redirect"] = f"{prefix}{path.parent.name}/{path.name}"
            return Response(media_type=file.media_type, headers=headers)  # nginx sends the file, also parts of it
        if whole and file.size <= SMALL_BYTES:
            headers["Accept-Ranges"] = "bytes"
            return Response(services.blobs.get(file.sha256), media_type=file.media_type, headers=headers)
        path = services.blobs.local_path(file.sha256, size=file.size)
        if path is not None:
            return StoredFile(path, media_type=file.media_type, headers=headers)
        return StoredParts(part_of(file), file.size, media_type=file.media_type, headers=headers)

    def part_of(file: File) -> ReadPart:
        return lambda start, stop: services.read(lambda: services.blobs.part(file.sha256, start=start, stop=stop))

    return await services.read(respond)


def _matches(known: str, file: File) -> bool:
    return any(tag.strip().removeprefix("W/") in (f'"{file.sha256}"', "*") for tag in known.split(","))
