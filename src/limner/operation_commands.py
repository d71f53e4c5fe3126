"""The operations as commands on files, without a server: `limner detect`, `limner contours` and others.

A command's options are made from the operation's parameters, and only when that command is used: otherwise `--help`
would wait until the libraries of the models are loaded.
"""

import ast
import importlib.util
import json
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import click

from limner.domain.errors import LimnerError, UnsupportedMediaError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

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
            "fetched first. Use -o to write the pictures that are made."
        )
        super().format_help_text(ctx, formatter)

    def _run(self, photos: tuple[Path, ...], output: Path | None, as_json: bool, **options: Any) -> None:
        operation = self._operation
        given = {name: value for name, value in options.items() if value is not None}
        pictures = {name: given.pop(name).read_bytes() for name in operation.image_fields if name in given}
        values = operation.params.from_command_line(given, output)
        _on_files(operation, photos, values, pictures, output=output, as_json=as_json)


# --- options from parameters ----------------------------------------------------------------------------------------

_ALWAYS: tuple[click.Parameter, ...] = (
    click.Option(
        ["-o", "--output"],
        type=click.Path(path_type=Path),
        help="Where to write: a file, or a folder for several photos.",
    ),
    click.Option(["--json", "as_json"], is_flag=True, help="Print results as JSON, one line per photo."),
)


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
    as_json: bool,
) -> None:
    """Run an operation on each photo, several at a time, with a progress bar for more than one photo."""
    from concurrent.futures import ThreadPoolExecutor

    from rich.console import Console
    from rich.progress import track

    from limner import local, settings
    from limner.vision.models import Models

    console = Console(stderr=True)
    chosen = settings.load()
    local.fetch_missing(chosen.models_dir, operation.models, console)
    loaded = Models(chosen.models_dir)
    limits = chosen.limits()
    files: list[Path | None] = [*local.pictures_in(photos)] if photos else [None]
    several = len(files) > 1 or any(photo.is_dir() for photo in photos)
    if output is not None and several:
        output.mkdir(parents=True, exist_ok=True)

    def one(path: Path | None) -> "tuple[Path | None, Made | LimnerError]":
        photo = {} if path is None else {"image": path.read_bytes()}
        try:
            made = local.run(operation, values, {**photo, **pictures}, models=loaded, limits=limits)
        except LimnerError as error:
            return path, error
        return path, made

    failed = 0
    with ThreadPoolExecutor(chosen.workers) as pool:
        done = pool.map(one, files)
        name = operation.name
        for path, made in track(done, name, total=len(files), console=console, disable=not several, transient=True):
            if isinstance(made, UnsupportedMediaError) and path not in photos:
                continue  # a folder may hold other files too
            if isinstance(made, LimnerError):
                failed += 1
                click.echo(f"{path or name}: {made.title}: {made.detail}", err=True)
                continue
            written = _write(made.artifacts, path or Path(name), output, several=several)
            if as_json:
                result = made.result.model_dump(mode="json", exclude_none=True)
                click.echo(
                    json.dumps(
                        {"file": str(path) if path else None, **result, "written": [str(each) for each in written]}
                    )
                )
            else:
                click.echo(f"{path or name}: {made.result.in_words()}" + "".join(f" → {each}" for each in written))
    sys.exit(1 if failed else 0)


def _write(artifacts: Mapping[str, bytes], photo: Path, output: Path | None, *, several: bool) -> list[Path]:
    """Write the artifacts to `output`, or into the folder `output` if there are several photos.

    Several of one photo are numbered, and have suffixes of their own if these differ.
    """
    if output is None:
        return []
    written = []
    suffixes = {Path(name).suffix for name in artifacts}
    for number, (name, data) in enumerate(artifacts.items(), 1):
        target = output
        if several or output.is_dir():
            target = output / f"{photo.stem}.{name}"
        elif len(artifacts) > 1:
            target = output.with_name(
                f"{output.stem}-{number}{output.suffix if len(suffixes) == 1 else Path(name).suffix}"
            )
        target.write_bytes(data)
        written.append(target)
    return written
