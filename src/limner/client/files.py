"""Which pictures of a job go to which files, and writing them."""

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limner.client.errors import NoPictureError
from limner.client.jobs import Artifact, JobFields


def wanted(job: JobFields[Any], name: str | None) -> list[Artifact]:
    """The artifact of this name, or all. NoPictureError."""
    found = [each for each in job.artifacts if name is None or each.name == name]
    if found:
        return found
    if name is not None and job.artifacts:
        raise NoPictureError(f"There is no {name}, but {', '.join(each.name for each in job.artifacts)}.")
    if not job.finished:
        raise NoPictureError("The job has not finished. Wait for it first.")
    raise NoPictureError("The job made no picture; `detect` makes none where there is no face.")


def only(job: JobFields[Any], name: str | None) -> Artifact:
    """The artifact of this name, or the only one. NoPictureError; ValueError where there are several."""
    found = wanted(job, name)
    if len(found) > 1:
        raise ValueError(f"There are {len(found)} pictures, so a name is needed: {_names(found)}.")
    return found[0]


def places(found: Sequence[Artifact], path: str | os.PathLike[str]) -> list[Path]:
    """The files for these artifacts: `path` itself, or files in the folder that it is or, by its last `/`, shall be.

    ValueError for several artifacts and one file.
    """
    text = os.fspath(path)
    target = Path(text)
    if target.is_dir() or text.endswith(("/", os.sep)):
        return [target / Path(each.name).name for each in found]
    if len(found) > 1:
        raise ValueError(f"There are {len(found)} pictures: save to a folder, or give a name: {_names(found)}.")
    return [target]


def write(target: Path, data: bytes) -> None:
    """Write a file whole or not at all, also over another one; a device or a pipe as it is. Makes folders. OSError."""
    target = Path(os.path.realpath(target))  # what a link leads to is written, and the link stays
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        part.write_bytes(data)  # a new file, with the permissions that the user's other files get
        part.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _names(found: Sequence[Artifact]) -> str:
    return ", ".join(each.name for each in found)
