"""Asking another server to paint: HTTP with bounds on time and size, which can be stopped at any moment.

The base URL comes from the operator alone, never from a request. Read `RemoteServer.ask`, then `picture_from`.
"""

import base64
import binascii
import json
import os
import re
import secrets
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urlsplit

import httpcore
from pydantic import AfterValidator, Field

from limner.domain.errors import (
    BadImageError,
    ContentRefusedError,
    LimnerError,
    PainterBusyError,
    PainterCreditError,
    PainterKeyError,
    PainterRequestError,
    PainterServerError,
    PainterTimeoutError,
    TooLargeError,
    UnsupportedMediaError,
)
from limner.painters.patient_network import PatientNetwork
from limner.vision.header import Limits

if TYPE_CHECKING:
    from limner.painters.painter import RGB

MAX_ANSWER_BYTES = 64_000_000
PICTURE_LIMITS = Limits(max_bytes=48_000_000, max_pixels=50_000_000, max_side=16_384)
PREVIEW_LIMITS = Limits(max_bytes=16_000_000, max_pixels=8_000_000, max_side=4096)
_MAX_TOLD = 300  # characters of a server's own error message


def _is_base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isascii() or not url.isprintable():
        raise ValueError("must be a URL that begins with http:// or https://")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no user, password, query or fragment")
    return url.rstrip("/")


BaseUrl = Annotated[str, Field(max_length=500), AfterValidator(_is_base_url)]


def base_url(variable: str, default: str | None = None) -> str | None:
    """The base URL in an environment variable. ValueError with the variable's name if it is none."""
    given = os.environ.get(variable) or default
    if given is None:
        return None
    try:
        return _is_base_url(given)
    except ValueError as error:
        raise ValueError(f"{variable} {error}.") from None


def key_from(variable: str) -> str | None:
    """A key from the environment, None if there is none. ValueError if it cannot be sent in a header."""
    key = os.environ.get(variable, "").strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise ValueError(f"{variable} must hold a key of printable ASCII characters without spaces.")
    return key or None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of another server; `headers` by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file in a form; its name gets the suffix of its type."""

    data: bytes
    media_type: str
    name: str = "photo"


class RemoteServer:
    """One server, for one picture; a context manager that closes all connections.

    `wait` is called at least once a second, except while connecting (5 s at most), and may raise to stop.
    All of `hidden` (the words), and the key in `headers`, is removed from the server's messages before they become part
    of an error.
    """

    def __init__(
        self,
        base: str,
        *,
        wait: Callable[[], None],
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        hidden: Iterable[str] = (),
    ) -> None:
        self.base = base
        self.host = urlsplit(base).hostname or ""
        self.headers = dict(headers or {})
        self._hidden = sorted({text for text in (*hidden, *_keys_in(self.headers)) if text}, key=len, reverse=True)
        self._ends = time.monotonic() + timeout_s
        self.timeout_s = timeout_s
        self._wait = wait
        self._pool = httpcore.ConnectionPool(network_backend=PatientNetwork(self.check), retries=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    def check(self) -> None:
        """PainterTimeoutError when the time is over; what `wait` raises."""
        if time.monotonic() > self._ends:
            raise PainterTimeoutError(
                f"{self.host} did not answer within {self.timeout_s:g} s. It may have painted, and charged for it."
            )
        self._wait()

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """The whole answer, whatever its status. PainterServerError, PainterTimeoutError; what `wait` raises."""
        with self.open(method, path, headers=headers, body=body, max_bytes=max_bytes) as (status, found, chunks):
            return Answer(status, found, b"".join(chunks))

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Iterator[tuple[int, Mapping[str, str], Iterator[bytes]]]:
        """Status, headers and the body in chunks, which end with an error when they are more than `max_bytes`."""
        sent = {
            "Host": urlsplit(self.base).netloc,
            "User-Agent": "limner",
            "Accept-Encoding": "identity",  # so that the limit counts the real bytes
            "Content-Length": str(len(body)),
            **self.headers,
            **(headers or {}),
        }
        try:
            with self._pool.stream(method, self.base + path, headers=list(sent.items()), content=body) as answer:
                found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                if found.get("content-encoding", "identity") != "identity":
                    raise PainterServerError(f"{self.host} sent a compressed answer, which was not asked for.")
                yield answer.status, found, self._chunks(answer, max_bytes)
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            raise PainterServerError(f"{self.host} could not be reached.") from None
        except httpcore.TimeoutException:
            raise PainterTimeoutError(f"{self.host} stopped reading what it was sent.") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError):
            raise PainterServerError(f"{self.host} closed the connection before its answer was complete.") from None

    def _chunks(self, answer: httpcore.Response, max_bytes: int) -> Iterator[bytes]:
        size = 0
        for chunk in answer.iter_stream():
            self.check()
            size += len(chunk)
            if size > max_bytes:
                raise PainterServerError(f"{self.host} sent more than {max_bytes:,} bytes.")
            yield chunk

    def problem(self, answer: Answer) -> LimnerError:
        """The error that an answer without success stands for, with the server's own words where they help."""
        told = self.clean(_message(answer.body))
        says = f": {told}" if told else "."
        known: dict[int, LimnerError] = {
            # The message of 401 may hold a part of the key.
            401: PainterKeyError(f"{self.host} does not accept the key that it was sent."),
            402: PainterCreditError(f"The account at {self.host} has no credit."),
            403: ContentRefusedError(f"{self.host} refused the request{says}"),
            413: TooLargeError(f"{self.host} does not accept a request of this size."),
            429: PainterBusyError(f"{self.host} has too many requests. Try again later."),
        }
        if answer.status in known:
            return known[answer.status]
        if 400 <= answer.status < 500:
            return PainterRequestError(f"{self.host} did not accept the request ({answer.status}){says}")
        return PainterServerError(f"{self.host} failed with status {answer.status}.")

    def clean(self, text: str) -> str:
        """What a server says, in one short line, without what must stay hidden."""
        for each in self._hidden:
            text = text.replace(each, "…")
        text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
        return text[:_MAX_TOLD]


