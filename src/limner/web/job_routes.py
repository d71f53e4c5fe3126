"""The routes of jobs. Those of their pictures are in `job_file_routes.py`, of events in `event_routes.py`."""

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime
from pydantic_core import to_json

from limner.domain.job import Status
from limner.domain.key import Scope as KeyScope
from limner.domain.label import MAX_LABEL
from limner.ports import JobFilter
from limner.web import shapes
from limner.web.admission import needs
from limner.web.operation_routes import Responses, answer, problem_response
from limner.web.services import CallerDep, ServicesDep

router = APIRouter(tags=["jobs"])

NOT_FOUND: Responses = {404: problem_response("No such job")}
_RECEIPT = re.compile(r"(?:^|[,;\s])return=representation(?:$|[,;\s])", re.IGNORECASE)

Limit = Annotated[int, Query(ge=1, le=200)]
Search = Annotated[
    str | None,
    Query(max_length=MAX_LABEL, description="A part of the label; capital letters make no difference"),
]
Since = Annotated[AwareDatetime | None, Query(description="Created at this time or later (RFC 3339)")]
Until = Annotated[AwareDatetime | None, Query(description="Created before this time (RFC 3339)")]


@router.get("/v1/jobs", response_model=shapes.JobPageShape)
@needs(KeyScope.READ)
async def list_jobs(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    operation: str | None = None,
    status: Status | None = None,
    q: Search = None,
    since: Since = None,
    until: Until = None,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 50,
) -> Response:
    """Jobs, newest first, without their results. Send `next_cursor` as `cursor` to get the next page."""
    wanted = JobFilter(operation, status, caller.only, q or None, since, until)
    found = await services.read(lambda: services.reader.page(wanted, before=cursor, limit=limit + 1))
    links = services.links(request)
    page = {
        "jobs": [shapes.listed_job(job, links) for job in found[:limit]],
        "next_cursor": found[limit - 1].id if len(found) > limit else None,
    }
    return Response(to_json(page), media_type="application/json")


@router.get("/v1/jobs/{job_id}", response_model=shapes.JobShape, responses={**NOT_FOUND})
@needs(KeyScope.READ)
async def get_job(job_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """The job; while it is queued, with its place in the queue."""
    job = await services.job(job_id, caller)
    place = await services.read(services.queue.place, job) if job.status is Status.QUEUED else None
    told = shapes.job(job, services.links(request), place, services.parameters(job))
    return Response(to_json(told), media_type="application/json")


@router.post(
    "/v1/jobs/{job_id}/cancel",
    response_model=shapes.JobShape,
    responses={**NOT_FOUND, 409: problem_response("The job has finished")},
)
@needs(KeyScope.SUBMIT, quota=False)
async def cancel_job(job_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Cancel a job. A running one stops at its next step."""
    await services.check_owner(job_id, caller)
    return answer(await services.call(services.submissions.cancel, job_id), request, services)


@router.delete(
    "/v1/jobs/{job_id}",
    status_code=204,
    response_class=Response,
    responses={
        200: {"model": shapes.ReceiptShape, "description": "Erased, with `Prefer: return=representation`"},
        **NOT_FOUND,
        503: problem_response("Nothing was erased, or not yet all pictures: see `detail`"),
    },
)
@needs(KeyScope.ERASE)
async def erase_job(job_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Erase a job: its pictures, its artifacts, its cache entry, its webhooks and the contents of its events.

    With `Prefer: return=representation` the answer is a receipt, which `limner verify-erasure` checks.
    """
    await services.check_owner(job_id, caller)
    sees_all = caller.only is None
    receipt = await services.call(lambda: services.submissions.erase(job_id, tell_others=sees_all))
    if not _RECEIPT.search(",".join(request.headers.getlist("prefer"))):
        return Response(status_code=204)
    headers = {"Preference-Applied": "return=representation"}
    return Response(to_json(receipt), media_type="application/json", headers=headers)
