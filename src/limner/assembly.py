"""Builds the application, or a worker, from the settings. The only file that puts adapters together.

Slow imports are inside the functions, so that the first worker process starts before them and loads its models.
"""

import fcntl
import logging
import stat
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from limner.adapters.local_bus import LocalBus
from limner.adapters.process_engine import ProcessEngine
from limner.domain.errors import SettingsError, UnavailableError
from limner.ports import Bus, EventLog, JobReader, JobStore, LossReason, Overseer
from limner.settings import Settings, database_file

if TYPE_CHECKING:
    from fastapi import FastAPI

    from limner.adapters.disk_blobs import DiskBlobs
    from limner.adapters.s3_blobs import S3Blobs
    from limner.adapters.sql.opening import Stores as Opened
    from limner.adapters.sql.traces import SqlTraces
    from limner.adapters.sql.webhooks import SqlHookReader
    from limner.jobs.run import Runner
    from limner.jobs.sweep import Sweep
    from limner.web.services import Services

log = logging.getLogger(__name__)

WORKER = (sys.executable, "-P", "-m", "limner.worker")  # -P: the folder that Limner is started in holds no code of it
LEASE_MARGIN_S = 10.0
S3 = "s3://"


@dataclass
class Application:
    """The web application, the sweep, and the resources (connections, locks, temporary folders) to close."""

    app: "FastAPI"
    services: "Services"
    sweep: "Sweep"
    held: ExitStack

    def close(self) -> None:
        """Close all resources and end workers that still run."""
        self.held.close()


def build(settings: Settings) -> Application:
    """Build the application. Its workers start at once, but get no job before the application runs.

    SettingsError for settings that cannot be used together, UnavailableError if the database is locked for long.
    """
    _refuse_unknown(settings)
    held = ExitStack()
    try:
        return _build(_with_private_folder(settings, held), held)
    except BaseException:
        held.close()
        raise


def _build(settings: Settings, held: ExitStack) -> Application:
    database = _database_file(settings)
    file = _claim(database, held) if database is not None else None
    bus = LocalBus()
    ready = _Ready()
    overseer: Future[Overseer] = Future()
    engine = ProcessEngine(
        WORKER,
        {"settings": settings.model_dump(mode="json"), "database_file": file},
        lanes={"cpu": settings.workers},
        capacity=settings.max_queued,
        timeout_s=settings.job_timeout_s,
        jobs_per_worker=settings.worker_jobs,
        overseer=_Deferred(overseer),
        on_wake=bus.wake,
        on_report=_record,
        on_ready=ready.set,
    )
    held.callback(engine.stop, 0)
    engine.start()

    from limner.adapters.remembered_blobs import RememberedBlobs
    from limner.adapters.sql.webhooks import SqlHookReader
    from limner.jobs.ids import JobIds
    from limner.jobs.oversee import JobOverseer
    from limner.jobs.queue import Queue
    from limner.jobs.submit import Submissions
    from limner.jobs.sweep import Sweep
    from limner.operations import CATALOGUE
    from limner.vision import weights
    from limner.web.app import create_app
    from limner.web.event_streams import Streams
    from limner.web.services import Services
    from limner.web.upload_memory import UploadMemory
    from limner.web.webhook_sender import WebhookSender

    stores, disk = _paired_stores(settings, held, file)
    store, reader, blobs = stores.store, stores.reader, RememberedBlobs(disk)
    overseer.set_result(JobOverseer(store, reader, bus, settings.max_attempts))
    sweep = Sweep(
        store=store,
        reader=reader,
        blobs=blobs,
        engine=engine,
        bus=bus,
        max_attempts=settings.max_attempts,
        max_queued=settings.max_queued,
        keep=timedelta(days=settings.keep_days) if settings.keep_days else None,
        every_s=settings.sweep_s,
        lease=_lease(settings),
        alone=not stores.shared,
    )

    hooks = SqlHookReader(stores.database)
    webhooks = WebhookSender(store, hooks, stores.events, bus, settings)

    def check_ready() -> None:
        try:
            store.transact(lambda tx: tx.ping())
            blobs.ping()
        except UnavailableError as error:
            log.warning("not ready", extra={"detail": error.detail})
            raise
        if not ready.workers:
            raise UnavailableError("No worker has loaded its models yet. Try again in a few seconds.")

    services = Services(
        settings=settings,
        catalogue=CATALOGUE,
        reader=reader,
        hooks=hooks,
        queue=Queue(reader),
        blobs=blobs,
        submissions=Submissions(
            store=store,
            reader=reader,
            blobs=blobs,
            engine=engine,
            bus=bus,
            fingerprint=weights.fingerprint_of,
            max_queued=settings.max_queued,
            cache_for=timedelta(hours=settings.cache_hours),
            ids=JobIds(next((job.id for job in reader.page(limit=1)), None)),
        ),
        streams=Streams(stores.events, bus, buffer=settings.event_buffer, max_sockets=settings.max_sockets),
        limits=settings.limits(),
        memory=UploadMemory(settings.upload_memory_bytes),
        check_ready=check_ready,
    )

    @contextmanager
    def at_work() -> Iterator[None]:
        """Run the sweep meanwhile. At the end, jobs get `drain_s` to finish; the others are requeued."""
        sweep.start()
        webhooks.start()
        try:
            yield
        finally:
            webhooks.stop()
            sweep.stop()
            engine.stop(settings.drain_s)

    sweep.recover()  # here, where an error ends the start with a line instead of uvicorn's traceback
    return Application(create_app(services, at_work), services, sweep, held)


