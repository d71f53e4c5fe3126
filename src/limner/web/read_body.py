"""Receives a request's body within its limits of bytes, memory and time, and unpacks one that is compressed.

What is counted and limited is always the body as it is after unpacking: a megabyte of gzip may stand for a gigabyte.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

from starlette.requests import ClientDisconnect, Request

from limner.domain.errors import (
    InvalidRequestError,
    TooLargeError,
    UnsupportedMediaError,
    UploadTimeoutError,
)
from limner.web.services import Services
from limner.web.upload_memory import Share

DRAIN_FACTOR = 8  # an upload up to this many times the limit is read to its end, so that the client sees the answer
GZIP = ("gzip", "x-gzip")
_PIECE = 1 << 18  # unpacked in about a millisecond, after which others have their turn
_GZIP_BITS = 16 + zlib.MAX_WBITS


async def receive_chunks(request: Request, services: Services, share: Share, limit: int) -> AsyncIterator[bytes]:
    """The body's chunks, unpacked. Each is reserved in `share`.

    TooLargeError over `limit` bytes, UploadTimeoutError when it takes too long to arrive, UnsupportedMediaError for
    another compression than gzip, InvalidRequestError, QueueFullError.
    """
    declared = request.headers.get("content-length", "")
    length = int(declared) if declared.isdecimal() else 0
    too_large = TooLargeError(f"The request is larger than {limit:,} bytes.", limit=limit)
    # A client that waits for "100 Continue" or sends far too much gets the answer before its upload is read.
    if length > limit and (length > DRAIN_FACTOR * limit or "expect" in request.headers):
        raise too_large
    try:
        async with asyncio.timeout(services.settings.upload_timeout_s):
            async for piece in _pieces(request, length, limit, too_large):
                share.take(len(piece))
                yield piece
    except TimeoutError:
        raise UploadTimeoutError(
            f"The upload did not arrive within {services.settings.upload_timeout_s:g} s."
        ) from None
    except ClientDisconnect:
        raise InvalidRequestError("The client disconnected before the upload was complete.") from None


async def _pieces(request: Request, length: int, limit: int, too_large: TooLargeError) -> AsyncIterator[bytes]:
    """What has arrived, unpacked. What is over the limit is read to its end, but neither unpacked nor kept."""
    unpacker = _Unpacker() if _is_gzip(request) else None
    received = size = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > DRAIN_FACTOR * limit:
            raise too_large
        if not chunk or max(received, length, size) > limit:
            continue
        for piece in [chunk] if unpacker is None else unpacker.feed(chunk):
            size += len(piece)
            if size > limit:
                break
            yield piece
            await asyncio.sleep(0)
    if max(received, size) > limit:
        raise too_large
    if unpacker is not None:
        unpacker.finish()


def _is_gzip(request: Request) -> bool:
    """Whether the body is compressed. UnsupportedMediaError for what cannot be unpacked."""
    sent = ",".join(request.headers.getlist("content-encoding")).lower()
    codings = [each for part in sent.split(",") if (each := part.strip()) not in ("", "identity")]
    if not codings:
        return False
    if len(codings) > 1 or codings[0] not in GZIP:
        raise UnsupportedMediaError("The body's Content-Encoding must be gzip, or none.", encodings=["gzip"])
    return True


class _Unpacker:
    """Unpacks one gzip member, a bounded piece at a time."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_BITS)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the data unpacks to. InvalidRequestError."""
        piece = b""
        while data or len(piece) == _PIECE:
            if data and self._stream.eof:
                raise InvalidRequestError("Something follows the end of the gzip body.")
            try:
                piece = self._stream.decompress(data, _PIECE)
            except zlib.error:
                raise InvalidRequestError("The body is not valid gzip.") from None
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if piece:
                yield piece

    def finish(self) -> None:
        """InvalidRequestError if the end is missing."""
        if not self._stream.eof:
            raise InvalidRequestError("The gzip body ends too soon.")
