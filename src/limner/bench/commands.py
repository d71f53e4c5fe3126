"""`limner bench …`: the benchmarks' command lines. Imports stand inside, as in `cli.py`."""

import sys
from pathlib import Path

import click


@click.group()
def bench() -> None:
    """Measure: each prints a ratio against a reference in the same run."""


_photo = click.option("--photo", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A JPEG to send.")
_clients = click.option("--clients", type=click.IntRange(1), default=4, show_default=True, help="Connections.")


def _bench_photo(photo: Path | None) -> bytes:
    from limner.bench.client import default_photo

    return photo.read_bytes() if photo is not None else default_photo()


@bench.command("detect")
@_photo
@_clients
@click.option("--photos", type=click.IntRange(8), default=200, show_default=True, help="Photos a round.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
def measure_detect(photo: Path | None, clients: int, photos: int, rounds: int) -> None:
    """Upload → artifact fetched, against the bare pipeline on the same cores."""
    from limner import settings
    from limner.bench import detect as measure

    measure.run(settings.load(), _bench_photo(photo), clients=clients, photos=photos, rounds=rounds)


@bench.command("cache")
@_photo
@_clients
@click.option("--requests", type=click.IntRange(8), default=2000, show_default=True)
def measure_cache(photo: Path | None, clients: int, requests: int) -> None:
    """Cache hits per second."""
    from limner import settings
    from limner.bench import cache as measure

    measure.run(settings.load(), _bench_photo(photo), clients=clients, requests=requests)


@bench.command("sockets")
@_photo
@click.option("--sockets", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--events", type=click.IntRange(1), default=20, show_default=True)
def measure_sockets(photo: Path | None, sockets: int, events: int) -> None:
    """One event to many sockets: p50 and p99."""
    from limner import settings
    from limner.bench import sockets as measure

    measure.run(settings.load(), _bench_photo(photo), sockets=sockets, events=events)


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
