"""ComfyUI with the operator's own workflow: `LIMNER_PAINTERS_DIR/comfyui/NAME.toml` beside its JSON in API format.

Values such as `{{prompt}}` in the workflow are filled in. Read `Workflow`, then `Comfyui.paint`.
"""

import contextlib
import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import Field

from limner.domain.errors import (
    InvalidRequestError,
    LimnerError,
    PainterNotReadyError,
    PainterRequestError,
    PainterServerError,
)
from limner.painters import configuration
from limner.painters.comfyui_socket import Progress, listening
from limner.painters.configuration import Entry, EntryName
from limner.painters.painter import Canvas, Lane, PainterParams
from limner.painters.remote import (
    BaseUrl,
    RemoteServer,
    as_png,
    base_url,
    fitted,
    form,
    key_from,
    picture_from,
    preview_from,
    read_json,
)

if TYPE_CHECKING:
    from limner.painters.painter import RGB

VERSION = 1
_MAX_JSON_BYTES = 8_000_000
_GIVE_UP_S = 3.0  # for telling the server that a job was cancelled
_LOOK_S = 2.0  # between two looks at the history, in case an event was missed
_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_KNOWN = frozenset(
    {"photo", "style_photo", "prompt", "negative_prompt", "seed", "width", "height", "strength", "steps"}
)
_MULTIPLE = 8


class Workflow(Entry):
    """What the TOML file says."""

    workflow: Annotated[str, Field(min_length=1, max_length=500)]
    """The JSON file, saved with "Export (API)": relative to the entry's folder, or absolute."""
    base_url: BaseUrl | None = None
    """Of the ComfyUI; default: `COMFYUI_URL`."""
    key_variable: Annotated[str | None, Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=100)] = None
    """The environment variable with a key for a proxy in front of it, sent as `Authorization: Bearer`."""
    output: Annotated[str | None, Field(max_length=50)] = None
    """The number of the node that makes the picture; default: the first that has one."""
    summary: Annotated[str, Field(max_length=300)] = ""
    strength: Annotated[float, Field(ge=0, le=1)] = 0.6
    steps: Annotated[int, Field(ge=1, le=150)] = 20
    max_pixels: Annotated[int, Field(ge=65_536, le=16_777_216)] = 1_600_000
    timeout_s: Annotated[float | None, Field(gt=0, le=3600)] = None
    """For one picture; None: see `configuration.picture_timeout_s`, which tells whether a job can hold it."""


def _show_names(schema: dict[str, Any]) -> None:
    """The workflows that are there now, for the form."""
    names = configuration.entry_names("comfyui")
    if names:
        schema["examples"] = names


class ComfyuiParams(PainterParams):
    """Parameters of `comfyui`."""

    name: Literal["comfyui"] = "comfyui"
    workflow: Annotated[
        EntryName,
        Field(title="Workflow", description="Name of an entry in the operator's folder", json_schema_extra=_show_names),
    ]
    prompt: Annotated[str, Field(max_length=4000, title="Words", description="What the picture shows")] = ""
    negative_prompt: Annotated[
        str, Field(max_length=2000, title="Words to avoid", description="What the picture must not show")
    ] = ""
    strength: Annotated[
        float | None, Field(ge=0, le=1, title="Strength", description="How far the photo is repainted")
    ] = None
    steps: Annotated[int | None, Field(ge=1, le=150, title="Steps", description="Of denoising")] = None

    def refuse_unused(self) -> None:
        """See `PainterParams.refuse_unused`."""
        places = _places(self.workflow)
        for field in ("prompt", "negative_prompt", "strength", "steps"):
            if getattr(self, field) not in (None, "") and field not in places:
                raise InvalidRequestError(f"{field}: The workflow {self.workflow} has no place for this.", field=field)

    def takes_photo(self, *, beside_style: bool) -> bool:
        """See `PainterParams.takes_photo`."""
        del beside_style
        return "photo" in _places(self.workflow)

    def takes_seed(self) -> bool:
        """See `PainterParams.takes_seed`."""
        return "seed" in _places(self.workflow)

    def takes_style_photo(self) -> bool:
        """See `PainterParams.takes_style_photo`."""
        return "style_photo" in _places(self.workflow)

    def needs_style_photo(self) -> bool:
        """See `PainterParams.needs_style_photo`."""
        return self.takes_style_photo()


