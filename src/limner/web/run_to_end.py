"""Submits a job and waits for its end, for answers that are the result itself and not the job."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from limner.domain.errors import NotFoundError, StillRunningError, UnavailableError, from_problem
from limner.domain.job import Job, Status
from limner.operation import Operation
from limner.web.services import Services


class Run:
    """One job of a photo: `submit` it, then wait for its `end`. It keeps nothing of the photo.

    So whoever drops the photo after `submit`, and gives its memory back, waits without it.
    """

    def __init__(self, services: Services, job_id: str, ended: "asyncio.Future[None]") -> None:
        self._services = services
        self._job_id = job_id
        self._ended = ended

    async def submit(
        self, operation: Operation[Any, Any], values: Mapping[str, Any], photo: bytes, *, key_id: str | None
    ) -> None:
        """Store the photo and the job. Raises what submitting raises."""
        services = self._services

        def submit() -> Job:
            params = operation.parse(values, {"image": photo}, services.limits)
            return services.submissions.submit(operation, params, {"image": photo}, job_id=self._job_id, key_id=key_id)

        self._job = await services.call(submit)

    async def end(self, wait_s: float) -> Job:
        """The job, which has succeeded.

        Raises the error of a job that has failed; StillRunningError after `wait_s`, and UnavailableError for a job that
        was cancelled, or when the service stops.
        """
        services, job = self._services, self._job
        if not job.status.final:
            await asyncio.wait([self._ended], timeout=wait_s)
            found = await services.read(services.reader.get, self._job_id)
            if found is None:
                raise NotFoundError("The job of this request was erased before its end.")
            job = found
        if job.status is Status.FAILED and job.error is not None:
            raise from_problem(job.error)
        if job.status is Status.CANCELLED:
            raise UnavailableError("The job of this request was cancelled. Try again.")
        if not job.status.final:
            raise UnavailableError if services.streams.closing.is_set() else StillRunningError
        return job


@contextmanager
def new_run(services: Services) -> Iterator[Run]:
    """A run with an id for its job, whose end is listened for while this is open."""
    job_id = services.submissions.ids.new()
    with services.streams.expecting(job_id) as ended:
        yield Run(services, job_id, ended)
