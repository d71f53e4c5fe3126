"""A load test of any operation of a running service on this machine: requests/s, latency, errors."""

import ipaddress
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from limner.bench.client import Client, percentile, version
from limner.domain.errors import SettingsError


@dataclass
class _Tally:
    """The outcomes and latencies of all clients."""

    spent: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)


def run(
    url: str, operation: str, photo: bytes, fields: dict[str, str], *, clients: int, requests: int, same: bool
) -> bool:
    """Send `requests` photos over `clients` connections, print the report, and return True if none failed.

    Each request waits for its job. Unless `same`, every photo is a different file (JPEG only), so that the cache does
    not answer. SettingsError for a URL of another machine, whose owner may not want a load test.
    """
    host, port = _local(url)
    if not same and photo[:2] != b"\xff\xd8":
        raise SettingsError("Only a JPEG can be varied for each request. Name a JPEG, or use --same.")
    numbers = iter(range(requests))
    tally = _Tally()
    with Progress(console=Console(stderr=True)) as progress, ThreadPoolExecutor(clients) as pool:
        bar = progress.add_task(operation, total=requests)
        seed = time.time_ns() % 10**6 * 10**6
        start = time.perf_counter()

        def one() -> None:
            connection = _Connection(host, port)
            for number in _taken(numbers):
                data = photo if same else version(photo, seed + number)
                began = time.perf_counter()
                outcome = connection.send(operation, data, fields)
                tally.spent.append(time.perf_counter() - began)
                tally.outcomes[outcome] += 1
                progress.advance(bar)

        for done in [pool.submit(one) for _ in range(clients)]:
            done.result()
        seconds = time.perf_counter() - start
    Console().print(_report(url, operation, clients, tally, seconds))
    return set(tally.outcomes) == {"succeeded"}


def _taken(numbers: Iterator[int]) -> Iterator[int]:
    """Numbers shared by all clients: `next` on one iterator is atomic."""
    while (number := next(numbers, None)) is not None:
        yield number


class _Connection:
    """A client that reconnects after an error."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._client: Client | None = None

    def send(self, operation: str, data: bytes, fields: dict[str, str]) -> str:
        """Send one request; returns the job's status, or the HTTP status or error instead."""
        try:
            self._client = self._client or Client(*self._address)
            status, body = self._client.submit(operation, data, fields)
        except (OSError, ValueError) as error:
            self._client = None
            return type(error).__name__
        return str(body["status"]) if status in (200, 202) else f"HTTP {status}"


def _local(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise SettingsError("The URL must begin with http:// and name a host.")
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(parts.hostname, parts.port or 80)}
    except OSError:
        raise SettingsError(f"The host name {parts.hostname} has no address.") from None
    if not all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in addresses):
        raise SettingsError("A load test is sent only to this machine (127.0.0.1, localhost, ::1).")
    return parts.hostname, parts.port or 80


def _report(url: str, operation: str, clients: int, tally: _Tally, seconds: float) -> Table:
    table = Table(title=f"{operation} at {url}, {clients} clients", show_header=False)
    failed = sum(number for outcome, number in tally.outcomes.items() if outcome != "succeeded")
    for name, value in (
        ("requests", f"{len(tally.spent)} in {seconds:.1f} s"),
        ("requests/s", f"{len(tally.spent) / seconds:.1f}"),
        ("p50", f"{percentile(tally.spent, 0.5) * 1000:.1f} ms"),
        ("p95", f"{percentile(tally.spent, 0.95) * 1000:.1f} ms"),
        ("p99", f"{percentile(tally.spent, 0.99) * 1000:.1f} ms"),
        ("errors", f"{failed} ({failed / max(1, len(tally.spent)):.1%})"),
        *((f"  {outcome}", str(number)) for outcome, number in tally.outcomes.most_common() if outcome != "succeeded"),
    ):
        table.add_row(name, value)
    return table
