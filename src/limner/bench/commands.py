"""The commands `limner bench …`. Imports are inside the functions, as in `cli.py`."""

import sys
from pathlib import Path

import click

from limner.command_types import Commands


@click.group(cls=Commands)
def bench() -> None:
    """Run benchmarks. Most compare with a reference measured in the same run."""


_photo = click.option("--photo", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A JPEG to send.")
_clients = click.option("--clients", type=click.IntRange(1), default=4, show_default=True, help="Connections.")


def _bench_photo(photo: Path | None) -> bytes:
    from limner.bench.client import default_photo

    return photo.read_bytes() if photo is not None else default_photo()


@bench.command("http")
@_photo
@click.option("--seconds", type=click.IntRange(1), default=5, show_default=True, help="Of each measurement.")
@click.option("--connections", type=click.IntRange(1), default=4, show_default=True)
def measure_http(photo: Path | None, seconds: int, connections: int) -> None:
    """Requests a second by wrk, each beside a bare server: health, a job, an artifact, the list, a cache hit."""
    from limner import settings
    from limner.bench import report, throughput

    rows = throughput.run(settings.load(), _bench_photo(photo), seconds=seconds, connections=connections)
    report.show("Requests", [(f"{connections} connections, {seconds} s each", rows)])


@bench.command("overhead")
@_photo
@click.option("--photos", type=click.IntRange(8), default=100, show_default=True, help="Photos a round.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def measure_overhead(photo: Path | None, photos: int, rounds: int) -> None:
    """CPU round a job's pipeline; the service beside the pipeline, and beside one pass of the network."""
    from limner import settings
    from limner.bench import overhead, report

    rows = overhead.run(settings.load(), _bench_photo(photo), photos=photos, rounds=rounds)
    report.show("Detect jobs", [(f"{photos} photos, median of {rounds} rounds", rows)])


@bench.command("sockets")
@_photo
@click.option("--sockets", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--events", type=click.IntRange(1), default=20, show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), help="Measure the service that runs on this port.")
@click.option("--web-processes", type=click.IntRange(1), help="Measure so many, with Celery's workers.")
@click.option("--database-url", metavar="postgresql://…", help="For --web-processes: a running PostgreSQL server.")
@click.option("--redis-url", metavar="redis://…", help="For --web-processes: an empty database of Redis.")
def measure_sockets(
    photo: Path | None,
    sockets: int,
    events: int,
    port: int | None,
    web_processes: int | None,
    database_url: str | None,
    redis_url: str | None,
) -> None:
    """One event to many sockets, with and without jobs running: p50 and p99 from the job's end."""
    if (port is not None) + (web_processes is not None) > 1:
        raise click.UsageError("--port measures a service that runs already: --web-processes does not go with it")
    if len({web_processes is None, database_url is None, redis_url is None}) > 1:
        raise click.UsageError("--web-processes, --database-url and --redis-url go together")
    from limner import settings
    from limner.bench import report
    from limner.bench import sockets as measure
    from limner.bench.processes import Server

    if port is not None:
        rows = measure.run_on(Server(port, pid=0, ready_s=0), _bench_photo(photo), sockets=sockets, events=events)
        report.show(f"From a job's end to every socket of the service on port {port}", [(f"{events} events", rows)])
        return
    if web_processes is not None and database_url is not None and redis_url is not None:
        rows = measure.run_cluster(
            settings.load(),
            _bench_photo(photo),
            sockets=sockets,
            events=events,
            server_url=database_url,
            redis_url=redis_url,
            web_processes=web_processes,
        )
        report.show(f"From a job's end to every socket of {web_processes} processes", [(f"{events} events", rows)])
        return
    rows = measure.run(settings.load(), _bench_photo(photo), sockets=sockets, events=events)
    report.show("From a job's end to every socket", [(f"{events} events", rows)])


@bench.command("scale")
@_photo
@click.option("--jobs", type=click.IntRange(10_000), default=1_000_000, show_default=True, help="In the full database.")
@click.option("--rounds", type=click.IntRange(3), default=30, show_default=True, help="Requests of each kind.")
@click.option("--idle", type=click.FloatRange(1), default=65, show_default=True, help="Seconds to watch the sweep.")
@click.option(
    "--database-url",
    metavar="postgresql://…",
    help="A running PostgreSQL server, on which three databases are created and dropped. Default: SQLite.",
)
def measure_scale(photo: Path | None, jobs: int, rounds: int, idle: float, database_url: str | None) -> None:
    """The same requests on a full database and on a small one (a million jobs: some 8 GB in the temporary folder)."""
    from limner import settings
    from limner.bench import report, scale

    rows = scale.run(
        settings.load(), _bench_photo(photo), jobs=jobs, rounds=rounds, idle_s=idle, server_url=database_url
    )
    kind = "SQLite" if database_url is None else "PostgreSQL"
    report.show("A full database beside a small one", [(f"{kind}, {jobs:,} jobs, {rounds} requests each", rows)])


@bench.command("workers")
@_photo
@click.option("--database-url", required=True, metavar="postgresql://…", help="A running PostgreSQL server.")
@click.option("--redis-url", required=True, metavar="redis://…", help="An empty database of Redis.")
@click.option("--workers", type=click.IntRange(1), multiple=True, default=(1, 2, 4), show_default=True)
@click.option("--photos", type=click.IntRange(10), default=60, show_default=True, help="Photos a round.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def measure_workers(
    photo: Path | None, database_url: str, redis_url: str, workers: tuple[int, ...], photos: int, rounds: int
) -> None:
    """Photos of several sizes a second: Celery's workers, each beside as many embedded ones."""
    from limner import settings
    from limner.bench import report
    from limner.bench import workers as measure

    rows = measure.run(
        settings.load(),
        _bench_photo(photo),
        server_url=database_url,
        redis_url=redis_url,
        numbers_of_workers=workers,
        photos=photos,
        rounds=rounds,
    )
    report.show("Workers", [(f"{photos} photos, median of {rounds} rounds", rows)])


@bench.command("all")
@_photo
@click.option("--jobs", type=click.IntRange(10_000), default=100_000, show_default=True, help="In the full database.")
def measure_all(photo: Path | None, jobs: int) -> None:
    """All of http, overhead, sockets and scale, each briefly, in one table: some five minutes."""
    from limner import settings
    from limner.bench import overhead, report, scale, throughput
    from limner.bench import sockets as measure_sockets

    given, data = settings.load(), _bench_photo(photo)
    sections = [
        ("http: 4 connections, 3 s each", throughput.run(given, data, seconds=3, connections=4)),
        ("overhead: 60 photos", overhead.run(given, data, photos=60, rounds=1)),
        ("sockets: 10 events", measure_sockets.run(given, data, sockets=1000, events=10)),
        (f"scale: {jobs:,} jobs", scale.run(given, data, jobs=jobs, rounds=10, idle_s=65)),
    ]
    report.show("Limner", sections)


@bench.command("detect")
@click.option(
    "--photo",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="A JPEG; may be repeated. Default: three pictures made of scikit-image's astronaut.",
)
@click.option("--rounds", type=click.IntRange(3), default=15, show_default=True, help="Times that each photo is used.")
@click.option(
    "--thumbor",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The Python of an environment with thumbor and opencv-python-headless below 5.",
)
def measure_detect(files: tuple[Path, ...], rounds: int, thumbor: Path | None) -> None:
    """CPU of detection beside one pass of YuNet and a bare loop round it; the service's rate beside thumbor's."""
    from limner import settings
    from limner.bench import detect as measure
    from limner.bench import report
    from limner.bench.client import default_photo

    photos = [measure.Photo(file.name, file.read_bytes()) for file in files]
    photos = photos or measure.made_photos(default_photo())
    report.show("detect", measure.run(settings.load(), photos, rounds=rounds, thumbor=thumbor))


@bench.command("accuracy")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def measure_accuracy(folder: Path) -> None:
    """AP, recall and precision by face size on a labelled set (labels.json, or WIDER FACE's ground truth)."""
    from limner import settings
    from limner.bench import accuracy as measure

    measure.main(folder, settings.load().models_dir)


@bench.command("contours")
@click.option(
    "--photo", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Measured as it is, in full."
)
@click.option(
    "--landmarks", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="JSON of {x, y} points."
)
@click.option("--map", "label_map", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Label picture.")
@click.option("--times", type=click.IntRange(3), default=20, show_default=True)
def measure_contours(photo: Path | None, landmarks: Path | None, label_map: Path | None, times: int) -> None:
    """CPU of each stage, with and without the client's landmarks and map."""
    from limner import settings
    from limner.bench import contours as measure

    measure.run(
        settings.load(),
        _bench_photo(photo),
        landmarks=landmarks,
        label_map=label_map,
        times=times,
        as_sent=photo is not None,
    )


@bench.command("generate")
@click.option("--photo", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A portrait.")
@click.option("--times", type=click.IntRange(1), default=3, show_default=True, help="Runs of each; the least counts.")
@click.option("--full-size", is_flag=True, help="Pictures as large as a request may ask for.")
def measure_generate(photo: Path | None, times: int, full_size: bool) -> None:
    """CPU time and peak memory of each style on a portrait of 12 megapixels, beside a bare loop."""
    from limner import settings
    from limner.bench import generate as measure
    from limner.bench import report

    folder = settings.load().models_dir.absolute()
    sections = list(measure.run(folder, _bench_photo(photo), times=times, full_size=full_size))
    report.show("Pictures made, one thread", sections)


@bench.command("load")
@_photo
@_clients
@click.option("--url", default="http://127.0.0.1:8282", show_default=True, help="A service on this machine.")
@click.option("--operation", default="detect", show_default=True)
@click.option("--requests", type=click.IntRange(1), default=200, show_default=True)
@click.option("-F", "--field", "fields", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option("--same", is_flag=True, help="Send the same photo each time: measures the cache.")
def measure_load(
    photo: Path | None, clients: int, url: str, operation: str, requests: int, fields: tuple[str, ...], same: bool
) -> None:
    """A load test with a report: requests/s, p50, p95, p99, errors."""
    from limner.bench import load as measure

    given = dict(field.partition("=")[::2] for field in fields)
    well = measure.run(url, operation, _bench_photo(photo), given, clients=clients, requests=requests, same=same)
    sys.exit(0 if well else 1)


@bench.command("live")
@_photo
@click.option("--frames", type=click.IntRange(10), default=100, show_default=True, help="Of each size.")
@click.option("--sockets", type=click.IntRange(1, 100), default=4, show_default=True, help="Of the last row.")
def measure_live(photo: Path | None, frames: int, sockets: int) -> None:
    """Live detection: from a frame sent to its faces received, beside a bare loop of YuNet."""
    from limner import settings
    from limner.bench import live, report

    report.show("Live detection", live.run(settings.load(), _bench_photo(photo), frames=frames, sockets=sockets))
