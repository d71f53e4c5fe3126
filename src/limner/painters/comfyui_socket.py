"""The WebSocket on which ComfyUI tells how far a workflow is, with previews. Its messages are those of `server.py` in
https://github.com/comfyanonymous/ComfyUI.
"""

import json
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from limner.domain.errors import PainterServerError

_MAX_MESSAGE_BYTES = 16_000_000
_SILENCE_S = 0.5
_OPEN_S = 5.0
_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4
_MAX_STEPS = 10_000


@dataclass(slots=True)
class Progress:
    """Steps of the sampler that runs now; it never goes back, although a workflow may have several samplers."""

    done: int = 0
    steps: int = 1

    def set(self, value: object, most: object) -> None:
        """What the server tells, if it makes sense."""
        if isinstance(value, int) and isinstance(most, int) and 0 <= value <= most <= _MAX_STEPS and most > 0:
            share = max(value / most, self.done / self.steps)
            self.steps = most + 1  # fetching the picture is the last one
            self.done = min(round(share * self.steps), most)


@contextmanager
def listening(
    base: str, client: str, headers: Mapping[str, str], check: Callable[[], None]
) -> Iterator[Iterator[tuple[str, Any]]]:
    """Connect, and give what the server tells: ("preview", bytes), (its type, its data), or ("nothing", None) each
    half second. When the connection ends, only the last one follows. PainterServerError if there is no connection.
    """
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    check()
    try:
        socket = connect(
            f"ws{base.removeprefix('http')}/ws?clientId={client}",
            additional_headers=dict(headers),
            open_timeout=_OPEN_S,
            close_timeout=1,
            max_size=_MAX_MESSAGE_BYTES,
            compression=None,
            proxy=None,
        )
    except (OSError, WebSocketException, EOFError):
        raise PainterServerError("ComfyUI could not be reached, or has no WebSocket.") from None
    with socket:
        yield _messages(socket, check)


def _messages(socket: Any, check: Callable[[], None]) -> Iterator[tuple[str, Any]]:
    from websockets.exceptions import ConnectionClosed

    is_open = True
    while True:
        check()
        message: str | bytes | None = None
        if is_open:
            try:
                message = socket.recv(timeout=_SILENCE_S)
            except TimeoutError:
                pass
            except ConnectionClosed:
                is_open = False
        else:
            time.sleep(_SILENCE_S)
        read = None if message is None else _read(message)
        yield ("nothing", None) if read is None else read


def _read(message: str | bytes) -> tuple[str, Any] | None:
    """One message; None for one that means nothing here."""
    if isinstance(message, bytes):
        preview = _preview(message)
        return None if preview is None else ("preview", preview)
    try:
        told = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or not isinstance(told.get("type"), str):
        return None
    return ("nothing", None) if told["type"] in {"preview", "nothing"} else (told["type"], told.get("data"))


def _preview(message: bytes) -> bytes | None:
    """The picture's file in a binary message: after its kind and its format, or after metadata."""
    if len(message) < 8:
        return None
    kind, second = struct.unpack_from(">II", message)
    if kind == _PREVIEW:
        return message[8:]
    return message[8 + second :] if kind == _PREVIEW_WITH_METADATA else None
