"""The operations as commands on files, without a server: `limner detect`, `limner contours` and others.

A command's options are made from the operation's parameters, and only when that command is used: otherwise `--help`
would wait until the libraries of the models are loaded.
"""

import ast
import importlib.util
import json
import multiprocessing
import os
import sys
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

import annotated_types
import click

from limner.domain.errors import LimnerError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from rich.console import Console

    from limner.operation import Operation
    from limner.photo_files import Output, Source
    from limner.photo_report import Report
    from limner.photo_runs import Work


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
            path = click.Path(exists=True, allow_dash=True)
            photos = click.Argument(["photos"], nargs=-1, required=needed, type=path)
            self.params = [photos, *_ALWAYS, *_options(self._operation)]
        return super().get_params(ctx)

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.help = (
            f"{self._operation.summary}\n\nPHOTOS are files or folders, - is standard input. No server is needed. "
            f"Missing models are fetched first. {_WITHOUT_OUTPUT[self._operation.result.is_its_files]}"
        )
        super().format_help_text(ctx, formatter)

    def _run(
        self,
        photos: tuple[str, ...],
        output: str | None,
        overwrite: bool,
        recursive: bool,
        as_json: bool,
        quiet: bool,
        jobs: int | None,
        at_server: str | None,
        key_file: Path | None,
        **options: Any,
    ) -> None:
        how = _How(output, overwrite, recursive, as_json, quiet, jobs, at_server, key_file)
        status = _on_photos(self._operation, photos, how, options)
        if status:
            sys.exit(status)


# --- options from parameters ----------------------------------------------------------------------------------------

