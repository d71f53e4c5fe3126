"""The guard of every request to a host that a client names: `image_url` and webhooks.

The host name is resolved once, each address is checked, and the connection goes to a checked address. So DNS rebinding
(a name server that changes its answer) has no effect.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpcore

from limner.domain.errors import UrlFetchError, UrlNotAllowedError
from limner.web.special_addresses import is_special

MAX_URL = 2048
HEADER_BYTES = 32_768
"""Most that may arrive before an answer's header is complete, with all informational answers (103) before it."""
READ_BYTES = 4096
LOOK_UPS = 64
_look_ups = ThreadPoolExecutor(LOOK_UPS, "names")
"""A name server that does not answer holds a thread for half a minute. Each loop's own threads are few, and what waits
for the database uses them too."""

DEFAULT_PORTS = {"http": 80, "https": 443}


def check_url(url: str, ports: tuple[int, ...], name: str) -> None:
    """Check the form of the URL and its port; addresses are checked when connecting. UrlNotAllowedError.

    `name` is the field that holds the URL, for the error.
    """
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise UrlNotAllowedError(f"{name}: The value is not a valid URL.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UrlNotAllowedError(f"{name}: The value is not a URL.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UrlNotAllowedError(f"{name}: The URL must begin with http:// or https:// and name a host.")
    if parts.username or parts.password:
        raise UrlNotAllowedError(f"{name}: The URL must not contain a user name or password.")
    if (port if port is not None else DEFAULT_PORTS[parts.scheme]) not in ports:
        raise UrlNotAllowedError(f"{name}: Only these ports are allowed: {', '.join(map(str, ports))}.")


def is_public(address: str) -> bool:
    """Whether an IP address is an ordinary public host according to `special_addresses`.

    False for an address with a scope (`fe80::1%eth0`) and for one that contains any IPv4 address (mapped, NAT64, 6to4,
    Teredo, ISATAP): a translator in the network decides where such a connection ends.
    """
    return "%" not in address and not is_special(ipaddress.ip_address(address))


def is_own(address: str) -> bool:
    """Whether an IP address is one of this machine's, public or not.

    The kernel is asked which address it would send from: to itself, it sends from the very same one. Nothing is sent.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            source = probe.getsockname()[0]
    except OSError:
        return False  # no route leads there
    return ipaddress.ip_address(source) == ipaddress.ip_address(address)


async def allowed_addresses(host: str, port: int, private_hosts: tuple[str, ...], name: str) -> list[str]:
    """The addresses of a host. UrlNotAllowedError unless all are public or the host is in `private_hosts`.

    UrlFetchError if it has none.
    """
    try:
        found = await asyncio.get_running_loop().run_in_executor(
            _look_ups, partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        )
    except (OSError, UnicodeError):
        raise UrlFetchError(f"{name}: The host name has no address.") from None
    addresses = [str(entry[4][0]) for entry in found]
    if host not in private_hosts and not all(is_public(each) and not is_own(each) for each in addresses):
        raise UrlNotAllowedError(f"{name}: The host is not on the public internet.")
    return addresses


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that were checked.

    Thousands of tiny answers or chunks in one read would hold the event loop for a second: so little is read at once.
    """

    def __init__(self, private_hosts: tuple[str, ...], name: str) -> None:
        self._private_hosts = private_hosts
        self._name = name
        self._network = httpcore.AnyIOBackend()
        self._left: int | None = HEADER_BYTES

    def limit(self, size: int | None) -> None:
        """How many bytes may still arrive: at first `HEADER_BYTES`; None for any number, which the caller counts."""
        self._left = size

    def room(self, wanted: int) -> int:
        """How much to read at once. `httpcore.RemoteProtocolError` when more has arrived than may."""
        if self._left is None:
            return wanted
        if self._left <= 0:
            raise httpcore.RemoteProtocolError("the answer is too long")
        return min(wanted, READ_BYTES)

    def take(self, size: int) -> None:
        """So much has arrived."""
        if self._left is not None:
            self._left -= size

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await allowed_addresses(host, port, self._private_hosts, self._name)
        connection = await self._network.connect_tcp(
            addresses[0], port, timeout=timeout, local_address=local_address, socket_options=socket_options
        )
        return _Connection(connection, self)

    async def connect_unix_socket(  # the interface asks for it; no URL leads to it
        self,
        path: str,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        raise UrlNotAllowedError(f"{self._name}: The URL does not lead to a network address.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Connection(httpcore.AsyncNetworkStream):
    """A connection of a `GuardedNetwork`, which says how much to read."""

    def __init__(self, connection: httpcore.AsyncNetworkStream, network: GuardedNetwork) -> None:
        self._connection = connection
        self._network = network

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's
        data = await self._connection.read(self._network.room(max_bytes), timeout)
        self._network.take(len(data))
        await asyncio.sleep(0)  # the socket may have more at once, and others wait
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._connection.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._connection.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return _Connection(await self._connection.start_tls(ssl_context, server_hostname, timeout), self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._connection.get_extra_info(info)
