"""JSON that a client sent: its size and structure are bounded before any object is made of it.

Pictures in base64 are cut out first. They have bounds of their own, and 40 MB of text never become a Python string.
"""

import base64
import binascii
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from limner.domain.errors import InvalidRequestError, TooLargeError
from limner.vision.header import Limits

MAX_JSON_BYTES = 1_000_000
"""Of a whole request: JSON without its pictures, or all fields of a form. 64 regions of 478 landmarks take 160 kB."""
MAX_VALUES = 50_000
MAX_DEPTH = 16

_PIECE = 1 << 20  # between two pieces, the interpreter's lock can go to the event loop
_LONGEST_NAME = 64
_BRACKETS = re.compile(rb"[\[\]{}]")
_SPACES = b" \t\r\n"
_BACKSLASH = ord("\\")
_LONGEST_ESCAPE = 6  # \u002B
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # PowerShell, .NET and Notepad write it
_FROM_BASE64URL = bytes.maketrans(b"-_", b"+/")
_DATA_URL = re.compile(rb"data:[^,]*?;[ ]?base64(?:;[^,]*)?,", re.IGNORECASE)  # parameters before and after
_LONGEST_HEAD = 1000  # of a data URL; a parameter may be a file's name


@dataclass
class Allowance:
    """What one request may still send beside its pictures. Charged before objects are made."""

    size: int = MAX_JSON_BYTES
    values: int = MAX_VALUES

    def take(self, size: int) -> None:
        """TooLargeError for more bytes than are left."""
        self.size -= size
        if self.size < 0:
            raise TooLargeError(
                f"The fields of the request are larger than {MAX_JSON_BYTES:,} bytes, without the pictures.",
                limit=MAX_JSON_BYTES,
            )

    def take_values(self, count: int) -> None:
        """TooLargeError for more values (items of lists, members of objects) than are left."""
        self.values -= count
        if self.values < 0:
            raise TooLargeError(f"The JSON has more than {MAX_VALUES:,} values.", limit=MAX_VALUES)


def read_value(text: bytes, allowance: Allowance) -> Any:
    """What the JSON says. ValueError if it is none; TooLargeError, InvalidRequestError for too deep a structure."""
    _scan(text, (), allowance)
    return from_json(text)


