"""Clients of a proxy that is believed in all private networks, as in `deploy/`: each is limited, also a private one."""

import base64
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from limner.domain.key import new_token
from limner.web.admission import FAILURES_A_MINUTE, MINUTE_S
from tests.journeys.conftest import served
from tests.journeys.keys import ADMIN, key_server, with_key
from tests.journeys.server import Server

PRIVATE = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"
FOR = "X-Forwarded-For"
MEMORY = 1_000_000
HELD = 600_000  # of the memory, by an upload that does not end


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("proxied")
    yield from served(key_server(folder, LIMNER_PROXY_ADDRESSES=PRIVATE, LIMNER_UPLOAD_MEMORY_BYTES=str(MEMORY)))


def guess(server: Server, client: str | None) -> int:
    """The status for a wrong key."""
    headers = {"Authorization": f"Bearer {new_token()}", **({FOR: client} if client else {})}
    return httpx.get(f"{server.url}/v1/jobs", headers=headers, timeout=60).status_code


def begin_minute() -> None:
    """Wait for the next minute of the clock if this one ends soon: the count begins anew with it."""
    left = MINUTE_S - time.time() % MINUTE_S
    if left < 15:
        time.sleep(left + 0.1)


@pytest.mark.parametrize("client", ["192.168.1.50", "10.1.2.3", "127.0.0.1", "fc00:1:2:3::4", "203.0.113.7"])
def test_wrong_keys_of_one_client_are_counted(server: Server, client: str) -> None:
    begin_minute()
    assert {guess(server, client) for _ in range(FAILURES_A_MINUTE)} == {401}
    assert guess(server, client) == 429
    with pytest.raises(InvalidStatus) as refused:
        connect(
            f"{server.socket_url}/v1/events",
            additional_headers={"Authorization": f"Bearer {new_token()}", FOR: client},
            proxy=None,
        )
    assert refused.value.response.status_code == 429
    assert guess(server, "192.168.1.51") == 401, "others are not held up"


def test_wrong_keys_through_a_proxy_that_names_nobody_are_not_counted(server: Server) -> None:
    begin_minute()
    assert {guess(server, None) for _ in range(2 * FAILURES_A_MINUTE)} == {401}


def stalled(server: Server, held: ExitStack, size: int, *headers: str) -> socket.socket:
    """A connection that has sent `size` bytes of a picture, and more is to come."""
    lines = ["POST /v1/detect HTTP/1.1", "Host: localhost", "Content-Type: image/png", f"X-API-Key: {ADMIN}", *headers]
    head = "\r\n".join([*lines, f"Content-Length: {size + 10}"]) + "\r\n\r\n"
    connection = held.enter_context(socket.create_connection(("127.0.0.1", server.port), 60))
    connection.sendall(head.encode() + os.urandom(size))
    return connection


def status_of(server: Server, size: int, client: str | None) -> int:
    """The status for an upload that is no picture."""
    body = {"image": base64.b64encode(os.urandom(size * 3 // 4)).decode()}
    headers = {**with_key(ADMIN), **({FOR: client} if client else {})}
    return httpx.post(f"{server.url}/v1/detect", json=body, headers=headers, timeout=60).status_code


@pytest.mark.parametrize("client", ["192.168.1.50", "127.0.0.1", "fc00:1:2:3::4", "203.0.113.7"])
def test_one_client_cannot_take_all_of_the_uploads_memory(server: Server, client: str) -> None:
    with ExitStack() as held:
        stalled(server, held, HELD, f"{FOR}: {client}")
        deadline = time.monotonic() + 30
        while (status := status_of(server, 100_000, client)) != 429:
            assert (status, time.monotonic() < deadline) == (415, True)  # the first one has not arrived yet
        assert status_of(server, 100_000, "192.168.1.51") == 415
        assert status_of(server, 100_000, None) == 415