class Comfyui:
    """The painter `comfyui`."""

    name = "comfyui"
    summary = "A workflow of your own on a ComfyUI server; the photo and the words are sent to it."
    licence = "LicenseRef-see-workflow"
    source_type: Literal["trainedAlgorithmicMedia"] = "trainedAlgorithmicMedia"
    params = ComfyuiParams
    lanes: tuple[Lane, ...] = ("remote",)

    def lane(self, params: ComfyuiParams) -> Lane:
        """See `Painter.lane`."""
        del params
        return "remote"

    def ready(self) -> str | None:
        """None if at least one workflow can be run; else what is wrong with the first."""
        return configuration.what_is_wrong(
            configuration.entry_names("comfyui"),
            self.check_entry,
            without=f"Describe a workflow in {configuration.painters_dir() / 'comfyui'}, in a file NAME.toml.",
        )

    def check_entry(self, name: str) -> None:
        """See `WithEntries.check_entry`."""
        entry = _entry(name)
        _graph(name, entry)
        _url(entry)
        _headers(entry)

    def fingerprint(self, params: ComfyuiParams) -> str:
        """From the entry, the workflow and the server's address."""
        entry = _entry(params.workflow)
        told = [VERSION, entry.model_dump(mode="json"), _graph(params.workflow, entry), _url(entry)]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    def estimate(self, params: ComfyuiParams, size: tuple[int, int]) -> int:
        """See `Painter.estimate`."""
        del params, size
        return 250_000_000

    def needs(self, params: ComfyuiParams) -> Literal["photo", "nothing"]:
        """Whether the workflow has a place for the photo."""
        return "photo" if "photo" in _places(params.workflow) else "nothing"

    def paint(self, canvas: Canvas, params: ComfyuiParams) -> "RGB":
        """Upload the photo, queue the workflow, follow it, fetch its picture. A stopped job is stopped there, too."""
        entry = _entry(params.workflow)
        graph = _graph(params.workflow, entry)
        places = _placeholders(graph)
        params.refuse_unused()
        _refuse_missing(params, canvas, places)
        base, headers, client = _url(entry), _headers(entry), uuid.uuid4().hex
        progress = Progress()

        def wait() -> None:
            canvas.step(progress.done, progress.steps, None)

        hidden = (params.prompt, params.negative_prompt)
        with RemoteServer(
            base, wait=wait, timeout_s=_timeout_s(params.workflow, entry), headers=headers, hidden=hidden
        ) as server:
            filled = _filled(graph, _values(server, canvas, params, entry, places))
            with listening(base, client, headers, server.check) as events:
                job = _queue(server, filled, client)
                try:
                    for preview in _follow(server, events, job, progress):
                        canvas.step(progress.done, progress.steps, preview_from(preview) if preview else None)
                    made = _fetch(server, job, entry.output)
                except BaseException:
                    _give_up(base, headers, job)
                    raise
            _forget(base, headers, job)
        picture = picture_from(made)
        canvas.step(progress.steps, progress.steps, None)
        return picture


# --- the workflow ----------------------------------------------------------------------------------------------------


def _entry(name: str) -> Workflow:
    """The entry. InvalidRequestError if there is none, PainterNotReadyError if it cannot be used."""
    entry = configuration.read_entry("comfyui", name, Workflow)
    _timeout_s(name, entry)
    return entry


def _timeout_s(name: str, entry: Workflow) -> float:
    return configuration.picture_timeout_s(entry.timeout_s, f"comfyui/{name}.toml")


def _url(entry: Workflow) -> str:
    """The base URL of the server. PainterNotReadyError."""
    try:
        found = entry.base_url or base_url("COMFYUI_URL")
    except ValueError as error:
        raise PainterNotReadyError(str(error)) from None
    if found is None:
        raise PainterNotReadyError("Set COMFYUI_URL to the address of your ComfyUI, such as http://127.0.0.1:8188.")
    return found


def _headers(entry: Workflow) -> dict[str, str]:
    if entry.key_variable is None:
        return {}
    try:
        key = key_from(entry.key_variable)
    except ValueError as error:
        raise PainterNotReadyError(str(error)) from None
    if key is None:
        raise PainterNotReadyError(f"Set {entry.key_variable} to a key of the server.")
    return {"Authorization": f"Bearer {key}"}


