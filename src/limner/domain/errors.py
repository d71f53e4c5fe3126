"""All errors of requests and jobs, as one class tree. The docstring of a class is its default detail.

`LimnerError.problem` makes the RFC 9457 object that is used in HTTP answers, jobs and events. See `docs/errors.md`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class LimnerError(Exception):
    """An unexpected error occurred. The log describes it."""

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None, **extra: object) -> None:
        """`detail` is shown to the client; `extra` becomes further members of the problem object."""
        self.detail = detail or (self.__doc__ or self.title).strip().splitlines()[0]
        self.extra = extra
        super().__init__(self.detail)

    def problem(self) -> dict[str, object]:
        """The RFC 9457 object: type, title, status, detail, retryable and the extra members."""
        return {
            "type": f"urn:limner:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "retryable": self.retryable,
            **self.extra,
        }


def how_to_install(extra: str) -> str:
    """How to install the optional libraries of an extra of pyproject.toml, for an error that names what is missing."""
    return f"run `make install-cluster` in a checkout of Limner, or pip install 'limner[{extra}]'"


class InvalidRequestError(LimnerError):
    """The request's fields are not valid."""

    slug = "invalid-request"
    title = "Invalid request"
    status = 422


class BadImageError(LimnerError):
    """The picture is damaged and cannot be decoded."""

    slug = "bad-image"
    title = "Broken picture"
    status = 422


class UnsupportedMediaError(LimnerError):
    """The file is not an accepted kind of picture."""

    slug = "unsupported-media"
    title = "Unsupported media type"
    status = 415


class TooLargeError(LimnerError):
    """The upload or the picture exceeds a limit."""

    slug = "too-large"
    title = "Too large"
    status = 413


class FaceNotFoundError(LimnerError):
    """No face was found in the photo."""

    slug = "no-face-found"
    title = "No face found"
    status = 422


class UrlNotAllowedError(LimnerError):
    """This URL may not be fetched; only public http and https addresses are allowed."""

    slug = "url-not-allowed"
    title = "URL not allowed"
    status = 422


class UrlFetchError(LimnerError):
    """The URL could not be fetched."""

    slug = "url-fetch-failed"
    title = "URL could not be fetched"
    status = 422
    retryable = True


class SourceNotFoundError(LimnerError):
    """There is no photo at the source of this picture."""

    slug = "source-not-found"
    title = "Source not found"
    status = 404


class SourceFailedError(LimnerError):
    """The source of this picture did not send its photo."""

    slug = "source-failed"
    title = "Source failed"
    status = 502
    retryable = True


class UnauthorizedError(LimnerError):
    """This request needs an API key. Send it as `Authorization: Bearer lim_…`."""

    slug = "unauthorized"
    title = "Unauthorized"
    status = 401


class ForbiddenError(LimnerError):
    """This request is not allowed."""

    slug = "forbidden"
    title = "Forbidden"
    status = 403


class MissingScopeError(LimnerError):
    """The API key may not do this."""

    slug = "missing-scope"
    title = "Missing scope"
    status = 403


class BadSignatureError(LimnerError):
    """This URL was changed, or was signed with a secret that is not in use any more."""

    slug = "bad-signature"
    title = "Bad signature"
    status = 403


class HostNotAllowedError(LimnerError):
    """The service does not answer under this host name."""

    slug = "host-not-allowed"
    title = "Host not allowed"
    status = 421


class NotFoundError(LimnerError):
    """The requested resource does not exist."""

    slug = "not-found"
    title = "Not found"
    status = 404


class GoneError(LimnerError):
    """The pictures of the job do not exist any more."""

    slug = "gone"
    title = "Gone"
    status = 410


class MethodNotAllowedError(LimnerError):
    """This path does not support the HTTP method."""

    slug = "method-not-allowed"
    title = "Method not allowed"
    status = 405


class RangeError(LimnerError):
    """The requested range is outside the file."""

    slug = "range-not-satisfiable"
    title = "Range not satisfiable"
    status = 416


class JobFinishedError(LimnerError):
    """The job has already finished."""

    slug = "job-finished"
    title = "Job has finished"
    status = 409


class UploadTimeoutError(LimnerError):
    """The upload took too long."""

    slug = "upload-timeout"
    title = "Upload took too long"
    status = 408
    retryable = True


class QueueFullError(LimnerError):
    """The queue is full. Try again later."""

    slug = "queue-full"
    title = "Queue full"
    status = 429
    retryable = True


