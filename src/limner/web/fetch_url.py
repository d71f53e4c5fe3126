"""Fetches the picture at a client's URL, from public addresses only.

The host name is resolved once, each address is checked, and the connection goes to a checked address. So DNS rebinding
(a name server that changes its answer) has no effect. Redirects are checked in the same way.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urljoin, urlsplit

import httpcore

from limner.domain.errors import TooLargeError, UrlFetchError, UrlNotAllowedError
from limner.web.special_addresses import is_special

MAX_REDIRECTS = 3
MAX_URL = 2048
PORTS = (80, 443)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECT = frozenset({301, 302, 303, 307, 308})


async def fetch(
    url: str,
    *,
    max_bytes: int,
    timeout_s: float,
    private_hosts: tuple[str, ...] = (),
    ports: tuple[int, ...] = PORTS,
    take: Callable[[int], None] = lambda _: None,
) -> bytes:
    """The bytes at `url`, within `timeout_s`. UrlNotAllowedError, UrlFetchError, TooLargeError.

    `take` is called with the number of bytes of each chunk that arrives, and may raise to refuse it.
    """
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpcore.AsyncConnectionPool(network_backend=_GuardedNetwork(private_hosts), retries=0) as pool,
        ):
            for _ in range(MAX_REDIRECTS + 1):
                _check(url, ports)
                answer = await _get(pool, url, max_bytes, take)
                if isinstance(answer, bytes):
                    return answer
                url = _target(url, answer)
            raise UrlFetchError("image_url: The URL redirects too many times.")
    except (TimeoutError, httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException):
        # The same text for a closed, filtered or silent port, or one without HTTP: nobody can scan ports with it.
        raise UrlFetchError(f"image_url: No picture arrived within {timeout_s:g} s.") from None


def _check(url: str, ports: tuple[int, ...]) -> None:
    """Check the form of the URL and its port; addresses are checked when connecting."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise UrlNotAllowedError("image_url: The value is not a valid URL.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UrlNotAllowedError("image_url: The value is not a URL.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UrlNotAllowedError("image_url: The URL must begin with http:// or https:// and name a host.")
    if parts.username or parts.password:
        raise UrlNotAllowedError("image_url: The URL must not contain a user name or password.")
    if (port if port is not None else _DEFAULT_PORTS[parts.scheme]) not in ports:
        raise UrlNotAllowedError(f"image_url: Only these ports are allowed: {', '.join(map(str, ports))}.")


def _target(url: str, place: str) -> str:
    """The URL to which a redirect leads. UrlNotAllowedError if it is none; `_check` sees whether it may be fetched."""
    try:
        return urljoin(url, place)
    except ValueError:
        raise UrlNotAllowedError("image_url: The URL redirects to something that is not a URL.") from None


async def _get(
    pool: httpcore.AsyncConnectionPool, url: str, max_bytes: int, take: Callable[[int], None]
) -> bytes | str:
    """The body, or the target of a redirect."""
    # identity, so that the size limit counts the real bytes and no compressed bomb is possible
    headers = [
        ("Host", urlsplit(url).netloc),
        ("User-Agent", "limner"),
        ("Accept", "image/*"),
        ("Accept-Encoding", "identity"),
    ]
    async with pool.stream("GET", url.partition("#")[0], headers=headers) as answer:
        if answer.status in _REDIRECT:
            place = next((value for name, value in answer.headers if name.lower() == b"location"), None)
            if place is None:
                raise UrlFetchError("The other server sent a redirect without a target.")
            return place.decode("latin-1")
        if answer.status != 200:
            raise UrlFetchError(f"The other server answered with status {answer.status}.")
        data = bytearray()
        async for chunk in answer.aiter_stream():
            take(len(chunk))
            data += chunk
            if len(data) > max_bytes:
                raise TooLargeError(f"image_url: The picture is larger than {max_bytes:,} bytes.", limit=max_bytes)
        return bytes(data)


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


class _GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects only to addresses that were checked."""

    def __init__(self, private_hosts: tuple[str, ...]) -> None:
        self._private_hosts = private_hosts
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise UrlFetchError("image_url: The host name has no address.") from None
        addresses = [str(entry[4][0]) for entry in found]
        if host not in self._private_hosts and not all(is_public(each) and not is_own(each) for each in addresses):
            raise UrlNotAllowedError("image_url: The host is not on the public internet.")
        return await self._network.connect_tcp(
            addresses[0], port, timeout=timeout, local_address=local_address, socket_options=socket_options
        )

    async def connect_unix_socket(  # the interface asks for it; no URL leads to it
        self,
        path: str,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        raise UrlNotAllowedError("image_url: The URL does not lead to a network address.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
