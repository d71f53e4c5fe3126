"""What other servers that clients name can do to the event loop: nothing."""

import asyncio
import contextlib
import socket
import threading
import time
from typing import Any

import pytest

from limner.domain.errors import UrlFetchError
from limner.web.fetch_url import fetch
from limner.web.outgoing import allowed_addresses

SLOW = 40
HELD_S = 0.05
TIMEOUT_S = 60


def test_name_servers_that_do_not_answer_delay_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop has a few threads of its own, in which the sender of webhooks asks the database."""
    end = threading.Event()

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        if host.startswith("slow"):
            end.wait(30)
            raise OSError
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def story() -> None:
        names = [f"slow{number}" for number in range(SLOW)]
        waiting = [asyncio.create_task(allowed_addresses(each, 80, (each,), "image_url")) for each in names]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        assert await asyncio.to_thread(lambda: 1) == 1
        assert await allowed_addresses("quick", 80, ("quick",), "image_url") == ["203.0.113.1"]
        assert time.monotonic() - began < 20
        assert not any(each.done() for each in waiting)
        end.set()
        await asyncio.gather(*waiting, return_exceptions=True)

    try:
        asyncio.run(story())
    finally:
        end.set()


@pytest.mark.parametrize(
    ("begin", "flood"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X:\r\n"),
    ],
    ids=["informational answers", "chunks of a byte", "empty fields"],
)
def test_a_flood_of_tiny_parts_ends_and_holds_the_event_loop_for_a_moment(begin: bytes, flood: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(begin)
                while True:
                    connection.sendall(flood * 10_000)

        sender = threading.Thread(target=send)
        sender.start()
        longest = asyncio.run(_longest_turn(f"http://127.0.0.1:{server.getsockname()[1]}/", server.getsockname()[1]))
        sender.join(30)
    assert not sender.is_alive()
    assert longest < HELD_S


async def _longest_turn(url: str, port: int) -> float:
    """Seconds of processor time, which other programs on a busy machine do not lengthen."""
    turns = [0.0]

    async def watch() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            turns.append(now - before)
            before = now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.1)
    turns.clear()
    began = time.monotonic()
    with pytest.raises(UrlFetchError):
        await fetch(url, max_bytes=20_000_000, timeout_s=TIMEOUT_S, private_hosts=("127.0.0.1",), ports=(port,))
    assert time.monotonic() - began < TIMEOUT_S / 2, "it went on for as long as it could"
    watching.cancel()
    return max(turns)
