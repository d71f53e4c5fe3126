"""`POST /v1/tickets`: opens event streams from browsers, which cannot send a header with a WebSocket."""

from datetime import datetime

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from limner.domain.key import Scope
from limner.web import shapes
from limner.web.admission import needs
from limner.web.services import CallerDep, ServicesDep

router = APIRouter(tags=["events"])


class TicketShape(BaseModel):
    """A ticket for one event stream; both are null where no keys are required."""

    ticket: str | None = Field(description="Send it as `?ticket=` with one WebSocket or one request of an EventSource")
    expires_at: datetime | None


@router.post("/v1/tickets", response_model=TicketShape)
@needs(Scope.READ)
async def make_ticket(services: ServicesDep, caller: CallerDep) -> Response:
    """A ticket that opens one event stream within a minute."""
    made = services.admission.ticket(caller)
    ticket, expires_at = made if made is not None else (None, None)
    content = {"ticket": ticket, "expires_at": shapes.moment(expires_at)}
    return Response(to_json(content), media_type="application/json", headers={"Cache-Control": "no-store"})
