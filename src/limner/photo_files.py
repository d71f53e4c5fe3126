"""Photos on the command line, and the files that are made of them: which to read, and where each result goes.

Nothing is overwritten unless that was asked for, and a photo that is read never.
"""

import contextlib
import errno
import itertools
import os
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import click

from limner.client.files import write
from limner.domain.errors import TooLargeError
from limner.operation import format_of

DASH = "-"
"""Standard input as a photo, standard output as the output."""
NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors after which no other file can be written either."""
PICTURE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .heic .heif .avif".split()  # noqa: SIM905  # a readable list
)

NAMED = PICTURE_SUFFIXES | {".svg"}
"""Suffixes that say what is in a file."""


def shown(name: object) -> str:
    """A file's name as it is told: one line, and nothing that a terminal would obey."""
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in ("Cc", "Zl", "Zp") else each
        for each in str(name)
    )


@dataclass(frozen=True)
class Source:
    """A photo, or none, for `generate`. `place` is its file below an output folder, before its suffix is replaced."""

    path: Path | None = None
    folder: Path | None = None
    """The folder that was given, in which it was found; None for a file that was given itself."""
    place: PurePath = field(default_factory=PurePath)
    stem: str = ""
    is_stdin: bool = False

    def __str__(self) -> str:
        return shown(self.name)

    @property
    def name(self) -> str:
        """The path as it was given or found."""
        return DASH if self.is_stdin else str(self.path or "")

    @property
    def may_be_other(self) -> bool:
        """Whether nobody said that it is a photo: it was found in a folder, and its suffix is not one of a picture."""
        return self.folder is not None and self.place.suffix.lower() not in PICTURE_SUFFIXES

    def read(self, max_bytes: int) -> bytes:
        """The photo's bytes. TooLargeError before more than `max_bytes` are read; OSError."""
        if self.is_stdin:
            data: bytes = sys.stdin.buffer.read(max_bytes + 1)
        else:
            assert self.path is not None
            with self.path.open("rb") as file:
                data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise TooLargeError(f"The file is larger than {max_bytes:,} bytes.", limit=max_bytes)
        return data


def sources(given: Sequence[str], *, recursive: bool, without: Iterable[Path] = ()) -> list[Source]:
    """The given files, and the files in the given folders, sorted, without hidden ones; each once.

    `without`: folders that are not entered, because results are written there. ClickException for a folder that
    cannot be read.
    """
    found: dict[str, Source] = {}
    closed = {os.path.realpath(each) for each in without}
    for text in given:
        path = Path(text)
        if text == DASH:
            found.setdefault(DASH, Source(place=PurePath("stdin"), is_stdin=True))
        elif path.is_dir():
            for file in _inside(path, recursive, closed):
                found.setdefault(os.path.realpath(file), Source(file, path, file.relative_to(path)))
        else:
            found.setdefault(os.path.realpath(path), Source(path, None, PurePath(path.name)))
    return _distinct(list(found.values()))


def _inside(folder: Path, recursive: bool, closed: set[str]) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise click.ClickException(f"{shown(error.filename)} cannot be read: {error.strerror}.") from error

    for here, folders, files in os.walk(folder, onerror=fail):
        kept = [each for each in folders if not each.startswith(".") and _real(here, each) not in closed]
        folders[:] = sorted(kept) if recursive else []
        yield from (
            Path(here, each) for each in sorted(files) if not each.startswith(".") and Path(here, each).is_file()
        )


def _real(folder: str, name: str) -> str:
    return os.path.realpath(Path(folder, name))


def _distinct(listed: list[Source]) -> list[Source]:
    """The same, with places and stems in which no two agree, not even on a file system that ignores case.

    Photos of the same name in different folders keep their folders, those in the same folder their suffixes.
    """

    def alike(key: Callable[[Source], PurePath]) -> Iterator[list[int]]:
        groups: dict[str, list[int]] = defaultdict(list)
        for number, each in enumerate(listed):
            groups[str(key(each)).casefold()].append(number)
        return (group for group in list(groups.values()) if len(group) > 1)

    for group in alike(lambda each: each.place.with_suffix("")):
        real = {number: path.absolute() for number in group if (path := listed[number].path) is not None}
        folders = {path.parent for path in real.values()}
        if len(folders) > 1:
            shared = os.path.commonpath(folders)
            for number, path in real.items():
                listed[number] = replace(listed[number], place=path.relative_to(shared))
    listed[:] = [replace(each, stem=each.place.stem) for each in listed]
    for group in alike(lambda each: each.place.with_suffix("")):
        for number in group:
            listed[number] = replace(listed[number], stem=listed[number].place.name)
    return listed


