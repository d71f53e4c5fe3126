"""Any image-to-image network in an ONNX file, described by a TOML entry: `LIMNER_PAINTERS_DIR/onnx/NAME.toml`.

The network is opened only in workers, whose memory is limited. Read `Network`, which is what an entry may say.
"""

import hashlib
import threading
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from limner.domain.errors import InvalidRequestError, PainterNotReadyError
from limner.painters import configuration
from limner.painters.configuration import Entry, EntryName
from limner.painters.painter import Canvas, Lane, PainterParams

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import onnxruntime as ort  # type: ignore[import-untyped]
    from numpy.typing import NDArray

    from limner.painters.painter import RGB

VERSION = 1
_KEPT = 2  # networks that stay loaded in a worker
_FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


class Network(Entry):
    """What the TOML file says."""

    file: Annotated[str, Field(min_length=1, max_length=500)]
    """The ONNX file: relative to the entry's folder, or absolute."""
    summary: Annotated[str, Field(max_length=300)] = ""
    licence: Annotated[str, Field(max_length=100)] = "LicenseRef-unknown"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR"] = "RGB"
    range: tuple[float, float] = (0, 1)
    """What black and white are for the network."""
    output_range: tuple[float, float] | None = None
    """The same for what it gives; default: `range`."""
    size_multiple: Annotated[int, Field(ge=1, le=256)] = 1
    size: Annotated[int | None, Field(ge=16, le=4096)] = None
    """Both sides, for a network that takes only one size. The photo is padded to a square."""
    max_pixels: Annotated[int, Field(ge=4096, le=50_000_000)] = 1_200_000
    """Larger photos are made smaller for the network, and its result is enlarged."""
    bytes_per_pixel: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """Memory that it needs for each pixel, for the estimate."""
    sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None
    """If given, another file is refused."""

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> "Network":
        for low, high in (self.range, self.output_range or self.range):
            if not -1000 <= low < high <= 1000:
                raise ValueError("a range has two numbers, the smaller first, between -1000 and 1000")
        return self


def _show_names(schema: dict[str, Any]) -> None:
    """The entries that are there now, for the form."""
    names = configuration.entry_names("onnx")
    if names:
        schema["examples"] = names


class OnnxParams(PainterParams):
    """Parameters of `onnx`."""

    name: Literal["onnx"] = "onnx"
    network: Annotated[
        EntryName,
        Field(title="Network", description="Name of an entry in the operator's folder", json_schema_extra=_show_names),
    ]
    strength: Annotated[
        float, Field(ge=0, le=1, title="Strength", description="0: the photo, 1: all of what the network makes")
    ] = 1


