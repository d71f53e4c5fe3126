"""gzip for large JSON answers, to clients that accept it. Never for event streams, pictures or archives."""

import asyncio
import gzip
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_BYTES = 4000  # a single job fits into a few packets: the time would be longer than what it saves
LEVEL = 4
_AT_ONCE = 100_000  # bytes that take about a millisecond; more is compressed in a thread
_QUALITY = re.compile(r";\s*q\s*=\s*([0-9.]+)")


class Compress:
    """ASGI middleware. It compresses whole answers of `application/json`, and leaves all others alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = accepts_gzip(
            [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept-encoding"]
        )
        held: Message | None = None

        async def sender(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_json(message):
                held = message
                return
            if held is not None:
                start, held = held, None
                body: bytes = message.get("body", b"")
                if len(body) >= MIN_BYTES and not message.get("more_body", False):
                    headers = MutableHeaders(raw=start["headers"])
                    headers.add_vary_header("Accept-Encoding")
                    if wanted:
                        body = await _compressed(body)
                        headers["Content-Encoding"] = "gzip"
                        headers["Content-Length"] = str(len(body))
                        message = {**message, "body": body}
                await send(start)
            await send(message)

        await self._app(scope, receive, sender)


def accepts_gzip(given: list[str]) -> bool:
    """Whether the values of `Accept-Encoding` allow gzip (RFC 9110, 12.5.3)."""
    found: dict[str, bool] = {}
    for each in ",".join(given).lower().split(","):
        name, _, rest = each.partition(";")
        quality = _QUALITY.search(f";{rest}")
        found[name.strip()] = quality is None or quality[1].strip("0.") != ""
    return found.get("gzip", found.get("*", False))


def _is_json(start: Message) -> bool:
    """Whether it is a whole answer of JSON that is not encoded already."""
    headers = dict(start["headers"])
    kind = headers.get(b"content-type", b"").partition(b";")[0]
    return kind == b"application/json" and b"content-encoding" not in headers and start["status"] != 206


async def _compressed(body: bytes) -> bytes:
    if len(body) <= _AT_ONCE:
        return gzip.compress(body, LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, LEVEL, mtime=0)
