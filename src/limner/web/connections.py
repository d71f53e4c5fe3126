"""All open connections: limits on their number, on the time that each may wait, and on memory for unread answers.

The protocols report each change. Once a second, connections whose deadline has passed are closed.
"""

import asyncio
import ipaddress
import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from limner.settings import Settings
from limner.telemetry import CONNECTIONS, CONNECTIONS_CLOSED

log = logging.getLogger(__name__)

STATE = "connections"
"""Where the state of the lifespan has the `Connections`."""
FROM_PROXY = "limner.from_proxy"
"""Key in a request's scope: whether its connection is that of a proxy in front (`LIMNER_PROXY_ADDRESSES`)."""
PEER = "limner.peer"
"""Key in a request's scope: who has connected. A proxy's client replaces it in `scope["client"]`."""
LINGER_S = 2.0
PARTING_S = 1.0  # after a stop was asked for, a request that was on its way may still arrive
QUIET = frozenset(
    {"silent", "idle", "lingering"}
)  # browsers open connections in advance: counted, but nothing to warn of
TELL_S = 10.0  # between two log lines: an attacker must not fill the log
PROGRESS_BYTES = 65_536  # a client that reads less than this in `send_timeout_s` counts as one that does not read
ROOM_PARTS = 64  # at the limit, 1/64 of the connections are closed together: one search makes room for many new ones
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_V6_NETWORK = 64  # a customer gets a whole /64, so addresses in it are one client


@dataclass(eq=False, slots=True)
class Connection:
    """One open connection. Times are those of the event loop's clock."""

    transport: asyncio.Transport
    client: str | None
    """The client whose connections are counted together; None: not counted."""
    deadline: float
    """When it is closed; infinite while the application works on a request."""
    why: str = "silent"
    """The reason that is counted when it is closed at its deadline."""
    unread: int = 0
    """Bytes in our buffer that the client had not read at the last check."""
    unread_since: float = 0.0


