"""`POST /v1/<operation>` for every operation of the catalogue, and `GET /v1/operations`."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic_core import to_json

from limner.domain.errors import InvalidRequestError
from limner.domain.job import Job
from limner.domain.key import Caller, Scope
from limner.jobs.webhooks import Webhook
from limner.operation import Operation
from limner.web import shapes
from limner.web.admission import ANY_KEY, needs
from limner.web.connections import client_of
from limner.web.describe_operation import job_of, request_of
from limner.web.query import any_query
from limner.web.read_request import (
    FORM,
    JSON,
    NOTHING,
    RAW,
    Sent,
    check_webhook,
    fetch_pictures,
    read_submission,
    receive,
)
from limner.web.services import CallerDep, Services, ServicesDep

router = APIRouter(tags=["operations"])

Responses = dict[int | str, dict[str, Any]]
ACCEPTED = (FORM, JSON, RAW, NOTHING)
_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,18})(?:$|[,;\s])", re.IGNORECASE)


@router.get("/v1/operations", response_model=shapes.OperationsShape)
@needs(ANY_KEY)
async def list_operations(request: Request, services: ServicesDep) -> Response:
    """Each operation with the JSON Schema of its parameters and of its result."""
    links = services.links(request)
    listed = [
        {
            "name": each.name,
            "summary": each.summary,
            "version": each.version,
            "url": links.to(f"/v1/{each.name}"),
            "parameters": _schema_with_limit(each, services.limits.max_bytes),
            "result": each.result.model_json_schema(),
        }
        for each in services.catalogue.values()
    ]
    return Response(to_json({"operations": listed}), media_type="application/json")


def _schema_with_limit(operation: Operation[Any, Any], max_bytes: int) -> dict[str, Any]:
    """The JSON Schema of the parameters; `x-max-bytes` of a picture is the size limit of its file."""
    schema: dict[str, Any] = operation.params.model_json_schema()
    schema["$defs"]["ImageRef"]["x-max-bytes"] = max_bytes
    return schema


def add_operation(routes: APIRouter, operation: Operation[Any, Any]) -> None:
    """Add the endpoint of an operation."""
    routes.add_api_route(
        f"/v1/{operation.name}",
        _endpoint(operation),
        methods=["POST"],
        name=operation.name,
        summary=operation.summary,
        status_code=202,
        response_model=job_of(operation),
        responses={
            200: {
                "model": job_of(operation),
                "description": "The job has finished: from the cache, or within `Prefer: wait`",
            },
            202: {"description": "The job is stored. Follow `Location` or the events"},
            **SUBMISSION_PROBLEMS,
        },
        openapi_extra=request_of(operation),
    )


def problem_response(description: str) -> dict[str, Any]:
    """The description of an error response in OpenAPI."""
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemShape"}}},
    }


SUBMISSION_PROBLEMS: Responses = {
    408: problem_response("The upload took too long"),
    413: problem_response("The picture or the request is too large"),
    415: problem_response("The file is not an accepted kind of picture"),
    422: problem_response("The picture is damaged, or a field is invalid"),
    429: problem_response("The queue is full; see `Retry-After`"),
    503: problem_response("The service is stopping, or the database or disk cannot be used"),
}


def _endpoint(operation: Operation[Any, Any]) -> Callable[[Request, Services, Caller], Awaitable[Response]]:
    @any_query  # they are parameters
    @needs(Scope.SUBMIT)
    async def submit(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
        return await submitted(request, services, caller, partial(_take_in, request, operation, services, caller))

    return submit


async def submitted(
    request: Request, services: Services, caller: Caller, take_in: Callable[[str, str | None], Awaitable[Job]]
) -> Response:
    """The answer to a submission, which `take_in` makes with the id for a new job and the idempotency key."""
    wait_s = min(_preferred_wait(request), services.settings.max_wait_s)
    key = _idempotency_key(request)
    job_id = services.submissions.ids.new()
    with services.streams.expecting(job_id) as ended:
        job = await take_in(job_id, key)
        request.state.job = job.id
        if wait_s > 0 and not job.status.final:
            job = await (
                _wait(services, caller, job_id, ended, wait_s)
                if job.id == job_id
                else _join(services, caller, job.id, wait_s)
            )
    return answer(job, request, services, waited=wait_s > 0)


async def _take_in(
    request: Request,
    operation: Operation[Any, Any],
    services: Services,
    caller: Caller,
    job_id: str,
    idempotency_key: str | None,
) -> Job:
    """Submit the job and return it as stored. The pictures' memory is released when this returns."""
    with services.memory.share(client_of(request.scope)) as share:
        body = await receive(request, services, share, *ACCEPTED, pictures=len(operation.image_fields))

        def submit(sent: Sent, pictures: dict[str, bytes]) -> Job:
            params = operation.parse(sent.values, pictures, services.limits)
            return services.submissions.submit(
                operation,
                params,
                pictures,
                job_id=job_id,
                key_id=caller.key_id,
                idempotency_key=idempotency_key,
                webhook=Webhook(sent.webhook_url, services.links(request).base) if sent.webhook_url else None,
                label=sent.label,
            )

        def begin() -> Job | Sent:
            sent = read_submission(body, request.query_params.multi_items(), operation, services.limits)
            return sent if sent.urls or sent.webhook_url else submit(sent, sent.pictures)

        begun = await services.call(begin)
        if isinstance(begun, Job):
            return begun
        await check_webhook(begun.webhook_url, services)
        return await services.call(submit, begun, await fetch_pictures(begun, services, share))


async def _wait(services: Services, caller: Caller, job_id: str, ended: "asyncio.Future[None]", wait_s: float) -> Job:
    """The job when it has ended, or its state after `wait_s` seconds or when the service stops."""
    await asyncio.wait([ended], timeout=wait_s)
    return await services.job(job_id, caller)


async def _join(services: Services, caller: Caller, job_id: str, wait_s: float) -> Job:
    """Wait for a job that existed before, which may have ended already."""
    with services.streams.expecting(job_id) as ended:
        job = await services.job(job_id, caller)
        return job if job.status.final else await _wait(services, caller, job_id, ended, wait_s)


def answer(job: Job, request: Request, services: Services, *, waited: bool = False) -> Response:
    """200 for a finished job, else 202."""
    links = services.links(request)
    headers = {"Location": links.job(job.id)}
    if waited:
        headers["Preference-Applied"] = "wait"
    done = job.status.final
    return Response(
        to_json(shapes.job(job, links, parameters=services.parameters(job))),
        status_code=200 if done else 202,
        media_type="application/json",
        headers=headers,
    )


def _preferred_wait(request: Request) -> int:
    """The seconds of `Prefer: wait=N` (RFC 7240), 0 without it."""
    match = _WAIT.search(",".join(request.headers.getlist("prefer")))
    return int(match[1]) if match else 0


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= 255 and key.isprintable()):
        raise InvalidRequestError("Idempotency-Key: The key must have 1 to 255 printable characters.")
    return key
