"""`GET /v1/jobs/archive`: what several jobs made, as a zip that is written while it is sent."""

import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json
from starlette.responses import StreamingResponse

from limner.domain.errors import InvalidRequestError, LimnerError, NotFoundError, UnavailableError
from limner.domain.job import File, Job, Status
from limner.domain.key import Caller, Scope
from limner.ports import JobFilter
from limner.web import shapes
from limner.web.admission import needs
from limner.web.file_names import safe_stem
from limner.web.job_routes import Search, Since, Until
from limner.web.links import Links
from limner.web.operation_routes import problem_response
from limner.web.query import JobId
from limner.web.services import CallerDep, Services, ServicesDep
from limner.web.stored_file import PART_BYTES
from limner.web.zip_stream import ZipStream

log = logging.getLogger(__name__)

router = APIRouter(tags=["jobs"])

MAX_JOBS = 500
MISSING = "missing.txt"
_GONE = "It was erased, or is missing or damaged."

Ids = Annotated[
    list[JobId] | None, Query(alias="id", max_length=MAX_JOBS, description="A job; may be sent several times")
]
Limit = Annotated[int, Query(ge=1, le=MAX_JOBS)]


@router.get(
    "/v1/jobs/archive",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/zip": {}}}, 404: problem_response("None of the jobs exists")},
)
@needs(Scope.READ)
async def get_archive(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    ids: Ids = None,
    operation: str | None = None,
    status: Status | None = None,
    q: Search = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = MAX_JOBS,
) -> Response:
    """The artifacts of jobs as a zip: those named by `id`, or the newest that the filters of `GET /v1/jobs` find.

    Each job has a folder, named by its label or id, with its artifacts and `job.json`. What cannot be had, such as a
    job that was erased meanwhile, is told in `missing.txt`.
    """
    wanted = JobFilter(operation, status, caller.only, q or None, since, until)
    if ids and wanted != JobFilter(key_id=caller.only):
        raise InvalidRequestError("id: Name jobs by `id`, or find them by filters, not both.", field="id")
    told: list[str] = []
    if not ids:
        found = await services.read(lambda: services.reader.page(wanted, limit=limit + 1))
        if len(found) > limit:
            last = shapes.moment(found[limit - 1].created_at)
            told.append(f"More than {limit} jobs were found. Those before {last} are not here: ask with until={last}.")
        ids = [job.id for job in found[:limit]]
    ids = list(dict.fromkeys(ids))
    archive = _Archive(services, caller, services.links(request), told)
    first = await archive.first(ids)
    if first is None:
        raise NotFoundError("None of the jobs exists. They may have been erased.")
    headers = {"Content-Disposition": 'attachment; filename="limner.zip"', "Cache-Control": "no-store"}
    return StreamingResponse(archive.parts(ids), media_type="application/zip", headers=headers)


class _Archive:
    """Writes the archive. Each job is read when its turn comes, so that what is erased meanwhile is not sent."""

    def __init__(self, services: Services, caller: Caller, links: Links, told: list[str]) -> None:
        self._services = services
        self._caller = caller
        self._links = links
        self._told = told
        self._folders: set[str] = set()
        self._zip = ZipStream()

    async def first(self, ids: list[str]) -> Job | None:
        """The first of the jobs that the caller may see."""
        for job_id in ids:
            job = await self._job(job_id)
            if job is not None:
                return job
        return None

    async def _job(self, job_id: str) -> Job | None:
        job = await self._services.read(self._services.reader.get, job_id)
        return job if job is not None and self._caller.sees(job.key_id) else None

    async def parts(self, ids: list[str]) -> AsyncIterator[bytes]:
        """The bytes of the archive."""
        left = list(ids)
        try:
            while left:
                job_id = left[0]
                job = await self._job(job_id)
                if job is None:
                    self._told.append(f"{job_id}: {_GONE}")
                else:
                    async for part in self._of_job(job):
                        yield part
                del left[0]
        except UnavailableError as error:  # too late for an answer 503
            log.warning("an archive ends early", extra={"detail": error.detail})
            self._told += [f"{job_id}: It could not be read. {error.detail}" for job_id in left]
        if self._told:
            self._text(MISSING, "".join(f"{line}\n" for line in self._told).encode(), None)
        self._zip.close()
        yield self._zip.take()

    async def _of_job(self, job: Job) -> AsyncIterator[bytes]:
        folder = self._folder(job)
        told = shapes.job(job, self._links, parameters=self._services.parameters(job))
        self._text(f"{folder}/job.json", to_json(told, indent=2), job)
        for file in job.artifacts:
            async for part in self._of_file(f"{folder}/{file.name}", file, job):
                yield part
        yield self._zip.take()

    def _folder(self, job: Job) -> str:
        """A name that no other job of this archive has, also where capital letters make no difference."""
        wanted = safe_stem(job.label or "") or job.id
        name, number = wanted, 1
        while name.casefold() in self._folders or name.casefold() == MISSING:
            number += 1
            name = f"{wanted} ({number})"
        self._folders.add(name.casefold())
        return name

    def _text(self, name: str, text: bytes, job: Job | None) -> None:
        self._zip.begin(name, len(text), datetime.now(UTC) if job is None else job.created_at)
        self._zip.add(text)
        self._zip.end()

    async def _of_file(self, name: str, file: File, job: Job) -> AsyncIterator[bytes]:
        """The file's bytes, of which one part is in memory at a time."""
        begun = False
        try:
            for start in range(0, file.size, PART_BYTES):
                data = await self._services.read(self._part(file, start))
                if not begun:
                    self._zip.begin(name, file.size, job.finished_at or job.created_at)
                    begun = True
                self._zip.add(data)
                yield self._zip.take()
        except LimnerError as error:
            self._told.append(f"{name}: {'It is not complete. ' if begun else ''}{_GONE}")
            if not isinstance(error, NotFoundError):
                raise
        finally:
            if begun:
                self._zip.end()

    def _part(self, file: File, start: int) -> Callable[[], bytes]:
        stop = min(start + PART_BYTES, file.size)
        if start == 0 and stop == file.size:
            return lambda: self._services.blobs.get(file.sha256)  # compared with its SHA-256
        return lambda: self._services.blobs.part(file.sha256, start=start, stop=stop)