_ALWAYS: tuple[click.Parameter, ...] = (
    click.Option(["-o", "--output"], help="Where to write: a file, a folder (for several, or by its last /), or -."),
    click.Option(
        ["--overwrite"], is_flag=True, help="Overwrite files that are there already, but no photo that is read."
    ),
    click.Option(["-r", "--recursive"], is_flag=True, help="Read the folders in a folder too."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print results and errors as JSON, one line per photo."),
    click.Option(["-q", "--quiet"], is_flag=True, help="Tell only errors, and JSON."),
    click.Option(["-j", "--jobs"], type=click.IntRange(1, 256), help="Run so many processes, for many photos."),
    click.Option(
        ["--server", "at_server"], metavar="URL", help="Send the photos to this service, and run nothing here."
    ),
    click.Option(
        ["--key-file"],
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="File with the service's API key (else LIMNER_KEY).",
    ),
)
_OF_ALL = frozenset(name for each in _ALWAYS for name in each.opts)
_AT_ONCE_ON_A_SERVICE = 4


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
    flag = flag if flag not in _OF_ALL else f"--painter-{flag.removeprefix('--')}"
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


@dataclass(frozen=True)
class _How:
    """The options that every operation has."""

    output: str | None
    overwrite: bool
    recursive: bool
    as_json: bool
    quiet: bool
    jobs: int | None
    server: str | None
    key_file: Path | None


def _on_photos(operation: "Operation[Any, Any]", photos: Sequence[str], how: _How, options: Mapping[str, Any]) -> int:
    """Run an operation on each photo; the exit status."""
    from limner import photo_files
    from limner.photo_report import Report

    name, its_files = operation.name, operation.result.is_its_files
    if how.output == photo_files.DASH and how.as_json:
        raise click.UsageError("--json and -o - both write to standard output.")
    without = [Path(how.output)] if how.output else [Path(each, name) for each in photos] if its_files else []
    listed = [*photo_files.sources(photos, recursive=how.recursive, without=without)] if photos else [None]
    several = len(listed) > 1 or any(Path(photo).is_dir() for photo in photos)
    output = photo_files.Output(how.output, several=several, name=name, overwrite=how.overwrite)
    _check_format(operation, output.file, options)
    report = Report(name, as_json=how.as_json, quiet=how.quiet, to_stderr=output.is_stdout)
    paths = [each.path for each in listed if each is not None and each.path is not None]
    output.keep([*paths, *(value for value in options.values() if isinstance(value, Path))])
    if not listed:
        raise click.ClickException(
            f"There are no files in {' '.join(photos)}{'' if how.recursive else ' (-r: folders too)'}."
        )
    try:
        _run_on(operation, listed, output, report, how, options)
    except KeyboardInterrupt:
        report.summary(of=len(listed))
        _leave(130)
    except (click.ClickException, LimnerError):
        if several:
            report.summary(of=len(listed))
        raise
    if several:
        report.summary()
    return 1 if report.counts["failed"] else 0


def _check_format(operation: "Operation[Any, Any]", file: Path | None, options: Mapping[str, Any]) -> None:
    """UsageError for an output file whose suffix says a format in which no picture would be written."""
    from limner.operation import format_of
    from limner.photo_files import NAMED, shown

    if file is None or file.suffix.lower() not in NAMED or "format" not in operation.params.model_fields:
        return
    form, wanted = format_of(file), options.get("format")
    if form is None:
        raise click.UsageError(f"{shown(file)}: Pictures are written as .jpg, .png or .webp.")
    if wanted not in (None, form):
        raise click.UsageError(f"{shown(file)}: Its suffix says {form}, and --format {wanted}.")


def _run_on(
    operation: "Operation[Any, Any]",
    listed: "Sequence[Source | None]",
    output: "Output",
    report: "Report",
    how: _How,
    options: Mapping[str, Any],
) -> None:
    """Run the operation on each, write what was made, and tell it. ClickException, LimnerError where all must end."""
    from rich.console import Console

    from limner.photo_files import OutputError, Source
    from limner.photo_report import progress
    from limner.photo_runs import Failure, run_all

    console = Console(stderr=True, quiet=how.quiet)
    writes = how.output is not None or operation.result.is_its_files
    with _without_warnings(), ExitStack() as closing:
        work, jobs = _work(operation, how, options, output, console, closing)
        jobs = min(how.jobs or jobs, len(listed))
        processes = how.server is None and how.jobs is not None and jobs > 1
        tell = closing.enter_context(progress(operation.name, len(listed), console))
        outcomes = run_all(work, listed, jobs=jobs, processes=processes, tell=tell)
        for source, outcome in zip(listed, outcomes, strict=True):
            if isinstance(outcome, Failure):
                if outcome.is_no_picture and source is not None and source.may_be_other:
                    report.skipped()
                else:
                    report.failed(source, outcome)
                continue
            try:
                copied, written = False, list[str]()
                if writes and outcome.artifacts:
                    written = output.write(source or Source(), outcome.artifacts)
                elif writes and outcome.unchanged is not None and source is not None:
                    data, suffix = outcome.unchanged
                    copied, written = True, output.copy(source, data, suffix)
            except OutputError as error:
                if error.is_for_all:
                    raise
                report.not_written(source, error.message)
            else:
                report.done(source, outcome, written, copied=copied)


def _work(
    operation: "Operation[Any, Any]",
    how: _How,
    options: Mapping[str, Any],
    output: "Output",
    console: "Console",
    closing: ExitStack,
) -> "tuple[Work, int]":
    """What runs the operation on a photo, here or on the service, and how many at a time unless `--jobs` says it."""
    from limner.photo_runs import Local, Remote

    given = {name: value for name, value in options.items() if value is not None}
    pictures = {name: _read(given.pop(name)) for name in operation.image_fields if name in given}
    place = None if how.output is None else output.file or Path()
    values = {
        name: value for name, value in operation.params.from_command_line(given, place).items() if value is not None
    }
    copies = how.output is not None
    if how.server is not None:
        from limner.client import Client

        try:
            client = closing.enter_context(Client(how.server, _key(how.key_file)))
        except ValueError as error:
            raise click.UsageError(f"--server: {error}") from None
        return Remote(operation.name, values, pictures, client, copies), _AT_ONCE_ON_A_SERVICE
    from limner import local, settings

    chosen = settings.load()
    local.fetch_missing(chosen.models_dir, operation.models, console)
    return Local(operation.name, values, pictures, chosen.models_dir, chosen.limits(), copies), chosen.workers


def _key(file: Path | None) -> str | None:
    """The API key: of the file, or of the environment."""
    from limner import settings

    return _read(file).decode(errors="replace").strip() if file is not None else os.environ.get(settings.KEY) or None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}.") from error


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Libraries' remarks about a photo's metadata are not for the user, who can ask for them with PYTHONWARNINGS."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


def _leave(status: int) -> NoReturn:
    """End at once, without waiting for photos that are being worked on in other threads and processes."""
    processes = multiprocessing.active_children()
    for each in processes:
        each.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    if processes:
        sys.exit(status)  # which removes what they shared; no thread is at work
    os._exit(status)
