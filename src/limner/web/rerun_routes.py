"""`POST /v1/jobs/{id}/rerun`: the same pictures again, with other parameters."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from limner.choices import kept_values
from limner.domain.errors import GoneError, InvalidRequestError, NotFoundError, UnknownWorkError, UnsupportedMediaError
from limner.domain.job import Job
from limner.domain.key import Caller, Scope
from limner.domain.label import FIELD as LABEL
from limner.domain.label import checked_label
from limner.jobs.webhooks import Webhook
from limner.operation import Operation
from limner.web import shapes
from limner.web.admission import needs
from limner.web.connections import client_of
from limner.web.operation_routes import SUBMISSION_PROBLEMS, problem_response, submitted
from limner.web.read_json import read_object
from limner.web.read_request import (
    JSON,
    Body,
    check_webhook,
    media_type,
    receive_json,
    take_webhook,
)
from limner.web.services import CallerDep, Services, ServicesDep

router = APIRouter(tags=["jobs"])

MERGE_PATCH = "application/merge-patch+json"
_BODY = {
    "description": "Parameters that change, `label` and `webhook_url`: a JSON merge patch (RFC 7396), null removes. "
    f"`{MERGE_PATCH}` is understood too",
    "content": {JSON: {"schema": {"type": "object"}}},  # one kind: generators make a class of each
}


@router.post(
    "/v1/jobs/{job_id}/rerun",
    status_code=202,
    response_model=shapes.JobShape,
    responses={
        200: {
            "model": shapes.JobShape,
            "description": "The job has finished: from the cache, or within `Prefer: wait`",
        },
        **SUBMISSION_PROBLEMS,
        404: problem_response("No such job; it may have been erased"),
        410: problem_response("The job was erased meanwhile, or one of its pictures is missing or damaged"),
    },
    openapi_extra={"requestBody": _BODY},
)
@needs(Scope.SUBMIT)
async def rerun_job(job_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """A new job with the pictures of this one, and its parameters with changes."""
    source = await services.job(job_id, caller)
    operation = services.catalogue.get(source.operation)
    if operation is None:
        raise UnknownWorkError
    return await submitted(request, services, caller, partial(_take_in, request, source, operation, services, caller))


async def _take_in(
    request: Request,
    source: Job,
    operation: Operation[Any, Any],
    services: Services,
    caller: Caller,
    new_id: str,
    idempotency_key: str | None,
) -> Job:
    """Submit the job and return it as stored. The pictures' memory is released when this returns."""
    kind = media_type(request.headers.get("content-type", JSON))
    if kind not in (JSON, MERGE_PATCH):
        raise UnsupportedMediaError(f"The request must be {JSON} or {MERGE_PATCH}.", accepts=[JSON, MERGE_PATCH])
    with services.memory.share(client_of(request.scope)) as share:
        body = await receive_json(request, services, share, pictures=0)
        changes = await services.call(_changes, body, operation, services)
        webhook_url = take_webhook(changes)
        label = checked_label(changes.pop(LABEL)) if LABEL in changes else source.label
        await check_webhook(webhook_url, services)
        wanted = [file for file in source.inputs if file.name not in changes]
        share.take(sum(file.size for file in wanted))
        values = {name: value for name, value in changes.items() if name not in operation.image_fields}

        def submit() -> Job:
            try:
                pictures = {file.name: services.blobs.get(file.sha256) for file in wanted}
            except NotFoundError as error:
                raise GoneError("A picture of the job is missing or damaged. Send it again, as a new job.") from error
            sent = operation.as_sent(source.params)
            merged = merge_patch(kept_values(operation.params, sent, values), values)
            return services.submissions.submit(
                operation,
                operation.parse(merged, pictures, services.limits),
                pictures,
                job_id=new_id,
                key_id=caller.key_id,
                idempotency_key=idempotency_key,
                webhook=None if webhook_url is None else Webhook(webhook_url, services.links(request).base),
                label=label,
                source_id=source.id,
            )

        return await services.call(submit)


def _changes(body: Body, operation: Operation[Any, Any], services: Services) -> dict[str, Any]:
    """What the body says. A picture can only be left out. InvalidRequestError, TooLargeError."""
    text = body.take_text()
    values, _ = read_object(text, (), services.limits) if text.strip() else ({}, {})
    for name in operation.image_fields:
        if values.get(name) is not None or values.get(f"{name}_url") is not None:
            raise InvalidRequestError(
                f"{name}: The pictures of the job are used again. Send another one as a new job.", field=name
            )
        values.pop(f"{name}_url", None)
    return values


def merge_patch(target: Any, patch: Any) -> Any:
    """The target after a JSON merge patch (RFC 7396): members replace, null removes, objects are merged."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
