"""Reads an operation's parameters and pictures from a request, within limits of bytes, parts and time.

The event loop only receives the body. What takes time by its size is plain functions, for the thread pool.
"""

import asyncio
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from limner.domain.errors import InvalidRequestError, UnsupportedMediaError, UrlFetchError
from limner.domain.label import FIELD as LABEL
from limner.domain.label import checked_label
from limner.operation import Operation
from limner.vision.header import Limits
from limner.web.fetch_url import fetch
from limner.web.outgoing import allowed_addresses, check_url
from limner.web.read_body import receive_chunks
from limner.web.read_form import Part, read_parts
from limner.web.read_json import Allowance, decode_base64, read_object, read_value
from limner.web.services import Services
from limner.web.upload_memory import Share

FORM = "multipart/form-data"
JSON = "application/json"
RAW = "image/*"
BYTES = "application/octet-stream"
NOTHING = ""
"""No media type and no body: all is in the query."""
WEBHOOK = "webhook_url"
MAX_FIELDS = 64
MAX_FIELD_BYTES = 1_000_000
OVERHEAD_BYTES = 2_000_000  # for the fields and part headers


@dataclass
class Body:
    """A request's body as it arrived, not yet read: the chunks of a form or of a picture, or the text of JSON.

    Each is taken once, and then held no longer: it would take the pictures' size once more until the answer.
    """

    content_type: str
    chunks: list[bytes] = field(default_factory=list)
    text: bytearray = field(default_factory=bytearray)

    @property
    def kind(self) -> str:
        """The media type."""
        return media_type(self.content_type)

    def take_chunks(self) -> Iterator[bytes]:
        """The chunks in order."""
        self.chunks.reverse()
        while self.chunks:
            yield self.chunks.pop()

    def take_text(self) -> bytearray:
        """The text."""
        text, self.text = self.text, bytearray()
        return text

    def take_bytes(self) -> bytes:
        """All bytes."""
        whole = io.BytesIO()
        for chunk in self.take_chunks():
            whole.write(chunk)
        return whole.getvalue()


@dataclass(frozen=True)
class Sent:
    """The parameters as they were sent, the pictures' bytes, the URLs of those that are still to be fetched, the URL of
    a webhook, and what the client calls the job."""

    values: dict[str, Any]
    pictures: dict[str, bytes]
    urls: dict[str, str]
    webhook_url: str | None = None
    label: str | None = None


def media_type(content_type: str) -> str:
    """The media type without its parameters, in small letters."""
    return content_type.partition(";")[0].strip().lower()


async def receive(request: Request, services: Services, share: Share, *accepted: str, pictures: int) -> Body:
    """The body of a request with at most that many pictures.

    UnsupportedMediaError for a kind that is not accepted, TooLargeError, UploadTimeoutError, QueueFullError.
    """
    content_type = request.headers.get("content-type", "")
    kind = media_type(content_type)
    if not _is_accepted(kind, accepted):
        told = " or ".join(each for each in accepted if each)
        raise UnsupportedMediaError(f"The request must be {told}.", accepts=[each for each in accepted if each])
    if kind == JSON:
        return await receive_json(request, services, share, pictures=pictures)
    limit = services.limits.max_bytes * (pictures if kind == FORM else 1) + (OVERHEAD_BYTES if kind == FORM else 0)
    body = Body(content_type, [chunk async for chunk in receive_chunks(request, services, share, limit)])
    if kind == NOTHING and body.chunks:
        raise UnsupportedMediaError("The request has a body, but no Content-Type.")
    return body


def _is_accepted(kind: str, accepted: Collection[str]) -> bool:
    return kind in accepted or (RAW in accepted and (kind == BYTES or kind.startswith("image/")))


async def receive_json(request: Request, services: Services, share: Share, *, pictures: int) -> Body:
    """The same for JSON with pictures in base64, whatever kind the request says it is."""
    limit = (services.limits.max_bytes * pictures + OVERHEAD_BYTES) * 4 // 3
    whole = bytearray()  # grows as it comes: joining 30 MB at the end would hold the interpreter's lock for long
    async for chunk in receive_chunks(request, services, share, limit):
        whole += chunk
    return Body(request.headers.get("content-type", ""), text=whole)


async def fetch_pictures(sent: Sent, services: Services, share: Share) -> dict[str, bytes]:
    """All pictures, with those at a URL fetched. Raises what `fetch` raises."""
    found = dict(sent.pictures)
    for name, url in sent.urls.items():
        found[name] = await fetch_picture(url, services, share, field=f"{name}_url")
    return found


