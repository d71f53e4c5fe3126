"""What runs jobs in a worker process."""

from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

from limner.assembly.engines import open_bus
from limner.assembly.stores import FileId, existing_file, open_pair, traced
from limner.domain.lane import CPU, REMOTE
from limner.ports import Bus
from limner.settings import EMBEDDED, Settings

if TYPE_CHECKING:
    from limner.jobs.oversee import JobOverseer
    from limner.jobs.run import Runner

LEASE_MARGIN_S = 10.0


def build_runner(
    settings: Settings, worker: str, bus: Bus, file: FileId | None, *, lane: str | None = None
) -> "Runner":
    """The runner of the worker process `worker`, with its models loaded. ModelError.

    A worker of the lane `remote` loads no model before it needs one. `file` is the SQLite file that the web process
    uses: a worker that starts later must not use another one.
    """
    from limner.adapters.sql.opening import WORKER_CONNECTIONS
    from limner.jobs.run import Runner
    from limner.operations import CATALOGUE
    from limner.vision.models import Models

    models = Models(settings.models_dir)
    if lane != REMOTE:
        models.detector()
        models.mesh()
    stores, blobs = open_pair(settings, ExitStack(), file, WORKER_CONNECTIONS)  # until this process ends
    return Runner(
        worker=worker,
        catalogue=CATALOGUE,
        store=stores.store,
        reader=stores.reader,
        blobs=traced(blobs),
        bus=bus,
        models=models,
        limits=settings.limits(),
        lease=lease(settings, lane),
        lanes=settings.lanes(),
        cache_for=timedelta(hours=settings.cache_hours),
    )


def build_child(settings: Settings, worker: str) -> "tuple[Runner, JobOverseer]":
    """The runner of a Celery worker's child, with its models loaded, and what reports its job as lost.

    ModelError; UnavailableError while there is no database.
    """
    from limner.jobs.oversee import JobOverseer

    bus = open_bus(settings, ExitStack())  # until this process ends
    runner = build_runner(settings, worker, bus, existing_file(settings))
    return runner, JobOverseer(runner.store, runner.reader, bus, settings.max_attempts)


def lease(settings: Settings, lane: str | None = None) -> timedelta:
    """The lease of a job in this lane, or the longest one.

    Embedded, the lease must only be longer than the time in which it may not be renewed, because the supervisor
    notices at once that a worker has ended. A job can hold the interpreter's lock, and so prevent renewals, until its
    timeout. One that waits for another server does not hold it meanwhile, and computes no longer than a job of `cpu`.

    With Celery nobody notices, so the lease is short. A job that prevents its renewal is ended with its process when
    the lease ends (`adapters/celery_worker.py`), and runs again.
    """
    if settings.engine_url != EMBEDDED:
        return timedelta(seconds=settings.lease_s)
    lanes = settings.lanes()
    longest_s = max(lanes[CPU if name == REMOTE else name].timeout_s for name in lanes if lane in (None, name))
    return timedelta(seconds=max(settings.lease_s, longest_s + LEASE_MARGIN_S))