def _graph(name: str, entry: Workflow) -> dict[str, Any]:
    """The workflow from its file. PainterNotReadyError if it is not one in API format."""
    where = f"comfyui/{name}.toml: {entry.workflow}"
    try:
        graph = json.loads(configuration.read_small(configuration.beside("comfyui", entry.workflow)))
    except OSError as error:
        raise PainterNotReadyError(f"{where}: {error.strerror or 'cannot be read'}.") from None
    except (ValueError, RecursionError) as error:
        raise PainterNotReadyError(f"{where} is not valid JSON: {error}"[:300]) from None
    nodes = graph.values() if isinstance(graph, dict) else [None]
    if not graph or not all(isinstance(each, dict) and "class_type" in each for each in nodes):
        raise PainterNotReadyError(f'{where} is not a workflow in API format; save it with "Export (API)".')
    unknown = _placeholders(graph) - _KNOWN
    if unknown:
        raise PainterNotReadyError(f"{where}: {{{{{min(unknown)}}}}} is not one of {', '.join(sorted(_KNOWN))}.")
    return dict(graph)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _placeholders(graph: dict[str, Any]) -> set[str]:
    return {name for text in _texts(graph) for name in _PLACEHOLDER.findall(text)}


def _places(name: str) -> set[str]:
    """What the workflow of this name has a place for. As `_entry`, `_graph`."""
    return _placeholders(_graph(name, _entry(name)))


def _filled(value: Any, values: dict[str, Any]) -> Any:
    """The workflow with its placeholders filled; one that is a whole text becomes the value itself, a number too."""
    if isinstance(value, dict):
        return {key: _filled(each, values) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, values) for each in value]
    if not isinstance(value, str):
        return value
    whole = _PLACEHOLDER.fullmatch(value)
    return values[whole[1]] if whole else _PLACEHOLDER.sub(lambda found: str(values[found[1]]), value)


def _refuse_missing(params: ComfyuiParams, canvas: Canvas, places: set[str]) -> None:
    """InvalidRequestError for a picture that the workflow needs."""
    for field, picture in (("photo", canvas.photo), ("style_photo", canvas.style_photo)):
        if field in places and picture is None:
            name = "image" if field == "photo" else "style_image"
            raise InvalidRequestError(f"{name}: The workflow {params.workflow} needs this picture.", field=name)


