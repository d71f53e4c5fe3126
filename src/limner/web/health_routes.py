"""Liveness, readiness and metrics."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from limner import shared_metrics
from limner.domain.errors import UnavailableError
from limner.domain.job import Status
from limner.telemetry import JOBS_RUNNING, QUEUE_DEPTH
from limner.web.operation_routes import problem_response
from limner.web.services import ServicesDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The answer of a healthy service."""

    status: str = "ok"


_OK = Health().model_dump_json()


@router.get("/healthz", response_model=Health)
async def healthz() -> Response:
    """200 if the process answers."""
    return Response(_OK, media_type="application/json")


@router.get("/readyz", response_model=Health, responses={503: problem_response("Not ready")})
async def readyz(services: ServicesDep) -> Response:
    """200 if photos are accepted: database and folder are writable, models are loaded, the service is not stopping."""
    if not services.submissions.open:
        raise UnavailableError("The service is stopping. Try again later.")
    await services.call(services.check_ready)
    return Response(_OK, media_type="application/json")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(services: ServicesDep) -> Response:
    """Prometheus metrics, of all processes of this service."""
    QUEUE_DEPTH.set(await services.read(services.reader.count, Status.QUEUED))
    JOBS_RUNNING.set(await services.read(services.reader.count, Status.RUNNING))
    return Response(await services.read(shared_metrics.exposition), headers={"Content-Type": CONTENT_TYPE_LATEST})
