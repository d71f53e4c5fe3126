"""Is it alive, can it work, what does it count."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from limner.domain.errors import UnavailableError
from limner.domain.job import Status
from limner.telemetry import JOBS_RUNNING, QUEUE_DEPTH
from limner.web.operation_routes import problem_response
from limner.web.services import ServicesDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """All is well."""

    status: str = "ok"


_OK = Health().model_dump_json()


@router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """The process is alive."""
    return Response(_OK, media_type="application/json")


@router.get("/readyz", response_model=Health, responses={503: problem_response("Not ready")})
async def readyz(services: ServicesDep) -> Response:
    """A photo can be taken: database and folder can be written, the models are loaded, it is not stopping."""
    if not services.submissions.open:
        raise UnavailableError("the service is stopping")
    await services.call(services.check_ready)
    return Response(_OK, media_type="application/json")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(services: ServicesDep) -> Response:
    """Prometheus metrics."""
    QUEUE_DEPTH.set(await services.call(services.reader.count, Status.QUEUED))
    JOBS_RUNNING.set(await services.call(services.reader.count, Status.RUNNING))
    return Response(await services.call(generate_latest), headers={"Content-Type": CONTENT_TYPE_LATEST})
