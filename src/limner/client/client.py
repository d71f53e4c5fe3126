"""The client for threads. `async_client.py` has the same methods for asyncio."""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import httpx

from limner.client import calls, files
from limner.client.calls import Answer, Ask, Call, Pause, Retries
from limner.client.events import SILENCE_S, EventStream
from limner.client.http import Received, Sending, lost, why
from limner.client.jobs import Event, JobFields
from limner.client.pictures import Photo
from limner.client.results import (
    ContoursResult,
    CropResult,
    DetectResult,
    GenerateResult,
    PipelineResult,
    SamplesResult,
)

R = TypeVar("R")
T = TypeVar("T")


class Job(JobFields[R], Generic[R]):
    """A job as it was when it was asked for, and what can be done with it."""

    def __init__(self, told: dict[str, Any], client: "Client") -> None:
        """`told` is the job's JSON."""
        super().__init__(**calls.job_values(told))
        self._client = client

    def refresh(self) -> "Job[R]":
        """The job as it is now."""
        return self._client.job(self.id)

    def wait(self, timeout_s: float = 300.0) -> "Job[R]":
        """The job when it has succeeded. JobFailedError, JobCancelledError, WaitTimeoutError."""
        return self._client.wait(self, timeout_s)

    def events(self, after: int = 0) -> Iterator[Event]:
        """Its events, from the first one, until it has ended. See `Client.events`."""
        return self._client.events(job=self.id, after=after)

    def read(self, name: str | None = None) -> bytes:
        """The bytes of its picture, or of the one of this name. NoPictureError, ValueError."""
        return self._client.read(self, name)

    def save(self, path: str | os.PathLike[str], name: str | None = None) -> list[Path]:
        """Write its pictures, or the one of this name: to `path`, or into the folder that it is or ends with `/`.

        Overwrites. Says which files were written. NoPictureError, ValueError, OSError.
        """
        return self._client.save(self, path, name)

    def rerun(self, **changes: Any) -> "Job[R]":
        """Submit a job with its pictures and changed parameters; None removes one. It is not waited for."""
        return self._client.rerun(self.id, **changes)

    def cancel(self) -> "Job[R]":
        """Cancel it. ProblemError `job-finished` when it has finished."""
        return self._client.cancel(self.id)

    def erase(self) -> dict[str, Any]:
        """Erase it with its pictures; the receipt."""
        return self._client.erase(self.id)


