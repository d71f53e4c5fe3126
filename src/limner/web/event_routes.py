"""`/v1/events`: the events as server-sent events, and over a WebSocket at the same path."""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, WebSocket
from pydantic_core import to_json
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from limner.domain.errors import InvalidRequestError, UnavailableError
from limner.domain.event import Event, EventType
from limner.domain.key import Scope as KeyScope
from limner.telemetry import EVENTS_SENT, SOCKETS_SLOW
from limner.web import shapes
from limner.web.admission import needs
from limner.web.event_sockets import serve_socket
from limner.web.event_streams import Encode, RefusedError, TooSlowError
from limner.web.links import Links
from limner.web.query import JobId
from limner.web.services import CallerDep, ServicesDep

log = logging.getLogger(__name__)

router = APIRouter(tags=["events"])

QUIET_S = 15.0
MAX_EVENT_ID = 2**63 - 1
MAX_EVENT_ID_DIGITS = 19

After = Annotated[
    int | None, Query(ge=0, le=MAX_EVENT_ID, description="Begin after this event id; default: with new events")
]
OfJob = Annotated[JobId | None, Query(description="Only events of the job with this id")]
OfOperation = Annotated[str | None, Query(description="Only events of this operation's jobs")]

_STREAM: dict[str, Any] = {
    "text/event-stream": {
        "schema": {"type": "string", "description": "Server-sent events. Lines that begin with `:` keep it open"},
        # as OpenAPI 3.2 and FastAPI have it; generators of today read only the schema above
        "itemSchema": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "description": "The event's id, for `Last-Event-ID`"},
                "event": {"enum": [each.value for each in EventType], "description": "Absent with `named=false`"},
                "data": {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": {"$ref": "#/components/schemas/EventShape"},
                },
                "retry": {"type": "integer", "description": "Milliseconds until a client should connect again"},
            },
        },
    }
}


@router.get(
    "/v1/events",
    response_class=StreamingResponse,
    responses={200: {"content": _STREAM, "description": "The data of each event is an `EventShape`, as JSON"}},
)
@needs(KeyScope.READ, ticket=True)
async def stream_events(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    after: After = None,
    job: OfJob = None,
    operation: OfOperation = None,
    named: Annotated[
        bool,
        Query(
            description="`false`: without `event:` lines, so that a browser's `onmessage` gets all events; "
            "their type is in the data"
        ),
    ] = True,
    last_event_id: Annotated[
        str | None, Query(alias="lastEventId", description="The same as the header, for clients that cannot send it")
    ] = None,
) -> Response:
    """Events as they happen. `Last-Event-ID` resumes after that event, and has priority over `after`."""
    resumed = request.headers.get("last-event-id") or last_event_id
    if resumed:
        if not resumed.isdecimal() or len(resumed) > MAX_EVENT_ID_DIGITS or int(resumed) > MAX_EVENT_ID:
            raise InvalidRequestError("Last-Event-ID: The value is not an event id.")
        after = int(resumed)
    links = services.links(request)
    encode: Encode = as_server_sent if named else as_message
    batches = services.streams.listen(
        after=after,
        job_id=job,
        operation=operation,
        caller=caller,
        quiet_s=QUIET_S,
        prepare=lambda encoded: encoded.text(encode, links),
    )

    async def lines() -> AsyncIterator[str]:
        sent = EVENTS_SENT.labels("sse")
        try:
            yield "retry: 2000\n\n"
            async for batch in batches:
                yield "".join(encoded.text(encode, links) or "" for encoded in batch) or ": still here\n\n"
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
    job: OfJob = None,
    operation: OfOperation = None,
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
    """An event as lines of `text/event-stream`, with its name."""
    return f"id: {event.id}\nevent: {event.type}\ndata: {as_json(event, links)}\n\n"


def as_message(event: Event, links: Links) -> str:
    """The same without its name: browsers call that a `message`."""
    return f"id: {event.id}\ndata: {as_json(event, links)}\n\n"
