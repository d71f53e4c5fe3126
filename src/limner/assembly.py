"""Builds the application, or a worker, from the settings. The only file that puts adapters together.

Slow imports are inside the functions, so that the first worker process starts before them and loads its models.
"""

import fcntl
import logging
import os
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
from limner.ports import Bus, Engine, JobStore, KeyReader, LossReason, Overseer
from limner.settings import EMBEDDED, Settings, database_file, is_loopback, variable
from limner.together import LOCAL, S3, check_together, scheme

if TYPE_CHECKING:
    from celery import Celery
    from fastapi import FastAPI

    from limner.adapters.disk_blobs import DiskBlobs
    from limner.adapters.s3_blobs import S3Blobs
    from limner.adapters.sql.database import Database
    from limner.adapters.sql.events import SqlEvents
    from limner.adapters.sql.reader import SqlReader
    from limner.adapters.sql.store import SqlStore
    from limner.adapters.sql.traces import SqlTraces
    from limner.adapters.sql.webhooks import SqlHookReader
    from limner.jobs.oversee import JobOverseer
    from limner.jobs.run import Runner
    from limner.jobs.sweep import Sweep
    from limner.web.admission import Admission
    from limner.web.services import Services

log = logging.getLogger(__name__)

WORKER = (sys.executable, "-P", "-m", "limner.worker")  # -P: the folder that Limner is started in holds no code of it
LEASE_MARGIN_S = 10.0
SECRETS = {"admin_key", "url_secrets"}
"""Settings that workers do not get: they decode what strangers send."""


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
    """Build the application. Embedded workers start at once, but get no job before the application runs.

    SettingsError for settings that cannot be used together, UnavailableError if the database is locked for long.
    """
    check_together(settings)
    check_together(settings)
    held = ExitStack()
    try:
        return _build(_with_private_folder(settings, held), held)
    except BaseException:
        held.close()
        raise


def _build(settings: Settings, held: ExitStack) -> Application:
    file = _claim(_database_file(settings), held)
    bus = _bus(settings, held)
    ready = _Ready()
    overseer: Future[Overseer] = Future()
    engine = _engine(settings, file, bus, ready, overseer)
    held.callback(engine.stop, 0)
    engine.start()

    from limner.adapters.remembered_blobs import RememberedBlobs
    from limner.adapters.sql.events import SqlEvents
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

    database, store, reader, disk = _paired_stores(settings, held, file)
    blobs = RememberedBlobs(disk)
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
    )

    hooks = SqlHookReader(database)
    admission = _admission(settings, database, store)
    webhooks = WebhookSender(store, hooks, SqlEvents(database), bus, settings, admission.pictures)

    def check_ready() -> None:
        try:
            store.transact(lambda tx: tx.ping())
            blobs.ping()
        except UnavailableError as error:
            log.warning("not ready", extra={"detail": error.detail})
            raise
        if settings.engine_url == EMBEDDED and not ready.workers:
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
        streams=Streams(SqlEvents(database), bus, buffer=settings.event_buffer, max_sockets=settings.max_sockets),
        limits=settings.limits(),
        memory=UploadMemory(settings.upload_memory_bytes),
        check_ready=check_ready,
        admission=admission,
    )

    @contextmanager
    def at_work() -> Iterator[None]:
        """Run the sweep meanwhile. At the end, embedded jobs get `drain_s` to finish; the others are requeued."""
        sweep.start()
        webhooks.start()
        try:
            yield
        finally:
            webhooks.stop()
            sweep.stop()
            engine.stop(settings.drain_s)

    if settings.engine_url == EMBEDDED:  # else jobs go on while no web process runs
        sweep.recover()  # here, where an error ends the start with a line instead of uvicorn's traceback
    return Application(create_app(services, at_work), services, sweep, held)


