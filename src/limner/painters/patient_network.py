"""Connections that call `check` while they wait, so that a job stops although a server is silent."""

import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpcore

_SILENCE_S = 0.5  # between two calls of `check` while nothing arrives
_CONNECT_S = 5.0
_WRITE_S = 30.0  # in which a server must take some of what it is sent
_WRITTEN_AT_ONCE = 65_536


@dataclass(slots=True)
class PatientNetwork(httpcore.NetworkBackend):
    """For `httpcore.ConnectionPool`. `check` may raise; it is not called while connecting, which takes 5 s at most."""

    check: Callable[[], None]
    _network: httpcore.SyncBackend = field(default_factory=httpcore.SyncBackend)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        del timeout
        self.check()
        stream = self._network.connect_tcp(
            host, port, timeout=_CONNECT_S, local_address=local_address, socket_options=socket_options
        )
        return _PatientStream(stream, self.check)

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        raise NotImplementedError  # the interface asks for it; no URL leads to it

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(slots=True)
class _PatientStream(httpcore.NetworkStream):
    """One connection. A read or write of a socket that times out has taken nothing, and is tried again."""

    stream: httpcore.NetworkStream
    check: Callable[[], None]

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout  # the server's own deadline decides, in `check`
        while True:
            try:
                return self.stream.read(max_bytes, timeout=_SILENCE_S)
            except httpcore.ReadTimeout:
                self.check()

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        sock = self.stream.get_extra_info("socket")
        left, ends = memoryview(buffer), time.monotonic() + _WRITE_S
        while left:
            try:
                sock.settimeout(_SILENCE_S)
                sent = sock.send(left[:_WRITTEN_AT_ONCE])
            except TimeoutError:
                if time.monotonic() > ends:
                    raise httpcore.WriteTimeout from None
                self.check()
            except OSError as error:
                raise httpcore.WriteError(str(error)) from error
            else:
                left, ends = left[sent:], time.monotonic() + _WRITE_S

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        del timeout
        return _PatientStream(
            self.stream.start_tls(ssl_context, server_hostname=server_hostname, timeout=_CONNECT_S), self.check
        )

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)
