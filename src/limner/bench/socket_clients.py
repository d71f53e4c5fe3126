"""Holds many WebSockets in a separate process and records when each text arrived. Linux only. Read `main`."""

import json
import select
import socket
import struct
import sys
import time

SO_TIMESTAMPNS = 35  # asm-generic/socket.h; Python names it from 3.14 on
_ANCILLARY_BYTES = 64
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class _Listener:
    """One socket, its handshake done."""

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bGltbmVyLWJlbmNoLWtleQ==\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            more = self.socket.recv(4096)
            if not more:
                raise ConnectionError("the server closed the connection")
            head += more
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode(errors="replace"))
        self._rest = head.partition(b"\r\n\r\n")[2]

    def receive(self) -> tuple[int, int, list[bytes]]:
        """Read the socket: the kernel's and our own time in nanoseconds, and the complete texts.

        ConnectionError when the server ended it.
        """
        data, ancillary, _, _ = self.socket.recvmsg(65536, _ANCILLARY_BYTES)
        read = time.time_ns()
        if not data:
            raise ConnectionError("the server closed a socket")
        arrived = read
        for level, kind, value in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("qq", value)
                arrived = seconds * 10**9 + nanoseconds
        frames, self._rest = parse_frames(self._rest + data)
        for opcode, payload in frames:
            if opcode == _PING:
                # A client's frames are masked; with a mask of zeros the payload stays as it is.
                self.socket.sendall(bytes((0x80 | _PONG, 0x80 | len(payload))) + bytes(4) + payload)
            elif opcode == _CLOSE:
                raise ConnectionError("the server closed a socket")
        return arrived, read, [payload for opcode, payload in frames if opcode == _TEXT]


def parse_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The complete frames (opcode, payload) of a server's unmasked stream, and what is left (RFC 6455, 5.2)."""
    frames, at = [], 0
    while len(data) >= at + 2:
        length, body = data[at + 1] & 0x7F, at + 2
        extended = {126: 2, 127: 8}.get(length, 0)
        if extended:
            if len(data) < body + extended:
                break
            length, body = int.from_bytes(data[body : body + extended]), body + extended
        if len(data) < body + length:
            break
        frames.append((data[at] & 0x0F, data[body : body + length]))
        at = body + length
    return frames, data[at:]


def main(port: int, path: str, count: int) -> None:
    """`python -m limner.bench.socket_clients PORT PATH COUNT`: write `ready` when all sockets are open, read until
    standard input is closed, then write JSON: `{text: [[arrived, read], …]}`, in nanoseconds since 1970.

    `arrived` is the kernel's time stamp of the segment, so that delays of this process are not measured.
    """
    listeners = [_Listener(port, path) for _ in range(count)]
    by_handle = {each.socket.fileno(): each for each in listeners}
    poll = select.epoll()
    for handle in by_handle:
        poll.register(handle, select.EPOLLIN)
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    print("ready", flush=True)
    heard: dict[bytes, list[tuple[int, int]]] = {}
    while True:
        for handle, _ in poll.poll():
            if handle == sys.stdin.fileno():
                print(json.dumps({text.decode(): times for text, times in heard.items()}))
                return
            arrived, read, texts = by_handle[handle].receive()
            for text in texts:
                heard.setdefault(text, []).append((arrived, read))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
