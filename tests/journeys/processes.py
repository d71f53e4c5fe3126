"""Connections to a certain one of several web processes, which share a port."""

import socket
import time
from contextlib import closing
from pathlib import Path

import httpx

from tests.journeys.server import Cluster

PATIENCE_S = 120
TRIES = 500
"""Which process takes a new connection is chance, so many connections are tried."""


def two(cluster: Cluster, *, without: list[int] | None = None) -> tuple[int, int]:
    """The ids of its two web processes, none of them in `without`, once both serve."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = cluster.web_processes()
        if len(found) == 2 and not set(found) & set(without or []) and all(_serves(cluster, pid) for pid in found):
            return found[0], found[1]
        assert time.monotonic() < deadline, (found, without, cluster.log.read_text()[-3000:])
        time.sleep(0.1)


def _serves(cluster: Cluster, pid: int) -> bool:
    try:
        with closing(client_at(cluster, pid, tries=50)) as client:
            return client.get("/readyz").status_code == 200
    except (AssertionError, httpx.TransportError):
        return False


def connection_to(cluster: Cluster, pid: int, *, tries: int = TRIES) -> socket.socket:
    """A connection that this process has accepted."""
    for _ in range(tries):
        connection = socket.create_connection(("127.0.0.1", cluster.port), timeout=PATIENCE_S)
        if _accepted_by(cluster, connection.getsockname()[1]) == pid:
            return connection
        connection.close()
    raise AssertionError(f"process {pid} has accepted none of {tries} connections")


def client_at(cluster: Cluster, pid: int, headers: dict[str, str] | None = None, *, tries: int = TRIES) -> httpx.Client:
    """A client whose requests all go to this process, over one connection that is kept; to be closed."""
    for _ in range(tries):
        kept = httpx.Limits(keepalive_expiry=None)
        client = httpx.Client(base_url=cluster.url, headers=headers, timeout=PATIENCE_S, limits=kept)
        port = _port_of(client.get("/healthz"))
        if _accepted_by(cluster, port) == pid:

            def same(answer: httpx.Response, port: int = port) -> None:
                assert _port_of(answer) == port, "the connection to this process was closed"

            client.event_hooks["response"] = [same]
            return client
        client.close()
    raise AssertionError(f"process {pid} has accepted none of {tries} connections")


def _port_of(answer: httpx.Response) -> int:
    return int(answer.extensions["network_stream"].get_extra_info("client_addr")[1])


def _accepted_by(cluster: Cluster, port: int) -> int | None:
    """The id of the web process that has accepted the connection from `port`; None if none does so soon."""
    ports = f"0100007F:{cluster.port:04X} 0100007F:{port:04X}"
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        for line in Path("/proc/net/tcp").read_text().splitlines():
            if ports in line and (inode := line.split()[9]) != "0":
                for pid in cluster.web_processes():
                    if f"socket:[{inode}]" in _open_files(pid):
                        return pid
        time.sleep(0.01)
    return None


def _open_files(pid: int) -> set[str]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            found.add(str(each.readlink()))
        except FileNotFoundError:
            continue  # closed meanwhile
    return found
