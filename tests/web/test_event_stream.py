"""Server-sent events while the database is away."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from limner.domain.errors import UnavailableError
from limner.web.event_routes import stream_events


def test_a_stream_that_cannot_be_read_ends_and_the_client_resumes_it(caplog: pytest.LogCaptureFixture) -> None:
    """Its answer has begun, so an error would be one of the application: a traceback, and a broken response."""

    async def batches(**_: object) -> AsyncIterator[list[object]]:
        raise UnavailableError("The database is away.")
        yield []

    async def read() -> list[object]:
        streams = SimpleNamespace(listen=batches, place=lambda _: nullcontext())
        services: Any = SimpleNamespace(links=lambda _: None, streams=streams)
        request = Request({"type": "http", "headers": []})
        answer = await stream_events(request, services, caller=cast(Any, None), after=0)
        assert isinstance(answer, StreamingResponse)
        return [each async for each in answer.body_iterator]

    with caplog.at_level(logging.WARNING):
        assert asyncio.run(read()) == ["retry: 2000\n\n"]
    assert [(each.message, each.exc_info) for each in caplog.records] == [("an event stream ends early", None)]
