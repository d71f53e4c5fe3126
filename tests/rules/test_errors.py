"""Every error has the one shape, whoever raises it."""

import asyncio
import json

import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from limner.domain.errors import LimnerError, every_error
from limner.web import problems
from limner.web.shapes import ProblemShape

ERRORS = list(every_error())


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_class_makes_a_problem(kind: type[LimnerError]) -> None:
    told = kind().problem()
    assert ProblemShape.model_validate(told)
    assert told["type"] == f"urn:limner:problem:{kind.slug}"
    assert told["detail"]
    assert 400 <= kind.status < 600
    assert json.loads(json.dumps(told)) == told
    particular = kind("exactly this", limit=5).problem()
    assert (particular["detail"], particular["limit"]) == ("exactly this", 5)


def test_a_slug_means_one_thing() -> None:
    titles: dict[str, set[str]] = {}
    for kind in ERRORS:
        titles.setdefault(kind.slug, set()).add(kind.title)
    assert {slug: names for slug, names in titles.items() if len(names) > 1} == {}


def test_what_may_be_tried_again_says_when() -> None:
    for kind in ERRORS:
        answer = problems.response(kind())
        assert answer.status_code == kind.status
        assert answer.media_type == "application/problem+json"
        assert ("retry-after" in answer.headers) == (kind.status in (429, 503))


def _answer_to(error: Exception) -> httpx.Response:
    """What a client gets when a route raises it."""
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
@pytest.mark.parametrize("detail", [None, "the framework's own words"])
def test_every_error_of_the_framework_is_one_of_ours(status: int, detail: str | None) -> None:
    answer = _answer_to(HTTPException(status, detail, headers={"X-Of-The-Framework": "kept"}))
    told = ProblemShape.model_validate(answer.json())
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-of-the-framework"] == "kept"
    assert answer.status_code == told.status == status
    assert told.type.startswith("urn:limner:problem:")
    assert told.detail == (detail or told.detail)


def test_a_bug_tells_nothing_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    answer = _answer_to(RuntimeError("secret internals"))
    told = ProblemShape.model_validate(answer.json())
    assert (answer.status_code, told.type) == (500, "urn:limner:problem:internal-error")
    assert "secret" not in answer.text
    assert "secret internals" in caplog.text  # the log has it
