"""Liveness, readiness and metrics."""

from datetime import UTC, datetime

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from limner import shared_metrics
from limner.domain.errors import UnavailableError
from limner.domain.key import Scope
from limner.ports import LaneLoad
from limner.telemetry import CACHE_RESULTS, DATABASE_UP, JOBS_RUNNING, QUEUE_AGE, QUEUE_DEPTH, STORED_BYTES
from limner.web.admission import OPEN, needs
from limner.web.operation_routes import problem_response
from limner.web.query import any_query
from limner.web.services import Services, ServicesDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The answer of a healthy service."""

    status: str = "ok"


_OK = Health().model_dump_json()


@router.get("/healthz", response_model=Health)
@any_query  # probes add what their proxies need
@needs(OPEN)
async def healthz() -> Response:
    """200 if the process answers."""
    return Response(_OK, media_type="application/json")


@router.get("/readyz", response_model=Health, responses={503: problem_response("Not ready")})
@any_query  # probes add what their proxies need
@needs(OPEN)
async def readyz(services: ServicesDep) -> Response:
    """200 if photos are accepted: database and folder are writable, and the service is not stopping.

    Where it runs the jobs itself, a worker must have loaded its models. Workers behind a broker are not asked.
    """
    if services.stopping or not services.submissions.open:
        raise UnavailableError("The service is stopping. Try again later.")
    await services.call(services.check_ready)
    return Response(_OK, media_type="application/json")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
@any_query  # probes add what their proxies need
@needs(Scope.METRICS)
async def metrics(services: ServicesDep) -> Response:
    """Prometheus metrics, of all processes of this service."""
    await services.read(_measure, services)
    return Response(await services.read(shared_metrics.exposition), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _measure(services: Services) -> None:
    """Set the gauges that come from the database: at each scrape, so that whichever process answers is right.

    Without the database they keep their values, because the other metrics are needed most then.
    """
    try:
        loads = {load.lane: load for load in services.reader.lanes()}
        results, size = services.reader.totals()
    except UnavailableError:
        DATABASE_UP.set(0)
        return
    DATABASE_UP.set(1)
    CACHE_RESULTS.set(results)
    STORED_BYTES.set(size)
    now = datetime.now(UTC)
    for lane in {
        *_seen_lanes,
        *loads,
        *(lane for operation in services.catalogue.values() for lane in operation.lanes),
    }:
        _seen_lanes.add(lane)
        load = loads.get(lane, LaneLoad(lane))
        QUEUE_DEPTH.labels(lane).set(load.queued)
        QUEUE_AGE.labels(lane).set(max((now - load.oldest).total_seconds(), 0) if load.oldest else 0)
        JOBS_RUNNING.labels(lane).set(load.running)


_seen_lanes: set[str] = set()
"""Lanes of operations, also of those that another version has left in the database."""