class RateLimitedError(LimnerError):
    """The API key has sent too many requests in this minute. Try again later."""

    slug = "rate-limited"
    title = "Too many requests"
    status = 429
    retryable = True

    def __init__(
        self, detail: str | None = None, *, retry_after_s: int = 60, rate_limit: tuple[str, str] | None = None
    ) -> None:
        """`rate_limit`: the values of the headers `RateLimit-Policy` and `RateLimit`, if a key's limit was reached."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.rate_limit = rate_limit


class QuotaError(RateLimitedError):
    """The API key has used its submissions of this day (UTC). Try again tomorrow."""

    slug = "quota-exhausted"
    title = "Daily quota used"


class UnavailableError(LimnerError):
    """The service is not ready or is stopping. Try again later."""

    slug = "unavailable"
    title = "Unavailable"
    status = 503
    retryable = True


class StillRunningError(LimnerError):
    """The picture is not made yet, and goes on being made. Try again in a moment."""

    slug = "still-running"
    title = "Still running"
    status = 504
    retryable = True


class JobTimeoutError(LimnerError):
    """The job exceeded its time limit."""

    slug = "job-timeout"
    title = "Job took too long"
    status = 504


class JobMemoryError(LimnerError):
    """The job needed more memory than a worker may use."""

    slug = "job-out-of-memory"
    title = "Job needed too much memory"
    status = 500


class UnknownWorkError(LimnerError):
    """The job was stored by another version of the service, and this version cannot run it."""

    slug = "unknown-work"
    title = "Job of another version"
    status = 500


class JobCrashedError(LimnerError):
    """The job was started several times, but its process ended each time before it finished."""

    slug = "job-crashed"
    title = "Job crashed"
    status = 500


class ModelError(LimnerError):
    """A model file is missing or has the wrong checksum. Run `limner models fetch`."""

    slug = "model-unavailable"
    title = "Model unavailable"
    status = 503


class PainterServerError(LimnerError):
    """The painter's server could not be reached, failed, or gave an answer that is not valid."""

    slug = "painter-server-failed"
    title = "Painter's server failed"
    status = 502
    retryable = True


class PainterTimeoutError(LimnerError):
    """The painter's server did not answer in time. It may have painted, and charged for it."""

    slug = "painter-server-timeout"
    title = "Painter's server took too long"
    status = 504

    @classmethod
    def of_job(cls, detail: str) -> "PainterTimeoutError":
        """For a job whose time is over while another server may be at work."""
        return cls(f"{detail} A server that was asked may have painted, and charged for it.")


class PainterBusyError(LimnerError):
    """The painter's server has too many requests. Try again later."""

    slug = "painter-server-busy"
    title = "Painter's server is busy"
    status = 429
    retryable = True


class PainterCreditError(LimnerError):
    """The account at the painter's server has no credit."""

    slug = "painter-credit-exhausted"
    title = "No credit at the painter's server"
    status = 402


class PainterKeyError(LimnerError):
    """The painter's server does not accept the key that it was sent."""

    slug = "painter-key-rejected"
    title = "Key rejected by the painter's server"
    status = 503


class ContentRefusedError(LimnerError):
    """The painter's server refused the photo or the words, or filtered the picture that it made."""

    slug = "content-refused"
    title = "Refused by a content filter"
    status = 403


class ContentFilteredError(LimnerError):
    """This service's content filter held a picture back, and none is stored. Other words or another seed may help."""

    slug = "content-filtered"
    title = "Held back by the content filter"
    status = 403


class SigningError(LimnerError):
    """The picture could not be signed: its certificate may have ended, or its files may have been changed."""

    slug = "signing-failed"
    title = "Picture not signed"
    status = 500


class PainterRequestError(LimnerError):
    """The painter's server did not accept these parameters."""

    slug = "painter-request-refused"
    title = "Parameters refused by the painter's server"
    status = 422


class PainterNotReadyError(LimnerError):
    """This painter cannot paint now."""

    slug = "painter-not-ready"
    title = "Painter not ready"
    status = 422


class SettingsError(LimnerError):
    """These settings cannot be used together."""

    slug = "bad-settings"
    title = "Bad settings"
    status = 500


def every_error() -> Iterator[type[LimnerError]]:
    """All error classes, base classes first."""
    waiting: list[type[LimnerError]] = [LimnerError]
    while waiting:
        error = waiting.pop(0)
        yield error
        waiting.extend(error.__subclasses__())


def from_problem(problem: Mapping[str, Any]) -> LimnerError:
    """The error that a problem object was made of, such as a failed job's; one of another version is a LimnerError."""
    slug = str(problem.get("type", "")).rpartition(":")[2]
    kind = next((each for each in every_error() if vars(each).get("slug") == slug), LimnerError)
    error = kind(str(problem.get("detail", "")) or None)
    error.extra = {name: value for name, value in problem.items() if name not in _MEMBERS}
    return error


_MEMBERS = frozenset({"type", "title", "status", "detail", "retryable"})
