"""The paths of earlier services, answered from the same jobs.

There are three groups: `/image` … `/faces`, `/api/v1/images` … `/ws/v1/faces`, and the facial-contour paths.
`classic_generation_routes.py` has a fourth.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response, WebSocket
from pydantic_core import to_json

from limner.domain.errors import FaceNotFoundError, InvalidRequestError, NotFoundError
from limner.domain.event import Event, EventType
from limner.domain.job import File, Job, Role, Status
from limner.domain.key import Caller, Scope
from limner.web import shapes
from limner.web.admission import needs
from limner.web.connections import client_of
from limner.web.event_sockets import serve_socket
from limner.web.job_file_routes import send_file
from limner.web.links import Links
from limner.web.operation_routes import SUBMISSION_PROBLEMS, Responses, problem_response
from limner.web.query import any_query
from limner.web.read_json import read_object
from limner.web.read_request import FORM, read_form, receive, receive_json
from limner.web.services import CallerDep, Services, ServicesDep

router = APIRouter(tags=["classic"])

NOT_FOUND: Responses = {404: problem_response("Unknown id")}
_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
            }
        },
    }
}
_STATES = {
    Status.QUEUED: "pending",
    Status.RUNNING: "pending",
    Status.SUCCEEDED: "finished",
    Status.FAILED: "error",
    Status.CANCELLED: "error",
}
RETRY_AFTER_S = "1"


async def submit_form(
    request: Request,
    services: Services,
    caller: Caller,
    operation_name: str,
    names: Sequence[str],
    values: Callable[[Mapping[str, str | bytes]], dict[str, Any]] = lambda _: {},
) -> Job:
    """Submit a job for the picture that a form has under one of `names`; `values` makes its parameters of the form."""
    operation = services.catalogue[operation_name]
    with services.memory.share(client_of(request.scope)) as share:
        body = await receive(request, services, share, FORM, pictures=1)

        def submit() -> Job:
            form: dict[str, str | bytes] = {}
            for part in read_form(body, max_files=2):
                if part.name in names and part.name in form:
                    raise InvalidRequestError(f"{part.name}: The field was sent twice.")
                form[part.name] = part.content
            data = next((form[name] for name in names if form.get(name) not in (None, "")), None)
            if not isinstance(data, bytes):
                raise InvalidRequestError(f"{names[0]}: A picture is required. Send it as a file part.")
            params = operation.parse(values(form), {"image": data}, services.limits)
            return services.submissions.submit(operation, params, {"image": data}, key_id=caller.key_id)

        return await services.call(submit)


async def _detect(request: Request, services: Services, caller: Caller) -> Job:
    return await submit_form(request, services, caller, "detect", ("file", "image"))


def _json(content: object, status: int = 200) -> Response:
    return Response(to_json(content), status_code=status, media_type="application/json")


def _marked(job: Job) -> File | None:
    return next(iter(job.artifacts), None)


def _processed_url(links: Links, job_id: str) -> str:
    return links.picture(f"/jobs/{job_id}/processed-image")


async def _detect_job(services: Services, job_id: str, caller: Caller) -> Job:
    job = await services.job(job_id, caller)
    if job.operation != "detect":
        raise NotFoundError("no such job")
    return job


# --- /image, /jobs, /faces ------------------------------------------------------------------------------------------


@router.post("/image", status_code=201, openapi_extra=_UPLOAD, responses={**SUBMISSION_PROBLEMS})
@needs(Scope.SUBMIT)
async def post_image(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Submit a photo (`file` or `image`)."""
    job = await _detect(request, services, caller)
    links = services.links(request)
    return _json(
        {
            "id": job.id,
            "created_at": shapes.moment(job.created_at),
            "state": _STATES[job.status],
            "job_url": links.to(f"/jobs/{job.id}"),
            "processed_url": _processed_url(links, job.id),
        },
        201,
    )