def _values(
    server: RemoteServer, canvas: Canvas, params: ComfyuiParams, entry: Workflow, places: set[str]
) -> dict[str, Any]:
    """What fills each placeholder; pictures are uploaded."""
    shape = (1024, 1024) if canvas.photo is None else (canvas.photo.shape[1], canvas.photo.shape[0])
    width, height = canvas.size or shape
    scale = min(1.0, (entry.max_pixels / (width * height)) ** 0.5)
    values: dict[str, Any] = {
        "prompt": params.prompt,
        "negative_prompt": params.negative_prompt,
        "seed": canvas.seed,
        "width": max(64, int(width * scale) // _MULTIPLE * _MULTIPLE),
        "height": max(64, int(height * scale) // _MULTIPLE * _MULTIPLE),
        "strength": entry.strength if params.strength is None else params.strength,
        "steps": params.steps or entry.steps,
    }
    for name, picture in (("photo", canvas.photo), ("style_photo", canvas.style_photo)):
        if name in places and picture is not None:
            values[name] = _upload(server, fitted(picture, max_pixels=entry.max_pixels, max_side=8192))
    return values


# --- the server ------------------------------------------------------------------------------------------------------


def _json(server: RemoteServer, method: str, path: str, sent: Any = None) -> Any:
    headers = {} if sent is None else {"Content-Type": "application/json"}
    body = b"" if sent is None else json.dumps(sent).encode()
    answer = server.ask(method, path, headers=headers, body=body, max_bytes=_MAX_JSON_BYTES)
    if answer.status != 200:
        raise server.problem(answer)
    return read_json(answer.body) if answer.body else None


def _upload(server: RemoteServer, picture: "RGB") -> str:
    """Upload a picture as a temporary file, which ComfyUI removes when it starts; its name for `LoadImage`."""
    headers, body = form([("image", as_png(picture, f"limner-{uuid.uuid4().hex}")), ("type", "temp")])
    answer = server.ask("POST", "/upload/image", headers=headers, body=body, max_bytes=_MAX_JSON_BYTES)
    if answer.status != 200:
        raise server.problem(answer)
    told = read_json(answer.body)
    if not isinstance(told, dict) or not isinstance(told.get("name"), str):
        raise PainterServerError(f"{server.host} did not take the photo.")
    folder = f"{told['subfolder']}/" if told.get("subfolder") else ""
    return f"{folder}{told['name']} [temp]"


def _queue(server: RemoteServer, filled: Any, client: str) -> str:
    """The id of the queued workflow."""
    told = _json(server, "POST", "/prompt", {"prompt": filled, "client_id": client})
    job = told.get("prompt_id") if isinstance(told, dict) else None
    if not isinstance(job, str) or not re.fullmatch(r"[\w-]{1,100}", job, re.ASCII):
        raise PainterRequestError(f"{server.host} did not queue the workflow.")
    return job


def _follow(
    server: RemoteServer, events: Iterator[tuple[str, Any]], job: str, progress: Progress
) -> Iterator[bytes | None]:
    """Previews, and None for each step without one, until the workflow is done. PainterServerError if it fails.

    Events are lost when a connection breaks, so the history is looked at as well.
    """
    looked = time.monotonic()
    for kind, told in events:
        server.check()
        if kind == "preview":
            yield told
        elif isinstance(told, dict) and told.get("prompt_id", job) == job:
            if kind == "progress":
                progress.set(told.get("value"), told.get("max"))
                yield None
            elif kind == "execution_error":
                message = server.clean(str(told.get("exception_message", "")))
                raise PainterServerError(
                    f"The workflow failed in {server.clean(str(told.get('node_type')))}: {message}"
                )
            elif kind == "execution_interrupted":
                raise PainterServerError(f"The workflow was interrupted at {server.host}.")
            elif kind == "execution_success" or (kind == "executing" and told.get("node", "") is None):
                return
        if time.monotonic() - looked > _LOOK_S:
            looked = time.monotonic()
            if _outputs(server, job) is not None:
                return


def _outputs(server: RemoteServer, job: str) -> dict[str, Any] | None:
    """The outputs of a finished workflow, by node; None while it is not finished. PainterServerError if it failed."""
    told = _json(server, "GET", f"/history/{job}")
    found = told.get(job) if isinstance(told, dict) else None
    if not isinstance(found, dict):
        return None
    status = found.get("status")
    if isinstance(status, dict) and status.get("status_str") == "error":
        raise PainterServerError(f"The workflow failed at {server.host}.")
    outputs = found.get("outputs")
    return outputs if isinstance(outputs, dict) else {}


def _fetch(server: RemoteServer, job: str, node: str | None) -> bytes:
    """The file of the picture that the workflow made."""
    outputs = _outputs(server, job)
    if outputs is None:
        raise PainterServerError(f"{server.host} has forgotten the workflow.")
    made = [
        picture
        for number, each in outputs.items()
        if node in (None, number) and isinstance(each, dict) and isinstance(each.get("images"), list)
        for picture in each["images"]
        if isinstance(picture, dict) and isinstance(picture.get("filename"), str)
    ]
    if not made:
        raise PainterServerError("The workflow made no picture.")
    chosen = next((each for each in made if each.get("type") == "output"), made[0])
    query = urlencode({key: str(chosen.get(key, "")) for key in ("filename", "subfolder", "type")})
    answer = server.ask("GET", f"/view?{query}")
    if answer.status != 200:
        raise server.problem(answer)
    return answer.body


def _give_up(base: str, headers: dict[str, str], job: str) -> None:
    """Take the workflow out of the queue, and interrupt it if it runs; an older ComfyUI would interrupt any."""
    with (
        contextlib.suppress(LimnerError),  # the job's own error is told; that the server did not hear of it is not
        RemoteServer(base, wait=lambda: None, timeout_s=_GIVE_UP_S, headers=headers) as server,
    ):
        _json(server, "POST", "/queue", {"delete": [job]})
        running = _json(server, "GET", "/queue")
        listed = running.get("queue_running") if isinstance(running, dict) else None
        if isinstance(listed, list) and any(isinstance(each, list) and job in each for each in listed):
            _json(server, "POST", "/interrupt", {"prompt_id": job})


def _forget(base: str, headers: dict[str, str], job: str) -> None:
    """Remove the workflow, which holds the words, from the server's history."""
    with (
        contextlib.suppress(LimnerError),  # the picture is there; a history that stays is no reason to lose it
        RemoteServer(base, wait=lambda: None, timeout_s=_GIVE_UP_S, headers=headers) as server,
    ):
        _json(server, "POST", "/history", {"delete": [job]})
