"""Every error has the format of RFC 9457, whether our code or the framework raises it."""

import asyncio
import json
import re

import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from limner.domain.errors import (
    BadImageError,
    LimnerError,
    ModelError,
    QueueFullError,
    TooLargeError,
    UnavailableError,
    UploadTimeoutError,
    UrlFetchError,
    every_error,
)
from limner.web import problems
from limner.web.shapes import ProblemShape

ERRORS = list(every_error())


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_class_makes_a_problem(kind: type[LimnerError]) -> None:
    problem = kind().problem()
    ProblemShape.model_validate(problem)
    assert json.loads(json.dumps(problem)) == problem
    assert re.fullmatch(r"urn:limner:problem:[a-z]+(-[a-z]+)*", str(problem["type"]))
    assert 400 <= kind.status < 600
    detail = str(problem["detail"])
    assert detail[0].isupper(), "a default detail is a sentence"
    assert detail.endswith("."), "a default detail is a sentence"


def test_a_problem_has_the_members_of_rfc_9457_and_our_own() -> None:
    assert TooLargeError("image: larger than 5 bytes", limit=5).problem() == {
        "type": "urn:limner:problem:too-large",
        "title": "Too large",
        "status": 413,
        "detail": "image: larger than 5 bytes",
        "retryable": False,
        "limit": 5,
    }


def test_a_slug_has_one_meaning() -> None:
    meanings: dict[str, set[object]] = {}
    for kind in ERRORS:
        meanings.setdefault(kind.slug, set()).add((kind.title, kind.status, kind.retryable))
    assert {slug: found for slug, found in meanings.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (QueueFullError(), 429, True),
        (UnavailableError(), 503, True),
        (ModelError(), 503, True),
        (UploadTimeoutError(), 408, False),
        (UrlFetchError(), 422, False),
        (BadImageError(), 422, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, LimnerError) else "",
)
def test_an_overloaded_service_says_when_to_try_again(error: LimnerError, status: int, retry_after: bool) -> None:
    answer = _answer_to(error)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == error.detail
    if retry_after:
        assert int(answer.headers["retry-after"]) >= 1
    else:
        assert "retry-after" not in answer.headers


def test_a_timed_out_upload_closes_the_connection() -> None:
    """The rest of the upload must not be read as the next request."""
    assert _answer_to(UploadTimeoutError()).headers["connection"] == "close"


def _answer_to(error: Exception) -> httpx.Response:
    """The answer to a request whose route raises the error."""
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def route() -> None:
        raise error

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/")

    return asyncio.run(ask())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 413, 415, 416, 426, 431, 500, 503])
@pytest.mark.parametrize("detail", [None, "the framework's message"])
def test_every_error_of_the_framework_is_one_of_ours(status: int, detail: str | None) -> None:
    answer = _answer_to(HTTPException(status, detail, headers={"X-Of-The-Framework": "kept"}))
    problem = ProblemShape.model_validate(answer.json())
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-of-the-framework"] == "kept"
    assert answer.status_code == problem.status == status
    assert problem.type.removeprefix("urn:limner:problem:") in {kind.slug for kind in ERRORS}
    assert problem.detail
    if detail is not None:
        assert problem.detail == detail


@pytest.mark.parametrize(
    ("status", "slug"),
    [
        (400, "invalid-request"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "not-found"),
        (405, "method-not-allowed"),
        (408, "upload-timeout"),
        (413, "too-large"),
        (415, "unsupported-media"),
        (416, "range-not-satisfiable"),
        (500, "internal-error"),
        (502, "internal-error"),
        (503, "unavailable"),
    ],
)
def test_the_type_of_an_error_of_the_framework(status: int, slug: str) -> None:
    assert _answer_to(HTTPException(status)).json()["type"] == f"urn:limner:problem:{slug}"


def test_the_answer_to_a_bug_reveals_nothing(caplog: pytest.LogCaptureFixture) -> None:
    answer = _answer_to(RuntimeError("secret internals"))
    problem = ProblemShape.model_validate(answer.json())
    assert (answer.status_code, problem.type) == (500, "urn:limner:problem:internal-error")
    assert "secret" not in answer.text
    assert "secret internals" in caplog.text  # the log has it
