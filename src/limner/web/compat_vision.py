"""`POST /compat/vision/v1/images:annotate`: `FACE_DETECTION` of Google Cloud Vision. See `docs/compat.md`."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from limner.domain.errors import InvalidRequestError, LimnerError
from limner.domain.key import Caller, Scope
from limner.web.admission import needs
from limner.web.compat import REFUSALS, as_json, detect, member, picture_of, read_pictures, refused_as
from limner.web.read_request import address_of, fetch_picture
from limner.web.services import CallerDep, Services, ServicesDep

router = APIRouter(tags=["drop-in"])

MOST_IMAGES = 16  # as Google
_FACES = ("FACE_DETECTION", 1)  # the name, or the number of the enumeration
_MOST_FACES = 10_000
_DEPTH = 4  # of content in {"requests": [{"image": {"content": "…"}}]}
_LANDMARKS = {
    "LEFT_EYE": "left_eye",
    "RIGHT_EYE": "right_eye",
    "NOSE_TIP": "nose",
    "MOUTH_LEFT": "mouth_left",
    "MOUTH_RIGHT": "mouth_right",
}
_STATUSES = {
    400: (3, "INVALID_ARGUMENT"),
    401: (16, "UNAUTHENTICATED"),
    403: (7, "PERMISSION_DENIED"),
    404: (5, "NOT_FOUND"),
    429: (8, "RESOURCE_EXHAUSTED"),
    501: (12, "UNIMPLEMENTED"),
    503: (14, "UNAVAILABLE"),
    504: (4, "DEADLINE_EXCEEDED"),
}


def _status(error: LimnerError) -> int:
    if error.status in (401, 403, 404, 429, 503, 504):
        return error.status
    return 500 if error.status >= 500 else 400


def _refusal(error: LimnerError) -> Response:
    status = _status(error)
    name = _STATUSES.get(status, (13, "INTERNAL"))[1]
    return as_json({"error": {"code": status, "message": error.detail, "status": name}}, status)


def _of_image(error: LimnerError) -> dict[str, Any]:
    return {"code": _STATUSES.get(_status(error), (13, "INTERNAL"))[0], "message": error.detail}


@router.post(
    "/compat/vision/v1/images:annotate",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}, **REFUSALS},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["requests"],
                        "properties": {
                            "requests": {"type": "array", "maxItems": MOST_IMAGES, "items": {"type": "object"}}
                        },
                    }
                }
            },
        }
    },
)
@needs(Scope.SUBMIT, key_header=b"x-goog-api-key")
@refused_as(_refusal)
async def vision_annotate(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    alt: Annotated[
        str | None, Query(alias="$alt", description="Sent by its clients, which read names of enumerations as well")
    ] = None,
) -> Response:
    """Find faces, as `images:annotate` of Google Cloud Vision tells them. The key is the API key."""
    del alt
    values, pictures = await read_pictures(request, services, "content", _DEPTH)
    asked = member(values, "requests", list) or []
    if not asked or len(asked) > MOST_IMAGES or not all(isinstance(each, dict) for each in asked):
        raise InvalidRequestError(f"requests: There must be 1 to {MOST_IMAGES} of them, each an object.")
    async with asyncio.TaskGroup() as group:
        address = address_of(request)
        tasks = [group.create_task(_answer(each, pictures, services, caller, address)) for each in asked]
    failed = [error for task in tasks if isinstance(error := task.result(), LimnerError)]
    for error in failed:
        if _status(error) in (429, 500, 503, 504):  # the same request may work later: clients try the whole again
            raise error
    told = [{"error": _of_image(each)} if isinstance(each, LimnerError) else each for each in _results(tasks)]
    return as_json({"responses": told})


def _results(tasks: "list[asyncio.Task[dict[str, Any] | LimnerError]]") -> list[dict[str, Any] | LimnerError]:
    return [task.result() for task in tasks]


async def _answer(
    asked: dict[str, Any], pictures: list[bytes], services: Services, caller: Caller, address: str | None
) -> dict[str, Any] | LimnerError:
    """The answer for one image, or what is wrong with it."""
    try:
        features = member(asked, "features", list) or []
        kinds = [member(each, "type", int | str) for each in features if isinstance(each, dict)]  # type: ignore[arg-type]
        others = [kind for kind in kinds if kind not in _FACES]
        answer: dict[str, Any] = {}
        if len(others) < len(kinds):
            faces = next(each for each in features if isinstance(each, dict) and each.get("type") in _FACES)
            most = member(faces, "maxResults", int)
            if most is not None and not 0 <= most <= _MOST_FACES:
                raise InvalidRequestError(f"maxResults: It must be 0 (all) to {_MOST_FACES}.", field="maxResults")
            photo = await _photo(asked, pictures, services, address)
            result = await detect(services, caller, photo, landmarks="mesh", max_faces=most or None)
            answer = {"faceAnnotations": [_face(each) for each in result["faces"]]} if result["faces"] else {}
        if others or not kinds:
            answer["error"] = {"code": 12, "message": "Of all features, only FACE_DETECTION is answered here."}
    except LimnerError as error:
        return error
    return answer


async def _photo(asked: dict[str, Any], pictures: list[bytes], services: Services, address: str | None) -> bytes:
    image = member(asked, "image", dict) or {}
    if image.get("content") is not None:
        return picture_of(image["content"], pictures, "image.content")
    source = member(image, "source", dict) or {}
    url = member(source, "imageUri", str) or member(source, "gcsImageUri", str)
    if url is None:
        raise InvalidRequestError("image: Its content in base64 is required, or the URL of its source.")
    with services.memory.share(address) as share:
        return await fetch_picture(url, services, share, field="imageUri")


def _face(face: dict[str, Any]) -> dict[str, Any]:
    box, mesh = face["box"], face["mesh"]
    left, top = round(box["x"]), round(box["y"])
    right, bottom = round(box["x"] + box["width"]), round(box["y"] + box["height"])
    polygon = {"vertices": [{"x": x, "y": y} for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]}
    pose = {} if mesh is None else mesh["pose"]
    angles = {"rollAngle": "roll", "panAngle": "yaw", "tiltAngle": "pitch"}
    return {
        "boundingPoly": polygon,
        "fdBoundingPoly": polygon,
        "landmarks": [
            {"type": name, "position": {"x": face["landmarks"][own]["x"], "y": face["landmarks"][own]["y"]}}
            for name, own in _LANDMARKS.items()
        ],
        **({theirs: pose[ours] for theirs, ours in angles.items()} if pose else {}),
        "detectionConfidence": face["score"],
    }
