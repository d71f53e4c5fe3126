"""What the paths with other products' answers have in common (`compat_*.py`). See `docs/compat.md`."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastapi import Request, Response
from pydantic_core import to_json

from limner.domain.errors import InvalidRequestError, LimnerError
from limner.domain.key import Caller
from limner.web import problems
from limner.web.read_json import read_nested
from limner.web.read_request import receive_json
from limner.web.run_to_end import Run
from limner.web.services import Services
from limner.web.upload_memory import Share

F = TypeVar("F", bound=Callable[..., object])

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": f"An error, as the other product tells it: {what}"}
    for status, what in (
        (400, "the request or the picture"),
        (401, "the key"),
        (403, "what the key may do"),
        (404, "what is not here"),
        (413, "the size"),
        (422, "the request"),
        (429, "a limit; see `Retry-After`"),
        (500, "the service"),
        (503, "the service is not ready; see `Retry-After`"),
        (504, "the time"),
    )
}
"""For OpenAPI; each product has its own of these statuses."""


def refused_as(answer: Callable[[LimnerError], Response]) -> Callable[[F], F]:
    """Declare in which shape a route's errors are told, also those of its key."""

    def declare(function: F) -> F:
        def refusal(error: Exception) -> Response:
            told = problems.told(error)
            response = answer(told)
            for name, value in problems.headers_of(told).items():
                response.headers.setdefault(name, value)
            return response

        function.refusal = refusal  # type: ignore[attr-defined]  # a function's own attribute
        return function

    return declare


def as_json(content: object, status: int = 200, media_type: str = "application/json") -> Response:
    """A JSON answer."""
    return Response(to_json(content), status_code=status, media_type=media_type)


async def read_pictures(
    request: Request, services: Services, share: Share, name: str, depth: int
) -> tuple[dict[str, Any], list[bytes]]:
    """A JSON body with pictures in base64; see `read_nested`. All together they may be as large as one.

    Hold the share until they are stored, and drop them before the jobs are waited for.
    """
    body = await receive_json(request, services, share, pictures=1)
    return await services.call(lambda: read_nested(body.take_text(), name, depth, services.limits))


def picture_of(value: object, pictures: list[bytes], name: str) -> bytes:
    """The picture that stands in an object as its number. InvalidRequestError."""
    # A name with escapes (`Byt\u0065s`) is not known as that of a picture, so what it holds is still its own text.
    if not isinstance(value, str) or value not in map(str, range(len(pictures))):
        raise InvalidRequestError(f"{name}: A picture in base64 is required.")
    return pictures[int(value)]


async def submit_detect(run: Run, services: Services, caller: Caller, photo: bytes, **values: object) -> None:
    """Submit `detect` of a photo, as a job of this caller."""
    given = {"mark": "none", **{name: value for name, value in values.items() if value is not None}}
    await run.submit(services.catalogue["detect"], given, photo, key_id=caller.key_id)


async def result_of(run: Run, services: Services) -> dict[str, Any]:
    """The result of a submitted job, which is waited for."""
    job = await run.end(services.settings.max_wait_s)
    assert job.result is not None
    return job.result


def member(values: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    """A member of an object, None if it is not there. InvalidRequestError for one of another type."""
    value = values.get(name)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise InvalidRequestError(f"{name}: The value has the wrong type.", field=name)
    return value
