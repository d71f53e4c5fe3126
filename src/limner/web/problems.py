"""Answers every error, also those of the frameworks, as RFC 9457 `application/problem+json`."""

import logging
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from limner.domain.errors import (
    ForbiddenError,
    InvalidRequestError,
    LimnerError,
    MethodNotAllowedError,
    NotFoundError,
    RangeError,
    RateLimitedError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaError,
    UploadTimeoutError,
)
from limner.operation import invalid_fields

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2

_BY_STATUS: dict[int, type[LimnerError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    405: MethodNotAllowedError,
    408: UploadTimeoutError,
    413: TooLargeError,
    415: UnsupportedMediaError,
    416: RangeError,
    503: UnavailableError,
}


def headers_of(error: LimnerError) -> dict[str, str]:
    """The headers that go with an error."""
    sent: dict[str, str] = {}
    if isinstance(error, RateLimitedError):
        sent["Retry-After"] = str(error.retry_after_s)
        if error.rate_limit is not None:
            sent["RateLimit-Policy"], sent["RateLimit"] = error.rate_limit
    if error.status == 401:
        sent["WWW-Authenticate"] = 'Bearer realm="limner"'
    if error.status in (429, 503):
        sent.setdefault("Retry-After", str(RETRY_AFTER_S))
    if "encodings" in error.extra:
        sent["Accept-Encoding"] = "gzip"  # RFC 9110, 15.5.16
    if error.status == 408:
        sent["Connection"] = "close"  # the rest of the upload must not be read as the next request: RFC 9110, 15.5.9
    return sent


def response(error: LimnerError, headers: dict[str, str] | None = None) -> Response:
    """The response for an error."""
    sent = {**headers_of(error), **(headers or {})}
    return Response(to_json(error.problem()), status_code=error.status, media_type=MEDIA_TYPE, headers=sent)


def answer(error: Exception) -> Response:
    """The response for an error raised by a route. Unexpected errors are logged."""
    if isinstance(error, HTTPException):
        return _framework_error(error)
    return response(told(error))


def told(error: Exception) -> LimnerError:
    """What a client is told of an error. Those of the service are logged."""
    if isinstance(error, LimnerError):
        if error.status >= 500:
            log.warning("request failed", extra={"problem": error.slug, "detail": error.detail})
        return error
    if isinstance(error, RequestValidationError):
        # the first part of loc is query, path or body, which the client knows
        return invalid_fields([{**each, "loc": each["loc"][1:]} for each in error.errors()])
    log.error("unexpected error in a request", exc_info=error)
    return LimnerError("An unexpected error occurred. Search the log for the request's id.")


def _framework_error(error: HTTPException) -> Response:
    kind = _BY_STATUS.get(error.status_code)
    headers = dict(error.headers or {})
    if kind is None:
        other = LimnerError if error.status_code >= 500 else InvalidRequestError
        problem = other(str(error.detail)).problem() | {"status": error.status_code}
        return Response(to_json(problem), status_code=error.status_code, media_type=MEDIA_TYPE, headers=headers)
    plain = HTTPStatus(error.status_code).phrase  # the framework's default detail is only the name of the status
    detail = None if error.detail == plain else str(error.detail)
    return response(kind(detail), headers)


def install(app: FastAPI) -> None:
    """Install the error handlers."""

    async def handle(_: Request, error: Exception) -> Response:
        return answer(error)

    for kind in (LimnerError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)
