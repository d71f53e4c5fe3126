"""One event to many sockets: how long until the first, the median and the last of them has it?"""

import asyncio
import resource
import time

from websockets.asyncio.client import ClientConnection, connect

from limner.bench.client import Client, percentile, server, version
from limner.settings import Settings


def run(settings: Settings, photo: bytes, *, sockets: int, events: int) -> None:
    """Print p50 and p99 of event time → socket, and the ratio of p99 to that of ten sockets in the same run."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * sockets)), hard))
    with server(settings) as port:
        few = asyncio.run(_spread(port, photo, 10, events, first=0))
        many = asyncio.run(_spread(port, photo, sockets, events, first=events))
    for count, spent in ((10, few), (sockets, many)):
        print(
            f"{count} sockets, {events} events: p50 {percentile(spent, 0.5) * 1000:.1f} ms, "
            f"p99 {percentile(spent, 0.99) * 1000:.1f} ms after the first socket had it"
        )
    print(f"ratio of p99, {sockets} : 10 sockets: {percentile(many, 0.99) / percentile(few, 0.99):.1f}")


async def _spread(port: int, photo: bytes, sockets: int, events: int, *, first: int) -> list[float]:
    """Seconds from the first socket's receiving an event to each one's, over all events."""
    open_sockets: list[ClientConnection] = []
    for start in range(0, sockets, 50):
        some = range(start, min(sockets, start + 50))
        open_sockets += await asyncio.gather(*(connect(f"ws://127.0.0.1:{port}/faces") for _ in some))
    client = Client("127.0.0.1", port)
    spent: list[float] = []
    for number in range(events):
        heard = asyncio.gather(*(_heard(socket) for socket in open_sockets))
        await asyncio.to_thread(client.submit, "detect", version(photo, first + number))
        moments = await heard
        spent += [moment - min(moments) for moment in moments]
    client.close()
    await asyncio.gather(*(socket.close() for socket in open_sockets))
    return spent


async def _heard(socket: ClientConnection) -> float:
    await socket.recv()
    return time.perf_counter()
