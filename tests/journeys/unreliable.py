"""A TCP proxy in front of a server, which loses answers, cuts streams and says that it is busy, as it is told."""

import contextlib
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Busy:
    """Answer one request with an error of its own."""

    status: int
    headers: str = ""
    body: bytes = b"<html>busy</html>"


@dataclass(frozen=True)
class LoseAnswer:
    """Pass a request on, and close the connection when the answer comes."""


@dataclass(frozen=True)
class CutAfter:
    """Pass everything on, and close the connection after so many events."""

    events: int


Fault = Busy | LoseAnswer | CutAfter


class Unreliable:
    """A proxy on a free port. Each new connection has the next of `faults`, or none when there are no more."""

    def __init__(self, port: int) -> None:
        self.faults: deque[Fault] = deque()
        self.requests: list[bytes] = []
        """The head of the first request of each connection."""
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Close all connections."""
        for each in (self._listener, *self._open):
            _close(each)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                fault = self.faults.popleft() if self.faults else None
                threading.Thread(target=self._serve, args=(connection, fault), daemon=True).start()

    def _serve(self, client: socket.socket, fault: Fault | None) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as ending:
            ending.callback(_close, client)
            head, rest = _head(client)
            self.requests.append(head)
            if isinstance(fault, Busy):
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                left = int(length[1]) - len(rest) if length else 0
                while left > 0:
                    left -= len(client.recv(65536))
                client.sendall(
                    f"HTTP/1.1 {fault.status} Busy\r\nContent-Length: {len(fault.body)}\r\n{fault.headers}\r\n".encode()
                    + fault.body
                )
                return
            with socket.create_connection(("127.0.0.1", self._upstream)) as server:
                server.sendall(head + rest)
                threading.Thread(target=_pump, args=(client, server), daemon=True).start()
                left = fault.events if isinstance(fault, CutAfter) else -1
                while (chunk := server.recv(65536)) and not isinstance(fault, LoseAnswer):
                    for line in chunk.splitlines(keepends=True):
                        client.sendall(line)
                        left -= line.startswith(b"data: ")
                        if left == 0:
                            client.sendall(b"\n")
                            return


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = client.recv(65536)
        if not chunk:
            raise ConnectionError
        data += chunk
    head, end, rest = data.partition(b"\r\n\r\n")
    return head + end, rest


def _pump(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            to.sendall(chunk)


@contextlib.contextmanager
def unreliable(port: int) -> Iterator[Unreliable]:
    """A proxy in front of the server on this port."""
    proxy = Unreliable(port)
    try:
        yield proxy
    finally:
        proxy.close()
