"""The client for asyncio: the same methods as in `client.py`."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
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


class AsyncJob(JobFields[R], Generic[R]):
    """A job as it was when it was asked for, and what can be done with it."""

    def __init__(self, told: dict[str, Any], client: "AsyncClient") -> None:
        """`told` is the job's JSON."""
        super().__init__(**calls.job_values(told))
        self._client = client

    async def refresh(self) -> "AsyncJob[R]":
        """The job as it is now."""
        return await self._client.job(self.id)

    async def wait(self, timeout_s: float = 300.0) -> "AsyncJob[R]":
        """The job when it has succeeded. JobFailedError, JobCancelledError, WaitTimeoutError."""
        return await self._client.wait(self, timeout_s)

    def events(self, after: int = 0) -> AsyncIterator[Event]:
        """Its events, from the first one, until it has ended. See `AsyncClient.events`."""
        return self._client.events(job=self.id, after=after)

    async def read(self, name: str | None = None) -> bytes:
        """The bytes of its picture, or of the one of this name. NoPictureError, ValueError."""
        return await self._client.read(self, name)

    async def save(self, path: str | os.PathLike[str], name: str | None = None) -> list[Path]:
        """Write its pictures, or the one of this name: to `path`, or into the folder that it is or ends with `/`.

        Overwrites. Says which files were written. NoPictureError, ValueError, OSError.
        """
        return await self._client.save(self, path, name)

    async def rerun(self, **changes: Any) -> "AsyncJob[R]":
        """Submit a job with its pictures and changed parameters; None removes one. It is not waited for."""
        return await self._client.rerun(self.id, **changes)

    async def cancel(self) -> "AsyncJob[R]":
        """Cancel it. ProblemError `job-finished` when it has finished."""
        return await self._client.cancel(self.id)

    async def erase(self) -> dict[str, Any]:
        """Erase it with its pictures; the receipt."""
        return await self._client.erase(self.id)


