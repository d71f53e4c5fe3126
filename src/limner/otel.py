"""Spans by OpenTelemetry, sent over OTLP. Slow to import: only `tracing.py` does it, where traces are wanted."""

import logging
import threading
from collections.abc import Mapping, Sequence
from contextvars import Token
from datetime import datetime
from types import TracebackType

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from limner import __version__

log = logging.getLogger(__name__)

STOP_S = 2.0
TOLD_BY_EXPORTER = ("opentelemetry.exporter.otlp", "opentelemetry.sdk._shared_internal")
"""Loggers that repeat each failure. `_Exporter` tells them once."""

Attributes = Mapping[str, str | int | float | bool]

_WAY = TraceContextTextMapPropagator()


class Tracing:
    """The recorder of this process: a bounded queue of spans that have ended, and a thread that sends them."""

    def __init__(self, part: str, collector: str) -> None:
        own = Resource({"service.name": "limner", "service.version": __version__, "limner.part": part})
        # Variables of the environment say the name, how much is sampled, and the queue's size (2048 spans by default).
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._exporter = _Exporter(collector)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("limner", __version__)
        _silence()

    def stop(self) -> None:
        """Send what is in the queue. A collector that does not answer is waited for `STOP_S` at most."""
        self._exporter.hurry()
        last = threading.Thread(target=self._provider.shutdown, name="traces-stop", daemon=True)
        last.start()
        last.join(STOP_S)

    def span(self, name: str, kind: str, parent: str | None, attributes: Attributes | None) -> "_Open":
        """See `tracing.span`."""
        above = None if parent is None else _above(parent)
        return _Open(self._tracer.start_span(name, above, SpanKind[kind.upper()], attributes))

    def record(self, name: str, began: datetime, ended: datetime, parent: str, attributes: Attributes | None) -> None:
        """See `tracing.record`."""
        made = self._tracer.start_span(name, _above(parent), attributes=attributes, start_time=_ns(began))
        made.end(max(_ns(began), _ns(ended)))  # two machines' clocks may differ

    def within(self) -> bool:
        """Whether there is a current span that is recorded."""
        return trace.get_current_span().is_recording()

    def traceparent(self) -> str | None:
        """See `tracing.traceparent`."""
        carrier: dict[str, str] = {}
        _WAY.inject(carrier)
        return carrier.get("traceparent")


class _Open:
    """See `tracing.Span`."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._token: Token[Context] | None = None

    def __enter__(self) -> "_Open":
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self.failed(type(error).__name__)
        if self._token is not None:
            context.detach(self._token)
        self._span.end()

    def set(self, attributes: Attributes) -> None:
        """See `tracing.Span.set`."""
        self._span.set_attributes(dict(attributes))

    def rename(self, name: str) -> None:
        """See `tracing.Span.rename`."""
        self._span.update_name(name)

    def failed(self, kind: str) -> None:
        """See `tracing.Span.failed`."""
        self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attribute("error.type", kind)


class _Exporter(SpanExporter):
    """Sends spans, and logs one line when the collector goes away, and one when it is back."""

    def __init__(self, collector: str) -> None:
        self._inner = OTLPSpanExporter()
        self._collector = collector
        self._away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter.export`."""
        result = self._inner.export(spans)
        away = result is not SpanExportResult.SUCCESS
        if away and not self._away:
            log.warning("traces cannot be sent and are dropped until they can", extra={"collector": self._collector})
        elif self._away and not away:
            log.warning("traces are sent again", extra={"collector": self._collector})
        self._away = away
        return result

    def hurry(self) -> None:
        """The process ends: wait for a collector no longer that was away the last time."""
        if self._away:
            self._inner.shutdown()  # type: ignore[no-untyped-call]

    def shutdown(self) -> None:
        """See `SpanExporter.shutdown`."""
        self._inner.shutdown()  # type: ignore[no-untyped-call]


def collector_takes(*, timeout_s: float) -> bool:
    """Whether the collector accepts a message without spans."""
    _silence()
    exporter = OTLPSpanExporter(timeout=timeout_s)
    try:
        return exporter.export(()) is SpanExportResult.SUCCESS
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]


def _silence() -> None:
    for name in TOLD_BY_EXPORTER:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _above(parent: str) -> Context:
    return _WAY.extract({"traceparent": parent}, Context())


def _ns(moment: datetime) -> int:
    return int(moment.timestamp() * 1e9)