class Client:
    """A Limner service. May be shared by threads; close it, or use it as a context manager.

    `timeout_s` is for each wait for the network. A request is tried up to `tries` times, with pauses of
    `retry_for_s` in all, when the connection is lost, or the service says that it is busy. A submission that is sent
    again is the same job. `http` is an httpx client of your own, for proxies and certificates.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8282",
        key: str | None = None,
        *,
        timeout_s: float = 30.0,
        tries: int = 5,
        retry_for_s: float = 60.0,
        http: httpx.Client | None = None,
    ) -> None:
        """ValueError for a URL that cannot be one."""
        self._sending = Sending(url, key, timeout_s)
        self._retries = Retries(tries, retry_for_s)
        self._own = http is None
        self._http = httpx.Client() if http is None else http

    def __repr__(self) -> str:
        return f"Client({self._sending!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; not those of an httpx client of your own."""
        if self._own:
            self._http.close()

    # --- operations: submit, wait, and give the finished job ---

    def detect(self, photo: Photo | None = None, /, **params: Any) -> Job[DetectResult]:
        """Find the faces in a photo and mark each. See `run`."""
        return self.run("detect", photo, **params)

    def contours(self, photo: Photo | None = None, /, **params: Any) -> Job[ContoursResult]:
        """Outline the regions of a face as SVG. See `run`."""
        return self.run("contours", photo, **params)

    def crop(self, photo: Photo | None = None, /, **params: Any) -> Job[CropResult]:
        """Cut a photo to a size or shape about its faces, or cut out each face. See `run`."""
        return self.run("crop", photo, **params)

    def generate(self, photo: Photo | None = None, /, **params: Any) -> Job[GenerateResult]:
        """Make a picture from a photo, from words, or from both. See `run`."""
        return self.run("generate", photo, **params)

    def pipeline(self, photo: Photo | None = None, /, **params: Any) -> Job[PipelineResult]:
        """Run several operations on one photo, as one job. See `run`."""
        return self.run("pipeline", photo, **params)

    def samples(self, photo: Photo | None = None, /, **params: Any) -> Job[SamplesResult]:
        """Show a photo in each style of a painter. See `run`."""
        return self.run("samples", photo, **params)

    def run(
        self,
        operation: str,
        photo: Photo | None = None,
        /,
        *,
        timeout_s: float = 300.0,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> Job[Any]:
        """Run any operation, and wait until it has succeeded, at most `timeout_s`.

        `params` are those of the operation (`docs/parameters.md`). ProblemError, JobFailedError, JobCancelledError,
        WaitTimeoutError, NotReachedError; OSError where the photo cannot be read.
        """
        call = calls.run(operation, photo, params, self._retries, timeout_s=timeout_s, idempotency_key=idempotency_key)
        return self._job(self._done(call))

    def submit(
        self, operation: str, photo: Photo | None = None, /, *, idempotency_key: str | None = None, **params: Any
    ) -> Job[Any]:
        """Submit a job for any operation, and do not wait. The errors of `run`, except those of the job itself."""
        call = calls.submit(operation, photo, params, self._retries, idempotency_key=idempotency_key)
        return self._job(self._done(call))

    # --- jobs ---

    def job(self, job_id: str) -> Job[Any]:
        """The job of this id as it is now."""
        return self._job(self._done(calls.get_job(job_id, self._retries)))

    def jobs(
        self,
        *,
        operation: str | None = None,
        status: str | None = None,
        q: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
    ) -> Iterator[Job[Any]]:
        """All jobs of these properties, newest first, without their results, asked for page by page.

        `q` is a part of the label. ProblemError.
        """
        filters = {"operation": operation, "status": status, "q": q, "since": since, "until": until}
        cursor = None
        while True:
            page, cursor = self._done(calls.page(filters, cursor, self._retries))
            yield from map(self._job, page)
            if cursor is None:
                return

    def wait(self, job: JobFields[R], timeout_s: float = 300.0) -> Job[R]:
        """See `Job.wait`."""
        return self._job(self._done(calls.wait(job.json, timeout_s, self._retries)))

    def rerun(self, job_id: str, /, **changes: Any) -> Job[Any]:
        """See `Job.rerun`."""
        return self._job(self._done(calls.rerun(job_id, changes, self._retries)))

    def cancel(self, job_id: str) -> Job[Any]:
        """See `Job.cancel`."""
        return self._job(self._done(calls.cancel(job_id, self._retries)))

    def erase(self, job_id: str) -> dict[str, Any]:
        """See `Job.erase`."""
        return self._done(calls.erase(job_id, self._retries))

    def read(self, job: JobFields[Any], name: str | None = None) -> bytes:
        """See `Job.read`."""
        return self._done(calls.download(job.id, files.only(job, name).name, self._retries))

    def save(self, job: JobFields[Any], path: str | os.PathLike[str], name: str | None = None) -> list[Path]:
        """See `Job.save`."""
        wanted = files.wanted(job, name)
        targets = files.places(wanted, path)
        for target, data in zip(targets, self._done(calls.download_all(job, wanted, self._retries)), strict=True):
            files.write(target, data)
        return targets

    # --- the service ---

    def events(
        self, *, job: str | None = None, operation: str | None = None, after: int | None = None, reconnects: int = 8
    ) -> Iterator[Event]:
        """Events as they happen: from now on, or after the event `after`; 0 is from the beginning.

        A connection that is lost is made again, and continues after the last event, so that none is missed. With
        `job` it ends when that job has ended. ProblemError; NotReachedError after `reconnects` in a row that
        brought nothing.
        """
        stream = EventStream(job=job, operation=operation, after=after, reconnects=reconnects)
        while True:
            try:
                with self._open(stream.ask(), silence_s=SILENCE_S) as response:
                    if response.status_code == 200:
                        for chunk in response.iter_bytes():
                            yield from stream.feed(chunk)
                            if stream.done:
                                return
                    else:
                        stream.refused(_whole(response))
            except httpx.RequestError as error:
                stream.lost(why(error, self._sending.url))
            time.sleep(stream.pause())

    def operations(self) -> list[dict[str, Any]]:
        """The operations with the JSON Schemas of their parameters and results."""
        told = self._done(calls.get_json("/v1/operations", self._retries))
        return cast("list[dict[str, Any]]", told["operations"])

    def painters(self) -> list[dict[str, Any]]:
        """The painters of `generate`."""
        told = self._done(calls.get_json("/v1/painters", self._retries))
        return cast("list[dict[str, Any]]", told["painters"])

    # --- sending ---

    def _job(self, told: dict[str, Any]) -> Job[Any]:
        return Job(told, self)

    def _done(self, call: Call[T]) -> T:
        """Run a call to its end."""
        try:
            step = next(call)
            while True:
                try:
                    answer = self._do(step)
                except httpx.RequestError as error:
                    step = call.throw(lost(error, self._sending.url))
                else:
                    step = call.send(answer)
        except StopIteration as end:
            return cast("T", end.value)

    def _do(self, step: Ask | Pause) -> Answer | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        with self._open(step) as response:
            answer = _whole(response)
        options = self._sending.elsewhere(step, answer)
        if options is not None:
            with self._http.stream(**options) as response:
                answer = _whole(response)
        return answer

    def _open(self, ask: Ask, *, silence_s: float | None = None) -> AbstractContextManager[httpx.Response]:
        return self._http.stream(**self._sending.options(ask, silence_s=silence_s))


def _whole(response: httpx.Response) -> Answer:
    received = Received(response)
    for chunk in response.iter_bytes():
        received.add(chunk)
    return received.answer()