def build_runner(settings: Settings, worker: str, bus: Bus, database_file: tuple[int, int] | None) -> "Runner":
    """The runner of the worker process `worker`, with its models loaded. ModelError.

    `database_file` is the SQLite file that the web process uses: a worker that starts later must not use another one.
    """
    from limner.adapters.sql.opening import WORKER_CONNECTIONS
    from limner.jobs.run import Runner
    from limner.operations import CATALOGUE
    from limner.vision.models import Models

    models = Models(settings.models_dir)
    models.detector()
    models.mesh()
    stores, blobs = _stores(settings, ExitStack(), database_file, WORKER_CONNECTIONS)  # until this process ends
    return Runner(
        worker=worker,
        catalogue=CATALOGUE,
        store=stores.store,
        reader=stores.reader,
        blobs=blobs,
        bus=bus,
        models=models,
        limits=settings.limits(),
        lease=_lease(settings),
        timeout_s=settings.job_timeout_s,
        cache_for=timedelta(hours=settings.cache_hours),
    )


@dataclass
class Stores:
    """What a command needs to read and change the data of a service."""

    store: JobStore
    reader: JobReader
    hooks: "SqlHookReader"
    events: EventLog
    traces: "SqlTraces"
    blobs: "DiskBlobs | S3Blobs"


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """The stores of a service, which may be running. SettingsError without a database whose tables are up to date."""
    from limner.adapters.sql.migrate import head_revision
    from limner.adapters.sql.opening import WORKER_CONNECTIONS
    from limner.adapters.sql.traces import SqlTraces
    from limner.adapters.sql.webhooks import SqlHookReader

    path, file = _database_file(settings), None
    if path is not None:
        try:
            found = path.stat()
        except OSError:
            raise SettingsError(f"LIMNER_DATABASE_URL: there is no database {path}") from None
        file = (found.st_dev, found.st_ino)
    with ExitStack() as held:
        opened, blobs = _stores(settings, held, file, WORKER_CONNECTIONS)
        if opened.database.revision() != head_revision():
            raise SettingsError("The tables of the database are not up to date. Run `limner migrate`.")
        hooks, traces = SqlHookReader(opened.database), SqlTraces(opened.database)
        yield Stores(opened.store, opened.reader, hooks, opened.events, traces, blobs)


def _lease(settings: Settings) -> timedelta:
    """The lease must only be longer than the time in which it may not be renewed, because the supervisor notices at
    once that a worker has ended. A job can hold the interpreter's lock, and so prevent renewals, until its timeout.
    """
    return timedelta(seconds=max(settings.lease_s, settings.job_timeout_s + LEASE_MARGIN_S))


def _paired_stores(
    settings: Settings, held: ExitStack, file: tuple[int, int] | None
) -> "tuple[Opened, DiskBlobs | S3Blobs]":
    """The stores of the web process, with the database migrated and paired with its blobs. SettingsError."""
    from limner.adapters.sql.migrate import migrate
    from limner.adapters.sql.opening import WEB_CONNECTIONS
    from limner.jobs import pairing

    stores, blobs = _stores(settings, held, file, WEB_CONNECTIONS)
    done = migrate(stores.database)
    if done:
        log.info("database migrated", extra={"revisions": done})
    held.callback(blobs.release)
    pairing.pair(stores.store, stores.reader, blobs, database=stores.database.name, folder=settings.blobs_url)
    return stores, blobs


def _stores(
    settings: Settings, held: ExitStack, file: tuple[int, int] | None, connections: int
) -> "tuple[Opened, DiskBlobs | S3Blobs]":
    from limner.adapters.sql.opening import open_stores as open_database

    durable = settings.durability == "full"
    stores = open_database(settings.database_url, durable=durable, connections=connections, file=file)
    held.callback(stores.close)
    return stores, open_blobs(settings, shared=stores.shared)


def open_blobs(settings: Settings, *, shared: bool = False) -> "DiskBlobs | S3Blobs":
    """The store of photos and artifacts. With `shared`, several web processes may claim it. SettingsError."""
    if not settings.blobs_url.startswith(S3):
        from limner.adapters.disk_blobs import DiskBlobs

        folder = Path(settings.blobs_url.removeprefix("file:"))
        return DiskBlobs(folder, durable=settings.durability == "full", shared=shared)
    try:
        from limner.adapters.s3_blobs import S3Blobs
    except ModuleNotFoundError:
        raise SettingsError("LIMNER_BLOBS_URL: S3 needs further libraries: pip install 'limner[cluster]'") from None
    return S3Blobs(settings.blobs_url, presigned=settings.artifact_urls == "presigned")


