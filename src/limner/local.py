"""An operation run right here, without a store, a server or a job: what the command line does with a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.operation import Context, Operation, Result
from limner.vision.image import Limits
from limner.vision.models import Models


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it: the result, the artifacts' bytes by name, and the seconds of each stage."""

    result: Result
    artifacts: dict[str, bytes] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)


def run(
    operation: Operation[Any, Any],
    values: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    *,
    models: Models,
    limits: Limits,
) -> Made:
    """Run `operation` on parameters as a client would send them. Raises what the operation raises."""
    params = operation.parse(values, pictures, limits)
    blobs = {getattr(params, name).sha256: data for name, data in pictures.items()}
    artifacts: dict[str, bytes] = {}

    def attach(name: str, data: bytes, media_type: str, width: int | None, height: int | None) -> None:
        del media_type, width, height
        artifacts[name] = data

    ctx = Context(models=models, limits=limits, read=blobs.__getitem__, attach=attach)
    result = operation.run(params, ctx)
    return Made(result, artifacts, ctx.stages)


def pictures_in(paths: tuple[Path, ...]) -> list[Path]:
    """The files named, and those directly in the folders named, in order; hidden files in folders are left out."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith(".")))
        else:
            found.append(path)
    return found
