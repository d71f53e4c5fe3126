"""Any server that speaks OpenAI's images interface: `images/edits` with a photo, `images/generations` without.

One TOML file a server, `LIMNER_PAINTERS_DIR/openai/NAME.toml` (`Server`); without any, OpenAI itself with
`OPENAI_API_KEY`. Servers differ: `openai_dialects.py` has what each is sent.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from limner.domain.errors import (
    ContentRefusedError,
    LimnerError,
    PainterCreditError,
    PainterKeyError,
    PainterNotReadyError,
    PainterServerError,
)
from limner.painters import configuration
from limner.painters.configuration import EntryName
from limner.painters.openai_dialects import DIALECTS, Server, Wish, takes_seed
from limner.painters.painter import Canvas, Lane, PainterParams
from limner.painters.remote import (
    MAX_ANSWER_BYTES,
    Answer,
    RemoteServer,
    base_url,
    form,
    from_base64,
    key_from,
    picture_from,
    preview_from,
    read_json,
)

if TYPE_CHECKING:
    from limner.painters.painter import RGB

VERSION = 1
DEFAULT_SERVER = "openai"
DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-image-1"
_REFUSED = {"moderation_blocked", "content_policy_violation"}
_NO_CREDIT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}


def _show_names(schema: dict[str, Any]) -> None:
    """The servers that are there now, for the form."""
    names = configuration.entry_names("openai")
    if names:
        schema["examples"] = names


class OpenaiParams(PainterParams):
    """Parameters of `openai`."""

    name: Literal["openai"] = "openai"
    prompt: Annotated[
        str,
        Field(min_length=1, max_length=4000, title="Words", description="What to make of the photo, or to paint"),
    ]
    server: Annotated[
        EntryName,
        Field(title="Server", description="Name of an entry in the operator's folder", json_schema_extra=_show_names),
    ] = DEFAULT_SERVER
    quality: Annotated[
        Literal["auto", "low", "medium", "high"], Field(title="Quality", description="Only for OpenAI's models")
    ] = "auto"
    negative_prompt: Annotated[
        str, Field(max_length=2000, title="Words to avoid", description="Not for OpenAI's models")
    ] = ""
    strength: Annotated[
        float | None,
        Field(ge=0, le=1, title="Strength", description="How far the photo is repainted; not for OpenAI's models"),
    ] = None
    steps: Annotated[
        int | None, Field(ge=1, le=150, title="Steps", description="Of denoising; not for OpenAI's models")
    ] = None
    guidance: Annotated[
        float | None,
        Field(ge=0, le=30, title="Guidance", description="How strictly to keep to the words; not for OpenAI's models"),
    ] = None

    def refuse_unused(self) -> None:
        """See `PainterParams.refuse_unused`."""
        server = _server(self.server)
        DIALECTS[server.dialect](server, _wish(self))

    def takes_seed(self) -> bool:
        """See `PainterParams.takes_seed`."""
        return takes_seed(_server(self.server))


class Openai:
    """The painter `openai`."""

    name = "openai"
    summary = "A server that speaks OpenAI's images interface; the photo and the words are sent to it."
    licence = "LicenseRef-terms-of-the-server"
    source_type: Literal["trainedAlgorithmicMedia"] = "trainedAlgorithmicMedia"
    params = OpenaiParams
    lanes: tuple[Lane, ...] = ("remote",)

    def lane(self, params: OpenaiParams) -> Lane:
        """See `Painter.lane`."""
        del params
        return "remote"

    def ready(self) -> str | None:
        """None if at least one server can be asked; else what is missing for the first."""
        names = configuration.entry_names("openai") or [DEFAULT_SERVER]
        return configuration.what_is_wrong(names, self.check_entry, without="")

    def check_entry(self, name: str) -> None:
        """See `WithEntries.check_entry`."""
        _key(_server(name))

    def fingerprint(self, params: OpenaiParams) -> str:
        """See `Painter.fingerprint`."""
        told = f"{VERSION} {_server(params.server).model_dump_json()}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def estimate(self, params: OpenaiParams, size: tuple[int, int]) -> int:
        """See `Painter.estimate`."""
        del params, size
        return 300_000_000  # an answer of the largest size, its base64 and its pixels

    def needs(self, params: OpenaiParams) -> Literal["nothing"]:
        """See `Painter.needs`."""
        del params
        return "nothing"

    def paint(self, canvas: Canvas, params: OpenaiParams) -> "RGB":
        """One request, which is never repeated: it may be charged for as soon as it is sent."""
        server = _server(params.server)
        key = _key(server)
        dialect = DIALECTS[server.dialect]
        path, fields = dialect(server, _wish(params, canvas))
        if path == "/images/edits":
            headers, body = form(_as_text(fields))
        else:
            headers, body = {"Content-Type": "application/json"}, json.dumps(fields).encode()
        if key:
            headers["Authorization"] = f"Bearer {key}"
        steps = server.partial_images + 1 if fields.get("stream") else 1
        done = 0
        with RemoteServer(
            server.base_url,
            wait=lambda: canvas.step(done, steps, None),
            timeout_s=_timeout_s(params.server, server),
            headers=headers,
            hidden=(params.prompt, params.negative_prompt),
        ) as remote:
            with remote.open("POST", path, body=body) as (status, found, chunks):
                if status == 200 and found.get("content-type", "").startswith("text/event-stream"):
                    data = b""
                    for is_last, picture in _pictures(remote, chunks):
                        if is_last:
                            data = picture
                            break
                        done = min(done + 1, steps - 1)
                        canvas.step(done, steps, preview_from(picture))
                else:
                    data = _only(remote, Answer(status, found, b"".join(chunks)))
            if not data:
                raise PainterServerError(f"{remote.host} ended its stream without a picture.")
        made = picture_from(data)
        canvas.step(steps, steps, None)
        return made


# --- the server ------------------------------------------------------------------------------------------------------


def _server(name: str) -> Server:
    """The entry, or OpenAI itself if there is no file of this name. PainterNotReadyError, InvalidRequestError."""
    if name != DEFAULT_SERVER or name in configuration.entry_names("openai"):
        server = configuration.read_entry("openai", name, Server)
        _timeout_s(name, server)
        return server
    try:
        base = base_url("OPENAI_BASE_URL", DEFAULT_URL)
    except ValueError as error:
        raise PainterNotReadyError(str(error)) from None
    assert base is not None
    return Server(
        base_url=base,
        key_variable="OPENAI_API_KEY",
        model=os.environ.get("OPENAI_IMAGE_MODEL", DEFAULT_MODEL)[:200],
        stream=True,
    )


def _timeout_s(name: str, server: Server) -> float:
    return configuration.picture_timeout_s(server.timeout_s, f"openai/{name}.toml")


def _wish(params: OpenaiParams, canvas: Canvas | None = None) -> Wish:
    return Wish(
        prompt=params.prompt,
        negative_prompt=params.negative_prompt,
        quality=params.quality,
        strength=params.strength,
        steps=params.steps,
        guidance=params.guidance,
        seed=0 if canvas is None else canvas.seed,
        size=None if canvas is None else canvas.size,
        photo=None if canvas is None else canvas.photo,
    )


def _key(server: Server) -> str | None:
    """The key; None for a server without one. PainterNotReadyError if it is not set."""
    if server.key_variable is None:
        return None
    try:
        key = key_from(server.key_variable)
    except ValueError as error:
        raise PainterNotReadyError(str(error)) from None
    if key is None:
        raise PainterNotReadyError(f"Set {server.key_variable} to a key of the server.")
    return key


def _as_text(fields: dict[str, Any]) -> list[tuple[str, Any]]:
    """Fields of a form: JSON's own words for what is no text."""
    return [
        (name, json.dumps(value) if isinstance(value, bool | int | float) else value) for name, value in fields.items()
    ]


