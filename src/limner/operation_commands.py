"""The operations as commands on files, without a server: `limner detect`, `limner contours` and others.

A command's options are made from the operation's parameters, and only when that command is used: otherwise `--help`
would wait until the libraries of the models are loaded.
"""

import ast
import importlib.util
import itertools
import json
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import click

from limner.domain.errors import LimnerError, UnsupportedMediaError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from rich.console import Console

    from limner.local import Made
    from limner.operation import Operation


def operation_commands() -> Iterator[click.Command]:
    """One command for each operation. Names and summaries are read from the source files, without importing them."""
    spec = importlib.util.find_spec("limner.operations")
    assert spec is not None
    for file in sorted(Path(str(spec.origin)).parent.glob("*.py")):
        for node in ast.parse(file.read_bytes()).body:
            if isinstance(node, ast.FunctionDef) and node.name == file.stem:
                yield _OperationCommand(node.name, (ast.get_docstring(node) or "").partition("\n")[0])


class _OperationCommand(click.Command):
    """A command whose options are made when it is parsed or its help is shown."""

    def __init__(self, name: str, summary: str) -> None:
        super().__init__(name, callback=self._run, short_help=summary)

    @property
    def _operation(self) -> "Operation[Any, Any]":
        from limner.operations import CATALOGUE

        return CATALOGUE[str(self.name)]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if not self.params:
            needed = self._operation.params.model_fields["image"].is_required()
            path: click.ParamType[Any] = click.Path(exists=True, path_type=Path)
            photos = click.Argument(["photos"], nargs=-1, required=needed, type=path)
            self.params = [photos, *_ALWAYS, *_options(self._operation)]
        return super().get_params(ctx)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.help = (
            f"{self._operation.summary}\n\nPHOTOS are files or folders. No server is needed. Missing models are "
            f"fetched first. {_WITHOUT_OUTPUT[self._operation.result.is_its_files]}"
        )
        super().format_help_text(ctx, formatter)

    def _run(self, photos: tuple[Path, ...], output: Path | None, force: bool, as_json: bool, **options: Any) -> None:
        operation = self._operation
        given = {name: value for name, value in options.items() if value is not None}
        pictures = {name: given.pop(name).read_bytes() for name in operation.image_fields if name in given}
        values = operation.params.from_command_line(given, output)
        _on_files(operation, photos, values, pictures, output=output, force=force, as_json=as_json)


# --- options from parameters ----------------------------------------------------------------------------------------

