"""`GET /v1/image/{signature}/{operation}/{options}/{source}`: a picture by URL, for `<img src>`. See `docs/by-url.md`.

`signed_url.py` reads and checks the path. Requests for one picture wait for one job (`flights.py`).
"""

import ipaddress
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from limner.domain.errors import (
    BadSignatureError,
    InvalidRequestError,
    LimnerError,
    SourceFailedError,
    SourceNotFoundError,
    UrlFetchError,
)
from limner.domain.job import File, Job
from limner.web import problems, signed_url
from limner.web.access import host_name
from limner.web.admission import OPEN, needs
from limner.web.job_file_routes import send_file
from limner.web.operation_routes import problem_response
from limner.web.query import any_query
from limner.web.read_request import fetch_picture
from limner.web.run_to_end import new_run
from limner.web.services import Services, ServicesDep
from limner.web.signed_url import Asked

router = APIRouter(tags=["pictures by URL"])

MADE_WITHIN_S = 600
"""A picture that is not made by then is given up; the job ends by itself."""
MISTAKE_S = 60
"""How long caches may keep an error that the same request would get again."""
_GONE = frozenset({404, 410})
_OF_PROXIES = ("forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip", "x-amzn-trace-id")


@dataclass(frozen=True, slots=True)
class _Made:
    """The artifact that is the picture, and the job whose photo it was made of, which must still be there."""

    job_id: str
    name: str
    source: str | None


@router.get(
    "/v1/image/{signature}/{operation}/{options}/{source}",
    response_class=Response,
    responses={
        200: {"content": {"image/*": {}}},
        206: {"description": "The part named by `Range`"},
        304: {"description": "The picture has not changed"},
        403: problem_response("The signature is wrong, or has expired"),
        404: problem_response("There is no photo at the source, or nothing at this path"),
        413: problem_response("The photo is too large"),
        415: problem_response("What is at the source is not a picture"),
        422: problem_response("An option or the photo is not valid, or contours have no face"),
        429: problem_response("The queue is full; see `Retry-After`"),
        502: problem_response("The source did not send its photo"),
        503: problem_response("Too many requests wait; see `Retry-After`"),
        504: problem_response("The picture is not made yet, and goes on being made; see `Retry-After`"),
    },
)
@needs(OPEN)
@any_query  # it refuses all, in an answer that no cache keeps for long
async def get_image(
    request: Request,
    services: ServicesDep,
    signature: Annotated[str, Path(description="HMAC-SHA256 of the rest, in base64url; or `unsafe`")],
    operation: Annotated[str, Path(description="`detect`, `crop`, `contours` or `generate`")],
    options: Annotated[str, Path(description="`name=value,…`, parameters of the operation; `-` for none")],
    source: Annotated[str, Path(description="A URL in base64url or percent-encoded, or the id of a job")],
) -> Response:
    """A picture made of the photo at a URL, or of that of a job. The URL is signed; no API key is needed."""
    del signature, operation, options, source  # decoded; what was signed is the path as it was sent
    try:
        return await _answer(request, services)
    except LimnerError as error:
        refused = problems.answer(error)
        refused.headers["Cache-Control"] = f"public, max-age={MISTAKE_S}" if _lasts(error) else "no-store"
        if error.retryable:
            refused.headers.setdefault("Retry-After", str(problems.RETRY_AFTER_S))
        return refused


def _lasts(error: LimnerError) -> bool:
    return error.status in (404, 413, 415, 422) and not error.retryable