@router.get("/jobs/{job_id}", responses={**NOT_FOUND})
@any_query
@needs(Scope.READ)
async def get_classic_job(job_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """The job; `coordinates` are [x, y, width, height] in whole pixels."""
    job = await _detect_job(services, job_id, caller)
    faces = (job.result or {}).get("faces", [])
    marked = _marked(job)
    return _json(
        {
            "id": job.id,
            "created_at": shapes.moment(job.created_at),
            "modified_at": shapes.moment(job.finished_at or job.started_at or job.created_at),
            "state": _STATES[job.status],
            "is_face_detected": bool(faces) if job.status.final else None,
            "coordinates": [[round(face["box"][key]) for key in ("x", "y", "width", "height")] for face in faces],
            "processed_filename": f"{job.id}.{marked.name.rpartition('.')[2]}" if marked else None,
            "processed_url": _processed_url(services.links(request), job.id) if marked else None,
        }
    )


@router.head("/jobs/{job_id}/processed-image", include_in_schema=False)
@router.get(
    "/jobs/{job_id}/processed-image",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {}}},
        202: {"description": "The job has not finished yet"},
        404: problem_response("Unknown id, or no face in the photo"),
        422: problem_response("The job failed"),
    },
)
@any_query
@needs(Scope.READ, signed=True)
async def get_processed_image(job_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """The marked picture."""
    job = await _detect_job(services, job_id, caller)
    if not job.status.final:
        pending = _json({"id": job.id, "state": _STATES[job.status]}, 202)
        pending.headers["Retry-After"] = RETRY_AFTER_S
        return pending
    if job.status is not Status.SUCCEEDED:
        detail = (job.error or {}).get("detail", f"The job was {job.status}.")
        raise InvalidRequestError(f"There is no picture: {detail}")
    marked = _marked(job)
    if marked is None:
        raise _NoFaceError
    return await send_file(lambda: marked, request, services)


class _NoFaceError(FaceNotFoundError):
    """There is no marked picture, because no face was found or the job did not ask for one."""

    status = 404


def as_face_message(event: Event, links: Links) -> str | None:
    """The classic message, only for detect jobs that found a face; else None."""
    if not _has_marked_picture(event):
        return None
    assert event.content is not None
    return json.dumps(
        {
            "job_id": event.job_id,
            "processed_url": _processed_url(links, event.job_id),
            "faces_count": shapes.faces_count(event),
            "created_at": event.content["created_at"].replace("+00:00", "Z"),
            "processed_at": (event.content["finished_at"] or "").replace("+00:00", "Z"),
        }
    )


def _has_marked_picture(event: Event) -> bool:
    """Whether the event is the success of a detect job with a marked picture; with `mark=none` there is none."""
    return (
        event.type is EventType.SUCCEEDED
        and event.operation == "detect"
        and event.content is not None
        and bool(shapes.faces_count(event))
        and bool(event.content["artifacts"])
    )


@router.websocket("/faces")
@router.websocket("/ws")
@any_query
@needs(Scope.READ, ticket=True)
async def socket_faces(socket: WebSocket, services: ServicesDep, caller: CallerDep) -> None:
    """Send every client one JSON text per photo in which a face was found."""
    await serve_socket(socket, services.streams, as_face_message, services.links(socket), stream="faces", caller=caller)


# --- /api/v1/images, /ws/v1/faces -----------------------------------------------------------------------------------


def image_url(links: Links, file_id: str) -> str:
    """The URL of a picture by its file's id."""
    return links.picture(f"/api/v1/images/{file_id}")


def _described(file: File, source: File | None, links: Links) -> dict[str, Any]:
    suffix = file.media_type.rpartition("/")[2].replace("jpeg", "jpg").replace("svg+xml", "svg")
    return {
        "uuid": file.id,
        "filename": f"{file.id}.{suffix}",  # the client's file name is not stored
        "type": "input" if file.role is Role.INPUT else "output",
        "src_image_uuid": source.id if source is not None else None,
        "url": image_url(links, file.id),
    }


@router.post("/api/v1/images", openapi_extra=_UPLOAD, responses={**SUBMISSION_PROBLEMS})
@needs(Scope.SUBMIT)
async def post_api_image(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Submit a photo (`file`); its marked picture is announced on `/ws/v1/faces`."""
    job = await _detect(request, services, caller)
    return _json(_described(job.inputs[0], None, services.links(request)))


def _file(services: Services, file_id: str, caller: Caller) -> File:
    file = services.reader.file(file_id, key_id=caller.only)
    if file is None:
        raise NotFoundError("The image does not exist. It may have been erased.")
    return file


@router.head("/api/v1/images/{file_id}", include_in_schema=False)
@router.get(
    "/api/v1/images/{file_id}", response_class=Response, responses={200: {"content": {"image/*": {}}}, **NOT_FOUND}
)
@any_query
@needs(Scope.READ, signed=True)
async def get_api_image(file_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """The bytes of an uploaded photo or of a marked picture."""
    return await send_file(lambda: _file(services, file_id, caller), request, services)


@router.get("/api/v1/images/{file_id}/meta", responses={**NOT_FOUND})
@any_query
@needs(Scope.READ)
async def get_api_image_meta(file_id: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """The description of an image."""
    file = await services.read(_file, services, file_id, caller)
    source = None
    if file.role is Role.ARTIFACT:
        source = next(iter((await services.job(file.job_id, caller)).inputs), None)
    return _json(_described(file, source, services.links(request)))


def as_picture_url(event: Event, links: Links) -> str | None:
    """The classic message: the URL of the marked picture; None for other events."""
    if not _has_marked_picture(event):
        return None
    assert event.content is not None
    return image_url(links, event.content["artifacts"][0]["id"])


@router.websocket("/ws/v1/faces")
@any_query
@needs(Scope.READ, ticket=True)
async def socket_picture_urls(socket: WebSocket, services: ServicesDep, caller: CallerDep) -> None:
    """Send every client the URL of each marked picture as plain text."""
    await serve_socket(socket, services.streams, as_picture_url, services.links(socket), stream="urls", caller=caller)


# --- /api/v1/submit, /api/v1/status and the same under /api/v1/frontal/crop ------------------------------------------

_CONTOUR_STATES = {
    Status.QUEUED: "pending",
    Status.RUNNING: "processing",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "failed",
}
_CONTOURS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "description": "Base64 or a data URL"},
                        "landmarks": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
                            },
                        },
                        "segmentation_map": {"type": "string", "description": "Base64 or a data URL"},
                        "loadtest_mode": {"type": "boolean"},
                    },
                }
            }
        },
    }
}


@router.post("/api/v1/submit", status_code=202, openapi_extra=_CONTOURS_BODY, responses={**SUBMISSION_PROBLEMS})
@needs(Scope.SUBMIT)
async def post_contours(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Submit a face; the result has its contours by label."""
    return await _submit_contours(request, services, caller, "labels")


@router.post(
    "/api/v1/frontal/crop/submit", status_code=202, openapi_extra=_CONTOURS_BODY, responses={**SUBMISSION_PROBLEMS}
)
@needs(Scope.SUBMIT)
async def post_frontal_crop(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Submit a face; the result has seven numbered regions."""
    return await _submit_contours(request, services, caller, "seven")


async def _submit_contours(request: Request, services: Services, caller: Caller, scheme: str) -> Response:
    operation = services.catalogue["contours"]
    with services.memory.share(client_of(request.scope)) as share:
        body = await receive_json(request, services, share, pictures=len(operation.image_fields))

        def submit() -> Job:
            sent, pictures = read_object(body.take_text(), operation.image_fields, services.limits)
            skips_delay = sent.get("loadtest_mode") is True or services.settings.load_test_mode
            values = {
                "scheme": scheme,
                "style": "classic",
                "landmarks": sent.get("landmarks") or None,
                "answer_after_s": 0 if skips_delay else services.settings.simulated_delay_s,
            }
            params = operation.parse(values, pictures, services.limits)
            return services.submissions.submit(operation, params, pictures, key_id=caller.key_id)

        job = await services.call(submit)
    return _json({"id": job.id, "status": "pending"}, 202)


@router.get(
    "/api/v1/status/{job_id}",
    responses={202: {"description": "The job is pending or processing"}, **NOT_FOUND},
)
@any_query
@needs(Scope.READ)
async def get_contours_status(job_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    """The status of a contours job; when completed, with the SVG (base64) and the polygons."""
    told = await _contours_status(job_id, services, caller)
    return _json(told, 202 if told["status"] in ("pending", "processing") else 200)


@router.get("/api/v1/frontal/crop/status/{job_id}", responses={**NOT_FOUND})
@any_query
@needs(Scope.READ)
async def get_frontal_crop_status(job_id: str, services: ServicesDep, caller: CallerDep) -> Response:
    """The same for a job of the other path, whose clients expect 200 always."""
    return _json(await _contours_status(job_id, services, caller))


async def _contours_status(job_id: str, services: Services, caller: Caller) -> dict[str, Any]:
    job = await services.job(job_id, caller)
    if job.operation != "contours":
        raise NotFoundError("no such job")
    delay = timedelta(seconds=job.params.get("answer_after_s", 0))
    if datetime.now(UTC) < job.created_at + delay:
        return {"id": job.id, "status": "processing"}
    answer: dict[str, Any] = {"id": job.id, "status": _CONTOUR_STATES[job.status]}
    if job.status is Status.SUCCEEDED and job.result is not None:
        answer["svg"] = base64.b64encode(await services.read(services.blobs.get, job.artifacts[0].sha256)).decode()
        answer["mask_contours"] = job.result["mask_contours"]
    elif job.status.final:
        answer["error"] = (job.error or {}).get("detail", f"The job was {job.status}.")
    return answer