_ALWAYS: tuple[click.Parameter, ...] = (
    click.Option(
        ["-o", "--output"],
        type=click.Path(path_type=Path),
        help="Where to write: a file, or a folder for several photos.",
    ),
    click.Option(["--force"], is_flag=True, help="Overwrite files that are there already."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print results as JSON, one line per photo."),
)


_WITHOUT_OUTPUT = {
    True: "Files are written beside the photos, or for a folder into a folder inside it, unless -o names a place.",
    False: "Use -o to write the pictures that are made.",
}
"""By whether an operation's files are what it is used for."""


class _Json(click.ParamType[Any]):
    """JSON, or the name of a JSON file. If the file's object has a member named like the option, that is the value."""

    name = "json or file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            inside = not str(value).lstrip().startswith(("[", "{"))
            read = json.loads(Path(value).read_bytes() if inside else value)
        except OSError as error:
            self.fail(f"{value} is neither JSON nor a file that can be read ({error.strerror})", param, ctx)
        except ValueError:
            self.fail(f"{value} is not valid JSON", param, ctx)
        assert param is not None
        return read[param.name] if inside and isinstance(read, dict) and param.name in read else read


def _options(operation: "Operation[Any, Any]") -> Iterator[click.Option]:
    """An option for each parameter, except the photo and parameters that only the service uses."""
    from limner.choices import flat_fields

    shown = operation.params.model_json_schema()["properties"]
    made: set[str] = set()
    for name, field in flat_fields(operation.params):
        if name in shown and name not in {"image", *operation.params.not_in_cache_key, *made}:
            made.add(name)
            yield _option(name, field, shown[name], is_picture=name in operation.image_fields)


def _option(name: str, field: "FieldInfo", shown: Mapping[str, Any], *, is_picture: bool) -> click.Option:
    """The option of a parameter: Literal → choice, bool → pair of flags, number → range, picture → file, else JSON.

    `shown` is its JSON Schema, which has the names and the widest range where several models have the parameter.
    """
    flag = f"--{name.replace('_', '-')}"
    described = field.description or field.title or ""
    default = shown.get("default", None if field.is_required() else field.default)
    if default not in (None, "") and not isinstance(default, bool):
        described += f" ({default})"
    plain, limits = _unwrapped(field.annotation, list(field.metadata))
    limits = (shown.get("minimum", limits[0]), shown.get("maximum", limits[1]))
    if "enum" in shown:
        return click.Option([flag, name], type=click.Choice([str(each) for each in shown["enum"]]), help=described)
    if plain is bool:
        on = f"{described} (on)" if field.default else described
        return click.Option([f"{flag}/--no-{flag.removeprefix('--')}", name], default=None, help=on)
    if is_picture:
        last = f"--{name.rpartition('_')[2]}"
        kind: click.ParamType[Any] = click.Path(exists=True, dir_okay=False, path_type=Path)
        return click.Option([*dict.fromkeys((flag, last)), name], type=kind, help=described)
    if get_origin(plain) is Literal:
        kind = click.Choice([str(each) for each in get_args(plain)])
    elif plain is int:
        kind = click.IntRange(*limits)
    elif plain is float:
        kind = click.FloatRange(*limits)
    elif plain is str:
        kind = click.STRING
    else:
        kind = _Json()
    return click.Option([flag, name], type=kind, help=described)


def _unwrapped(annotation: Any, metadata: list[Any]) -> tuple[Any, tuple[Any, Any]]:
    """The type without `Annotated` and `| None`, and its closed range."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            for each in more:
                metadata.extend(getattr(each, "metadata", [each]))
        elif get_origin(annotation) in (Union, types.UnionType):
            real = [each for each in get_args(annotation) if each is not types.NoneType]
            if len(real) > 1:
                break
            annotation = real[0]
        else:
            break
    least = next((each.ge for each in metadata if isinstance(each, annotated_types.Ge)), None)
    most = next((each.le for each in metadata if isinstance(each, annotated_types.Le)), None)
    return annotation, (least, most)


# --- running on files -----------------------------------------------------------------------------------------------


def _on_files(
    operation: "Operation[Any, Any]",
    photos: tuple[Path, ...],
    values: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    *,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Run an operation on each photo, several at a time, with a progress bar on a terminal."""
    from concurrent.futures import ThreadPoolExecutor

    from rich.console import Console

    from limner import local, settings
    from limner.vision.models import Models

    console = Console(stderr=True)
    files: list[Path | None] = [*local.pictures_in(photos)] if photos else [None]
    several = len(files) > 1 or any(photo.is_dir() for photo in photos)
    if output is not None and not several and output.is_file() and not force:
        raise click.ClickException(f"{output} is there already. --force overwrites it.")
    chosen = settings.load()
    local.fetch_missing(chosen.models_dir, operation.models, console)
    loaded = Models(chosen.models_dir)
    limits = chosen.limits()
    name = operation.name
    failed = 0
    with _progress(name, len(files), console) as tell, ThreadPoolExecutor(chosen.workers) as pool:

        def one(number: int, path: Path | None) -> "tuple[Path | None, Made | LimnerError]":
            photo = {} if path is None else {"image": path.read_bytes()}
            given = {**photo, **pictures}
            try:
                made = local.run(
                    operation, values, given, models=loaded, limits=limits, tell=lambda share: tell(number, share)
                )
            except LimnerError as error:
                return path, error
            finally:
                tell(number, 1.0)
            return path, made

        for path, made in pool.map(one, range(len(files)), files):
            if isinstance(made, UnsupportedMediaError) and path not in photos:
                continue  # a folder may hold other files too
            if isinstance(made, LimnerError):
                failed += 1
                click.echo(f"{path or name}: {made.title}: {made.detail}", err=True)
                continue
            written: list[Path] = []
            if output is not None or operation.result.is_its_files:
                into = output if several or (output is not None and output.is_dir()) else None
                if output is None:  # what is made of a folder's photos must not be photos for the next run
                    into = Path() if path is None else path.parent if path in photos else path.parent / name
                targets = _targets(list(made.artifacts), name if path is None else path.stem, into, output)
                written = [
                    _write(target, data, force=force)
                    for target, data in zip(targets, made.artifacts.values(), strict=True)
                ]
            if as_json:
                result = made.result.model_dump(mode="json", exclude_none=True)
                told = {"file": str(path) if path else None, **result, "written": [str(each) for each in written]}
                click.echo(json.dumps(told))
            else:
                click.echo(f"{path or name}: {made.result.in_words()}" + "".join(f" → {each}" for each in written))
    sys.exit(1 if failed else 0)


@contextmanager
def _progress(name: str, files: int, console: "Console") -> Iterator[Callable[[int, float], None]]:
    """A bar on a terminal. It gives a function that is told, from any thread, what share of a file is done."""
    from rich.progress import Progress

    shares = [0.0] * files
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(name, total=files)

        def tell(number: int, share: float) -> None:
            shares[number] = share
            progress.update(task, completed=sum(shares))

        yield tell


def _targets(names: Sequence[str], stem: str, into: Path | None, output: Path | None) -> list[Path]:
    """Where the artifacts of one photo go: into a folder, named after the photo, or to `output`.

    Several for one `output` are numbered, and have suffixes of their own if these differ.
    """
    if into is not None:
        return [into / f"{stem}.{each}" for each in names]
    assert output is not None
    if len(names) == 1:
        return [output]
    alike = len({Path(each).suffix for each in names}) == 1
    return [
        output.with_name(f"{output.stem}-{number}{output.suffix if alike else Path(each).suffix}")
        for number, each in enumerate(names, 1)
    ]


def _write(target: Path, data: bytes, *, force: bool) -> Path:
    """Write a file, and say which: without `force` never over another one, but under the next free number."""
    free = itertools.chain([target], (target.with_stem(f"{target.stem}-{number}") for number in itertools.count(2)))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        while True:
            chosen = next(free)
            try:
                with chosen.open("wb" if force else "xb") as file:
                    file.write(data)
            except FileExistsError:
                continue
            return chosen
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error.strerror}.") from error