async def _answer(request: Request, services: Services) -> Response:
    signature, text = signed_url.split(request.scope["raw_path"])
    if request.scope["query_string"]:
        raise InvalidRequestError("This URL has no query, because that would not be signed.")
    if signature == signed_url.UNSAFE:
        _check_unsafe(request, services)
    elif not signed_url.is_signed([each.get_secret_value() for each in services.settings.image_keys], text, signature):
        raise BadSignatureError
    asked = signed_url.read(text)
    left = signed_url.seconds_left(asked)
    max_age = services.settings.image_max_age_s if left is None else min(left, services.settings.image_max_age_s)
    made = services.flights.known(text)
    if made is not None:
        try:
            return await _send(made, request, services, max_age)
        except SourceNotFoundError:  # erased since: make it anew, if the source is still there
            services.flights.forget(text)
    made = await services.flights.join(
        text,
        lambda: _make(asked, services),
        wait_s=services.settings.image_wait_s,
        keep_s=services.settings.image_max_age_s,
        gone=lambda: _gone(request),
    )
    return await _send(made, request, services, max_age)


def _check_unsafe(request: Request, services: Services) -> None:
    """BadSignatureError unless unsigned URLs are on, and nothing says that the request comes from elsewhere.

    The settings are the guard: they are refused unless the service listens on a loopback address alone. What a request
    says can only be a reason to refuse it: a proxy that was forgotten, or a page of another web site.
    """
    if not services.settings.image_unsafe:
        raise BadSignatureError("This URL is not signed. `limner sign` signs it.")
    here = request.client is not None and _is_here(request.client.host)
    hosts = request.headers.getlist("host")
    if not here or not all(_is_here(host_name(host)) for host in hosts):
        raise BadSignatureError("Unsigned URLs are for this machine only.")
    by_proxy = any(name in _OF_PROXIES or name.startswith("x-forwarded-") for name in request.headers)
    if request.scope["http_version"] == "1.0" or by_proxy:
        raise BadSignatureError("Unsigned URLs are not answered behind a proxy.")
    if any(site not in ("same-origin", "none") for site in request.headers.getlist("sec-fetch-site")):
        raise BadSignatureError("Unsigned URLs are not for pages of other web sites.")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _gone(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _send(made: _Made, request: Request, services: Services, max_age: int) -> Response:
    request.state.job = made.job_id

    def find() -> File:
        file = services.reader.artifact(made.job_id, made.name)
        if file is None or (made.source is not None and services.reader.get(made.source) is None):
            raise SourceNotFoundError("The job of this picture does not exist. It may have been erased.")
        return file

    caching = f"public, max-age={max_age}" if max_age else "public, no-cache"
    return await send_file(find, request, services, cache_control=caching)


async def _make(asked: Asked, services: Services) -> _Made:
    """Run the operation on the source's photo."""
    operation = services.catalogue[asked.operation]
    values = signed_url.values_for(operation, asked)
    with services.memory.share(None) as share:
        if asked.url is not None:
            try:
                photo = await fetch_picture(asked.url, services, share, field="source")
            except UrlFetchError as error:
                gone = error.extra.get("source_status") in _GONE
                raise (SourceNotFoundError if gone else SourceFailedError)(error.detail) from error
        else:
            file = await services.read(_photo_of, asked.job_id, services)
            share.take(file.size)
            photo = await services.read(services.blobs.get, file.sha256)
        job = await _run(asked.operation, values, photo, services)
        if not job.artifacts and asked.operation == "detect":
            # No face: the photo itself, made anew like a marked one. So it has no metadata either, and with a mark that
            # covers, nothing is left below what is transparent.
            kept = ("mark", "format", "max_faces", "min_score")
            plain = {name: value for name, value in values.items() if name in kept}
            job = await _run("detect", {**plain, "boxes": []}, photo, services)
    return _Made(job.id, job.artifacts[0].name, asked.job_id)


async def _run(name: str, values: dict[str, object], photo: bytes, services: Services) -> Job:
    operation = services.catalogue[name]
    with new_run(services) as run:
        await run.submit(operation, values, photo, key_id=None)
        return await run.end(MADE_WITHIN_S)


def _photo_of(job_id: str | None, services: Services) -> File:
    job = services.reader.get(job_id or "")
    photo = None if job is None else job.photo
    if photo is None:
        raise SourceNotFoundError("The job does not exist, or has no photo. It may have been erased.")
    return photo
