"""`POST /compat/vision/v1/images:annotate`: `FACE_DETECTION` of Google Cloud Vision. See `docs/compat.md`."""

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request, Response

from limner.domain.errors import InvalidRequestError, LimnerError
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
from limner.web.read_request import fetch_picture
from limner.web.run_to_end import Run, new_run
from limner.web.services import CallerDep, Services, ServicesDep

router = APIRouter(tags=["drop-in"])

T = TypeVar("T")

MOST_IMAGES = 16  # as Google
FETCHED_AT_ONCE = 4  # of one request: each may take the memory of a whole upload
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
    return {"error": {"code": _STATUSES.get(_status(error), (13, "INTERNAL"))[0], "message": error.detail}}


@dataclass(frozen=True, slots=True)
class _Begun:
    """What was begun for one image."""

    run: Run | None
    """None if no faces are asked for."""
    others: bool
    """Whether anything else is asked for, or nothing."""
    refusal: dict[str, Any] | None = None
    """The answer for an image that was refused."""


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
    with ExitStack() as open_runs:
        begun = await _take_in(open_runs, request, services, caller)
        answers = await _all(_finish(each, services) for each in begun)
    return as_json({"responses": [_of_image(each) if isinstance(each, LimnerError) else each for each in answers]})


async def _take_in(open_runs: ExitStack, request: Request, services: Services, caller: Caller) -> list[_Begun]:
    """Submit a job for each image. The pictures' memory is released when this returns."""
    with services.memory.share(client_of(request.scope)) as share:
        values, pictures = await read_pictures(request, services, share, "content", _DEPTH)
        asked = member(values, "requests", list) or []
        if not asked or len(asked) > MOST_IMAGES or not all(isinstance(each, dict) for each in asked):
            raise InvalidRequestError(f"requests: There must be 1 to {MOST_IMAGES} of them, each an object.")
        fetching = asyncio.Semaphore(FETCHED_AT_ONCE)

        async def begin(each: dict[str, Any]) -> _Begun:
            most, others = _wanted(each)
            if most is None:
                return _Begun(None, others)
            async with AsyncExitStack() as held:
                photo = _sent(each, pictures)
                if photo is None:
                    url = _url(each)
                    await held.enter_async_context(fetching)
                    photo = await fetch_picture(url, services, held.enter_context(share.part()), field="imageUri")
                run = open_runs.enter_context(new_run(services))
                await submit_detect(run, services, caller, photo, landmarks="mesh", max_faces=most or None)
            return _Begun(run, others)

        begun = await _all(begin(each) for each in asked)
        # An error's traceback would keep the picture.
        return [_Begun(None, False, _of_image(each)) if isinstance(each, LimnerError) else each for each in begun]


async def _all(works: Iterable[Coroutine[Any, Any, T]]) -> list[T | LimnerError]:
    """What each returns or raises. Raises what may go well later: clients then try the whole again."""

    async def ended(work: Coroutine[Any, Any, T]) -> T | LimnerError:
        try:
            return await work
        except LimnerError as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ended(work)) for work in works]
    results = [task.result() for task in tasks]
    for each in results:
        if isinstance(each, LimnerError) and _status(each) in (429, 500, 503, 504):
            raise each
    return results


def _wanted(asked: dict[str, Any]) -> tuple[int | None, bool]:
    """How many faces are asked for (0: all; None: no faces are), and whether anything else is. InvalidRequestError."""
    features = [each for each in member(asked, "features", list) or [] if isinstance(each, dict)]
    kinds = [member(each, "type", int | str) for each in features]  # type: ignore[arg-type]
    others = [kind for kind in kinds if kind not in _FACES]
    if len(others) == len(kinds):
        return None, True
    faces = next(each for each in features if each.get("type") in _FACES)
    most = member(faces, "maxResults", int)
    if most is not None and not 0 <= most <= _MOST_FACES:
        raise InvalidRequestError(f"maxResults: It must be 0 (all) to {_MOST_FACES}.", field="maxResults")
    return most or 0, bool(others)


async def _finish(begun: _Begun, services: Services) -> dict[str, Any]:
    """The answer for one image."""
    if begun.refusal is not None:
        return begun.refusal
    answer: dict[str, Any] = {}
    if begun.run is not None:
        result = await result_of(begun.run, services)
        answer = {"faceAnnotations": [_face(each) for each in result["faces"]]} if result["faces"] else {}
    if begun.others:
        answer["error"] = {"code": 12, "message": "Of all features, only FACE_DETECTION is answered here."}
    return answer


def _sent(asked: dict[str, Any], pictures: list[bytes]) -> bytes | None:
    """The picture that was sent, None if only its URL was. InvalidRequestError."""
    image = member(asked, "image", dict) or {}
    if image.get("content") is None:
        return None
    return picture_of(image["content"], pictures, "image.content")


def _url(asked: dict[str, Any]) -> str:
    """The picture's URL. InvalidRequestError."""
    source = member(member(asked, "image", dict) or {}, "source", dict) or {}
    url: str | None = member(source, "imageUri", str) or member(source, "gcsImageUri", str)
    if url is None:
        raise InvalidRequestError("image: Its content in base64 is required, or the URL of its source.")
    return url


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