@dataclass
class _Ready:
    """How many workers have loaded their models."""

    workers: int = 0

    def set(self, workers: int) -> None:
        """Called by the engine when the number changes."""
        from limner.telemetry import WORKERS

        self.workers = workers
        WORKERS.set(workers)


class _Deferred:
    """Passes calls to an overseer that is built while the first worker is starting."""

    def __init__(self, overseer: Future[Overseer]) -> None:
        self._overseer = overseer

    def lost(self, worker: str, reason: LossReason) -> Iterable[tuple[str, str]]:
        """See `ports.Overseer.lost`."""
        return self._overseer.result(timeout=60).lost(worker, reason)

    def wanted(self, worker: str) -> bool:
        """See `ports.Overseer.wanted`."""
        return self._overseer.result(timeout=60).wanted(worker)


def _record(report: dict[str, Any]) -> None:
    from limner.telemetry import JobReport, record_metrics

    record_metrics(JobReport(**report))


def _refuse_unknown(settings: Settings) -> None:
    if settings.engine_url != "processes:":
        raise SettingsError(f"LIMNER_ENGINE_URL must be 'processes:', not {_scheme(settings.engine_url)!r}")
    if settings.bus_url != "local:":
        raise SettingsError(f"LIMNER_BUS_URL must be 'local:', not {_scheme(settings.bus_url)!r}")
    check_blobs_url(settings)


def check_blobs_url(settings: Settings) -> None:
    """SettingsError for settings of the photos and artifacts that cannot be used together."""
    is_s3 = settings.blobs_url.startswith(S3)
    if "://" in settings.blobs_url and not is_s3:
        raise SettingsError(
            f"LIMNER_BLOBS_URL must be a folder or 's3://bucket/prefix', not {_scheme(settings.blobs_url)!r}"
        )
    if is_s3 and settings.database_url == "memory:":
        raise SettingsError("LIMNER_BLOBS_URL must be a folder with LIMNER_DATABASE_URL=memory:")
    if settings.artifact_urls == "presigned" and not is_s3:
        raise SettingsError("LIMNER_ARTIFACT_URLS=presigned needs LIMNER_BLOBS_URL=s3://bucket/prefix")


def _scheme(url: str) -> str:
    """The scheme of a URL. The rest may contain a password."""
    return url.partition(":")[0] + ":"


def _with_private_folder(settings: Settings, held: ExitStack) -> Settings:
    """For `memory:`, settings with database and blobs in a temporary folder that `held` removes; else unchanged."""
    if settings.database_url != "memory:":
        return settings
    from limner import private_folder  # nobody else needs it

    try:
        folder = private_folder.make(
            Path(settings.blobs_url) if "blobs_url" in settings.model_fields_set else None, held
        )
    except OSError as error:
        raise SettingsError(f"LIMNER_BLOBS_URL: {error}") from None
    # The data does not survive the process, so it need not survive a power cut.
    private = {
        "database_url": f"sqlite:///{folder / 'limner.db'}",
        "blobs_url": str(folder / "blobs"),
        "durability": "relaxed",
    }
    return settings.model_copy(update=private)


def _database_file(settings: Settings) -> Path | None:
    """The file of a SQLite URL, without importing SQLAlchemy; None for PostgreSQL. SettingsError for another URL."""
    if settings.database_url.startswith("postgresql://"):
        return None
    file = database_file(settings.database_url)
    if file is None or file.name == ":memory:":
        raise SettingsError(
            "LIMNER_DATABASE_URL must be 'sqlite:///path', 'postgresql://user:password@host/name' or 'memory:', not "
            f"{_scheme(settings.database_url)!r}"
        )
    return file


def _claim(database: Path, held: ExitStack) -> tuple[int, int]:
    """Lock the database for this web process: `local:` wakes only its readers, and `Sweep.recover` must be alone.

    Returns the device and inode of its file, which is created if there is none.
    """
    try:
        database = database.resolve()  # the same lock, whatever path leads to the file
        database.parent.mkdir(parents=True, exist_ok=True)
        database.touch(mode=0o600)  # results describe faces: other users may not read them
        file = database.stat()
        if not stat.S_ISREG(file.st_mode):
            raise SettingsError(f"LIMNER_DATABASE_URL: {database} is not a file")
        lock: IO[bytes] = held.enter_context(database.with_name(database.name + ".lock").open("ab"))
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links that lead in a circle
        raise SettingsError(f"LIMNER_DATABASE_URL: {error}") from None
    if file.st_nlink > 1:
        raise SettingsError(
            f"LIMNER_DATABASE_URL: {database} has {file.st_nlink} names (hard links), and SQLite would keep a log "
            "for each: remove the others, or copy the file"
        )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(
            f"another process is serving {database.name} already; LIMNER_BUS_URL=local: allows only one"
        ) from None
    return file.st_dev, file.st_ino
