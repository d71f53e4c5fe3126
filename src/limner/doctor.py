"""Looks whether a service could start and work here, part by part."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from limner import settings
from limner.adapters.disk_blobs import DiskBlobs
from limner.domain.errors import LimnerError
from limner.vision import weights
from limner.vision.models import Models


def examine() -> Iterator[tuple[str, str | None]]:
    """Each part's name and what is wrong with it, or None. Later parts are skipped when settings are wrong."""
    try:
        chosen = settings.load()
    except LimnerError as error:
        yield "settings", error.detail
        return
    yield "settings", None
    yield f"models in {chosen.models_dir}", _verdict(lambda: weights.check(chosen.models_dir))
    yield "detector", _verdict(lambda: _look(chosen.models_dir))
    yield "database", _verdict(lambda: _database(chosen.database_url))
    if chosen.database_url != "memory:":
        yield "folder of photos", _verdict(lambda: DiskBlobs(Path(chosen.blobs_url), durable=True).ping())


def _verdict(check: Callable[[], object]) -> str | None:
    try:
        check()
    except LimnerError as error:
        return error.detail
    except Exception as error:  # noqa: BLE001  # a diagnosis names whatever is wrong
        return f"{type(error).__name__}: {error}"
    return None


def _look(models_dir: Path) -> None:
    Models(models_dir).detector().detect(np.zeros((64, 64, 3), np.uint8))


def _database(url: str) -> None:
    from limner.adapters.sql_engine import migrate, open_database
    from limner.adapters.sql_jobs import SqlJobs

    database = open_database(url, durable=True)
    migrate(database)
    store = SqlJobs(database)
    store.ping()
    store.close()
