"""The pages of the API where the package with their files is missing."""

import asyncio
import sys
from typing import Any, cast

import pytest
from starlette.requests import Request

from limner.domain.errors import NotFoundError
from limner.web.docs_routes import assets, get_docs


def test_without_the_package_only_the_pages_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that was updated without its dependencies starts."""
    monkeypatch.setitem(sys.modules, "fastapi_standalone_docs", None)
    assert assets() == {}
    with pytest.raises(NotFoundError, match="make install"):
        asyncio.run(get_docs(Request({"type": "http", "headers": []}), cast(Any, None)))
