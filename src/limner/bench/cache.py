"""How many identical requests the cache answers, against how many photos the pipeline works out."""

import time
from concurrent.futures import ThreadPoolExecutor

from limner.bench.client import Client, percentile, server, version
from limner.settings import Settings


def run(settings: Settings, photo: bytes, *, clients: int, requests: int) -> None:
    """Print cache hits/s with their latency, and the ratio to the same photo worked out anew each time."""
    with server(settings) as port:
        first = Client("127.0.0.1", port)
        status, job = first.submit("detect", photo)
        assert status == 200, job
        fresh = _rate(port, [[version(photo, 1000 * c + n) for n in range(10)] for c in range(clients)], cached=False)
        hits = _rate(port, [[photo] * (requests // clients)] * clients, cached=True)
    rate = len(hits[1]) / hits[0]
    ratio = rate / (len(fresh[1]) / fresh[0])
    print(
        f"cache hits: {rate:.0f}/s ({clients} clients; p50 {percentile(hits[1], 0.5) * 1000:.1f} ms, "
        f"p99 {percentile(hits[1], 0.99) * 1000:.1f} ms); ratio to working it out: {ratio:.1f}"
    )


def _rate(port: int, shares: list[list[bytes]], *, cached: bool) -> tuple[float, list[float]]:
    """Wall seconds, and each request's seconds."""

    def one(share: list[bytes]) -> list[float]:
        client = Client("127.0.0.1", port)
        spent = []
        for data in share:
            start = time.perf_counter()
            status, job = client.submit("detect", data)
            spent.append(time.perf_counter() - start)
            assert status == 200, job
            assert (job["cached"] == "exact") is cached
        client.close()
        return spent

    start = time.perf_counter()
    with ThreadPoolExecutor(len(shares)) as pool:
        spent = [each for share in pool.map(one, shares) for each in share]
    return time.perf_counter() - start, spent
