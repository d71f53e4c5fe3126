"""A minimal uvicorn application for comparison. Run it with `python -m limner.bench.bare_server PORT`.

`/1234` reads the request's body and answers 200 with 1,234 bytes. `/broadcast` sends a text with the present time as
`processed_at` to all open WebSockets.
"""

import json
import sys
from datetime import UTC, datetime
from typing import Any

import uvicorn

Send = Any

_bodies: dict[str, bytes] = {}
_open: set[Send] = set()


async def app(scope: dict[str, Any], receive: Any, send: Send) -> None:
    """An ASGI application."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        _open.add(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        _open.discard(send)
        return
    while (await receive()).get("more_body"):
        pass
    path: str = scope["path"]
    if path == "/broadcast":
        await _broadcast()
        path = "/2"
    body = _bodies.get(path) or _bodies.setdefault(path, b"x" * int(path[1:]))
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _broadcast() -> None:
    text = json.dumps({"processed_at": datetime.now(UTC).isoformat(), "padding": "x" * 200})
    for send in list(_open):
        await send({"type": "websocket.send", "text": text})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        lifespan="off",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
    )
