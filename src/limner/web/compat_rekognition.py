"""`POST /compat/rekognition`: `DetectFaces` of Amazon Rekognition, for its own clients. See `docs/compat.md`."""

from typing import Any

from fastapi import APIRouter, Request, Response

from limner.domain.errors import (
    BadImageError,
    InvalidRequestError,
    LimnerError,
    QueueFullError,
    RateLimitedError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaError,
)
from limner.domain.key import Caller, Scope
from limner.web.admission import needs
from limner.web.compat import (
    REFUSALS,
    as_json,
    member,
    picture_of,
    read_pictures,
    refused_as,
    result_of,
    submit_detect,
)
from limner.web.connections import client_of
from limner.web.run_to_end import Run, new_run
from limner.web.services import CallerDep, Services, ServicesDep

router = APIRouter(tags=["drop-in"])

TARGET = "RekognitionService.DetectFaces"
MEDIA_TYPE = "application/x-amz-json-1.1"
_LANDMARKS = {
    "eyeLeft": "left_eye",
    "eyeRight": "right_eye",
    "nose": "nose",
    "mouthLeft": "mouth_left",
    "mouthRight": "mouth_right",
}
_DEPTH = 2  # of Bytes in {"Image": {"Bytes": "…"}}


class _UnknownOperationError(InvalidRequestError):
    """Of Rekognition, only DetectFaces is answered here."""


class _NoS3Error(InvalidRequestError):
    """Pictures of S3 are not fetched. Send the picture itself, as `Bytes`."""


_CODES: tuple[tuple[type[LimnerError], int, str], ...] = (
    (_UnknownOperationError, 400, "UnknownOperationException"),
    (_NoS3Error, 400, "InvalidS3ObjectException"),
    (UnsupportedMediaError, 400, "InvalidImageFormatException"),
    (BadImageError, 400, "InvalidImageFormatException"),
    (TooLargeError, 400, "ImageTooLargeException"),
    (InvalidRequestError, 400, "InvalidParameterException"),
    (UnauthorizedError, 400, "UnrecognizedClientException"),
    (RateLimitedError, 400, "ThrottlingException"),
    (QueueFullError, 400, "ProvisionedThroughputExceededException"),
    (UnavailableError, 503, "ServiceUnavailableException"),
)


def _refusal(error: LimnerError) -> Response:
    status, code = 500, "InternalServerError"
    if error.status == 403:
        status, code = 400, "AccessDeniedException"
    for kind, found, name in _CODES:
        if isinstance(error, kind):
            status, code = found, name
            break
    answer = as_json({"__type": code, "Message": error.detail}, status, MEDIA_TYPE)
    answer.headers["x-amzn-ErrorType"] = code
    return answer


@router.post(
    "/compat/rekognition",
    response_class=Response,
    responses={200: {"content": {MEDIA_TYPE: {}}}, **REFUSALS},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {  # the media type of its clients is not read
                    "schema": {
                        "type": "object",
                        "required": ["Image"],
                        "properties": {
                            "Image": {
                                "type": "object",
                                "required": ["Bytes"],
                                "properties": {"Bytes": {"type": "string", "description": "Base64"}},
                            },
                            "Attributes": {"type": "array", "items": {"type": "string"}},
                        },
                    }
                }
            },
        },
        "parameters": [
            {"name": "X-Amz-Target", "in": "header", "required": True, "schema": {"type": "string", "enum": [TARGET]}}
        ],
    },
)
@needs(Scope.SUBMIT, key_header=b"x-amz-security-token")
@refused_as(_refusal)
async def rekognition_detect_faces(request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """Find faces, as `DetectFaces` of Amazon Rekognition tells them. The key is the session token."""
    if request.headers.get("x-amz-target") != TARGET:
        raise _UnknownOperationError
    with new_run(services) as run:
        await _take_in(run, request, services, caller)
        result = await result_of(run, services)
    size = result["image"]
    return as_json({"FaceDetails": [_face(each, size) for each in result["faces"]]}, media_type=MEDIA_TYPE)


async def _take_in(run: Run, request: Request, services: Services, caller: Caller) -> None:
    """Submit the job. The photo's memory is released when this returns."""
    with services.memory.share(client_of(request.scope)) as share:
        values, pictures = await read_pictures(request, services, share, "Bytes", _DEPTH)
        attributes = member(values, "Attributes", list) or []
        if not all(isinstance(each, str) for each in attributes):
            raise InvalidRequestError("Attributes: The values must be texts.")
        image = member(values, "Image", dict) or {}
        if "S3Object" in image:
            raise _NoS3Error
        photo = picture_of(image.get("Bytes"), pictures, "Image.Bytes")
        await submit_detect(run, services, caller, photo, landmarks="mesh")


def _face(face: dict[str, Any], size: dict[str, int]) -> dict[str, Any]:
    box, mesh = face["box_relative"], face["mesh"]
    pose = {} if mesh is None else {"Roll": mesh["pose"]["roll"], "Yaw": mesh["pose"]["yaw"]}
    return {
        "BoundingBox": {"Left": box["x"], "Top": box["y"], "Width": box["width"], "Height": box["height"]},
        "Landmarks": [
            {
                "Type": name,
                "X": face["landmarks"][own]["x"] / size["width"],
                "Y": face["landmarks"][own]["y"] / size["height"],
            }
            for name, own in _LANDMARKS.items()
        ],
        **({"Pose": pose} if pose else {}),
        "Confidence": round(100 * face["score"], 4),
    }
