"""Measures how many photos a second Celery's workers do, each beside as many embedded ones.

Both run at the same time and are loaded alternately, so that a busy machine slows down both.
"""

import io
from itertools import count

from PIL import Image

from limner.bench.client import version
from limner.bench.overhead import Tally, through_service
from limner.bench.processes import cluster, server
from limner.bench.report import Row
from limner.bench.scratch import empty_redis, scratch
from limner.settings import Settings

MIX = ((640, 360), (1280, 720), (1280, 720), (1920, 1080), (3840, 2160))
"""Sizes of the photos that are sent in turn, in pixels."""


def run(
    settings: Settings,
    photo: bytes,
    *,
    server_url: str,
    redis_url: str,
    numbers_of_workers: tuple[int, ...],
    photos: int,
    rounds: int,
) -> list[Row]:
    """Photos a second for each number of workers; medians of the rounds. SettingsError.

    `server_url` is a PostgreSQL server on which databases may be created; `redis_url` an empty database of Redis.
    """
    mix = [_resized(photo, size) for size in MIX]
    numbers = count()
    rows = []
    for workers in numbers_of_workers:
        with (
            empty_redis(redis_url),
            scratch(server_url) as database,
            server(settings.model_copy(update={"workers": workers})) as embedded,
            cluster(settings, database.url, redis_url, workers=workers) as distributed,
        ):
            tallies = Tally(), Tally()
            for number in range(rounds + 1):
                if number == 1:
                    tallies = Tally(), Tally()  # the first round warms
                for tally, each in zip(tallies, (embedded, distributed), strict=True):
                    work = [version(mix[turn % len(mix)], next(numbers)) for turn in range(photos)]
                    through_service(tally, each, work, clients=2 * workers, fetched=False)
        ours, theirs = (tally.rate(photos) for tally in tallies)
        of = f"{workers} worker{'s' * (workers > 1)}"
        rows += [
            tallies[0].row(f"{of}, embedded, SQLite", photos),
            tallies[1].row(
                f"{of} of Celery, PostgreSQL, Redis", photos, beside=f"embedded {ours:.1f}/s", ratio=theirs / ours
            ),
        ]
    return rows


def _resized(photo: bytes, size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").resize(size).save(file, "JPEG", quality=90)
    return file.getvalue()
