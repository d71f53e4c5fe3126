"""The whole service against its own bare pipeline: what do HTTP, the database and the events cost?"""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from limner import local
from limner.bench.client import Client, server, version
from limner.operations import CATALOGUE
from limner.settings import Settings
from limner.vision.image import Limits
from limner.vision.models import Models


def run(settings: Settings, photo: bytes, *, clients: int, photos: int, rounds: int) -> None:
    """Print photos/s of both, in turns, and the ratio service : pipeline (median of the rounds)."""
    numbers = count()
    models = Models(settings.models_dir)
    ratios = []
    with server(settings) as port:
        _bare(settings, models, photo, 2 * settings.workers, numbers)
        _served(port, photo, clients, 2 * clients, numbers)
        for number in range(1, rounds + 1):
            bare = _bare(settings, models, photo, photos, numbers)
            served = _served(port, photo, clients, photos, numbers)
            ratios.append(served / bare)
            print(
                f"round {number}: pipeline {bare:6.1f} photos/s ({settings.workers} threads)   "
                f"service {served:6.1f} photos/s ({clients} clients)   ratio {served / bare:.2f}"
            )
    print(f"ratio service : pipeline, median of {rounds} rounds: {statistics.median(ratios):.2f} (aim: 0.85)")


def _bare(settings: Settings, models: Models, photo: bytes, photos: int, numbers: "count[int]") -> float:
    """Photos per second of decode → detect → draw → encode from memory, as many threads as the service has workers."""
    work = [version(photo, next(numbers)) for _ in range(photos)]

    def one(data: bytes) -> None:
        local.run(CATALOGUE["detect"], {}, {"image": data}, models=models, limits=Limits())

    start = time.perf_counter()
    with ThreadPoolExecutor(settings.workers) as pool:
        list(pool.map(one, work))
    return photos / (time.perf_counter() - start)


def _served(port: int, photo: bytes, clients: int, photos: int, numbers: "count[int]") -> float:
    """Photos per second from upload to the fetched artifact."""
    shares = [[version(photo, next(numbers)) for _ in range(photos // clients)] for _ in range(clients)]

    def one(share: list[bytes]) -> None:
        client = Client("127.0.0.1", port)
        for data in share:
            status, job = client.submit("detect", data)
            assert status == 200, job
            status, marked = client.get(job["artifacts"][0]["url"].partition(str(port))[2])
            assert status == 200
            assert marked
        client.close()

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, shares))
    return sum(map(len, shares)) / (time.perf_counter() - start)
