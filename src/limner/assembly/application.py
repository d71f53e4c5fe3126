"""The web application with all its parts."""

import logging
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from limner import tracing
from limner.assembly.engines import open_bus, open_engine, open_live
from limner.assembly.stores import claim, cluster_libraries, open_paired, traced
from limner.assembly.workers import lease
from limner.blob_ports import BlobStore
from limner.domain.errors import SettingsError, UnavailableError
from limner.key_ports import Counters
from limner.ports import JobStore, Overseer
from limner.settings import EMBEDDED, Settings, is_loopback
from limner.together import check_together

if TYPE_CHECKING:
    from fastapi import FastAPI

    from limner.adapters.sql.opening import Stores as Opened
    from limner.jobs.sweep import Sweep
    from limner.web.admission import Admission
    from limner.web.services import Services

log = logging.getLogger(__name__)


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
    held = ExitStack()
    try:
        return _build(_with_private_folder(settings, held), held)
    except BaseException:
        held.close()
        raise


def _build(settings: Settings, held: ExitStack) -> Application:
    file = claim(settings, held)
    tracing.start("web")
    held.callback(tracing.stop)
    bus = open_bus(settings, held)
    ready = _Ready()
    overseer: Future[Overseer] = Future()
    engine = open_engine(settings, file, bus, ready.set, overseer)
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
    from limner.web.live_sockets import Live
    from limner.web.services import Services
    from limner.web.upload_memory import UploadMemory
    from limner.web.webhook_sender import WebhookSender

    stores, disk = open_paired(settings, held, file)
    store, reader, blobs = stores.store, stores.reader, RememberedBlobs(traced(disk))
    overseer.set_result(JobOverseer(store, reader, bus, settings.max_attempts))
    sweep = Sweep(
        store=store,
        reader=reader,
        blobs=blobs,
        engine=engine,
        bus=bus,
        max_attempts=settings.max_attempts,
        max_queued=sum(lane.max_queued for lane in settings.lanes().values()),
        keep=timedelta(days=settings.keep_days) if settings.keep_days else None,
        every_s=settings.sweep_s,
        lease=lease(settings),
        alone=not stores.shared,
        clock=lambda: store.transact(lambda tx: tx.now()),
    )

    hooks = SqlHookReader(stores.database)
    admission = _admission(settings, stores)
    webhooks = WebhookSender(store, hooks, stores.events, bus, settings, admission.pictures)

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
            lanes=settings.lanes(),
            cache_for=timedelta(hours=settings.cache_hours),
            ids=JobIds(next((job.id for job in reader.page(limit=1)), None)),
        ),
        streams=Streams(stores.events, bus, buffer=settings.event_buffer, max_sockets=settings.max_sockets),
        limits=settings.limits(),
        memory=UploadMemory(settings.upload_memory_bytes),
        check_ready=partial(_check_ready, settings, store, blobs, ready),
        live=Live(open_live(settings), max_sockets=settings.live_sockets, idle_s=settings.live_idle_s),
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


def _check_ready(settings: Settings, store: JobStore, blobs: BlobStore, ready: "_Ready") -> None:
    """UnavailableError while photos cannot be stored or, embedded, no worker can run them."""
    try:
        store.transact(lambda tx: tx.ping())
        blobs.ping()
    except UnavailableError as error:
        log.warning("not ready", extra={"detail": error.detail})
        raise
    if settings.engine_url == EMBEDDED and not ready.workers:
        raise UnavailableError("No worker has loaded its models yet. Try again in a few seconds.")


def _admission(settings: Settings, stores: "Opened") -> "Admission":
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

    keys = SqlKeys(stores.database)
    admin_key = settings.admin_key.get_secret_value() if settings.admin_key is not None else None
    if admin_key is None and not keys.all():
        log.warning(
            "API keys are required, and there is none yet: run `limner keys create`, or set LIMNER_ADMIN_KEY",
            extra={"host": settings.host},
        )
    secrets = [secret.get_secret_value() for secret in settings.url_secrets] or [url_secret(stores.store)]
    counters: Counters = LocalCounters()
    if settings.bus_url.startswith(("redis:", "rediss:")):
        with cluster_libraries("LIMNER_BUS_URL"):
            counters = RedisCounters(settings.bus_url)
    return Admission(
        keyring=Keyring(keys, stores.store, admin_key),
        seal=Seal(secrets),
        counters=counters,
        lifetime_s=settings.url_lifetime_s,
        open_metrics=settings.open_metrics,
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
