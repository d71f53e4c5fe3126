"""From settings to a running application. The only file that names adapters."""

import fcntl
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from fastapi import FastAPI

from limner.adapters.disk_blobs import DiskBlobs
from limner.adapters.local_bus import LocalBus
from limner.adapters.sql_engine import migrate, open_database
from limner.adapters.sql_jobs import SqlJobs
from limner.adapters.thread_engine import ThreadEngine
from limner.domain.errors import SettingsError, UnavailableError
from limner.jobs.run import Runner
from limner.jobs.submit import Submissions
from limner.jobs.sweep import Sweep
from limner.operations import CATALOGUE
from limner.ports import BlobStore, Bus, Engine, JobStore
from limner.settings import Settings
from limner.vision.models import Models
from limner.web.app import create_app
from limner.web.event_streams import Streams
from limner.web.services import Services
from limner.web.upload_memory import UploadMemory

log = logging.getLogger(__name__)


@dataclass
class House:
    """All parts of one process, and the way to let go of them."""

    settings: Settings
    store: JobStore
    blobs: BlobStore
    bus: Bus
    engine: Engine
    models: Models
    submissions: Submissions
    sweep: Sweep
    held: ExitStack

    def close(self) -> None:
        """Let go of connections, locks and temporary folders."""
        self.held.close()


def build(settings: Settings) -> House:
    """Everything from settings, nothing started. SettingsError for what cannot work together."""
    _refuse_unknown(settings)
    held = ExitStack()
    try:
        return _build(settings, held)
    except BaseException:
        held.close()
        raise


def _build(settings: Settings, held: ExitStack) -> House:
    durable = settings.durability == "full"
    database = open_database(settings.database_url, durable=durable)
    held.callback(database.dispose)
    if settings.database_url != "memory:":
        _claim(Path(database.url.database or ""), held)
    if migrate(database):
        log.info("database brought up to date")
    store = SqlJobs(database)
    blobs = DiskBlobs(_blob_folder(settings, held), durable=durable)
    bus = LocalBus()
    models = Models(settings.models_dir)
    limits = settings.limits()
    lease = timedelta(seconds=settings.lease_s)
    cache_for = timedelta(hours=settings.cache_hours)
    runner = Runner(
        catalogue=CATALOGUE,
        store=store,
        blobs=blobs,
        bus=bus,
        models=models,
        limits=limits,
        lease=lease,
        timeout_s=settings.job_timeout_s,
    )
    engine = ThreadEngine(runner.run, workers=settings.workers, capacity=settings.max_queued)
    submissions = Submissions(
        store=store,
        blobs=blobs,
        engine=engine,
        bus=bus,
        models=models,
        limits=limits,
        max_queued=settings.max_queued,
        cache_for=cache_for,
    )
    sweep = Sweep(
        store=store,
        blobs=blobs,
        engine=engine,
        bus=bus,
        lease=lease,
        max_attempts=settings.max_attempts,
        max_queued=settings.max_queued,
        keep=timedelta(days=settings.keep_days) if settings.keep_days else None,
        cache_for=cache_for,
        every_s=settings.sweep_s,
    )
    return House(settings, store, blobs, bus, engine, models, submissions, sweep, held)


def application(house: House) -> FastAPI:
    """The web application of a house."""
    settings = house.settings
    services = Services(
        settings=settings,
        catalogue=CATALOGUE,
        store=house.store,
        blobs=house.blobs,
        submissions=house.submissions,
        streams=Streams(house.store, house.bus, buffer=settings.event_buffer, max_sockets=settings.max_sockets),
        limits=settings.limits(),
        memory=UploadMemory(settings.upload_memory_bytes),
        check_ready=_ready_check(house),
    )
    return create_app(services, lambda: _at_work(house))


def _ready_check(house: House) -> Callable[[], None]:
    def check() -> None:
        try:
            house.store.ping()
            house.blobs.ping()
        except Exception as error:
            log.exception("not ready")
            raise UnavailableError("the database or the folder of photos cannot be written") from error
        house.models.detector()  # ModelError says what is missing

    return check


@contextmanager
def _at_work(house: House) -> Iterator[None]:
    """Engine and sweep at work; at the end running jobs may finish, and what cannot is handed back."""
    house.sweep.recover()
    house.engine.start()
    house.sweep.start()
    try:
        yield
    finally:
        house.sweep.stop()
        house.engine.stop(house.settings.drain_s)
        for job_id, attempt in house.engine.running():
            house.store.release(job_id, attempt)


def _refuse_unknown(settings: Settings) -> None:
    if settings.engine_url != "threads:":
        raise SettingsError(f"LIMNER_ENGINE_URL must be 'threads:', not {_scheme(settings.engine_url)!r}")
    if settings.bus_url != "local:":
        raise SettingsError(f"LIMNER_BUS_URL must be 'local:', not {_scheme(settings.bus_url)!r}")
    if "://" in settings.blobs_url:
        raise SettingsError(f"LIMNER_BLOBS_URL must be a folder, not {_scheme(settings.blobs_url)!r}")


def _scheme(url: str) -> str:
    """A URL without what may be secret in it."""
    return url.partition(":")[0] + ":"


def _claim(database: Path, held: ExitStack) -> None:
    """Lock the database for this process: `local:` wakes only its own readers, and `recover` trusts to be alone."""
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock: IO[bytes] = held.enter_context(database.with_name(database.name + ".lock").open("ab"))
    except OSError as error:
        raise SettingsError(f"LIMNER_DATABASE_URL: {error}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(
            f"another process serves {database.name} already: with LIMNER_BUS_URL=local: there can be only one"
        ) from None


def _blob_folder(settings: Settings, held: ExitStack) -> Path:
    """The folder of photos. Without a database nothing would ever name them again: then it ends with the process."""
    folder = Path(settings.blobs_url.removeprefix("file:"))
    if settings.database_url != "memory:":
        return folder
    parent = folder if "blobs_url" in settings.model_fields_set else None
    try:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        return Path(held.enter_context(tempfile.TemporaryDirectory(prefix="limner-", dir=parent)))
    except OSError as error:
        raise SettingsError(f"LIMNER_BLOBS_URL: {error}") from None