class Output:
    """Where results go: a file, a folder, standard output, or beside the photos."""

    def __init__(self, given: str | None, *, several: bool, name: str, overwrite: bool) -> None:
        """`given` is what `-o` says, `name` the operation's. UsageError where it cannot hold the results."""
        self.is_stdout = given == DASH
        self.path = None if given is None or self.is_stdout else Path(given)
        ends = given is not None and given.endswith(("/", os.sep))
        self.is_folder = self.path is not None and (several or ends or self.path.is_dir())
        self._name, self._overwrite = name, overwrite
        self._inputs: set[tuple[int, int]] = set()
        self._written: set[tuple[int, int]] = set()
        if self.is_stdout and several:
            raise click.UsageError("Several photos cannot go to standard output. Name a folder with -o.")
        if self.is_stdout and sys.stdout.isatty():
            raise click.UsageError("Standard output is a terminal. Redirect it, or name a file with -o.")
        if self.path is not None and self.is_folder and self.path.exists() and not self.path.is_dir():
            raise click.UsageError(
                f"{shown(given)} is a file, and {'several photos need' if several else 'not'} a folder."
            )
        if self.path is not None and not self.is_folder and self.path.is_file() and not overwrite:
            raise click.ClickException(f"{shown(self.path)} is there already. --overwrite overwrites it.")

    @property
    def file(self) -> Path | None:
        """The file that `-o` names, None if it names none."""
        return None if self.is_folder else self.path

    def keep(self, paths: Iterable[Path]) -> None:
        """Never overwrite these files, by whatever name or link. OutputError if `-o` names one of them."""
        for path in paths:
            with contextlib.suppress(OSError):  # it is told where it is read
                self._inputs.add(_identity(path))
        if self.file is not None:
            self._refuse_input(self.file)

    def write(self, source: Source, files: dict[str, bytes]) -> list[str]:
        """Write the results of a photo, by their names; where they are. OutputError."""
        if self.is_stdout:
            if len(files) > 1:
                raise OutputError(f"There are {len(files)} files, and standard output holds one.")
            for data in files.values():
                _to_stdout(data)
            return [DASH] * len(files)
        if self.file is not None:
            targets = _numbered(self.file, list(files))
            for target, name in zip(targets, files, strict=True):
                _check_suffix(target, name)
        else:
            stem = source.stem or self._name
            targets = [self._folder(source) / f"{stem}.{each}" for each in files]
        exact = self.file is not None and len(files) == 1
        return [str(self._write(target, data, exact)) for target, data in zip(targets, files.values(), strict=True)]

    def copy(self, source: Source, data: bytes, suffix: str) -> list[str]:
        """Write the photo itself as the result, in a folder by its own name, or with this suffix. OutputError."""
        if self.is_stdout:
            return self.write(source, {source.place.name: data})
        if self.file is not None:
            return [str(self._write(self.file, data, exact=True))]
        name = f"{source.place.stem}{suffix}" if suffix else source.place.name
        return [str(self._write(self._folder(source) / name, data, exact=False))]

    def _folder(self, source: Source) -> Path:
        if self.path is not None:
            return self.path / source.place.parent
        if source.path is None:
            return Path()
        if source.folder is None:
            return source.path.parent
        # what is made of a folder's photos must not be among the photos of the next run
        return source.folder / self._name / source.path.relative_to(source.folder).parent

    def _write(self, target: Path, data: bytes, exact: bool) -> Path:
        """Write a file whole or not at all. Under the next free number, unless it is `exact`.

        With `overwrite`, only what this run has written is in the way.
        """
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            is_stream = target.exists() and not (target.is_file() or target.is_dir())  # a device or a pipe
            if is_stream:
                write(target, data)
                return target
            if self._overwrite:
                chosen = target if exact else next(each for each in _free(target) if not self._was_written(each))
                self._refuse_input(chosen)
                write(chosen, data)
                self._written.add(_identity(chosen))
                return chosen
            for chosen in _free(target):
                try:
                    _create(chosen, data)
                except FileExistsError:
                    if exact:
                        raise
                    continue
                return chosen
        except OSError as error:
            raise OutputError(f"{shown(target)} cannot be written: {error.strerror}.", error.errno) from error
        raise AssertionError("names never end")

    def _was_written(self, target: Path) -> bool:
        """Whether it is a result of another photo, which `overwrite` does not mean."""
        with contextlib.suppress(FileNotFoundError):
            return _identity(target) in self._written
        return False

    def _refuse_input(self, target: Path) -> None:
        with contextlib.suppress(OSError):  # it is not there, or told where it is written
            if _identity(target) in self._inputs:
                raise OutputError(f"{shown(target)} is a photo that is read, and is never overwritten.")


class OutputError(click.ClickException):
    """A result cannot be written. `is_for_all`: another one could not be written either."""

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.is_for_all = number in NO_MORE


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _create(path: Path, data: bytes) -> None:
    """Write a new file, with the permissions that the user's other files get, or leave none. OSError."""
    with path.open("xb") as file:
        try:
            file.write(data)
            file.flush()
        except BaseException:
            path.unlink()
            raise


def _free(target: Path) -> Iterator[Path]:
    return itertools.chain([target], (target.with_stem(f"{target.stem}-{number}") for number in itertools.count(2)))


def _numbered(output: Path, names: Sequence[str]) -> list[Path]:
    """The file for one artifact. Several are numbered, and have suffixes of their own if these differ."""
    if len(names) == 1:
        return [output]
    alike = len({Path(each).suffix for each in names}) == 1
    return [
        output.with_name(f"{output.stem}-{number}{output.suffix if alike else Path(each).suffix}")
        for number, each in enumerate(names, 1)
    ]


def _check_suffix(target: Path, name: str) -> None:
    """OutputError for a name that says another format than that of the artifact `name`; others will do."""
    suffix, right = target.suffix.lower(), PurePath(name).suffix
    if suffix in NAMED and (format_of(target) or suffix) != (format_of(PurePath(name)) or right):
        raise OutputError(f"{shown(target)}: The result is a {right} file. Name it so.")


def _to_stdout(data: bytes) -> None:
    stream = sys.stdout.buffer
    try:
        stream.write(data)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up_output()
        raise OutputError(f"Standard output cannot be written: {error.strerror}.", error.errno) from error


def give_up_output() -> None:
    """Let what is still buffered for standard output go nowhere: at its end, Python would try again and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