class Connections:
    """The connections of this process, and their limits. Used only on the event loop."""

    def __init__(self, settings: Settings) -> None:
        self.max_header_bytes = settings.max_header_bytes
        self._header_s = settings.header_timeout_s
        self._idle_s = settings.idle_timeout_s
        self._send_s = settings.send_timeout_s
        self._max = settings.max_connections
        self._max_per_client = settings.max_connections_per_address
        self._max_unread = settings.answer_memory_bytes
        self._proxies = [ipaddress.ip_network(each, strict=False) for each in settings.proxy_addresses]
        self._open: dict[asyncio.Transport, Connection] = {}
        self._idle: dict[Connection, None] = {}  # those without a request in progress, longest first
        self._stalled: dict[Connection, None] = {}  # those whose application waits until the client reads
        self._clients: Counter[str] = Counter()
        self._unread = 0
        self._closed: Counter[str] = Counter()
        self._told = -math.inf
        self.stopping = False
        self.parting = False
        """Each connection may send one more request, which is answered with `Connection: close`."""
        self.now = 0.0  # the loop's clock, a tenth of a second behind at most: read for every request

    # Called by the protocols

    def enter(self, transport: asyncio.Transport, address: str | None) -> Connection | None:
        """A new connection, which may now send a request. None when there is no room for it: it must be closed."""
        client = self._client(address)
        if client is not None and self._clients[client] >= self._max_per_client:
            self._make_room(client, self._max_per_client, "address full")
            if self._clients[client] >= self._max_per_client:
                self.count("address full")
                return None
        if len(self._open) >= self._max:
            self._make_room(None, self._max, "full")
            if len(self._open) >= self._max:
                self.count("full")
                return None
        connection = Connection(transport, client, self.now + (PARTING_S if self.parting else self._header_s))
        self._open[transport] = connection
        self._idle[connection] = None
        if client is not None:
            self._clients[client] += 1
        return connection

    def find(self, transport: asyncio.Transport) -> Connection | None:
        """The connection of a transport; None when it has been closed."""
        return self._open.get(transport)

    def leave(self, connection: Connection) -> None:
        """The connection has ended. Calling it again does nothing."""
        if self._open.pop(connection.transport, None) is None:
            return
        self._idle.pop(connection, None)
        self.resume(connection)
        if connection.client is not None:
            self._clients[connection.client] -= 1
            if not self._clients[connection.client]:
                del self._clients[connection.client]

    def work(self, connection: Connection) -> None:
        """The header of a request is complete: from now on the application limits the time."""
        self._idle.pop(connection, None)
        connection.deadline = math.inf

    def rest(self, connection: Connection) -> None:
        """All requests are answered: the idle time-out applies until the next one."""
        if connection.transport in self._open:
            self._idle[connection] = None
            connection.deadline = self.now + (PARTING_S if self.parting else self._idle_s)
            connection.why = "idle"

    def part(self) -> None:
        """This process is to end: from now on connections close after their next answer, or when they stay silent."""
        self.parting = True
        for connection in self._idle:
            connection.deadline = min(connection.deadline, self.now + PARTING_S)

    def hurry(self, connection: Connection) -> None:
        """A request has begun, or the client still sends the body of one that is answered: it must be complete soon."""
        connection.deadline, connection.why = self.now + self._header_s, "too slow"

    def linger(self, connection: Connection) -> None:
        """It was refused: it stays open for a short time, so that the client can read the reason."""
        connection.deadline, connection.why = self.now + LINGER_S, "lingering"

    def stall(self, connection: Connection) -> None:
        """Its buffer is full. If all buffers together take too much memory, the largest are closed."""
        if connection in self._stalled or connection.transport not in self._open:
            return
        self._stalled[connection] = None
        connection.unread = connection.transport.get_write_buffer_size()
        connection.unread_since = self.now
        self._unread += connection.unread
        if self._unread > self._max_unread:
            self._free_buffers()

    def resume(self, connection: Connection) -> None:
        """Its buffer is nearly empty again."""
        if connection in self._stalled:
            del self._stalled[connection]
            self._unread -= connection.unread
            connection.unread = 0

    def count(self, why: str) -> None:
        """A connection is closed for this reason."""
        if why not in QUIET:
            self._closed[why] += 1
        CONNECTIONS_CLOSED.labels(why).inc()

    # Called at intervals

    def tick(self) -> None:
        """Read the clock; called ten times a second."""
        self.now = asyncio.get_running_loop().time()

    def sweep(self) -> None:
        """Close the connections whose deadline has passed; called once a second."""
        CONNECTIONS.set(len(self._open))
        for connection in list(self._open.values()):
            transport = connection.transport
            if transport.is_closing():
                self.stall(connection)  # the client may read the rest of its answer, but not for ever
            elif connection.deadline <= self.now:
                self.count(connection.why)
                transport.close()
        for connection in list(self._stalled):
            self._look_at_progress(connection)
        self._tell()

    def _look_at_progress(self, connection: Connection) -> None:
        size = connection.transport.get_write_buffer_size()
        if size <= connection.unread - PROGRESS_BYTES:
            self._unread -= connection.unread - size
            connection.unread, connection.unread_since = size, self.now
        elif self.now - connection.unread_since > self._send_s:
            self._abort(connection, "not reading")

    def _make_room(self, client: str | None, limit: int, why: str) -> None:
        """Close the connections that have waited longest for a request; of one client, if it is named."""
        wanted = limit // ROOM_PARTS + 1
        found = []
        for connection in self._idle:
            if client is None or connection.client == client:
                found.append(connection)
                if len(found) == wanted:
                    break
        for connection in found:
            self._abort(connection, why)

    def _free_buffers(self) -> None:
        for connection in sorted(self._stalled, key=lambda each: each.unread, reverse=True):
            if self._unread <= self._max_unread * 7 // 8:
                break
            self._abort(connection, "unread answers")

    def _abort(self, connection: Connection, why: str) -> None:
        self.count(why)
        self.leave(connection)
        connection.transport.abort()

    def _client(self, address: str | None) -> str | None:
        return client_network(address, self._proxies)

    def _tell(self) -> None:
        if self._closed and self.now - self._told >= TELL_S:
            log.warning("connections closed", extra={"open": len(self._open), "why": dict(self._closed)})
            self._closed.clear()
            self._told = self.now


def client_of(scope: Mapping[str, Any]) -> str | None:
    """The client of a request, for limits that count by client; None if it is not known, so that nothing is counted.

    It is whom the proxy in front names, whatever network that client is in: where proxies are believed in all private
    networks, most clients may be in those too. Only a proxy that names nobody is not counted: it is many clients.
    """
    client = scope.get("client")
    if client is None or (scope.get(FROM_PROXY) and client == scope.get(PEER)):
        return None
    return client_network(client[0])


def client_network(address: str | None, proxies: Iterable[Network] = ()) -> str | None:
    """The client of an address: the IPv4 address or the IPv6 network; None if it is that of a proxy.

    A proxy may say that it does not know its client's address, or anything else: these clients count as one.
    """
    if address is None:
        return None
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if any(parsed in network for network in proxies):
        return None
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(ipaddress.ip_network((parsed, _V6_NETWORK), strict=False))


class ReportsStalls(asyncio.Protocol):
    """For a protocol, before uvicorn's class: tells `Connections` while the client does not read its answers."""

    _connections: Connections
    _connection: Connection | None

    def pause_writing(self) -> None:
        """See asyncio."""
        super().pause_writing()
        if self._connection is not None:
            self._connections.stall(self._connection)

    def resume_writing(self) -> None:
        """See asyncio."""
        super().resume_writing()
        if self._connection is not None:
            self._connections.resume(self._connection)