def read_object(
    body: bytes | bytearray, names: Collection[str], limits: Limits
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A JSON object's members, and apart from them the pictures that are among them under one of `names`.

    InvalidRequestError, TooLargeError.
    """
    body = _without_mark(body)
    spans = _scan(body, frozenset(name.encode() for name in names), Allowance())
    try:
        values = from_json(b"".join(_without(body, spans)))
    except ValueError as error:
        reason = str(error).partition(" at line ")[0] if spans else str(error)  # positions are those without pictures
        raise InvalidRequestError(f"The body is not valid JSON: {reason[:120]}") from None
    if not isinstance(values, dict):
        raise InvalidRequestError("The body must be a JSON object.")
    pictures: dict[str, bytes] = {}
    for name, start, end in spans:
        if name in pictures or values.pop(name, None) != "":
            raise InvalidRequestError(f"{name}: The field was sent twice.")
        pictures[name] = decode_base64(memoryview(body)[start:end], name, limits, escaped=True)
    for name in names:
        value = values.pop(name, None)
        if value is None:
            continue
        if name in pictures:
            raise InvalidRequestError(f"{name}: The field was sent twice.")
        if not isinstance(value, str):
            raise InvalidRequestError(f"{name}: The value must be base64 or a data URL.")
        pictures[name] = decode_base64(value.encode(), name, limits)
    return values, pictures


def read_nested(body: bytes | bytearray, name: str, depth: int, limits: Limits) -> tuple[dict[str, Any], list[bytes]]:
    """A JSON object, and the pictures that are its members `name` at this depth (1: its own), in base64.

    Each stands in the object as its number in the list, as a text. InvalidRequestError, TooLargeError.
    """
    body = _without_mark(body)
    spans = _scan(body, {name.encode()}, Allowance(), depth)
    pieces: list[bytes | memoryview] = []
    position = 0
    for number, (_, start, end) in enumerate(spans):
        pieces += [memoryview(body)[position:start], str(number).encode()]
        position = end
    try:
        values = from_json(b"".join([*pieces, memoryview(body)[position:]]))
    except ValueError as error:
        raise InvalidRequestError(f"The body is not valid JSON: {str(error).partition(' at line ')[0][:120]}") from None
    if not isinstance(values, dict):
        raise InvalidRequestError("The body must be a JSON object.")
    whole = memoryview(body)
    return values, [decode_base64(whole[start:end], name, limits, escaped=True) for _, start, end in spans]


def _without_mark(body: bytes | bytearray) -> bytes | bytearray:
    """The text without a byte order mark; changes a bytearray, because a copy would take the pictures' size again."""
    if isinstance(body, bytes):
        return body.removeprefix(_BYTE_ORDER_MARK)
    if body.startswith(_BYTE_ORDER_MARK):
        del body[: len(_BYTE_ORDER_MARK)]
    return body


def _without(body: bytes | bytearray, spans: list[tuple[str, int, int]]) -> Iterator[memoryview]:
    """The body without the spans."""
    whole, position = memoryview(body), 0
    for _, start, end in spans:
        yield whole[position:start]
        position = end
    yield whole[position:]


def _scan(
    text: bytes | bytearray, names: Collection[bytes], allowance: Allowance, pictures_at: int = 1
) -> list[tuple[str, int, int]]:
    """Charge what the JSON would become, and find the pictures: name, start and end of the text between its quotes.

    It walks from string to string and looks only at what lies between them. That the text is JSON, it leaves to the
    parser.
    """
    spans: list[tuple[str, int, int]] = []
    position = depth = 0
    previous = b""
    while True:
        quote = text.find(b'"', position)
        end = quote if quote >= 0 else len(text)
        allowance.take(end - position)
        between = bytes(text[position:end])
        for bracket in _BRACKETS.finditer(between):
            if bracket[0] in b"]}":
                depth -= 1
                continue
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidRequestError(f"The JSON is nested deeper than {MAX_DEPTH} levels.")
            allowance.take_values(1)
        allowance.take_values(between.count(b","))
        if quote < 0:
            return spans
        start = quote + 1
        if depth == pictures_at and previous in names and between.strip(_SPACES) == b":":
            end = text.find(b'"', start)
            if end < 0 or text[end - 1] == _BACKSLASH:  # a quote is no base64
                raise InvalidRequestError(f"{previous.decode()}: The value is not valid base64.")
            spans.append((previous.decode(), start, end))
            previous = b""
        else:
            end = _string_end(text, start)
            allowance.take(end - start + 2)
            previous = bytes(text[start:end]) if end - start <= _LONGEST_NAME else b""
        position = end + 1


def _string_end(text: bytes | bytearray, start: int) -> int:
    """Where the string that begins at `start` has its closing quote; the text's length if it has none."""
    end = text.find(b'"', start, start + MAX_JSON_BYTES)
    while end >= 0:
        first = end
        while first > start and text[first - 1] == _BACKSLASH:
            first -= 1
        if (end - first) % 2 == 0:
            return end
        end = text.find(b'"', end + 1, start + MAX_JSON_BYTES)
    return len(text)


def decode_base64(text: bytes | memoryview, name: str, limits: Limits, *, escaped: bool = False) -> bytes:
    """Bytes of base64 or of a `data:` URL, with line breaks or without; `escaped`: as it stands in a JSON string.

    The alphabet may be that of base64url, and the padding may be missing. InvalidRequestError, TooLargeError.
    """
    wrong = InvalidRequestError(f"{name}: The value is not valid base64.")
    text = memoryview(text)
    if bytes(text[:5]).lower() == b"data:":
        head = _DATA_URL.match(bytes(text[:_LONGEST_HEAD]))
        if head is None:
            raise InvalidRequestError(f"{name}: A data URL must use base64.")
        text = text[head.end() :]
    decoded = io.BytesIO()
    rest = b""
    ended = False
    try:
        for piece in _unescaped(text) if escaped else _pieces(text):
            letters = rest + piece.translate(_FROM_BASE64URL, _SPACES)
            whole = len(letters) // 4 * 4
            rest = letters[whole:]
            if ended and letters:
                raise wrong
            decoded.write(base64.b64decode(letters[:whole], validate=True))
            ended = letters.endswith(b"=", 0, whole)
            _check_size(decoded.tell(), name, limits)
        if rest:  # the padding is missing
            last = rest.rstrip(b"=")
            if ended or len(last) < 2:
                raise wrong
            decoded.write(base64.b64decode(last.ljust(4, b"="), validate=True))
            _check_size(decoded.tell(), name, limits)
    except (binascii.Error, ValueError):
        raise wrong from None
    return decoded.getvalue()


def _check_size(size: int, name: str, limits: Limits) -> None:
    if size > limits.max_bytes:
        raise TooLargeError(f"{name}: The picture is larger than {limits.max_bytes:,} bytes.", limit=limits.max_bytes)


def _pieces(text: memoryview) -> Iterator[bytes]:
    for start in range(0, len(text), _PIECE):
        yield bytes(text[start : start + _PIECE])


def _unescaped(text: memoryview) -> Iterator[bytes]:
    r"""The pieces of a JSON string's text, which may have escapes such as `\/`, `\n` and `\u002B`. ValueError."""
    rest = b""
    for piece in _pieces(text):
        known = rest + piece
        if any(known.find(control) >= 0 for control in (b"\n", b"\r", b"\t")):
            raise ValueError("a line break in a JSON string")
        cut = known.rfind(b"\\", max(0, len(known) - _LONGEST_ESCAPE + 1))
        rest = known[cut:] if cut >= 0 else b""
        known = known[:cut] if cut >= 0 else known
        yield _plain(known)
    yield _plain(rest)


def _plain(text: bytes) -> bytes:
    return from_json(b'"' + text + b'"').encode() if b"\\" in text else text
