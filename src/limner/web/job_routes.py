"""The routes of jobs and their events. Those of their pictures are in `job_file_routes.py`."""

import logging
import re
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response, WebSocket
from pydantic import AwareDatetime
from pydantic_core import to_json
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from limner.domain.errors import InvalidRequestError, UnavailableError
from limner.domain.event import Event
from limner.domain.job import Status
from limner.domain.key import Scope as KeyScope
from limner.domain.label import MAX_LABEL
from limner.ports import JobFilter
from limner.telemetry import EVENTS_SENT, SOCKETS_SLOW
from limner.web import shapes
from limner.web.admission import needs
from limner.web.event_sockets import serve_socket
from limner.web.event_streams import RefusedError, TooSlowError
from limner.web.links import Links
from limner.web.operation_routes import Responses, answer, problem_response
from limner.web.services import CallerDep, ServicesDep

log = logging.getLogger(__name__)

router = APIRouter(tags=["jobs"])

NOT_FOUND: Responses = {404: problem_response("No such job")}
QUIET_S = 15.0
MAX_EVENT_ID = 2**63 - 1
MAX_EVENT_ID_DIGITS = 19
_RECEIPT = re.compile(r"(?:^|[,;\s])return=representation(?:$|[,;\s])", re.IGNORECASE)

Limit = Annotated[int, Query(ge=1, le=200)]
Search = Annotated[
    str | None,
    Query(max_length=MAX_LABEL, description="A part of the label; capital letters make no difference"),
]
Since = Annotated[AwareDatetime | None, Query(description="Created at this time or later (RFC 3339)")]
Until = Annotated[AwareDatetime | None, Query(description="Created before this time (RFC 3339)")]
After = Annotated[
    int | None, Query(ge=0, le=MAX_EVENT_ID, description="Begin after this event id; default: with new events")
]


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


@router.get(
    "/v1/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"}},
    tags=["events"],
)
@needs(KeyScope.READ, ticket=True)
async def stream_events(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    after: After = None,
    job: str | None = None,
    operation: str | None = None,
) -> Response:
    """Events as they happen. `Last-Event-ID` resumes after that event, and has priority over `after`."""
    resumed = request.headers.get("last-event-id")
    if resumed:
        if not resumed.isdecimal() or len(resumed) > MAX_EVENT_ID_DIGITS or int(resumed) > MAX_EVENT_ID:
            raise InvalidRequestError("Last-Event-ID: The value is not an event id.")
        after = int(resumed)
    links = services.links(request)
    batches = services.streams.listen(
        after=after,
        job_id=job,
        operation=operation,
        caller=caller,
        quiet_s=QUIET_S,
        prepare=lambda encoded: encoded.text(as_server_sent, links),
    )

    async def lines() -> AsyncIterator[str]:
        sent = EVENTS_SENT.labels("sse")
        try:
            yield "retry: 2000\n\n"
            async for batch in batches:
                yield "".join(encoded.text(as_server_sent, links) or "" for encoded in batch) or ": still here\n\n"
                sent.inc(len(batch))
        except TooSlowError:
            SOCKETS_SLOW.labels("sse").inc()  # the client reconnects with Last-Event-ID
        except UnavailableError as error:  # the same; too late for an answer 503
            log.warning("an event stream ends early", extra={"detail": error.detail})
        except RefusedError:
            return  # the client reconnects, and is answered 401

    return _EventStream(lines(), services.streams.place("sse"))


class _EventStream(StreamingResponse):
    """A response of server-sent events, which counts as an open stream while it is being sent."""

    def __init__(self, lines: AsyncIterator[str], place: AbstractContextManager[None]) -> None:
        super().__init__(
            lines,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


@router.websocket("/v1/events")
@needs(KeyScope.READ, ticket=True)
async def socket_events(
    socket: WebSocket,
    services: ServicesDep,
    caller: CallerDep,
    after: After = None,
    job: str | None = None,
    operation: str | None = None,
) -> None:
    """Events as JSON texts over a WebSocket."""
    await serve_socket(
        socket,
        services.streams,
        as_json,
        services.links(socket),
        stream="events",
        caller=caller,
        after=after,
        job_id=job,
        operation=operation,
    )


def as_json(event: Event, links: Links) -> str:
    """An event as a WebSocket message."""
    return to_json(shapes.event(event, links)).decode()


def as_server_sent(event: Event, links: Links) -> str:
    """An event as lines of `text/event-stream`."""
    return f"id: {event.id}\nevent: {event.type}\ndata: {as_json(event, links)}\n\n"
