"""Responses that send stored bytes, whole or by `Range`: from a file, or in parts from a store without files."""

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, MalformedRangeHeader, RangeNotSatisfiable
from starlette.types import Receive, Scope, Send

from limner.domain.errors import LimnerError

log = logging.getLogger(__name__)

PART_BYTES = 1_000_000

ReadPart = Callable[[int, int], Awaitable[bytes]]


class StoredFile(FileResponse):
    """A file response that answers an impossible `Range` with a problem."""

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []  # an invalid header is ignored: RFC 9110, 14.2
        except RangeNotSatisfiable:
            raise HTTPException(416, headers={"Content-Range": f"bytes */{file_size}"}) from None


class StoredParts(StoredFile):
    """The same for `size` bytes that `read` reads from one position to before another. It holds one part in memory.

    If a part cannot be read, the connection is closed, so that the client sees that bytes are missing.
    """

    chunk_size = PART_BYTES

    def __init__(self, read: ReadPart, size: int, *, media_type: str, headers: Mapping[str, str]) -> None:
        stat = os.stat_result((0o100600, 0, 0, 1, 0, 0, size, 0, 0, 0))
        self._read = read
        super().__init__("", media_type=media_type, headers=headers, stat_result=stat)
        del self.headers["last-modified"]  # no date is known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        except LimnerError as error:  # it has begun, so it cannot become another answer
            log.warning("sending an artifact was broken off", extra={"detail": error.detail})

    @asynccontextmanager
    async def _open_file(self) -> AsyncIterator[Any]:
        assert self.stat_result is not None
        yield _Cursor(self._read, self.stat_result.st_size)

    def _should_use_range(self, http_if_range: str) -> bool:
        return http_if_range == self.headers["etag"]


class _Cursor:
    """What a file response calls on a file."""

    def __init__(self, read: ReadPart, size: int) -> None:
        self._read = read
        self._size = size
        self._position = 0

    async def seek(self, position: int) -> None:
        """Read on from there."""
        self._position = position

    async def read(self, count: int) -> bytes:
        """The next bytes, at most `count`."""
        stop = min(self._position + count, self._size)
        data = await self._read(self._position, stop)
        self._position = stop
        return data