# --- what comes back -------------------------------------------------------------------------------------------------


def _only(remote: RemoteServer, answer: Answer) -> bytes:
    """The picture of an answer that is no stream."""
    if answer.status != 200:
        raise _problem(remote, answer)
    told = read_json(answer.body)
    listed = told.get("data") if isinstance(told, dict) else None
    if not isinstance(listed, list) or not listed or not isinstance(listed[0], dict):
        raise PainterServerError(f"{remote.host} sent no picture.")
    return from_base64(listed[0].get("b64_json"))


def _pictures(remote: RemoteServer, chunks: Iterator[bytes]) -> Iterator[tuple[bool, bytes]]:
    """The pictures of a stream of events, and whether each is the last one."""
    for event in _events(chunks):
        if event == b"[DONE]":
            return
        told = read_json(event)
        kind = str(told.get("type", "")) if isinstance(told, dict) else ""
        if kind.endswith(".partial_image"):
            yield False, from_base64(told.get("b64_json"))
        elif kind.endswith(".completed"):
            yield True, from_base64(told.get("b64_json"))
        elif kind == "error" or (isinstance(told, dict) and "error" in told):
            raise _problem(remote, Answer(502, {}, event))


def _events(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The data of each server-sent event (WHATWG HTML, 9.2), as far as these servers use them."""
    line, data = bytearray(), bytearray()
    for chunk in chunks:
        pieces = chunk.split(b"\n")
        for number, piece in enumerate(pieces):
            line += piece
            if number == len(pieces) - 1:
                break
            text = bytes(line).rstrip(b"\r")
            line.clear()
            if text.startswith(b"data:"):
                data += text[5:].removeprefix(b" ")
            elif not text and data:
                yield bytes(data)
                data.clear()
        if len(line) + len(data) > MAX_ANSWER_BYTES:
            raise PainterServerError("The painter's server sent an event that is too large.")
    if data:
        yield bytes(data)


def _problem(remote: RemoteServer, answer: Answer) -> LimnerError:
    """As other servers, but this interface tells filters and missing credit by a code."""
    try:
        told = json.loads(answer.body[:100_000])
        code = str(told["error"].get("code") or told["error"].get("type"))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        code = ""
    if code in _REFUSED:
        return ContentRefusedError(f"The content filter of {remote.host} refused the photo, the words or the result.")
    if code in _NO_CREDIT:
        return PainterCreditError(f"The account at {remote.host} has no credit.")
    if answer.status == 403:
        return PainterKeyError(f"{remote.host} does not let this key paint.")
    return remote.problem(answer)
