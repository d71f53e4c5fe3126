"""Submits a job and waits for its end, for answers that are the result itself and not the job."""

import asyncio
from collections.abc import Mapping
from typing import Any

from limner.domain.errors import NotFoundError, StillRunningError, UnavailableError, from_problem
from limner.domain.job import Job, Status
from limner.operation import Operation
from limner.web.services import Services


async def run_to_end(
    services: Services,
    operation: Operation[Any, Any],
    values: Mapping[str, Any],
    photo: bytes,
    *,
    key_id: str | None,
    wait_s: float,
) -> Job:
    """The job of this photo, which has succeeded.

    Raises what submitting raises, and the error of a job that has failed; StillRunningError after `wait_s`, and
    UnavailableError for a job that was cancelled, or when the service stops.
    """
    job_id = services.submissions.ids.new()

    def submit() -> Job:
        params = operation.parse(values, {"image": photo}, services.limits)
        return services.submissions.submit(operation, params, {"image": photo}, job_id=job_id, key_id=key_id)

    with services.streams.expecting(job_id) as ended:
        job = await services.call(submit)
        if not job.status.final:
            await asyncio.wait([ended], timeout=wait_s)
            found = await services.read(services.reader.get, job_id)
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
