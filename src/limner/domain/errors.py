"""Every way a request or a job can fail, as one class tree.

Each class carries a slug, a title, an HTTP status and whether trying again can help; `problem()` gives the one
RFC 9457 object that serves as HTTP body, as `job.error` and as an event's detail. The docstring is the default detail.
`docs/errors.md` lists them all, and a test holds it to that.
"""

from collections.abc import Iterator
from typing import ClassVar


class LimnerError(Exception):
    """Something went wrong."""

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None, **extra: object) -> None:
        """`detail` is shown to the client; `extra` members join the problem object."""
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


class InvalidRequestError(LimnerError):
    """The request's fields are not valid."""

    slug = "invalid-request"
    title = "Invalid request"
    status = 422


class BadImageError(LimnerError):
    """The picture is broken and cannot be decoded."""

    slug = "bad-image"
    title = "Broken picture"
    status = 422


class UnsupportedMediaError(LimnerError):
    """The file is not a picture of a kind that is accepted."""

    slug = "unsupported-media"
    title = "Unsupported media type"
    status = 415


class TooLargeError(LimnerError):
    """The upload or the picture is over a limit."""

    slug = "too-large"
    title = "Too large"
    status = 413


class FaceNotFoundError(LimnerError):
    """No face found."""

    slug = "no-face-found"
    title = "No face found"
    status = 422


class UrlNotAllowedError(LimnerError):
    """The URL may not be fetched."""

    slug = "url-not-allowed"
    title = "URL not allowed"
    status = 422


class UrlFetchError(LimnerError):
    """The URL could not be fetched."""

    slug = "url-fetch-failed"
    title = "URL could not be fetched"
    status = 422
    retryable = True


class NotFoundError(LimnerError):
    """There is no such thing here."""

    slug = "not-found"
    title = "Not found"
    status = 404


class MethodNotAllowedError(LimnerError):
    """This method is not allowed here."""

    slug = "method-not-allowed"
    title = "Method not allowed"
    status = 405


class RangeError(LimnerError):
    """The file has no such part."""

    slug = "range-not-satisfiable"
    title = "Range not satisfiable"
    status = 416


class JobFinishedError(LimnerError):
    """The job has finished already."""

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
    """The queue is full; try again later."""

    slug = "queue-full"
    title = "Queue full"
    status = 429
    retryable = True


class UnavailableError(LimnerError):
    """The service is stopping or not ready yet."""

    slug = "unavailable"
    title = "Unavailable"
    status = 503
    retryable = True


class JobTimeoutError(LimnerError):
    """The job ran longer than it may."""

    slug = "job-timeout"
    title = "Job took too long"
    status = 504


class JobCrashedError(LimnerError):
    """The job was started several times and never finished."""

    slug = "job-crashed"
    title = "Job crashed"
    status = 500


class ModelError(LimnerError):
    """A model file is missing or not the one expected; run `limner models fetch`."""

    slug = "model-unavailable"
    title = "Model unavailable"
    status = 503


class SettingsError(LimnerError):
    """The settings cannot work together."""

    slug = "bad-settings"
    title = "Bad settings"
    status = 500


def every_error() -> Iterator[type[LimnerError]]:
    """All classes of the tree, parents first."""
    waiting: list[type[LimnerError]] = [LimnerError]
    while waiting:
        error = waiting.pop(0)
        yield error
        waiting.extend(error.__subclasses__())
