"""The calls of the API as generators, which do no input and output: they yield what to send, and get the answer.

`Client` and `AsyncClient` run them. So retries, waiting and errors are written once.
"""

import json
import random
import re
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from limner.client.errors import (
    JobCancelledError,
    JobFailedError,
    NotReachedError,
    ProblemError,
    UnexpectedAnswerError,
    WaitTimeoutError,
)
from limner.client.jobs import Artifact, JobFields, Problem, Queue
from limner.client.pictures import Body, Photo, body_of
from limner.client.reading import read
from limner.client.results import read_result

Json = dict[str, Any]

MAX_ANSWER_BYTES = 256_000_000
"""An answer larger than this is given up."""
LONGEST_HOLD_S = 20.0
"""So long the service is asked to hold an answer until the job has finished; afterwards the client asks for it."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
"""Between tries where the service does not say when to come again; doubled each time."""
FIRST_POLL_S, LONGEST_POLL_S = 0.1, 2.0
_OF_PROXIES = (429, 502, 503, 504)
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True)
class Retries:
    """How often and how long, in all its pauses, a request is tried again."""

    tries: int = 5
    total_s: float = 60.0


@dataclass(frozen=True)
class Ask:
    """A request to send. `path` is below the service's URL."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    hold_s: float = 0.0
    """So long the service may take beside the usual time-out."""
    repeatable: bool = True
    """Whether it may be sent again when its answer was lost."""
    is_file: bool = False
    """The answer is a file, which may lie on a store of its own: one redirect is followed, without the key."""


@dataclass(frozen=True)
class Pause:
    """A time to wait."""

    seconds: float


@dataclass(frozen=True)
class Answer:
    """An answer. The names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Lost(Exception):  # noqa: N818  # not an error that a caller sees
    """Thrown into a call when its request got no whole answer."""


T = TypeVar("T")
Call = Generator[Ask | Pause, Any, T]
"""It is sent an `Answer` for an `Ask` and None for a `Pause`, or `Lost` is thrown into it."""


def checked_url(url: str) -> str:
    """The URL of a service without a slash at its end. ValueError for one that cannot be."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("The URL of a service begins with http:// or https:// and has a host.")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("The URL of a service has no user, query or fragment. Send a key as `key`.")
    return url.rstrip("/")


def checked_key(key: str | None) -> str | None:
    """An API key that a header can hold. ValueError, which does not show it."""
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise ValueError("A key has letters, digits and signs of ASCII only, without spaces and line breaks.")
    return key


# --- one request ----------------------------------------------------------------------------------------------------


def request(ask: Ask, retries: Retries) -> Call[Answer]:
    """Send a request, again where that may help. ProblemError, NotReachedError, UnexpectedAnswerError."""
    waited, tries = 0.0, 0
    while True:
        tries += 1
        pause = random.uniform(0.7, 1.0) * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (tries - 1))  # noqa: S311
        error: NotReachedError | ProblemError
        try:
            answer: Answer = yield ask
        except Lost as lost:
            error, again = NotReachedError(str(lost)), ask.repeatable
        else:
            if answer.status < 300:
                return answer
            error = problem_of(answer)
            again = error.retryable
            if error.retry_after_s is not None:
                pause = error.retry_after_s
        if not again or tries >= retries.tries or waited + pause > retries.total_s:
            raise error
        waited += pause
        yield Pause(pause)


def problem_of(answer: Answer) -> ProblemError:
    """The error that an answer tells. UnexpectedAnswerError for what is none of Limner, except of a busy proxy."""
    told = _object(answer)
    after = answer.headers.get("retry-after", "")
    retry_after_s = float(after) if after.isascii() and after.isdigit() and len(after) < 9 else None
    request_id = answer.headers.get("x-request-id")
    if told is not None and isinstance(told.get("type"), str):
        try:
            return ProblemError(_problem(told), retry_after_s=retry_after_s, request_id=request_id)
        except ValueError:
            pass  # of some other program: told below
    if answer.status in _OF_PROXIES:
        busy = Problem("about:blank", "Unavailable", answer.status, "A proxy in front of the service says so.", True)
        return ProblemError(busy, retry_after_s=retry_after_s, request_id=request_id)
    if 300 <= answer.status < 400:
        raise UnexpectedAnswerError(f"The URL leads elsewhere ({answer.status}). Use the URL where the service is.")
    raise UnexpectedAnswerError(f"The answer {answer.status} is not one of Limner. Is this its URL?")


def _object(answer: Answer) -> Json | None:
    try:
        told = json.loads(answer.body)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _problem(told: Json) -> Problem:
    known = Problem.__dataclass_fields__.keys() - {"extra"}
    own = {name: value for name, value in told.items() if name in known}
    return read(Problem, {**own, "extra": {name: value for name, value in told.items() if name not in known}})


def get_json(path: str, retries: Retries, query: Mapping[str, str] | None = None) -> Call[Json]:
    """GET a JSON object."""
    return _told((yield from request(Ask("GET", path, query or {}), retries)))


def _told(answer: Answer) -> Json:
    told = _object(answer)
    if told is None:
        raise UnexpectedAnswerError("The answer is not JSON. Is this the URL of a Limner service?")
    return told


