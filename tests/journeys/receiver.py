"""A web server that receives webhooks, and misbehaves where its path says so."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float


class Receiver(ThreadingHTTPServer):
    """Listens on 127.0.0.1. `answers` are the statuses of the next answers of a path; afterwards 204."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Pages)
        self.received: list[Received] = []
        self.answers: dict[str, list[int]] = {}
        self.ending = threading.Event()
        self.port: int = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignored: senders that disconnect are expected."""

    def at(self, path: str) -> list[Received]:
        """The requests to a path so far."""
        return [each for each in list(self.received) if each.path == path]

    def wait(self, path: str, count: int = 1, timeout_s: float = 30) -> list[Received]:
        """The requests to a path, once there are `count`."""
        deadline = time.monotonic() + timeout_s
        while len(self.at(path)) < count:
            assert time.monotonic() < deadline, (path, self.at(path))
            time.sleep(0.02)
        return self.at(path)


class _Pages(BaseHTTPRequestHandler):
    server: Receiver

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.server.received.append(Received(f"GET {self.path}", {}, b"", time.monotonic()))
        self._answer(200)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append(Received(self.path, headers, body, time.monotonic()))
        planned = self.server.answers.get(self.path, [])
        if planned:
            self._answer(planned.pop(0))
            return
        getattr(self, f"_{self.path.strip('/').partition('?')[0].partition('/')[0].replace('-', '_')}", self._fine)()

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _fine(self) -> None:
        self._answer(204)

    def _silent(self) -> None:
        self.server.ending.wait(30)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.ending.is_set():
                self.wfile.write(bytes(65536))

    def _dripping(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.ending.wait(0.1):
                self.wfile.write(b"x")

    def _endless_headers(self) -> None:
        self.send_response(200)
        with contextlib.suppress(OSError):
            for number in range(100_000):
                self.wfile.write(f"X-{number}: {'x' * 1000}\r\n".encode())

    def _to(self) -> None:
        self._answer(307, Location=self.path.partition("?")[2])

    def _garbage(self) -> None:
        self.wfile.write(b"\0\0\0 no HTTP at all\r\n\r\n")
        self.close_connection = True


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that runs."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.ending.set()
            server.shutdown()
            thread.join()
