"""Runs an operation on photos of the command line: in threads of this process, in processes, or on a service.

A `Work` runs it on one photo. `run_all` runs a `Work` on all, several at a time, in their order.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

from limner import local
from limner.client import Client, ClientError, NotReachedError, ProblemError, UnexpectedAnswerError
from limner.domain.errors import FaceNotFoundError, LimnerError, UnsupportedMediaError
from limner.operation import Result, picture_file
from limner.operations import CATALOGUE
from limner.photo_files import Source
from limner.vision.header import Limits
from limner.vision.models import Models

LONGEST_JOB_S = 3600.0
"""So long a job on a service is waited for."""
MAX_BYTES = 256_000_000
"""A larger file is not sent to a service, whose own limit is usually lower."""
Tell = Callable[[float], None]


@dataclass(frozen=True)
class Done:
    """The result and its files. `unchanged` is the photo where nothing was to be changed in it, with its suffix."""

    result: Result
    artifacts: dict[str, bytes]
    unchanged: tuple[bytes, str] | None = None

    @property
    def without_face(self) -> bool:
        """Whether faces were searched and none was found."""
        return self.result.summary().get("faces_count") == 0


@dataclass(frozen=True)
class Failure:
    """Why there is no result, as an RFC 9457 problem."""

    problem: Mapping[str, Any]

    def is_a(self, kind: type[LimnerError]) -> bool:
        """Whether it is this error."""
        return bool(self.problem["type"] == f"urn:limner:problem:{kind.slug}")

    @property
    def is_no_picture(self) -> bool:
        """Whether the file is no picture at all; not a picture of a kind that is refused, such as an animation."""
        return self.is_a(UnsupportedMediaError) and "accepts" in self.problem

    @property
    def without_face(self) -> bool:
        """Whether there would have to be a face."""
        return self.is_a(FaceNotFoundError)


def failure(title: str, status: int, detail: str) -> Failure:
    """A failure of a kind that the service has no problem for."""
    return Failure({"type": "about:blank", "title": title, "status": status, "detail": detail, "retryable": False})


@dataclass(frozen=True)
class Local:
    """Runs an operation in this process; may be sent to another one."""

    name: str
    values: Mapping[str, Any]
    pictures: Mapping[str, bytes]
    models_dir: Path
    limits: Limits
    copies: bool
    """Whether photos in which nothing is to be changed are wanted."""

    @property
    def max_bytes(self) -> int:
        """The largest file that is read."""
        return self.limits.max_bytes

    def prepare(self) -> None:
        """Make what all runs in this process share."""
        _models(self.models_dir)

    def __call__(self, photo: bytes | None, tell: Tell) -> Done | Failure:
        """Run it on a photo."""
        operation = CATALOGUE[self.name]
        given = {**({} if photo is None else {"image": photo}), **self.pictures}
        try:
            made = local.run(
                operation, self.values, given, models=_models(self.models_dir), limits=self.limits, tell=tell
            )
            return _done(self.values, made.result, made.artifacts, photo if self.copies else None)
        except LimnerError as error:
            return Failure(error.problem())


@cache
def _models(folder: Path) -> Models:
    return Models(folder)


@dataclass(frozen=True)
class Remote:
    """Runs an operation on a service."""

    name: str
    values: Mapping[str, Any]
    pictures: Mapping[str, bytes]
    client: Client
    copies: bool
    max_bytes: int = MAX_BYTES

    def prepare(self) -> None:
        """Nothing."""

    def __call__(self, photo: bytes | None, tell: Tell) -> Done | Failure:
        """Run it on a photo. ClickException where the service cannot be used at all."""
        del tell  # only whole photos are told
        operation = CATALOGUE[self.name]
        try:
            job = self.client.run(self.name, photo, timeout_s=LONGEST_JOB_S, **{**self.values, **self.pictures})
            artifacts = {each.name: self.client.read(job, each.name) for each in job.artifacts}
        except ProblemError as error:
            if error.status in (401, 403, 421) and not error.problem.extra.get("step"):
                raise click.ClickException(str(error)) from error
            told = error.problem
            shown = {"type": told.type, "title": told.title, "status": told.status, "detail": told.detail}
            return Failure({**shown, "retryable": told.retryable, **told.extra})
        except (NotReachedError, UnexpectedAnswerError) as error:
            raise click.ClickException(str(error)) from error
        except ClientError as error:  # the job was cancelled, or takes for ever
            return failure("No result", 504, str(error))
        result = operation.result.model_validate(job.json["result"])
        return _done(self.values, result, artifacts, photo if self.copies else None)


Work = Local | Remote


def _done(
    values: Mapping[str, Any],
    result: Result,
    artifacts: dict[str, bytes],
    photo: bytes | None,
) -> Done:
    """A result; for a photo in which nothing is to be changed, with the photo, in the format that was asked for."""
    if photo is None or artifacts or not result.leaves_photo(values):
        return Done(result, artifacts)
    from limner.vision import image
    from limner.vision.structure import look

    limits, form = Limits(max_bytes=len(photo)), values.get("format")
    if form is None or look(photo, limits).media_type == f"image/{form}":
        return Done(result, artifacts, (photo, ""))
    converted = image.encode_picture(image.decode_picture(photo, limits), form)
    return Done(result, artifacts, (converted, Path(picture_file("photo", form)).suffix))


# --- several at a time ----------------------------------------------------------------------------------------------


def run_all(
    work: Work, listed: Sequence[Source | None], *, jobs: int, processes: bool, tell: Callable[[int, float], None]
) -> Iterator[Done | Failure]:
    """The outcome of each photo in its order; None stands for no photo. `tell` gets a number and the share done.

    ClickException where a process ends, or a service cannot be used.
    """
    work.prepare()
    waiting: deque[Future[Done | Failure]] = deque()
    with _executor(work, jobs, processes) as (pool, run):
        for number, source in enumerate(listed):
            photo = source.read(work.max_bytes) if source is not None and source.is_stdin else None
            with _interrupts_kept_from_children() if processes else contextlib.nullcontext():
                waiting.append(pool.submit(run, source, photo, *([] if processes else [_of(number, tell)])))
            if len(waiting) >= 2 * jobs:
                yield _outcome(waiting.popleft(), number - len(waiting), tell)
        while waiting:
            yield _outcome(waiting.popleft(), len(listed) - len(waiting) - 1, tell)


def _of(number: int, tell: Callable[[int, float], None]) -> Tell:
    return lambda share: tell(number, share)


def _outcome(future: "Future[Done | Failure]", number: int, tell: Callable[[int, float], None]) -> Done | Failure:
    try:
        outcome = future.result()
    except BrokenProcessPool as error:
        advice = "It may have had too little memory: try fewer --jobs."
        raise click.ClickException(f"A process has ended unexpectedly. {advice}") from error
    tell(number, 1.0)
    return outcome


@contextlib.contextmanager
def _executor(work: Work, jobs: int, processes: bool) -> Iterator[tuple[Executor, Callable[..., Done | Failure]]]:
    pool: Executor
    if processes:
        # not forked: the libraries' threads and locks do not survive that
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(work,))
        run: Callable[..., Done | Failure] = _in_process
    else:
        pool = ThreadPoolExecutor(jobs)
        run = _Reading(work)
    try:
        yield pool, run
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


class _Reading:
    """A work that is given the source, and reads it."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, source: Source | None, photo: bytes | None, tell: Tell) -> Done | Failure:
        try:
            if source is not None and photo is None:
                photo = source.read(self._work.max_bytes)
        except LimnerError as error:
            return Failure(error.problem())
        except OSError as error:
            return failure("Unreadable", 400, f"The file cannot be read: {error.strerror}.")
        return self._work(photo, tell)


_of_process: list[_Reading] = []


def _begin(work: Work) -> None:
    """Runs first in each process. A process ends with the one that started it, however that ends."""
    if not os.environ.get("PYTHONWARNINGS"):
        warnings.simplefilter("ignore")
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    work.prepare()
    _of_process.append(_Reading(work))


def _in_process(source: Source | None, photo: bytes | None) -> Done | Failure:
    return _of_process[0](source, photo, lambda _: None)


@contextlib.contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal, and those that start here would each print a traceback.

    It is blocked, which they inherit, and not ignored: one that comes meanwhile is delivered afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
