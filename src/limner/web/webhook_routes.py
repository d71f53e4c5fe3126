"""The routes of a job's webhooks: their state, and sending again."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic_core import to_json

from limner.domain.key import Scope
from limner.domain.webhook import Delivery, Hook
from limner.jobs import webhooks
from limner.web import shapes
from limner.web.admission import needs
from limner.web.job_routes import NOT_FOUND
from limner.web.operation_routes import problem_response
from limner.web.services import CallerDep, Services, ServicesDep

router = APIRouter(tags=["webhooks"])


@router.get("/v1/jobs/{job_id}/webhooks", response_model=shapes.WebhooksShape, responses={**NOT_FOUND})
@needs(Scope.READ)
async def list_webhooks(job_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    """The job's own webhooks, and how far their delivery has come."""
    await services.job(job_id, caller)
    return Response(to_json(await services.read(_listed, services, job_id)), media_type="application/json")


@router.post(
    "/v1/jobs/{job_id}/webhooks/replay",
    response_model=shapes.WebhooksShape,
    responses={**NOT_FOUND, 422: problem_response("The job has no webhook, or has not ended yet")},
)
@needs(Scope.SUBMIT, quota=False)
async def replay_webhooks(job_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    """Send the job's end to its own webhooks again, with the same ids."""
    await services.job(job_id, caller)
    store = services.submissions.store
    await services.call(lambda: store.transact(lambda tx: webhooks.replay_of_job(tx, job_id, own=True)))
    services.submissions.bus.wake()
    return Response(to_json(await services.read(_listed, services, job_id)), media_type="application/json")


def _listed(services: Services, job_id: str) -> dict[str, Any]:
    deliveries = services.hooks.deliveries(job_id)
    return {
        "webhooks": [
            _webhook(hook, [each for each in deliveries if each.hook_id == hook.id])
            for hook in services.hooks.of_job(job_id)
        ]
    }


def _webhook(hook: Hook, deliveries: list[Delivery]) -> dict[str, Any]:
    return {
        "id": hook.id,
        "host": webhooks.host_of(hook.url),  # the path may hold a password
        "state": hook.state,
        "reason": hook.reason,
        "deliveries": [
            {
                "id": each.id,
                "event_id": each.event_id,
                "event_type": each.event_type,
                "state": each.state,
                "tries": each.tries,
                "last_status": each.last_status,
                "last_error": each.last_error,
                "next_try_at": shapes.moment(each.next_try_at) if each.ended_at is None else None,
                "ended_at": shapes.moment(each.ended_at),
            }
            for each in deliveries
        ],
    }
