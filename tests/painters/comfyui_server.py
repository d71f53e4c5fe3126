"""A ComfyUI in small: its HTTP and WebSocket interface, with a queue of one workflow that a test plays through."""

import asyncio
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

JOB = "0a1b-2c"


@dataclass
class ComfyUI:
    """What it was sent, and how it plays a workflow: `play` is sent on the socket once a workflow is queued.

    Text is sent as JSON, bytes as they are, a number is a pause in seconds, None closes the socket.
    """

    made: bytes
    play: list[Any]
    outputs: dict[str, Any] | None = None
    status: str = "success"
    finished: bool = True
    prompt_status: int = 200
    url: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    queued: threading.Event = field(default_factory=threading.Event)
    clients: list[str] = field(default_factory=list)
    running: bool = True
    headers: list[dict[str, str]] = field(default_factory=list)

    def names(self) -> list[str]:
        """The paths that were called, in order."""
        return [name for name, _ in self.calls]

    async def upload(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        async with request.form() as sent:
            file = sent["image"]
            assert not isinstance(file, str)
            name = str(file.filename)
            self.uploaded[name] = await file.read()
            self.calls.append(("/upload/image", sent["type"]))
            return JSONResponse({"name": name, "subfolder": "", "type": sent["type"]})

    async def prompt(self, request: Request) -> Response:
        sent = await request.json()
        self.calls.append(("/prompt", sent))
        if self.prompt_status != 200:
            key = request.headers.get("authorization", "").removeprefix("Bearer ")
            message = f"Cannot execute: a private wish {key}".strip()
            error = {"error": {"type": "x", "message": message}, "node_errors": {}}
            return JSONResponse(error, self.prompt_status)
        self.queued.set()
        return JSONResponse({"prompt_id": JOB, "number": 1, "node_errors": {}})

    async def history(self, request: Request) -> Response:
        if request.method == "POST":
            self.calls.append(("/history", await request.json()))
            return Response()
        self.calls.append((request.url.path, None))
        if not self.finished:
            return JSONResponse({})
        outputs = self.outputs
        if outputs is None:
            picture = {"filename": "made_1.png", "subfolder": "sub", "type": "output"}
            outputs = {"3": {"images": [{**picture, "filename": "t.png", "type": "temp"}]}, "9": {"images": [picture]}}
        return JSONResponse({JOB: {"outputs": outputs, "status": {"status_str": self.status}}})

    async def view(self, request: Request) -> Response:
        self.calls.append(("/view", dict(request.query_params)))
        return Response(self.made, media_type="image/png")

    async def queue(self, request: Request) -> Response:
        if request.method == "POST":
            self.calls.append(("/queue", await request.json()))
            return Response()
        return JSONResponse({"queue_running": [[1, JOB, {}]] if self.running else [], "queue_pending": []})

    async def interrupt(self, request: Request) -> Response:
        self.calls.append(("/interrupt", await request.json()))
        return Response()

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        self.clients.append(socket.query_params["clientId"])
        try:
            await asyncio.to_thread(self.queued.wait, 30)
            for each in self.play:
                if each is None:
                    await socket.close()
                    return
                if isinstance(each, int | float):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(socket.receive(), each)
                        return  # nothing but the end comes from a client
                elif isinstance(each, bytes):
                    await socket.send_bytes(each)
                else:
                    await socket.send_text(each if isinstance(each, str) else json.dumps(each))
            await socket.receive()
        except WebSocketDisconnect:
            return


def progress(value: object, most: object) -> dict[str, Any]:
    """A step of the sampler."""
    return {"type": "progress", "data": {"value": value, "max": most, "prompt_id": JOB, "node": "3"}}


def done() -> dict[str, Any]:
    """The end of the workflow."""
    return {"type": "executing", "data": {"node": None, "prompt_id": JOB}}


def preview(picture: bytes) -> bytes:
    """A preview, PNG."""
    return struct.pack(">II", 1, 2) + picture


def preview_with_metadata(picture: bytes) -> bytes:
    """A preview as newer versions send it."""
    told = json.dumps({"prompt_id": JOB}).encode()
    return struct.pack(">II", 4, len(told)) + told + picture


@contextmanager
def comfyui(made: bytes, play: list[Any], **options: Any) -> Iterator[ComfyUI]:
    """A running one."""
    fake = ComfyUI(made, play, **options)
    app = Starlette(
        routes=[
            Route("/upload/image", fake.upload, methods=["POST"]),
            Route("/prompt", fake.prompt, methods=["POST"]),
            Route("/history", fake.history, methods=["POST"]),
            Route("/history/{job}", fake.history),
            Route("/view", fake.view),
            Route("/queue", fake.queue, methods=["GET", "POST"]),
            Route("/interrupt", fake.interrupt, methods=["POST"]),
            WebSocketRoute("/ws", fake.socket),
        ]
    )
    config = uvicorn.Config(app, "127.0.0.1", 0, log_level="error", ws="websockets-sansio", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    ends = time.monotonic() + 20
    while not server.started and time.monotonic() < ends:
        time.sleep(0.01)
    fake.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        fake.queued.set()
        server.should_exit = server.force_exit = True
        thread.join(10)
