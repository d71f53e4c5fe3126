"""Celery's entry point: `limner work`, or `celery -A limner.celery_app worker`. Its one task runs a job by its id.

Read `Child`. The main process of a worker opens no database and loads no model; its children do.
"""

import atexit
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")  # a stop waits for running jobs, but not longer than `drain_s`

from billiard import common as processes
from celery import signals
from celery.concurrency.prefork import TaskPool
from celery.exceptions import Reject

from limner import private_folder, shared_metrics, tracing
from limner.adapters.celery_engine import TASK
from limner.adapters.celery_worker import Guard, has_ended, name_of, prepare
from limner.adapters.process_worker import limit_memory, make_expendable
from limner.assembly.engines import celery_app
from limner.assembly.workers import build_child
from limner.domain.errors import LimnerError, SettingsError, UnavailableError
from limner.domain.job import Status
from limner.domain.lane import CPU, GPU, LANES, REMOTE
from limner.settings import load
from limner.vision import weights

log = logging.getLogger(__name__)

NICENESS = 10
HARD_LIMIT_S = 30.0  # after the timeout, Celery kills a child that its own guard could not end
RESIDENT_KIB = 2_000_000  # a child that has grown to this size is replaced after its job
START_S = 60.0
BY_DEFAULT = [lane for lane in LANES if lane != GPU]
AGAIN_S = 1.0  # before a job that could not be started is given back: the next worker would fail alike

settings = load()
app = celery_app(settings)
app.conf.update(
    worker_concurrency=settings.workers,
    worker_soft_shutdown_timeout=settings.drain_s,
    worker_max_tasks_per_child=settings.worker_jobs or None,
    worker_max_memory_per_child=RESIDENT_KIB,
    worker_proc_alive_timeout=START_S,
    worker_send_task_events=False,
    task_time_limit=max(lane.timeout_s for lane in settings.lanes().values()) + HARD_LIMIT_S,
)


class Child:
    """A child of the worker: the runner with its models, and the guard of its job."""

    def __init__(self) -> None:
        """Load the models. LimnerError."""
        self._runner, self._overseer = build_child(settings, name_of(os.getpid()))
        self._guard = Guard(self._runner.worker, self._overseer, deaf_s=settings.lease_s)
        self._guard.start()
        from limner.telemetry import WORKERS

        WORKERS.set(1)

    def run(self, job_id: str, lane: str) -> None:
        """Run a job of a lane, if it is still to be run. UnavailableError."""
        from limner.telemetry import record_metrics

        with self._guard.of(job_id, settings.lanes()[lane].timeout_s):
            report = self._runner.run(job_id)
            if report is None and self._is_left_over(job_id):
                report = self._runner.run(job_id)
        if report is not None:
            self._runner.bus.wake()
            record_metrics(report)

    def _is_left_over(self, job_id: str) -> bool:
        """Whether the worker of the job was a process of this machine that has ended, so that no lease need end."""
        job = self._runner.reader.get(job_id)
        if job is None or job.status is not Status.RUNNING or job.worker is None or not has_ended(job.worker):
            return False
        self._overseer.lost(job.worker, "died")
        return True


_child: Child | None = None
_memory_bytes = settings.worker_memory_bytes
"""The limit of each child, set before there are any."""


@app.task(name=TASK)
def run(job_id: str, lane: str = CPU) -> None:
    """Run one job of a lane. A message is given back if the job cannot be run just now."""
    global _child  # noqa: PLW0603  # one for each process, made once
    try:
        _child = _child or Child()
        _child.run(job_id, lane)
    except UnavailableError as error:
        log.warning("job not run now", extra={"job": job_id, "detail": error.detail})
        _give_back(error)
    except LimnerError as error:
        log.error("a worker cannot start: %s", error.detail)  # noqa: TRY400  # the message says it all
        _give_back(error)


def _give_back(error: Exception) -> None:
    time.sleep(AGAIN_S)
    raise Reject(str(error), requeue=True) from None


# --- the children ----------------------------------------------------------------------------------------------------


@signals.worker_process_init.connect
def _begin_child(**_: object) -> None:
    """Load the models before the first job. What fails here is tried again with each job."""
    global _child  # noqa: PLW0603
    prepare()
    make_expendable()
    limit_memory(_memory_bytes)
    os.nice(NICENESS)
    tracing.start("worker")
    try:
        _child = Child()
    except LimnerError as error:
        log.warning("a worker is not ready yet", extra={"detail": error.detail})


