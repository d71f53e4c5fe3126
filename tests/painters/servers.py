"""Small servers on this machine that speak the interfaces of painters' servers, and misbehave when told to."""

import functools
import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from limner.painters.painter import Canvas

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def form(self) -> dict[str, bytes]:
        """The fields of a multipart form."""
        boundary = self.headers["content-type"].partition("boundary=")[2].encode()
        first, *parts, last = self.body.split(b"--" + boundary)
        assert (first, last) == (b"", b"--\r\n")
        found = {}
        for part in parts:
            head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
            named = re.search(rb'form-data; name="([^"]*)"', head)
            assert named is not None
            found[named[1].decode()] = data.removesuffix(b"\r\n")
        return found


@dataclass(frozen=True)
class Reply:
    """What the server answers. A body of chunks is sent as they come and ends with the connection."""

    body: bytes | Iterator[bytes] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class LocalServer:
    """A server whose answers a function makes; None closes the connection without an answer."""

    answer: Callable[[Request], Reply | None]
    requests: list[Request] = field(default_factory=list)
    broken: threading.Event = field(default_factory=threading.Event)
    """Set when a client went away before it had taken all."""
    url: str = ""


@contextmanager
def serving(answer: Callable[[Request], Reply | None]) -> Iterator[LocalServer]:
    """A running server."""
    server = LocalServer(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Keep the tests' output clean."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, body)
            server.requests.append(request)
            reply = server.answer(request)
            self.close_connection = True
            if reply is None:
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if isinstance(reply.body, bytes) and "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body)))
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for chunk in [reply.body] if isinstance(reply.body, bytes) else reply.body:
                    self.wfile.write(chunk)
                    self.wfile.flush()
            except OSError:
                server.broken.set()

        do_GET = do_HEAD = do_POST = _answer  # noqa: N815  # the names that the library calls

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)


@dataclass
class Steps:
    """What a painter reports; `stop` makes the next report raise."""

    told: list[tuple[int, int]] = field(default_factory=list)
    previews: list[Pixels] = field(default_factory=list)
    stop: Callable[[], BaseException | None] = lambda: None

    def __call__(self, i: int, n: int, preview: Pixels | None) -> None:
        self.told.append((i, n))
        if preview is not None:
            self.previews.append(preview)
        error = self.stop()
        if error is not None:
            raise error


def canvas(
    photo: Pixels | None = None,
    *,
    steps: Steps | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 7,
    style_photo: Pixels | None = None,
) -> Canvas:
    """A canvas without faces."""
    return Canvas(
        photo=photo,
        size=size,
        seed=seed,
        step=steps or Steps(),
        find_faces=lambda _: (),
        fit_meshes=lambda _photo, _faces: (),
        style_photo=style_photo,
    )


def gradient(height: int = 96, width: int = 128) -> Pixels:
    """A small colourful picture, (height, width, 3)."""
    x, y = (np.linspace(0, 255, side).astype(np.uint8) for side in (width, height))
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = x, y[:, None], x // 2
    return pixels


def png(pixels: Pixels) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@functools.cache
def bomb() -> bytes:
    """A PNG of few bytes that says it has 400 million pixels."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")
    return file.getvalue()
