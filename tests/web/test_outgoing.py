"""Looking up host names that clients name."""

import asyncio
import socket
import threading
import time
from typing import Any

import pytest

from limner.web.outgoing import allowed_addresses

SLOW = 40


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
