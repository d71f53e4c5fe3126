"""The least that uvicorn can serve, to compare with: answers of a given size, and one message to many sockets.

`python -m limner.bench.bare_server PORT`. `/1234` answers 200 with 1,234 bytes once the request's body has been read;
`/broadcast` sends one text with the present time as `processed_at` to every WebSocket that is open.
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