class Onnx:
    """The painter `onnx`."""

    name = "onnx"
    summary = "A network of your own, from an ONNX file."
    licence = "LicenseRef-see-entry"
    source_type: Literal["trainedAlgorithmicMedia"] = "trainedAlgorithmicMedia"
    params = OnnxParams
    lanes: tuple[Lane, ...] = ("paint",)

    def lane(self, params: OnnxParams) -> Lane:
        """See `Painter.lane`."""
        del params
        return "paint"

    def ready(self) -> str | None:
        """None if at least one entry can be used; else what is wrong with the first."""
        return configuration.what_is_wrong(
            configuration.entry_names("onnx"),
            self.check_entry,
            without=f"Describe a network in {configuration.painters_dir() / 'onnx'}, in a file NAME.toml.",
        )

    def check_entry(self, name: str) -> None:
        """See `WithEntries.check_entry`."""
        _file(name, configuration.read_entry("onnx", name, Network))

    def fingerprint(self, params: OnnxParams) -> str:
        """From the entry and the file's checksum, or without one from its size and time: it may be large."""
        entry = configuration.read_entry("onnx", params.network, Network)
        file = _file(params.network, entry)
        found = file.stat()
        which = entry.sha256 or f"{found.st_size} {found.st_mtime_ns}"
        return hashlib.sha256(f"{VERSION} {entry.model_dump_json()} {which}".encode()).hexdigest()[:16]

    def estimate(self, params: OnnxParams, size: tuple[int, int]) -> int:
        """See `Painter.estimate`."""
        entry = configuration.read_entry("onnx", params.network, Network)
        pixels = entry.size**2 if entry.size else min(size[0] * size[1], entry.max_pixels)
        return 2 * _file(params.network, entry).stat().st_size + pixels * entry.bytes_per_pixel + size[0] * size[1] * 3

    def needs(self, params: OnnxParams) -> Literal["photo"]:
        """See `Painter.needs`."""
        del params
        return "photo"

    def paint(self, canvas: Canvas, params: OnnxParams) -> "RGB":
        import cv2
        import numpy as np

        photo = canvas.photo
        if photo is None:
            raise InvalidRequestError("image: This painter needs a photo.", field="image")
        entry = configuration.read_entry("onnx", params.network, Network)
        canvas.step(0, 1, None)
        session = _session(params.network, entry)
        canvas.step(0, 1, None)
        height, width = photo.shape[:2]
        scale = entry.size / max(height, width) if entry.size else min(1, (entry.max_pixels / (height * width)) ** 0.5)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        work = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
        made = _run(session, params.network, entry, work)
        if params.strength < 1:
            base = np.asarray(cv2.resize(work, made.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
            made = np.asarray(cv2.addWeighted(made, params.strength, base, 1 - params.strength, 0), np.uint8)
        canvas.step(1, 1, None)
        if made.shape[0] < height:
            made = np.asarray(cv2.resize(made, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
        return made


def _file(name: str, entry: Network) -> "Path":
    """The ONNX file of an entry. PainterNotReadyError if it is not there."""
    file = configuration.beside("onnx", entry.file)
    if not file.is_file():
        raise PainterNotReadyError(f"onnx/{name}.toml: the file {entry.file} is not there.")
    return file


# --- the network ------------------------------------------------------------------------------------------------------


def _run(session: "ort.InferenceSession", name: str, entry: Network, work: "RGB") -> "RGB":
    """What the network makes of the picture; it may be larger, by a whole factor. PainterNotReadyError."""
    import numpy as np

    from limner.vision import runtime
    from limner.vision.memory import is_out_of_memory

    height, width = work.shape[:2]
    multiple = entry.size_multiple
    target_height = entry.size or -(-height // multiple) * multiple
    target_width = entry.size or -(-width // multiple) * multiple
    # Mirrored as long as there is something to mirror; a fixed size may need more than that.
    mode = "reflect" if target_height < 2 * height and target_width < 2 * width else "edge"
    padded = np.pad(work, ((0, target_height - height), (0, target_width - width), (0, 0)), mode=mode)  # type: ignore[call-overload]
    kind = _FLOATS[session.get_inputs()[0].type]
    try:
        (made,) = session.run(
            [session.get_outputs()[0].name],
            {session.get_inputs()[0].name: _given(padded, entry, kind)},
            runtime.giving_back(),
        )
    except Exception as error:  # the runtime raises classes of its own that share no public base
        if is_out_of_memory(error):
            raise MemoryError from error
        first = str(error).partition("\n")[0][:200]
        raise PainterNotReadyError(f"onnx/{name}.toml: the network failed at {padded.shape[:2]}: {first}") from None
    picture = _taken(np.asarray(made), name, entry)
    factor = picture.shape[0] / target_height
    if factor < 1 or factor != int(factor) or picture.shape[1] != target_width * factor:
        got = f"{picture.shape[1]}×{picture.shape[0]}"
        raise PainterNotReadyError(
            f"onnx/{name}.toml: the network made {got} of {target_width}×{target_height} pixels."
        )
    return np.ascontiguousarray(picture[: int(height * factor), : int(width * factor)])


def _given(picture: "RGB", entry: Network, kind: str) -> "NDArray[np.generic]":
    """The picture as the network takes it."""
    import numpy as np

    low, high = entry.range
    ordered = picture if entry.channels == "RGB" else picture[..., ::-1]
    if kind == "uint8":
        values: NDArray[np.generic] = ordered
    else:
        values = (ordered.astype(np.float32) * np.float32((high - low) / 255) + np.float32(low)).astype(kind)
    return np.ascontiguousarray((values if entry.layout == "NHWC" else values.transpose(2, 0, 1))[None])


def _taken(made: "NDArray[np.generic]", name: str, entry: Network) -> "RGB":
    """RGB from what the network gave. PainterNotReadyError if it is no picture."""
    import numpy as np

    channels = made.shape[1 if entry.layout == "NCHW" else 3] if made.ndim == 4 else 0
    if made.ndim != 4 or made.shape[0] != 1 or channels != 3:
        raise PainterNotReadyError(
            f"onnx/{name}.toml: the network gave {made.shape}, which is no {entry.layout} picture."
        )
    picture = made[0] if entry.layout == "NHWC" else made[0].transpose(1, 2, 0)
    if picture.dtype != np.uint8:
        low, high = entry.output_range or entry.range
        values = np.nan_to_num((picture.astype(np.float32) - low) * np.float32(255 / (high - low)))
        picture = (values.clip(0, 255) + 0.5).astype(np.uint8)
    return np.asarray(picture if entry.channels == "RGB" else picture[..., ::-1], np.uint8)


_lock = threading.Lock()
_sessions: "dict[tuple[str, int, int], ort.InferenceSession]" = {}


def _session(name: str, entry: Network) -> "ort.InferenceSession":
    """The network, loaded once in a process while its file stays the same. PainterNotReadyError, MemoryError."""
    from limner.domain.errors import ModelError
    from limner.vision import runtime
    from limner.vision.memory import is_out_of_memory

    file = _file(name, entry)
    found = file.stat()
    key = (str(file), found.st_size, found.st_mtime_ns)
    with _lock:
        if key not in _sessions:
            _check_sum(file, name, entry)
            try:
                session = runtime.session(file, any_size=True)
            except ModelError as error:
                if error.__cause__ is not None and is_out_of_memory(error.__cause__):
                    raise MemoryError from error
                raise PainterNotReadyError(f"onnx/{name}.toml: {error.detail[:300]}") from None
            _check_shape(session, name, entry)
            while len(_sessions) >= _KEPT:
                del _sessions[next(iter(_sessions))]
            _sessions[key] = session
        return _sessions[key]


def _check_sum(file: "Path", name: str, entry: Network) -> None:
    if entry.sha256 is None:
        return
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != entry.sha256:
        raise PainterNotReadyError(f"onnx/{name}.toml: {entry.file} has the SHA-256 {found}, not {entry.sha256}.")


def _check_shape(session: "ort.InferenceSession", name: str, entry: Network) -> None:
    """PainterNotReadyError unless the network takes and gives one picture in the layout of the entry."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _FLOATS:
        told = ", ".join(f"{each.name} {each.shape} {each.type}" for each in inputs)[:300]
        raise PainterNotReadyError(f"onnx/{name}.toml: a network with one picture as input is needed; it has {told}.")
    shape = inputs[0].shape
    channels, sides = (shape[1], shape[2:]) if entry.layout == "NCHW" else (shape[3], shape[1:3])
    if isinstance(channels, int) and channels != 3:
        raise PainterNotReadyError(f"onnx/{name}.toml: the input {shape} is not {entry.layout} with three channels.")
    fixed = [side for side in sides if isinstance(side, int) and side > 0]
    if fixed and (entry.size is None or any(side != entry.size for side in fixed)):
        raise PainterNotReadyError(f"onnx/{name}.toml: the network takes {shape} alone; write size = {fixed[0]}.")