async def fetch_picture(url: str, services: Services, share: Share, *, field: str) -> bytes:
    """The bytes at the URL that a client gave as `field`, within the service's limits. Raises what `fetch` raises."""
    settings = services.settings
    return await fetch(
        url,
        field=field,
        max_bytes=services.limits.max_bytes,
        timeout_s=settings.fetch_timeout_s,
        private_hosts=settings.fetch_private_hosts,
        ports=settings.fetch_ports,
        take=share.take,
    )


def take_webhook(values: dict[str, Any]) -> str | None:
    """The URL of a webhook, taken out of what was sent. InvalidRequestError."""
    url = values.pop(WEBHOOK, None) or None
    if url is not None and not isinstance(url, str):
        raise InvalidRequestError(f"{WEBHOOK}: The value is not a URL.")
    return url


async def check_webhook(url: str | None, services: Services) -> None:
    """Refuse the URL of a webhook that no event could be sent to. UrlNotAllowedError, UrlFetchError."""
    settings = services.settings
    if url is None:
        return
    check_url(url, settings.fetch_ports, WEBHOOK)
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(settings.fetch_timeout_s):
            await allowed_addresses(parts.hostname or "", parts.port or 0, settings.fetch_private_hosts, WEBHOOK)
    except TimeoutError:
        raise UrlFetchError(f"{WEBHOOK}: The host name has no address.") from None


def read_submission(
    body: Body, query: Sequence[tuple[str, str]], operation: Operation[Any, Any], limits: Limits
) -> Sent:
    """What the body and the query say; for `Operation.parse`. InvalidRequestError, TooLargeError."""
    names = operation.image_fields
    values: dict[str, Any] = {}
    found: dict[str, bytes] = {}
    if body.kind == JSON:
        values, found = read_object(body.take_text(), names, limits)
    elif body.kind == FORM:
        values, found = _read_form(body, names, limits)
    elif body.kind != NOTHING:
        found = {names[0]: body.take_bytes()}
    _add_query(values, query, names)
    urls: dict[str, str] = {}
    for name in names:
        url = values.pop(f"{name}_url", None)
        if url in (None, ""):
            continue
        if name in found:
            raise InvalidRequestError(f"{name}: Send the picture or its URL, not both.")
        if not isinstance(url, str):
            raise InvalidRequestError(f"{name}_url: The value is not a URL.")
        urls[name] = url
    return Sent(values, found, urls, take_webhook(values), checked_label(values.pop(LABEL, None)))


def read_form(body: Body, *, max_files: int) -> list[Part]:
    """The parts of a multipart form. InvalidRequestError, TooLargeError."""
    return read_parts(
        body.content_type,
        body.take_chunks(),
        max_files=max_files,
        max_fields=MAX_FIELDS,
        max_field_bytes=MAX_FIELD_BYTES,
    )


def _read_form(body: Body, names: tuple[str, ...], limits: Limits) -> tuple[dict[str, Any], dict[str, bytes]]:
    values: dict[str, Any] = {}
    found: dict[str, bytes] = {}
    allowance = Allowance()
    for part in read_form(body, max_files=len(names) + 1):
        name, content = part.name, part.content
        if name in values or name in found:
            raise InvalidRequestError(f"{name[:100]}: The field was sent twice.")
        if isinstance(content, bytes):
            if name not in names:
                expected = " or ".join(repr(each) for each in names)
                raise InvalidRequestError(
                    f"{name[:100]}: The operation has no such picture. Send the file as {expected}."
                )
            found[name] = content
        elif content == "":
            continue  # a browser sends an empty field if it was not filled in
        elif name in names:
            found[name] = decode_base64(content.encode(), name, limits)
        else:
            values[name] = _structured(name, content, allowance)
    return values, found


def _add_query(values: dict[str, Any], query: Sequence[tuple[str, str]], names: Collection[str]) -> None:
    """Add the query's parameters as if they were fields of a form. What is sent twice is refused: which one is meant?

    They were dropped once, and a face that was to be covered stayed bare.
    """
    allowance = Allowance()
    for name, text in query:
        if name in names:
            raise InvalidRequestError(f"{name}: Send the picture in the body, or its URL as {name}_url.")
        if text == "":
            continue
        if values.get(name) is not None:
            raise InvalidRequestError(f"{name[:100]}: The field was sent twice, in the query and elsewhere.")
        values[name] = _structured(name, text, allowance)


def _structured(name: str, value: str, allowance: Allowance) -> object:
    """The value of a form field: a JSON list or object if it begins like one, otherwise the text."""
    if value[:1] not in ("[", "{"):
        allowance.take(len(value))
        return value
    try:
        return read_value(value.encode(), allowance)
    except ValueError:
        raise InvalidRequestError(f"{name[:100]}: The value is not valid JSON.") from None