@signals.worker_process_shutdown.connect
def _end_child(**_: object) -> None:
    """A child that ends by itself."""
    tracing.stop()


# --- the main process ------------------------------------------------------------------------------------------------


@signals.celeryd_init.connect
def _begin(options: Mapping[str, Any], **_: object) -> None:
    """Before anything else in the main process of a worker."""
    global _memory_bytes  # noqa: PLW0603  # children are forked from this process
    queues = options.get("queues") or ()
    if GPU in (queues.split(",") if isinstance(queues, str) else queues):
        # CUDA reserves addresses for all memory of machine and device, and a model stays loaded from job to job.
        _memory_bytes = 0
        app.conf.worker_max_memory_per_child = None
    if processes.REMAP_SIGTERM != "SIGQUIT":  # `celery -A …` has read it before this module: begin again
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    app.amqp.queues.select(BY_DEFAULT)  # unless `--queues` selects others
    if settings.worker_metrics_port:
        held = ExitStack()
        atexit.register(held.close)
        shared_metrics.use_folder(private_folder.make(None, held, watched=False))
    try:
        for name in settings.model_names():
            weights.path(settings.models_dir, name)
    except LimnerError as error:  # Celery only logs what its signals raise
        raise SystemExit(f"Error: {error.title}: {error.detail}") from None


@signals.celeryd_after_setup.connect
def _check_options(instance: Any, **_: object) -> None:
    """Refuse options of Celery's own command with which jobs would not be guarded, or would share a device."""
    try:
        _check_pool(instance.pool_cls)
        _check_lanes(list(app.amqp.queues.consume_from), instance.max_concurrency or instance.concurrency)
    except SettingsError as error:
        raise SystemExit(f"Error: {error.title}: {error.detail}") from None


def _check_pool(pool: type) -> None:
    if pool is not TaskPool:
        raise SettingsError("--pool must be prefork: a job that crashes or hangs must end with a process of its own")


def _check_lanes(lanes: Sequence[str], concurrency: int | None) -> None:
    """SettingsError for lanes that one worker cannot serve, or not with so many jobs at a time."""
    unknown = set(lanes) - set(LANES)
    if unknown:
        raise SettingsError(f"--lanes: no such lane: {', '.join(sorted(unknown))}; there are {', '.join(LANES)}")
    if GPU in lanes and (len(lanes) > 1 or (concurrency or 1) > 1):
        raise SettingsError(
            "--lanes: a worker of the lane gpu serves no other one, and runs one job at a time (--concurrency 1)"
        )


@signals.setup_logging.connect
def _set_up_log(**_: object) -> None:
    from limner.telemetry import set_up_log

    set_up_log(settings.log_level, settings.log_format)
    for name in ("celery", "kombu"):  # they log each job twice
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)  # `run` tells why a message was given back


@signals.worker_ready.connect
def _tell_ready(sender: Any, **_: object) -> None:
    """Serve the metrics of the children, which are running now."""
    if settings.worker_metrics_port:
        try:
            stop = shared_metrics.serve(settings.host, settings.worker_metrics_port)
        except OSError as error:  # no reason for jobs to wait
            log.error(  # noqa: TRY400  # the message says it all
                "LIMNER_WORKER_METRICS_PORT: cannot listen on %s:%s: %s",
                settings.host,
                settings.worker_metrics_port,
                error.strerror,
            )
        else:
            atexit.register(stop)  # children end without their exit handlers
    lanes = sorted(sender.task_consumer.queues, key=lambda queue: str(getattr(queue, "name", queue)))
    log.info("worker ready", extra={"lanes": ",".join(str(getattr(lane, "name", lane)) for lane in lanes)})


def work(lanes: Sequence[str], concurrency: int | None) -> None:
    """Be a worker for these lanes (none: all but `gpu`) until SIGTERM. SettingsError.

    A worker of the lane `gpu` runs one job at a time, because it has a device alone; so it can serve no other lane.
    """
    _check_lanes(lanes, concurrency)
    if list(lanes) == [GPU]:
        concurrency = 1
    elif list(lanes) == [REMOTE]:
        concurrency = concurrency or settings.lanes()[REMOTE].workers
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--without-gossip",  # workers need not know of each other
            "--without-mingle",
            "--hostname",
            f"limner-{os.getpid()}@%h",  # unique, so that several workers of a machine can be told apart
            "--queues",
            ",".join(lanes or BY_DEFAULT),
            *(["--concurrency", str(concurrency)] if concurrency else []),
        ]
    )
