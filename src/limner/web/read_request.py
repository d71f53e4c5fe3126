"""Reads an operation's parameters and pictures from a request, within limits of bytes, parts and time."""

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator
from typing import Any

from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from limner.domain.errors import InvalidRequestError, TooLargeError, UnsupportedMediaError, UploadTimeoutError
from limner.operation import Operation
from limner.vision.header import Limits
from limner.web.fetch_url import fetch
from limner.web.read_form import Part, read_parts
from limner.web.services import Services
from limner.web.upload_memory import Share

MAX_FIELDS = 64
MAX_FIELD_BYTES = 1_000_000
FORM_OVERHEAD_BYTES = 2_000_000  # for the fields and part headers
DRAIN_FACTOR = 8  # an upload up to this many times the limit is read to its end, so that the client sees the answer


async def read_submission(
    request: Request, operation: Operation[Any, Any], services: Services, share: Share
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The parameters as sent and the pictures' bytes, from multipart or JSON; for `Operation.parse`.

    TooLargeError, UnsupportedMediaError, BadImageError, InvalidRequestError, UploadTimeoutError, QueueFullError, and
    the errors of `fetch` for an `image_url`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    pictures = len(operation.image_fields)
    limit = services.limits.max_bytes * pictures + FORM_OVERHEAD_BYTES
    if kind == "multipart/form-data":
        values, found = await _read_form(request, operation, services, share, limit)
    elif kind == "application/json":
        body = await read_body(request, services, share, limit * 4 // 3)
        values, found = await services.call(read_json, body, operation, services.limits)
    else:
        raise UnsupportedMediaError(
            "The request must be multipart/form-data or application/json.",
            accepts=["multipart/form-data", "application/json"],
        )
    for name in operation.image_fields:
        url = values.pop(f"{name}_url", None)
        if url in (None, ""):
            continue
        if name in found:
            raise InvalidRequestError(f"{name}: Send the picture or its URL, not both.")
        if not isinstance(url, str):
            raise InvalidRequestError(f"{name}_url: The value is not a URL.")
        found[name] = await fetch(
            url,
            max_bytes=services.limits.max_bytes,
            timeout_s=services.settings.fetch_timeout_s,
            private_hosts=services.settings.fetch_private_hosts,
            take=share.take,
        )
    return values, found


async def read_body(request: Request, services: Services, share: Share, limit: int) -> bytes:
    """The whole body, at most `limit` bytes."""
    return b"".join([chunk async for chunk in _chunks(request, services, share, limit)])


async def _chunks(request: Request, services: Services, share: Share, limit: int) -> AsyncIterator[bytes]:
    """The body's chunks. TooLargeError over `limit`, UploadTimeoutError when it takes too long to arrive."""
    declared = request.headers.get("content-length", "")
    length = int(declared) if declared.isdecimal() else 0
    too_large = TooLargeError(f"The request is larger than {limit:,} bytes.", limit=limit)
    # A client that waits for "100 Continue" or sends far too much gets the answer before its upload is read.
    if length > limit and (length > DRAIN_FACTOR * limit or "expect" in request.headers):
        raise too_large
    received = 0
    try:
        async with asyncio.timeout(services.settings.upload_timeout_s):
            async for chunk in request.stream():
                received += len(chunk)
                if received > DRAIN_FACTOR * limit:
                    raise too_large
                if max(received, length) <= limit:
                    share.take(len(chunk))
                    yield chunk
    except TimeoutError:
        raise UploadTimeoutError(
            f"The upload did not arrive within {services.settings.upload_timeout_s:g} s."
        ) from None
    except ClientDisconnect:
        raise InvalidRequestError("The client disconnected before the upload was complete.") from None
    if received > limit:
        raise too_large


async def read_form(request: Request, services: Services, share: Share, limit: int, *, max_files: int) -> list[Part]:
    """A multipart form, held in memory, at most `limit` bytes."""
    return await read_parts(
        request.headers["content-type"],
        _chunks(request, services, share, limit),
        max_files=max_files,
        max_fields=MAX_FIELDS,
        max_field_bytes=MAX_FIELD_BYTES,
    )


async def _read_form(
    request: Request, operation: Operation[Any, Any], services: Services, share: Share, limit: int
) -> tuple[dict[str, Any], dict[str, bytes]]:
    values: dict[str, Any] = {}
    found: dict[str, bytes] = {}
    for part in await read_form(request, services, share, limit, max_files=len(operation.image_fields) + 1):
        name, content = part.name, part.content
        if name in values or name in found:
            raise InvalidRequestError(f"{name[:100]}: The field was sent twice.")
        if isinstance(content, bytes):
            if name not in operation.image_fields:
                expected = " or ".join(repr(each) for each in operation.image_fields)
                raise InvalidRequestError(
                    f"{name[:100]}: The operation has no such picture. Send the file as {expected}."
                )
            found[name] = content
        elif content == "":
            continue  # a browser sends an empty field if it was not filled in
        elif name in operation.image_fields:
            found[name] = decode_base64(content, name, services.limits)
        else:
            values[name] = _structured(name, content)
    return values, found


def _structured(name: str, value: str) -> object:
    """The value of a form field: a JSON list or object if it begins like one, otherwise the text."""
    if value[:1] not in ("[", "{"):
        return value
    try:
        return from_json(value)
    except ValueError:
        raise InvalidRequestError(f"{name[:100]}: The value is not valid JSON.") from None


def read_object(body: bytes) -> dict[str, Any]:
    """A JSON object. InvalidRequestError."""
    try:
        values = from_json(body)
    except ValueError as error:
        raise InvalidRequestError(f"The body is not valid JSON: {str(error)[:120]}") from None
    if not isinstance(values, dict):
        raise InvalidRequestError("The body must be a JSON object.")
    return values


def read_json(body: bytes, operation: Operation[Any, Any], limits: Limits) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The fields and the pictures of a JSON body."""
    values = read_object(body)
    found: dict[str, bytes] = {}
    for name in operation.image_fields:
        value = values.pop(name, None)
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidRequestError(f"{name}: The value must be base64 or a data URL.")
        found[name] = decode_base64(value, name, limits)
    return values, found


def decode_base64(value: str, name: str, limits: Limits) -> bytes:
    """Bytes of base64 text or of a `data:` URL; line breaks are allowed. InvalidRequestError, TooLargeError."""
    if value[:5].lower() == "data:":
        head, comma, value = value.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise InvalidRequestError(f"{name}: A data URL must use base64.")
    text = "".join(value.split())
    if len(text) // 4 * 3 - 2 > limits.max_bytes:
        raise TooLargeError(f"{name}: The picture is larger than {limits.max_bytes:,} bytes.", limit=limits.max_bytes)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequestError(f"{name}: The value is not valid base64.") from None