_LEFT_OUT: Json = {
    **dict.fromkeys(("label", "cached", "cache_distance", "started_at", "finished_at", "preview", "thumbnail")),
    **dict.fromkeys(("photo", "summary", "result", "parameters")),
    "inputs": [],
    "artifacts": [],
}
"""What a shorter answer, as in a list of jobs, may not have."""


# --- jobs -----------------------------------------------------------------------------------------------------------


def job_values(told: Json) -> dict[str, Any]:
    """The fields of a job from its JSON. UnexpectedAnswerError."""
    try:
        values = vars(read(JobFields, {**_LEFT_OUT, **told, "error": None, "queue": None, "json": told}))
        queue, error = told.get("queue"), told.get("error")
        return {
            **values,
            "queue": None if queue is None else read(Queue, queue),
            "error": None if error is None else _problem(error),
            "result": read_result(values["operation"], values["result"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnexpectedAnswerError(f"The job in the answer cannot be read: {error}.") from error


def submit(
    operation: str,
    photo: Photo | None,
    params: Mapping[str, Any],
    retries: Retries,
    *,
    wait_s: float = 0.0,
    idempotency_key: str | None = None,
) -> Call[Json]:
    """Submit a job, and wait for it for at most `wait_s` (`LONGEST_HOLD_S`). A retry is the same job."""
    headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
    hold_s = min(wait_s, LONGEST_HOLD_S)
    if hold_s >= 1:
        headers["Prefer"] = f"wait={int(hold_s)}"
    ask = Ask("POST", f"/v1/{quote(operation, safe='')}", headers=headers, body=body_of(photo, params), hold_s=hold_s)
    return _told((yield from request(ask, retries)))


def get_job(job_id: str, retries: Retries) -> Call[Json]:
    """The job now."""
    return (yield from get_json(_path(job_id), retries))


def wait(told: Json, timeout_s: float, retries: Retries) -> Call[Json]:
    """The job when it has succeeded. JobFailedError, JobCancelledError, WaitTimeoutError."""
    deadline = time.monotonic() + timeout_s
    pause = FIRST_POLL_S
    while True:
        job = JobFields[Any](**job_values(told))
        if job.status == "succeeded":
            return told
        if job.status == "failed":
            raise JobFailedError(job.error or Problem("about:blank", "Job failed", 500, "No error is told."), job)
        if job.status == "cancelled":
            raise JobCancelledError(job)
        left = deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeoutError(job, timeout_s)
        yield Pause(min(pause, left))
        pause = min(LONGEST_POLL_S, pause * 1.5)
        told = yield from get_job(job.id, retries)


def run(
    operation: str,
    photo: Photo | None,
    params: Mapping[str, Any],
    retries: Retries,
    *,
    timeout_s: float,
    idempotency_key: str | None = None,
) -> Call[Json]:
    """Submit a job, and wait until it has succeeded. The errors of `request` and of `wait`."""
    began = time.monotonic()
    told = yield from submit(operation, photo, params, retries, wait_s=timeout_s, idempotency_key=idempotency_key)
    return (yield from wait(told, max(timeout_s - (time.monotonic() - began), 0.0), retries))


def rerun(job_id: str, changes: Mapping[str, Any], retries: Retries) -> Call[Json]:
    """Submit a job with the pictures of this one and changed parameters; None removes one."""
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    ask = Ask("POST", f"{_path(job_id)}/rerun", headers=headers, body=Body(json=dict(changes)))
    return _told((yield from request(ask, retries)))


def cancel(job_id: str, retries: Retries) -> Call[Json]:
    """Cancel a job; it, cancelled. ProblemError `job-finished`."""
    return _told((yield from request(Ask("POST", f"{_path(job_id)}/cancel", repeatable=False), retries)))


def erase(job_id: str, retries: Retries) -> Call[Json]:
    """Erase a job; the receipt."""
    headers = {"Prefer": "return=representation"}
    return _told((yield from request(Ask("DELETE", _path(job_id), headers=headers, repeatable=False), retries)))


def page(filters: Mapping[str, Any], cursor: str | None, retries: Retries) -> Call[tuple[list[Json], str | None]]:
    """A page of jobs, newest first, and the cursor of the next one. Filters that are None are not sent."""
    query = {name: _query_text(value) for name, value in {**filters, "cursor": cursor}.items() if value is not None}
    told = yield from get_json("/v1/jobs", retries, query)
    return told.get("jobs", []), told.get("next_cursor")


def _query_text(value: object) -> str:
    """A time without a zone is one of this machine."""
    return value.astimezone().isoformat() if isinstance(value, datetime) else str(value)


def download(job_id: str, name: str, retries: Retries) -> Call[bytes]:
    """The bytes of an artifact."""
    ask = Ask("GET", f"{_path(job_id)}/artifacts/{quote(name, safe='')}", is_file=True)
    answer = yield from request(ask, retries)
    return answer.body


def download_all(job: JobFields[Any], wanted: list[Artifact], retries: Retries) -> Call[list[bytes]]:
    """The bytes of several artifacts of a job."""
    found = []
    for each in wanted:
        found.append((yield from download(job.id, each.name, retries)))  # noqa: PERF401  # `yield from`
    return found


def _path(job_id: str) -> str:
    if not _ID.fullmatch(job_id):
        raise ValueError("This is not the id of a job.")
    return f"/v1/jobs/{job_id}"