def build_runner(settings: Settings, worker: str, bus: Bus, database_file: tuple[int, int]) -> "Runner":
    """The runner of the worker process `worker`, with its models loaded. ModelError.

    `database_file` is the file that the web process uses: a worker that starts later must not use another one.
    """
    from limner.adapters.sql.reader import SqlReader
    from limner.adapters.sql.store import SqlStore
    from limner.jobs.run import Runner
    from limner.operations import CATALOGUE
    from limner.vision.models import Models

    models = Models(settings.models_dir)
    models.detector()
    models.mesh()
    database, blobs = _stores(settings, ExitStack(), database_file)  # until this process ends
    return Runner(
        worker=worker,
        catalogue=CATALOGUE,
        store=SqlStore(database),
        reader=SqlReader(database),
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

    store: "SqlStore"
    reader: "SqlReader"
    hooks: "SqlHookReader"
    events: "SqlEvents"
    traces: "SqlTraces"
    blobs: "DiskBlobs | S3Blobs"


@contextmanager
def open_stores(settings: Settings) -> Iterator[Stores]:
    """The stores of a service, which may be running. SettingsError without a database whose tables are up to date."""
    from limner.adapters.sql.database import current_revision, file_at, head_revision
    from limner.adapters.sql.events import SqlEvents
    from limner.adapters.sql.reader import SqlReader
    from limner.adapters.sql.store import SqlStore
    from limner.adapters.sql.traces import SqlTraces
    from limner.adapters.sql.webhooks import SqlHookReader

    path = _database_file(settings)
    try:
        file = file_at(path)
    except OSError:
        raise SettingsError(f"LIMNER_DATABASE_URL: there is no database {path}") from None
    with ExitStack() as held:
        database, blobs = _stores(settings, held, file)
        if current_revision(database) != head_revision():
            raise SettingsError("The tables of the database are not up to date. Run `limner migrate`.")
        store = SqlStore(database)
        held.callback(store.close)
        yield Stores(
            store, SqlReader(database), SqlHookReader(database), SqlEvents(database), SqlTraces(database), blobs
        )


def build_child(settings: Settings, worker: str) -> "tuple[Runner, JobOverseer]":
    """The runner of a Celery worker's child, with its models loaded, and what reports its job as lost.

    ModelError; UnavailableError while there is no database.
    """
    from limner.jobs.oversee import JobOverseer

    bus = _bus(settings, ExitStack())  # until this process ends
    runner = build_runner(settings, worker, bus, _existing_file(_database_file(settings)))
    return runner, JobOverseer(runner.store, runner.reader, bus, settings.max_attempts)


def celery_app(settings: Settings) -> "Celery":
    """Celery with the settings that web process and workers share. SettingsError."""
    check_together(settings)
    if settings.engine_url == EMBEDDED:
        raise SettingsError(
            "LIMNER_ENGINE_URL is 'processes:', so `limner serve` runs all jobs itself; workers of their own need "
            "the URL of a broker, such as redis://host:6379/0"
        )
    with cluster_libraries():
        from limner.adapters.celery_engine import broker_app
    return broker_app(settings.engine_url)


def _engine(settings: Settings, file: tuple[int, int], bus: Bus, ready: "_Ready", overseer: Future[Overseer]) -> Engine:
    if settings.engine_url != EMBEDDED:
        app = celery_app(settings)
        from limner.adapters.celery_engine import CeleryEngine

        return CeleryEngine(app, capacity=settings.max_queued)
    hidden = {variable(name) for name in SECRETS}
    return ProcessEngine(
        WORKER,
        {"settings": settings.model_dump(mode="json", exclude=SECRETS), "database_file": file},
        lanes={"cpu": settings.workers},
        capacity=settings.max_queued,
        timeout_s=settings.job_timeout_s,
        jobs_per_worker=settings.worker_jobs,
        overseer=_Deferred(overseer),
        on_wake=bus.wake,
        on_report=_record,
        on_ready=ready.set,
        environment={name: value for name, value in os.environ.items() if name.upper() not in hidden},
    )


def _bus(settings: Settings, held: ExitStack) -> Bus:
    if settings.bus_url == LOCAL:
        return LocalBus()
    with cluster_libraries():
        from limner.adapters.redis_bus import RedisBus
    bus = RedisBus(settings.bus_url)
    held.callback(bus.close)
    return bus


@contextmanager
def cluster_libraries() -> Iterator[None]:
    """SettingsError if a library of the extra `cluster` is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error.name} is not installed: pip install 'limner[cluster]'") from None


def _existing_file(database: Path) -> tuple[int, int]:
    """The device and inode of the database's file, which only the web process creates. UnavailableError."""
    try:
        file = database.resolve().stat()
    except OSError as error:
        raise UnavailableError(f"There is no database yet ({error.strerror}): `limner serve` creates it.") from None
    return file.st_dev, file.st_ino


def _lease(settings: Settings) -> timedelta:
    """Embedded, the lease must only be longer than the time in which it may not be renewed, because the supervisor
    notices at once that a worker has ended. A job can hold the interpreter's lock, and so prevent renewals, until its
    timeout.

    With Celery nobody notices, so the lease is short. A job that prevents its renewal is ended with its process when
    the lease ends (`adapters/celery_worker.py`), and runs again.
    """
    if settings.engine_url != EMBEDDED:
        return timedelta(seconds=settings.lease_s)
    return timedelta(seconds=max(settings.lease_s, settings.job_timeout_s + LEASE_MARGIN_S))


def _paired_stores(
    settings: Settings, held: ExitStack, file: tuple[int, int]
) -> "tuple[Database, SqlStore, SqlReader, DiskBlobs | S3Blobs]":
    """The stores of the web process, with the database migrated and paired with its blobs. SettingsError."""
    from limner.adapters.sql.database import migrate
    from limner.adapters.sql.reader import SqlReader
    from limner.adapters.sql.store import SqlStore
    from limner.jobs import pairing

    database, blobs = _stores(settings, held, file)
    if migrate(database):
        log.info("database migrated")
    store, reader = SqlStore(database), SqlReader(database)
    held.callback(store.close)
    held.callback(blobs.release)
    pairing.pair(store, reader, blobs, database=str(database.path), folder=settings.blobs_url)
    return database, store, reader, blobs


def _stores(settings: Settings, held: ExitStack, file: tuple[int, int]) -> "tuple[Database, DiskBlobs | S3Blobs]":
    from limner.adapters.sql.database import Database

    durable = settings.durability == "full"
    database = Database(settings.database_url, durable=durable, file=file)
    held.callback(database.close)
    return database, open_blobs(settings)


def open_blobs(settings: Settings) -> "DiskBlobs | S3Blobs":
    """The store of photos and artifacts. SettingsError."""
    if not settings.blobs_url.startswith(S3):
        from limner.adapters.disk_blobs import DiskBlobs

        return DiskBlobs(Path(settings.blobs_url.removeprefix("file:")), durable=settings.durability == "full")
    try:
        from limner.adapters.s3_blobs import S3Blobs
    except ModuleNotFoundError:
        raise SettingsError("LIMNER_BLOBS_URL: S3 needs further libraries: pip install 'limner[cluster]'") from None
    return S3Blobs(settings.blobs_url, presigned=settings.artifact_urls == "presigned")


@contextmanager
def open_keys(settings: Settings) -> "Iterator[tuple[JobStore, KeyReader]]":
    """The store and reader of API keys, with the database migrated, for the command line. SettingsError."""
    from limner.adapters.sql.database import Database, migrate
    from limner.adapters.sql.keys import SqlKeys
    from limner.adapters.sql.store import SqlStore

    if settings.database_url == "memory:":
        raise SettingsError(
            "With LIMNER_DATABASE_URL=memory: the keys are gone when the service stops: set LIMNER_ADMIN_KEY instead"
        )
    with ExitStack() as held:
        database = Database(settings.database_url, durable=settings.durability == "full")
        held.callback(database.close)
        migrate(database)
        store = SqlStore(database)
        held.callback(store.close)
        yield store, SqlKeys(database)


def _admission(settings: Settings, database: "Database", store: "SqlStore") -> "Admission":
    """Who may call which route. Without keys, nothing of it is imported or written."""
    from limner.web.admission import Admission

    if not settings.keys_required():
        if not is_loopback(settings.host):
            log.warning(
                "no API key is needed: everyone who can connect sees, sends and erases all photos",
                extra={"host": settings.host},
            )
        return Admission()
    from limner.adapters.rate_counters import LocalCounters, RedisCounters
    from limner.adapters.sql.keys import SqlKeys
    from limner.jobs.url_secret import url_secret
    from limner.web.keyring import Keyring
    from limner.web.links import Seal

    keys = SqlKeys(database)
    admin_key = settings.admin_key.get_secret_value() if settings.admin_key is not None else None
    if admin_key is None and not keys.all():
        log.warning(
            "API keys are required, and there is none yet: run `limner keys create`, or set LIMNER_ADMIN_KEY",
            extra={"host": settings.host},
        )
    secrets = [secret.get_secret_value() for secret in settings.url_secrets] or [url_secret(store)]
    shared = settings.bus_url.startswith(("redis:", "rediss:"))
    return Admission(
        keyring=Keyring(keys, store, admin_key),
        seal=Seal(secrets),
        counters=RedisCounters(settings.bus_url) if shared else LocalCounters(),
        lifetime_s=settings.url_lifetime_s,
        open_metrics=settings.open_metrics,
        proxies=settings.proxy_addresses,
    )


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


def _database_file(settings: Settings) -> Path:
    """The file of a SQLite URL, without importing SQLAlchemy. SettingsError for another URL."""
    file = database_file(settings.database_url)
    if file is None or file.name == ":memory:":
        raise SettingsError(
            f"LIMNER_DATABASE_URL must be 'sqlite:///path' or 'memory:', not {scheme(settings.database_url)!r}"
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
