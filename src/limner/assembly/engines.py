"""The engine and the bus that the settings name."""

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from limner.adapters.live_process import LiveProcess
from limner.adapters.local_bus import LocalBus
from limner.adapters.process_engine import ProcessEngine
from limner.assembly.stores import FileId, cluster_libraries
from limner.domain.errors import SettingsError
from limner.ports import Bus, Engine, LossReason, Overseer
from limner.settings import EMBEDDED, Settings, variable
from limner.together import LOCAL, check_together

if TYPE_CHECKING:
    from celery import Celery

WORKER = (sys.executable, "-P", "-m", "limner.worker")  # -P: the folder that Limner is started in holds no code of it
LIVE_WORKER = (sys.executable, "-P", "-m", "limner.live_worker")
SECRETS = {"admin_key", "image_keys", "url_secrets"}
"""Settings that workers do not get: they decode what strangers send."""


def celery_app(settings: Settings) -> "Celery":
    """Celery with the settings that web process and workers share. SettingsError."""
    check_together(settings)
    if settings.engine_url == EMBEDDED:
        raise SettingsError(
            "LIMNER_ENGINE_URL is 'processes:', so `limner serve` runs all jobs itself; workers of their own need "
            "the URL of a broker, such as redis://host:6379/0"
        )
    with cluster_libraries("LIMNER_ENGINE_URL"):
        from limner.adapters.celery_engine import broker_app
    return broker_app(settings.engine_url)


def open_engine(
    settings: Settings, file: FileId | None, bus: Bus, on_ready: Callable[[int], None], overseer: Future[Overseer]
) -> Engine:
    """The engine, not yet started. `on_ready` is told how many workers of this process have loaded their models."""
    if settings.engine_url != EMBEDDED:
        app = celery_app(settings)
        from limner.adapters.celery_engine import CeleryEngine

        return CeleryEngine(app, capacity=sum(lane.max_queued for lane in settings.lanes().values()))
    hidden = {variable(name) for name in SECRETS}
    return ProcessEngine(
        WORKER,
        {"settings": settings.model_dump(mode="json", exclude=SECRETS), "database_file": file},
        lanes={name: lane for name, lane in settings.lanes().items() if lane.workers},
        jobs_per_worker=settings.worker_jobs,
        overseer=_Deferred(overseer),
        on_wake=bus.wake,
        on_report=_record,
        on_ready=on_ready,
        environment={name: value for name, value in os.environ.items() if name.upper() not in hidden},
    )


def open_live(settings: Settings) -> LiveProcess:
    """What looks at live frames, not yet started. Its process gets no setting and no variable that may be a secret."""
    return LiveProcess(
        LIVE_WORKER,
        {
            "models_dir": str(settings.models_dir.absolute()),
            "memory_bytes": settings.worker_memory_bytes,
            "log_level": settings.log_level,
            "log_format": settings.log_format,
        },
        environment={
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") or name.startswith(("PYTHON", "LD_", "LC_"))
        },
    )


def open_bus(settings: Settings, held: ExitStack) -> Bus:
    """The bus, until `held` is closed."""
    if settings.bus_url == LOCAL:
        return LocalBus()
    with cluster_libraries("LIMNER_BUS_URL"):
        from limner.adapters.redis_bus import RedisBus
    bus = RedisBus(settings.bus_url)
    held.callback(bus.close)
    return bus


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