class AsyncClient:
    """A Limner service. Close it, or use it with `async with`.

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
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """ValueError for a URL that cannot be one."""
        self._sending = Sending(url, key, timeout_s)
        self._retries = Retries(tries, retry_for_s)
        self._own = http is None
        self._http = httpx.AsyncClient() if http is None else http

    def __repr__(self) -> str:
        return f"AsyncClient({self._sending!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; not those of an httpx client of your own."""
        if self._own:
            await self._http.aclose()

    # --- operations: submit, wait, and give the finished job ---

    async def detect(self, photo: Photo | None = None, /, **params: Any) -> AsyncJob[DetectResult]:
        """Find the faces in a photo and mark each. See `run`."""
        return await self.run("detect", photo, **params)

    async def contours(self, photo: Photo | None = None, /, **params: Any) -> AsyncJob[ContoursResult]:
        """Outline the regions of a face as SVG. See `run`."""
        return await self.run("contours", photo, **params)

    async def crop(self, photo: Photo | None = None, /, **params: Any) -> AsyncJob[CropResult]:
        """Cut a photo to a size or shape about its faces, or cut out each face. See `run`."""
        return await self.run("crop", photo, **params)

    async def generate(self, photo: Photo | None = None, /, **params: Any) -> AsyncJob[GenerateResult]:
        """Make a picture from a photo, from words, or from both. See `run`."""
        return await self.run("generate", photo, **params)

    async def pipeline(self, photo: Photo | None = None, /, **params: Any) -> AsyncJob[PipelineResult]:
        """Run several operations on one photo, as one job. See `run`."""
        return await self.run("pipeline", photo, **params)

    async def samples(self, photo: Photo | None = None, /, **params: Any) -> AsyncJob[SamplesResult]:
        """Show a photo in each style of a painter. See `run`."""
        return await self.run("samples", photo, **params)

    async def run(
        self,
        operation: str,
        photo: Photo | None = None,
        /,
        *,
        timeout_s: float = 300.0,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> AsyncJob[Any]:
        """Run any operation, and wait until it has succeeded, at most `timeout_s`.

        `params` are those of the operation (`docs/parameters.md`). ProblemError, JobFailedError, JobCancelledError,
        WaitTimeoutError, NotReachedError; OSError where the photo cannot be read.
        """
        call = calls.run(operation, photo, params, self._retries, timeout_s=timeout_s, idempotency_key=idempotency_key)
        return self._job(await self._done(call))

    async def submit(
        self, operation: str, photo: Photo | None = None, /, *, idempotency_key: str | None = None, **params: Any
    ) -> AsyncJob[Any]:
        """Submit a job for any operation, and do not wait. The errors of `run`, except those of the job itself."""
        call = calls.submit(operation, photo, params, self._retries, idempotency_key=idempotency_key)
        return self._job(await self._done(call))

    # --- jobs ---

    async def job(self, job_id: str) -> AsyncJob[Any]:
        """The job of this id as it is now."""
        return self._job(await self._done(calls.get_job(job_id, self._retries)))

    async def jobs(
        self,
        *,
        operation: str | None = None,
        status: str | None = None,
        q: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
    ) -> AsyncIterator[AsyncJob[Any]]:
        """All jobs of these properties, newest first, without their results, asked for page by page.

        `q` is a part of the label. ProblemError.
        """
        filters = {"operation": operation, "status": status, "q": q, "since": since, "until": until}
        cursor = None
        while True:
            page, cursor = await self._done(calls.page(filters, cursor, self._retries))
            for told in page:
                yield self._job(told)
            if cursor is None:
                return

    async def wait(self, job: JobFields[R], timeout_s: float = 300.0) -> AsyncJob[R]:
        """See `Job.wait`."""
        return self._job(await self._done(calls.wait(job.json, timeout_s, self._retries)))

    async def rerun(self, job_id: str, /, **changes: Any) -> AsyncJob[Any]:
        """See `AsyncJob.rerun`."""
        return self._job(await self._done(calls.rerun(job_id, changes, self._retries)))

    async def cancel(self, job_id: str) -> AsyncJob[Any]:
        """See `Job.cancel`."""
        return self._job(await self._done(calls.cancel(job_id, self._retries)))

    async def erase(self, job_id: str) -> dict[str, Any]:
        """See `Job.erase`."""
        return await self._done(calls.erase(job_id, self._retries))

    async def read(self, job: JobFields[Any], name: str | None = None) -> bytes:
        """See `Job.read`."""
        return await self._done(calls.download(job.id, files.only(job, name).name, self._retries))

    async def save(self, job: JobFields[Any], path: str | os.PathLike[str], name: str | None = None) -> list[Path]:
        """See `Job.save`."""
        wanted = files.wanted(job, name)
        targets = files.places(wanted, path)
        for target, data in zip(targets, await self._done(calls.download_all(job, wanted, self._retries)), strict=True):
            files.write(target, data)
        return targets

    # --- the service ---

    async def events(
        self, *, job: str | None = None, operation: str | None = None, after: int | None = None, reconnects: int = 8
    ) -> AsyncIterator[Event]:
        """Events as they happen: from now on, or after the event `after`; 0 is from the beginning.

        A connection that is lost is made again, and continues after the last event, so that none is missed. With
        `job` it ends when that job has ended. ProblemError; NotReachedError after `reconnects` in a row that
        brought nothing.
        """
        stream = EventStream(job=job, operation=operation, after=after, reconnects=reconnects)
        while True:
            try:
                async with self._open(stream.ask(), silence_s=SILENCE_S) as response:
                    if response.status_code == 200:
                        async for chunk in response.aiter_bytes():
                            for event in stream.feed(chunk):
                                yield event
                            if stream.done:
                                return
                    else:
                        stream.refused(await _whole(response))
            except httpx.RequestError as error:
                stream.lost(why(error, self._sending.url))
            await asyncio.sleep(stream.pause())

    async def operations(self) -> list[dict[str, Any]]:
        """The operations with the JSON Schemas of their parameters and results."""
        told = await self._done(calls.get_json("/v1/operations", self._retries))
        return cast("list[dict[str, Any]]", told["operations"])

    async def painters(self) -> list[dict[str, Any]]:
        """The painters of `generate`."""
        told = await self._done(calls.get_json("/v1/painters", self._retries))
        return cast("list[dict[str, Any]]", told["painters"])

    # --- sending ---

    def _job(self, told: dict[str, Any]) -> AsyncJob[Any]:
        return AsyncJob(told, self)

    async def _done(self, call: Call[T]) -> T:
        """Run a call to its end."""
        try:
            step = next(call)
            while True:
                try:
                    answer = await self._do(step)
                except httpx.RequestError as error:
                    step = call.throw(lost(error, self._sending.url))
                else:
                    step = call.send(answer)
        except StopIteration as end:
            return cast("T", end.value)

    async def _do(self, step: Ask | Pause) -> Answer | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        async with self._open(step) as response:
            answer = await _whole(response)
        options = self._sending.elsewhere(step, answer)
        if options is not None:
            async with self._http.stream(**options) as response:
                answer = await _whole(response)
        return answer

    def _open(self, ask: Ask, *, silence_s: float | None = None) -> AbstractAsyncContextManager[httpx.Response]:
        return self._http.stream(**self._sending.options(ask, silence_s=silence_s))


async def _whole(response: httpx.Response) -> Answer:
    received = Received(response)
    async for chunk in response.aiter_bytes():
        received.add(chunk)
    return received.answer()
