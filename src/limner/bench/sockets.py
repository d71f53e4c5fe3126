"""One event to many sockets: how long until the first, the median and the last of them has it?"""

import asyncio
import json
import resource
import time
from datetime import datetime

from websockets.asyncio.client import ClientConnection, connect

from limner.bench.client import Client, percentile, server, version
from limner.settings import Settings


def run(settings: Settings, photo: bytes, *, sockets: int, events: int) -> None:
    """Print p50 and p99 from a job's end to its event at each socket, and the ratio to ten sockets in the same run."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * sockets)), hard))
    with server(settings) as port:
        few = asyncio.run(_spread(port, photo, 10, events, first=0))
        many = asyncio.run(_spread(port, photo, sockets, events, first=events))
    for count, spent in ((10, few), (sockets, many)):
        print(
            f"{count} sockets, {events} events: p50 {percentile(spent, 0.5) * 1000:.1f} ms, "
            f"p99 {percentile(spent, 0.99) * 1000:.1f} ms after the job's end"
        )
    print(f"ratio of p99, {sockets} : 10 sockets: {percentile(many, 0.99) / percentile(few, 0.99):.1f}")


async def _spread(port: int, photo: bytes, sockets: int, events: int, *, first: int) -> list[float]:
    """Seconds from the job's end, as the event tells it, to its arrival at each socket, over all events."""
    open_sockets: list[ClientConnection] = []
    for start in range(0, sockets, 50):
        some = range(start, min(sockets, start + 50))
        open_sockets += await asyncio.gather(*(connect(f"ws://127.0.0.1:{port}/faces") for _ in some))
    client = Client("127.0.0.1", port)
    spent: list[float] = []
    for number in range(events):
        heard = asyncio.gather(*(_heard(socket) for socket in open_sockets))
        await asyncio.to_thread(client.submit, "detect", version(photo, first + number))
        spent += await heard
    client.close()
    await asyncio.gather(*(socket.close() for socket in open_sockets))
    return spent


async def _heard(socket: ClientConnection) -> float:
    told = json.loads(await socket.recv())
    return time.time() - datetime.fromisoformat(told["processed_at"]).timestamp()
