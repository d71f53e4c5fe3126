"""Every error as RFC 9457 `application/problem+json`, whoever raised it."""

import logging
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from limner.domain.errors import (
    InvalidRequestError,
    LimnerError,
    MethodNotAllowedError,
    NotFoundError,
    RangeError,
    TooLargeError,
    UnsupportedMediaError,
)
from limner.operation import invalid_fields

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2

_BY_STATUS: dict[int, type[LimnerError]] = {
    404: NotFoundError,
    405: MethodNotAllowedError,
    413: TooLargeError,
    415: UnsupportedMediaError,
    416: RangeError,
}


def response(error: LimnerError, headers: dict[str, str] | None = None) -> Response:
    """The error as a response."""
    sent = dict(headers or {})
    if error.status in (429, 503):
        sent.setdefault("Retry-After", str(RETRY_AFTER_S))
    if error.status == 408:
        sent["Connection"] = "close"  # what is still on its way belongs to no request any more: RFC 9110, 15.5.9
    return Response(to_json(error.problem()), status_code=error.status, media_type=MEDIA_TYPE, headers=sent)


def answer(error: Exception) -> Response:
    """The response to an error that a route raised. One that nobody expected is logged."""
    if isinstance(error, LimnerError):
        if error.status >= 500:
            log.warning("request refused", extra={"problem": error.slug, "detail": error.detail})
        return response(error)
    if isinstance(error, RequestValidationError):
        # loc begins with query / path / body, which the client can tell by itself
        return response(invalid_fields([{**each, "loc": each["loc"][1:]} for each in error.errors()]))
    if isinstance(error, HTTPException):
        return _framework_error(error)
    log.error("request error", exc_info=error)
    return response(LimnerError("an unexpected error; the log has it under the request's id"))


def _framework_error(error: HTTPException) -> Response:
    kind = _BY_STATUS.get(error.status_code)
    headers = dict(error.headers or {})
    if kind is None:
        problem = InvalidRequestError(str(error.detail)).problem() | {"status": error.status_code}
        return Response(to_json(problem), status_code=error.status_code, media_type=MEDIA_TYPE, headers=headers)
    plain = HTTPStatus(error.status_code).phrase  # what a framework says when it has nothing to say
    detail = None if error.detail == plain else str(error.detail)
    return response(kind(detail), headers)


def install(app: FastAPI) -> None:
    """Have the application answer all errors so."""

    async def handle(_: Request, error: Exception) -> Response:
        return answer(error)

    for kind in (LimnerError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)
