"""Fetches the picture at a client's URL, from public addresses only.

`web/outgoing.py` checks each address; redirects are checked in the same way.
"""

import asyncio
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

import httpcore

from limner.domain.errors import TooLargeError, UrlFetchError, UrlNotAllowedError
from limner.web.outgoing import HEADER_BYTES, GuardedNetwork, check_url

MAX_REDIRECTS = 3
PORTS = (80, 443)
MAX_CHUNKS = 40_000  # of a picture of 40 MB, each has 1 kB
CHUNKS_AT_ONCE = 50
_REDIRECT = frozenset({301, 302, 303, 307, 308})


async def fetch(
    url: str,
    *,
    field: str = "image_url",
    max_bytes: int,
    timeout_s: float,
    private_hosts: tuple[str, ...] = (),
    ports: tuple[int, ...] = PORTS,
    take: Callable[[int], None] = lambda _: None,
) -> bytes:
    """The bytes at `url`, within `timeout_s`. UrlNotAllowedError, UrlFetchError, TooLargeError.

    `take` is called with the number of bytes of each chunk that arrives, and may raise to refuse it. `field` is the one
    that holds the URL, for the errors.
    """
    network = GuardedNetwork(private_hosts, field)
    try:
        async with (
            asyncio.timeout(timeout_s),
            httpcore.AsyncConnectionPool(network_backend=network, retries=0) as pool,
        ):
            for _ in range(MAX_REDIRECTS + 1):
                check_url(url, ports, field)
                network.limit(HEADER_BYTES)
                answer = await _get(pool, url, field, max_bytes, take, network)
                if isinstance(answer, bytes):
                    return answer
                url = _target(url, answer, field)
            raise UrlFetchError(f"{field}: The URL redirects too many times.")
    except (TimeoutError, httpcore.ProtocolError, httpcore.NetworkError, httpcore.TimeoutException):
        # The same text for a closed, filtered or silent port, or one without HTTP: nobody can scan ports with it.
        raise UrlFetchError(f"{field}: No picture arrived within {timeout_s:g} s.") from None


def _target(url: str, place: str, field: str) -> str:
    """The URL to which a redirect leads. UrlNotAllowedError if it is none; `check_url` sees whether it is allowed."""
    try:
        return urljoin(url, place)
    except ValueError:
        raise UrlNotAllowedError(f"{field}: The URL redirects to something that is not a URL.") from None


async def _get(
    pool: httpcore.AsyncConnectionPool,
    url: str,
    field: str,
    max_bytes: int,
    take: Callable[[int], None],
    network: GuardedNetwork,
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
                raise UrlFetchError(f"{field}: The other server sent a redirect without a target.")
            return place.decode("latin-1")
        if answer.status != 200:
            detail = f"{field}: The other server answered with status {answer.status}."
            raise UrlFetchError(detail, source_status=answer.status)
        network.limit(None)
        data = bytearray()
        chunks = 0
        async for chunk in answer.aiter_stream():
            take(len(chunk))
            data += chunk
            chunks += 1
            if chunks % CHUNKS_AT_ONCE == 0:
                await asyncio.sleep(0)  # one read may hold thousands, and others wait
            if chunks > MAX_CHUNKS:
                raise UrlFetchError(f"{field}: The other server sends the picture in too small pieces.")
            if len(data) > max_bytes:
                raise TooLargeError(f"{field}: The picture is larger than {max_bytes:,} bytes.", limit=max_bytes)
        return bytes(data)
