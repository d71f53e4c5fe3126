"""`WS /v1/live/detect`: the faces in a camera's frames, while it runs. Nothing is stored."""

from typing import Annotated

from fastapi import APIRouter, Query, WebSocket

from limner.domain.key import Scope
from limner.web.admission import needs
from limner.web.services import CallerDep, ServicesDep

router = APIRouter(tags=["live"])


@router.websocket("/v1/live/detect")
@needs(Scope.SUBMIT, ticket=True)  # a socket counts as one submission, however many frames it sends
async def socket_live_detect(
    socket: WebSocket,
    services: ServicesDep,
    caller: CallerDep,
    landmarks: Annotated[bool, Query(description="Five points of each face")] = False,
) -> None:
    """Frames as binary messages, JPEG; faces as JSON texts."""
    await services.live.serve(socket, caller, landmarks=landmarks)
