"""What painters read from the environment and the operator's files, at each call, because they get no settings.

A painter with entries has a folder of its own in `LIMNER_PAINTERS_DIR`, with one TOML file an entry: `onnx/anime.toml`.
"""

import os
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from limner.domain.errors import InvalidRequestError, LimnerError, PainterNotReadyError
from limner.domain.lane import REMOTE_JOB_TIMEOUT_S

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
EntryName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", max_length=64)]
MAX_ENTRIES = 100
MAX_FILE_BYTES = 1_000_000
_PICTURE_TIMEOUT_S = 300.0
_AROUND_S = 30.0  # of a job, beside its picture: decoding, finding faces, encoding


class Entry(BaseModel):
    """Base class of what a TOML file says. Unknown keys are an error, so that a misspelt one is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


E = TypeVar("E", bound=Entry)


def models_dir() -> Path:
    """The folder of the model files; the same as the setting `models_dir`."""
    return _folder("LIMNER_MODELS_DIR", "models")


def painters_dir() -> Path:
    """The folder of the operator's painters; the same as the setting `painters_dir`."""
    return _folder("LIMNER_PAINTERS_DIR", "painters")


def filters_content(*, hosted: bool) -> bool:
    """Whether pictures are looked at by the content filter; `hosted`: those that another server has made."""
    wanted = _variable("LIMNER_CONTENT_FILTER")
    return wanted == "all" or (wanted == "hosted" and hosted)


def highest_content_score() -> float:
    """The score from which on a picture is held back; the same as the setting `content_filter_score`."""
    return float(_variable("LIMNER_CONTENT_FILTER_SCORE") or 0.5)


def picture_timeout_s(given: float | None = None, entry: str = "") -> float:
    """How long another server may take for one picture: what its entry says, or 300 s, or less if a job may not run so
    long. A job must be able to outlast its picture, or nobody would learn that the server may have painted.

    PainterNotReadyError if the entry gives more than a job has.
    """
    job_s = float(_variable("LIMNER_REMOTE_JOB_TIMEOUT_S") or REMOTE_JOB_TIMEOUT_S)
    longest_s = max(job_s - _AROUND_S, job_s / 2)
    if given is None:
        return min(_PICTURE_TIMEOUT_S, longest_s)
    if given > longest_s:
        raise PainterNotReadyError(
            f"{entry}: timeout_s is {given:g}, but a job may only run for {job_s:g} s. Set LIMNER_REMOTE_JOB_TIMEOUT_S "
            f"to at least {given + _AROUND_S:g}, or timeout_s to {longest_s:g} or less."
        )
    return given


def c2pa_files() -> tuple[Path, Path] | None:
    """The files of certificate and private key; the same as the settings `c2pa_certificate` and `c2pa_key`."""
    certificate, key = _variable("LIMNER_C2PA_CERTIFICATE"), _variable("LIMNER_C2PA_KEY")
    return (Path(certificate), Path(key)) if certificate and key else None


def _variable(name: str) -> str | None:
    """The environment variable, in any case, as for settings."""
    return next((value for each, value in os.environ.items() if each.upper() == name), None)


def _folder(variable: str, name: str) -> Path:
    given = _variable(variable)
    return Path(given) if given else platformdirs.user_data_path("limner", appauthor=False) / name


def works_here() -> bool:
    """Whether jobs run on this machine: the setting `engine_url` names no broker, whose workers may be elsewhere."""
    return os.environ.get("LIMNER_ENGINE_URL", "processes:") == "processes:"


def entry_names(painter: str) -> list[str]:
    """The names of a painter's entries, sorted; no file is opened. Files with other names are no entries."""
    try:
        files = sorted((painters_dir() / painter).glob("*.toml"))
    except OSError:
        return []
    return [file.stem for file in files if NAME.fullmatch(file.stem)][:MAX_ENTRIES]


def what_is_wrong(names: Sequence[str], check: Callable[[str], object], *, without: str) -> str | None:
    """None if `check` accepts one of the entries; else why it refuses the first, or `without` if there is none.

    `check` refuses by LimnerError.
    """
    reasons = []
    for name in names:
        try:
            check(name)
        except LimnerError as error:
            reasons.append(error.detail)
        else:
            return None
    return reasons[0] if reasons else without


def read_entry(painter: str, name: str, kind: type[E]) -> E:
    """The entry from its file. InvalidRequestError if there is none, PainterNotReadyError if the file is not valid."""
    if name not in entry_names(painter):
        known = ", ".join(entry_names(painter)) or "none"
        raise InvalidRequestError(f"{painter} has no entry named {name!r}; there are: {known}.")
    file = painters_dir() / painter / f"{name}.toml"
    try:
        return kind.model_validate(tomllib.loads(read_small(file).decode()))
    except (ValueError, OSError) as error:  # ValidationError, TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise PainterNotReadyError(f"{painter}/{file.name}: {_in_words(error)}") from None


def read_small(file: Path) -> bytes:
    """The bytes of a file of the operator. ValueError if it is larger than such a file can be; OSError."""
    with file.open("rb") as opened:
        data = opened.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"the file is larger than {MAX_FILE_BYTES:,} bytes")
    return data


def beside(painter: str, name: str) -> Path:
    """The file that an entry names: relative to the entry's own folder, or absolute."""
    return painters_dir() / painter / name


def _in_words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        told = [
            f"{'.'.join(map(str, each['loc'])) or 'file'}: {each['msg']}"
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        return "; ".join(told)
    return error.strerror or "cannot be read" if isinstance(error, OSError) else str(error)
