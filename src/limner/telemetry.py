"""Every metric in one table, and the set-up of the log. `docs/metrics.md` lists the metrics; a test checks the list."""

import contextvars
import logging
import logging.config
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody reads

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)

REQUESTS = Counter(
    "http_requests", "HTTP requests by method, route template and status", ["method", "handler", "status"]
)
REQUEST_SECONDS = Histogram(
    "http_request_duration_seconds",
    "Time to answer a request",
    ["method", "handler", "status"],
    buckets=REQUEST_BUCKETS,
)
JOBS_SUBMITTED = Counter(
    "limner_jobs_submitted",
    "Jobs taken in, by how: new, shared (same work in flight), exact (cache)",
    ["operation", "how"],
)
JOBS_FINISHED = Counter("limner_jobs_finished", "Jobs that ended, by status", ["operation", "status"])
JOB_SECONDS = Histogram("limner_job_seconds", "Time to run a job", ["operation"], buckets=STAGE_BUCKETS)
STAGE_SECONDS = Histogram(
    "limner_stage_seconds", "Time of each stage of a job", ["operation", "stage"], buckets=STAGE_BUCKETS
)
JOBS_SIMILAR = Counter(
    "limner_jobs_similar", "Jobs answered by the result of a photo that looks the same", ["operation"]
)
RESULT_SUMS = Counter(
    "limner_result_sums", "Sums over results of what they count, e.g. faces_count", ["operation", "field"]
)
# A gauge of several processes is their sum, or for what is read from the database, the latest value.
# `shared_metrics.py` drops those of ended processes.
WORKERS = Gauge("limner_workers", "Worker processes that have their models", multiprocess_mode="livesum")
QUEUE_DEPTH = Gauge("limner_queue_depth", "Jobs that are queued", ["lane"], multiprocess_mode="livemostrecent")
QUEUE_AGE = Gauge(
    "limner_queue_age_seconds",
    "How long the oldest queued job has waited",
    ["lane"],
    multiprocess_mode="livemostrecent",
)
CACHE_RESULTS = Gauge(
    "limner_cache_results",
    "Results that are stored and were not themselves answers from the cache",
    multiprocess_mode="livemostrecent",
)
STORED_BYTES = Gauge(
    "limner_stored_bytes", "Photos and artifacts that jobs name, bytes", multiprocess_mode="livemostrecent"
)
JOBS_RUNNING = Gauge("limner_jobs_running", "Jobs that run", ["lane"], multiprocess_mode="livemostrecent")
DATABASE_UP = Gauge(
    "limner_database_up", "Whether the database answered when the metrics were read", multiprocess_mode="livemostrecent"
)
EVENTS_SENT = Counter("limner_events_sent", "Events sent to listeners, by stream kind", ["stream"])
SOCKETS = Gauge(
    "limner_sockets", "Open event streams and live sockets, by kind", ["stream"], multiprocess_mode="livesum"
)
SOCKETS_SLOW = Counter("limner_sockets_slow", "Event streams closed because their reader was too slow", ["stream"])
WEBHOOKS_SENT = Counter("limner_webhooks_sent", "Tries to send an event to a webhook, by outcome", ["outcome"])
LIVE_FRAMES = Counter(
    "limner_live_frames", "Frames of live detection, by outcome: answered, failed, dropped", ["outcome"]
)
LIVE_SECONDS = Histogram("limner_live_seconds", "Time from a live frame's arrival to its answer", buckets=STAGE_BUCKETS)
CONNECTIONS = Gauge("limner_connections", "Open connections", multiprocess_mode="livesum")
CONNECTIONS_CLOSED = Counter("limner_connections_closed", "Connections that were closed early, by why", ["why"])

METRICS = (
    REQUESTS,
    REQUEST_SECONDS,
    JOBS_SUBMITTED,
    JOBS_FINISHED,
    JOB_SECONDS,
    STAGE_SECONDS,
    JOBS_SIMILAR,
    RESULT_SUMS,
    WORKERS,
    JOBS_RUNNING,
    QUEUE_DEPTH,
    QUEUE_AGE,
    CACHE_RESULTS,
    STORED_BYTES,
    DATABASE_UP,
    EVENTS_SENT,
    SOCKETS,
    SOCKETS_SLOW,
    WEBHOOKS_SENT,
    LIVE_FRAMES,
    LIVE_SECONDS,
    CONNECTIONS,
    CONNECTIONS_CLOSED,
)


@dataclass(frozen=True, slots=True)
class JobReport:
    """What a worker reports about a job that it has finished. Times are seconds; `summary` is that of the result."""

    operation: str
    status: str
    cached: str | None
    seconds: float
    stages: Mapping[str, float]
    summary: Mapping[str, int]


def record_metrics(report: JobReport) -> None:
    """Record a finished job in the metrics."""
    JOBS_FINISHED.labels(report.operation, report.status).inc()
    JOB_SECONDS.labels(report.operation).observe(report.seconds)
    if report.cached == "similar":
        JOBS_SIMILAR.labels(report.operation).inc()
    for stage, spent in report.stages.items():
        STAGE_SECONDS.labels(report.operation, stage).observe(spent)
    for name, amount in report.summary.items():
        RESULT_SUMS.labels(report.operation, name).inc(amount)


request_id: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)


def set_up_log(level: str, style: Literal["auto", "rich", "json"]) -> None:
    """Configure the log: coloured lines for `rich`, one JSON object per line for `json`; `auto` chooses.

    Nothing in the log may contain pixels, file names or landmarks.
    `debug` is for our own lines only: at that level Pillow would log every EXIF value, and HTTP clients full URLs.
    """
    if style == "auto":
        style = "rich" if sys.stderr.isatty() else "json"
    handler: logging.Handler
    if style == "rich":
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, rich_tracebacks=True, markup=False)
        handler.setFormatter(_Fields("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(
            JsonFormatter(
                "%(asctime)s %(levelname)s %(name)s %(message)s",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
                datefmt="%Y-%m-%dT%H:%M:%S%z",
                reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's lines a second time, for a terminal
            )
        )
    logging.basicConfig(level="INFO" if level == "debug" else level.upper(), handlers=[handler], force=True)
    logging.getLogger("limner").setLevel(level.upper())
    logging.getLogger("uvicorn.access").disabled = True  # web/observe.py logs each request, with its ids
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log the full URLs of clients' pictures
    logging.getLogger("alembic").setLevel(logging.WARNING)


class _Fields(logging.Formatter):
    """Appends the extra fields as key=value. (The JSON formatter includes them by itself.)"""

    _standard = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        extra = " ".join(f"{key}={value}" for key, value in record.__dict__.items() if key not in self._standard)
        return f"{super().format(record)}  {extra}" if extra else super().format(record)
