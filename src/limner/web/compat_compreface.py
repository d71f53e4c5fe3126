"""`POST /api/v1/detection/detect`: the detection of CompreFace, for its own clients. See `docs/compat.md`."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from limner.domain.errors import (
    BadImageError,
    FaceNotFoundError,
    InvalidRequestError,
    LimnerError,
    UnauthorizedError,
    UnsupportedMediaError,
)
from limner.domain.key import Caller, Scope
from limner.web.admission import needs
from limner.web.compat import REFUSALS, as_json, refused_as, result_of, submit_detect
from limner.web.connections import client_of
from limner.web.query import any_query
from limner.web.read_json import read_object
from limner.web.read_request import FORM, JSON, read_form, receive
from limner.web.run_to_end import Run, new_run
from limner.web.services import CallerDep, Services, ServicesDep
from limner.web.upload_memory import Share

router = APIRouter(tags=["drop-in"])

_POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
_UNKNOWN_KEY, _MISSING_HEADER, _NO_PICTURE, _INVALID, _NO_FACE, _MISSING, _OTHER = 10, 20, 21, 26, 28, 33, 41


class _MissingFileError(InvalidRequestError):
    """Required request part 'file' is not present."""


def _refusal(error: LimnerError) -> Response:
    """CompreFace's codes: `CommonExceptionCode` in its source."""
    status, code = (400, _INVALID) if error.status < 500 else (500, _OTHER)
    if isinstance(error, UnauthorizedError):
        # its own text is there only if no key was sent
        missing = error.detail == UnauthorizedError().detail
        status, code = (400, _MISSING_HEADER) if missing else (404, _UNKNOWN_KEY)
    elif isinstance(error, FaceNotFoundError):
        code = _NO_FACE
    elif isinstance(error, BadImageError | UnsupportedMediaError):
        code = _NO_PICTURE
    elif isinstance(error, _MissingFileError):
        code = _MISSING
    elif error.status in (403, 413, 429, 503, 504):
        status, code = error.status, _OTHER
    return as_json({"message": error.detail, "code": code}, status)


@router.post(
    "/api/v1/detection/detect",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}, **REFUSALS},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                FORM: {"schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}},
                JSON: {
                    "schema": {
                        "type": "object",
                        "properties": {"file": {"type": "string", "description": "Base64"}},
                    }
                },
            },
        }
    },
)
@needs(Scope.SUBMIT)
@refused_as(_refusal)
@any_query  # as CompreFace, whose parameters grow
async def compreface_detect(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=0, le=10_000, description="At most so many faces; 0: all")] = 0,
    det_prob_threshold: Annotated[float | None, Query(ge=0, le=1, description="Least score of a face")] = None,
    face_plugins: Annotated[
        list[str], Query(max_length=20, description="`landmarks` is answered, others are absent; comma-separated")
    ] = [],  # noqa: B006  # FastAPI copies it
    status: Annotated[bool, Query(description="Versions and times of plugins, which there are not here")] = False,
) -> Response:
    """Find faces, as CompreFace tells them. No face is an error there."""
    del status  # what it asks for is absent: there are no plugins
    with new_run(services) as run:
        await _take_in(run, request, services, caller, max_faces=limit or None, min_score=det_prob_threshold)
        result = await result_of(run, services)
    if not result["faces"]:
        raise FaceNotFoundError("No face is found in the given image")
    points = "landmarks" in {each.strip() for listed in face_plugins for each in listed.split(",")}
    return as_json({"result": [_face(each, points=points) for each in result["faces"]]})


async def _take_in(run: Run, request: Request, services: Services, caller: Caller, **values: object) -> None:
    """Submit the job. The photo's memory is released when this returns."""
    with services.memory.share(client_of(request.scope)) as share:
        await submit_detect(run, services, caller, await _photo(request, services, share), **values)


async def _photo(request: Request, services: Services, share: Share) -> bytes:
    body = await receive(request, services, share, FORM, JSON, pictures=1)

    def read() -> object:
        if body.kind == JSON:
            return read_object(body.take_text(), ("file",), services.limits)[1].get("file")
        return {part.name: part.content for part in read_form(body, max_files=1)}.get("file")

    photo = await services.call(read)
    if not isinstance(photo, bytes) or not photo:
        raise _MissingFileError
    return photo


def _face(face: dict[str, Any], *, points: bool) -> dict[str, Any]:
    box = face["box"]
    told: dict[str, Any] = {
        "box": {
            "probability": face["score"],
            "x_max": round(box["x"] + box["width"]),
            "y_max": round(box["y"] + box["height"]),
            "x_min": round(box["x"]),
            "y_min": round(box["y"]),
        }
    }
    if points:
        told["landmarks"] = [[round(face["landmarks"][name][axis]) for axis in ("x", "y")] for name in _POINTS]
    return told
