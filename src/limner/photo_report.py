"""What the command line tells about photos: a line for each, a progress bar, and a summary at the end.

Lines go to standard output, everything else to standard error, the bar only to a terminal.
"""

import errno
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console

from limner.photo_files import Source, give_up_output, shown
from limner.photo_runs import Done, Failure, failure


class Report:
    """Tells outcomes, and counts them."""

    def __init__(self, name: str, *, as_json: bool, quiet: bool, to_stderr: bool) -> None:
        """`name` stands where there is no photo. `to_stderr`: standard output is taken by a picture."""
        self._name, self._as_json, self._quiet, self._to_stderr = name, as_json, quiet, to_stderr
        self.counts: Counter[str] = Counter()

    def done(self, source: Source | None, done: Done, written: list[str], *, copied: bool) -> None:
        """A result, and the files that were written."""
        self.counts["done"] += 1
        self.counts["done without a face"] += done.without_face
        self.counts["copied"] += copied
        if self._as_json:
            result = done.result.model_dump(mode="json", exclude_none=True)
            more = {"copied": True} if copied else {}
            self._line(json.dumps({"file": self._file(source), **result, "written": written, **more}))
        elif not self._quiet:
            arrows = "".join(f" → {shown(each)}" for each in written)
            self._line(f"{source or self._name}: {done.result.in_words()}{arrows}{' (copied)' if copied else ''}")

    def failed(self, source: Source | None, failure: Failure) -> None:
        """An error of one photo."""
        self.counts["failed"] += 1
        self.counts["failed without a face"] += failure.without_face
        if self._as_json:
            self._line(json.dumps({"file": self._file(source), "error": dict(failure.problem)}))
        else:
            click.echo(f"{source or self._name}: {failure.problem['title']}: {failure.problem['detail']}", err=True)

    def not_written(self, source: Source | None, why: str) -> None:
        """A result that could not be written."""
        self.failed(source, failure("Not written", 500, why))

    def skipped(self) -> None:
        """A file of a folder that is no picture."""
        self.counts["skipped"] += 1

    def summary(self, *, of: int | None = None) -> None:
        """Tell the counts; `of` is how many there would have been, where it ended early."""
        if self._quiet:
            return
        counts = self.counts
        photos = counts["done"] + counts["failed"]
        so_far = f"Stopped after {photos} of {of}" if of is not None else f"{photos} {_photos(photos)}"
        done, failed, copied = counts["done without a face"], counts["failed without a face"], counts["copied"]
        of_done = f" ({done} without a face{f', {copied} copied' if copied else ''})" if done else ""
        of_failed = f" ({failed} without a face)" if failed else ""
        parts = [f"{counts['done']} done{of_done}"]
        if counts["failed"]:
            parts.append(f"{counts['failed']} failed{of_failed}")
        if counts["skipped"]:
            parts.append(f"{counts['skipped']} other {_files(counts['skipped'])} skipped")
        click.echo(f"{so_far}: {', '.join(parts)}.", err=True)

    def _file(self, source: Source | None) -> str | None:
        return None if source is None else source.name

    def _line(self, text: str) -> None:
        try:
            click.echo(text, err=self._to_stderr)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # nobody reads on: click ends without a word
            give_up_output()
            raise click.ClickException(f"Standard output cannot be written: {error.strerror}.") from error


def _photos(count: int) -> str:
    return "photo" if count == 1 else "photos"


def _files(count: int) -> str:
    return "file" if count == 1 else "files"


@contextmanager
def progress(name: str, photos: int, console: Console) -> Iterator[Callable[[int, float], None]]:
    """A bar on a terminal. It gives a function that is told, from any thread, what share of a photo is done."""
    from rich.progress import Progress

    shares = [0.0] * photos
    # Lines that go elsewhere must not be drawn into the terminal with the bar.
    both = sys.stdout.isatty()
    with Progress(
        console=console, disable=not console.is_terminal, transient=True, redirect_stdout=both, redirect_stderr=True
    ) as bar:
        task = bar.add_task(name, total=photos)

        def tell(number: int, share: float) -> None:
            shares[number] = share
            bar.update(task, completed=sum(shares))

        yield tell
