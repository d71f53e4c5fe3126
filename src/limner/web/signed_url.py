"""What the path `/v1/image/{signature}/{operation}/{options}/{source}` says, and its signature. See `docs/by-url.md`.

The signature is over the text as it stands in the request, so no two readings of a path can share one.
"""

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote, unquote

from limner.domain.errors import BadSignatureError, InvalidRequestError, LimnerError, NotFoundError
from limner.operation import Operation, Params
from limner.operations.contours import ContoursParams
from limner.operations.crop import CropParams
from limner.operations.detect import DetectParams
from limner.operations.generate import GenerateParams
from limner.vision.header import Limits
from limner.web.read_json import Allowance, read_value

PREFIX = "/v1/image/"
FORM = (
    f"The path must be {PREFIX}<signature>/<operation>/<options, or ->/<source>. "
    "Encode the source: base64url, or with %2F for each slash."
)
UNSAFE = "unsafe"
"""In place of a signature, where that is allowed."""
OPERATIONS = ("detect", "crop", "contours", "generate")
"""Those that make one picture of a photo."""

_NO_OPTIONS = "-"  # an empty segment would be merged with its slashes by many proxies
_EXPIRES = "expires"
_ANY_PHOTO = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
"""One pixel: stands for the photo when only the options are to be checked."""
_SEED = 0  # of a drawing: a URL is always the same picture
_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_ENCODED = r"(?:[A-Za-z0-9._~!*'():-]|%[0-9A-F]{2})"
_OPTION = re.compile(rf"([a-z][a-z0-9_]{{0,39}})=({_ENCODED}*)")
_ENCODED_URL = re.compile(rf"https?(?::|%3A)%2F%2F{_ENCODED}+")
_SEGMENT = "[!-.0-9:-~]+"  # visible ASCII
_PATH = re.compile(rf"{PREFIX}([A-Za-z0-9_-]+)(/[a-z]+/{_SEGMENT}/{_SEGMENT})")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a path asks for: an operation with options on the photo of a job, or on that at a URL."""

    operation: str
    values: Mapping[str, Any]
    job_id: str | None
    url: str | None
    expires: int | None
    """Seconds since 1970; None: never."""


def signature_of(key: str, text: str) -> str:
    """HMAC-SHA256 of the text `/{operation}/{options}/{source}`, in base64url without padding."""
    digest = hmac.digest(key.encode(), text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_signed(keys: Sequence[str], text: str, signature: str) -> bool:
    """Whether one of the keys made the signature. It takes the same time for every wrong one."""
    given = signature.encode()
    # a list: `any` of a generator would tell by its time which key it was
    return any([hmac.compare_digest(signature_of(key, text).encode(), given) for key in keys])  # noqa: C419


def has_form(raw_path: bytes) -> bool:
    """Whether a request's path, as it was sent, has the four segments.

    Nothing is decoded or cleaned, so dot segments, doubled slashes and slashes that were not encoded do not pass.
    """
    return _PATH.fullmatch(raw_path.decode("latin-1")) is not None


def split(raw_path: bytes) -> tuple[str, str]:
    """Signature and signed text of a path. NotFoundError for one of another form."""
    found = _PATH.fullmatch(raw_path.decode("latin-1"))
    if found is None:
        raise NotFoundError(FORM)
    return found[1], found[2]


def read(text: str) -> Asked:
    """What a text `/{operation}/{options}/{source}` asks for. InvalidRequestError, NotFoundError."""
    _, operation, options, source = text.split("/")
    if operation not in OPERATIONS:
        raise NotFoundError(f"There are no pictures by URL of this operation, only of: {', '.join(OPERATIONS)}.")
    values = _options(options)
    expires = values.pop(_EXPIRES, None)
    if expires is not None and not re.fullmatch(r"[0-9]{1,12}", str(expires)):
        _refuse(_EXPIRES, "It is a time in seconds since 1970.")
    job_id, url = (source.lower(), None) if _JOB_ID.fullmatch(source) else (None, _url(source))
    return Asked(operation, values, job_id, url, None if expires is None else int(expires))


def write(operation: str, values: Mapping[str, str], source: str, *, expires: int | None = None) -> str:
    """The text that asks for this; `source` is a URL, or a job's id. Each value is as a form would send it."""
    given = {**values, **({} if expires is None else {_EXPIRES: str(expires)})}
    options = ",".join(f"{name}={quote(value, safe=':')}" for name, value in sorted(given.items()))
    if not _JOB_ID.fullmatch(source):
        source = base64.urlsafe_b64encode(source.encode()).decode().rstrip("=")
    return f"/{operation}/{options or _NO_OPTIONS}/{source}"


def seconds_left(asked: Asked) -> int | None:
    """For how long the URL is valid; None: for ever. BadSignatureError when it has expired."""
    if asked.expires is None:
        return None
    left = asked.expires - int(time.time())
    if left <= 0:
        raise BadSignatureError("This URL has expired.")
    return left


def values_for(operation: Operation[Any, Any], asked: Asked) -> dict[str, Any]:
    """The operation's values, with nothing left to chance. What `Operation.parse` raises, before there is a photo.

    InvalidRequestError also for those that make no picture, or several, or another one each time.
    """
    for name in operation.image_fields:
        if name in asked.values or f"{name}_url" in asked.values:
            _refuse(name, "A URL has one picture, its source.")
    values = {**({"seed": _SEED} if asked.operation == "generate" else {}), **asked.values}
    _check_single(operation.parse(values, {"image": _ANY_PHOTO}, Limits()))
    return values


def _check_single(params: Params) -> None:
    match params:
        case DetectParams() if params.mark == "none":
            _refuse("mark", "A URL is a picture, so the faces must be marked.")
        case CropParams() if params.each:
            _refuse("each", "A URL is one picture.")
        case ContoursParams() if params.face == "all":
            _refuse("face", "A URL is one picture.")
        case GenerateParams() if params.count > 1:
            _refuse("count", "A URL is one picture.")
        case GenerateParams() if params.painter.name != "drawn":
            _refuse("painter", "By URL, only `drawn` paints: others may take minutes, or cost money.")
        case GenerateParams() if params.cache == "off":
            _refuse("cache", "A URL is always the same picture.")


def _refuse(name: str, why: str) -> NoReturn:
    raise InvalidRequestError(f"{name}: {why}", field=name)


def _options(segment: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if segment == _NO_OPTIONS:
        return values
    allowance = Allowance()
    for part in segment.split(","):
        found = _OPTION.fullmatch(part)
        if found is None:
            raise InvalidRequestError("options: They must be like mark=blur,margin=0.5, each value percent-encoded.")
        name = found[1]
        if name in values:
            _refuse(name, "It is there twice.")
        values[name] = _value(name, _decoded(found[2], "options"), allowance)
    return values


def _value(name: str, text: str, allowance: Allowance) -> object:
    """The text, or what it says if it begins like a JSON list or object, as in a form."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        return read_value(text.encode(), allowance)
    except LimnerError:
        raise
    except ValueError:
        _refuse(name, "The value is not valid JSON.")


def _url(source: str) -> str:
    """The URL that a source holds, in base64url or percent-encoded. InvalidRequestError."""
    if _ENCODED_URL.fullmatch(source):
        return _decoded(source, "source")
    try:
        if _BASE64URL.fullmatch(source):
            return base64.b64decode(source + "=" * (-len(source) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError):
        pass  # refused below, like other texts
    raise InvalidRequestError("source: It must be the id of a job, or a URL in base64url or percent-encoded.")


def _decoded(text: str, name: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{name}: It is not UTF-8.") from None