# --- bodies ----------------------------------------------------------------------------------------------------------


def form(fields: Sequence[tuple[str, str | FilePart]]) -> tuple[dict[str, str], bytes]:
    """Headers and body of a multipart form (RFC 7578). Names are of letters, digits, `_`, `-` and brackets."""
    boundary = secrets.token_hex(16)
    parts = bytearray()
    for name, value in fields:
        if not re.fullmatch(r"[\w\[\].-]{1,100}", name, re.ASCII):
            raise ValueError(f"{name[:100]!r} is no name of a form's field")
        if isinstance(value, str):
            file, kind, data = "", "", value.encode()
        else:
            suffix = value.media_type.rpartition("/")[2]
            file, kind, data = (
                f'; filename="{value.name}.{suffix}"',
                f"Content-Type: {value.media_type}\r\n",
                value.data,
            )
        parts += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{kind}\r\n'.encode()
        parts += data + b"\r\n"
    parts += f"--{boundary}--\r\n".encode()
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}, bytes(parts)


def read_json(data: bytes) -> Any:
    """The value of a JSON text from another server. PainterServerError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise PainterServerError("The painter's server sent JSON that is not valid.") from None


def as_png(photo: "RGB", name: str = "photo") -> FilePart:
    """The photo as a file of a form."""
    from limner.vision import image

    return FilePart(image.encode(photo, "png"), "image/png", name)


def from_base64(text: object) -> bytes:
    """The bytes of base64, also of a data URL. PainterServerError."""
    if not isinstance(text, str):
        raise PainterServerError("The painter's server sent no picture.")
    plain = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(plain, validate=True)
    except (binascii.Error, ValueError):
        raise PainterServerError("The painter's server sent a picture that is not valid base64.") from None


def picture_from(data: bytes, limits: Limits = PICTURE_LIMITS) -> "RGB":
    """The picture that another server sent, within `limits`. PainterServerError."""
    from limner.vision import image

    try:
        return image.decode(data, limits)
    except (BadImageError, UnsupportedMediaError, TooLargeError) as error:
        raise PainterServerError(
            f"The painter's server sent a picture that cannot be used: {error.title.lower()}."
        ) from None


def preview_from(data: bytes) -> "RGB | None":
    """A preview, None if it is no usable picture: what comes later may be."""
    try:
        return picture_from(data, PREVIEW_LIMITS)
    except PainterServerError:
        return None


def fitted(photo: "RGB", *, max_pixels: int, max_side: int, multiple: int = 1) -> "RGB":
    """The photo made smaller where it must be, and its sides multiples of `multiple`."""
    import cv2
    import numpy as np

    height, width = photo.shape[:2]
    scale = min(1.0, (max_pixels / (width * height)) ** 0.5, max_side / max(width, height))
    size = tuple(max(multiple, int(side * scale) // multiple * multiple) for side in (width, height))
    if size == (width, height):
        return photo
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


def _keys_in(headers: Mapping[str, str]) -> Iterator[str]:
    """What must not be told of the headers: `Authorization` with its scheme, and the key alone."""
    for name, value in headers.items():
        if name.lower() == "authorization":
            yield value
            yield value.rpartition(" ")[2]


def _message(body: bytes) -> str:
    """The error message in an answer, in the forms that these servers use."""
    try:
        told = json.loads(body[:100_000])
    except (ValueError, RecursionError):
        return ""
    if not isinstance(told, dict):
        return ""
    error = told.get("error", told)
    if isinstance(error, str):
        return error
    if not isinstance(error, dict):
        return ""
    several = error.get("errors")
    if isinstance(several, list) and several:
        return "; ".join(str(each) for each in several[:5])
    return next((str(error[key]) for key in ("message", "detail", "name") if isinstance(error.get(key), str)), "")
