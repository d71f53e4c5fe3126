"""The errors that the client raises, all of them `ClientError`."""

from typing import Any

from limner.client.jobs import JobFields, Problem


class ClientError(Exception):
    """Base class of the client's errors."""


class NotReachedError(ClientError, ConnectionError):
    """The service did not answer, or the connection was lost, at each try."""


class UnexpectedAnswerError(ClientError):
    """The answer is not one of a Limner service; perhaps something else listens at this URL."""


class ProblemError(ClientError):
    """The service refused the request. The fields are those of its answer, RFC 9457 (`docs/errors.md`)."""

    def __init__(self, problem: Problem, *, retry_after_s: float | None = None, request_id: str | None = None) -> None:
        super().__init__(f"{problem.title}: {problem.detail}")
        self.problem = problem
        self.retry_after_s = retry_after_s
        """The seconds of `Retry-After`, None without one."""
        self.request_id = request_id
        """What the log of the service calls this request."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def slug(self) -> str:
        """The kind of error, such as `queue-full`: the end of the problem's `type`."""
        return self.problem.slug

    @property
    def title(self) -> str:
        """The kind of error in words."""
        return self.problem.title

    @property
    def detail(self) -> str:
        """What happened, and what can be done."""
        return self.problem.detail

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.problem.retryable

    @property
    def fields(self) -> list[dict[str, Any]]:
        """The wrong fields of an invalid request, each with `field` and `message`."""
        listed = self.problem.extra.get("errors")
        return listed if isinstance(listed, list) else []


class JobFailedError(ProblemError):
    """The job failed. The fields are those of its error."""

    def __init__(self, problem: Problem, job: JobFields[Any]) -> None:
        super().__init__(problem)
        self.job = job


class JobCancelledError(ClientError):
    """The job was cancelled, so it has no result."""

    def __init__(self, job: JobFields[Any]) -> None:
        super().__init__(f"Job {job.id} was cancelled.")
        self.job = job


class WaitTimeoutError(ClientError, TimeoutError):
    """The job did not finish in the time that was given. It goes on; `client.job(error.job.id)` finds it."""

    def __init__(self, job: JobFields[Any], timeout_s: float) -> None:
        super().__init__(f"Job {job.id} has not finished within {timeout_s:g} s; it goes on.")
        self.job = job


class NoPictureError(ClientError):
    """The job made no such picture: `detect` makes none where there is no face."""
