"""Traces of requests and jobs by OpenTelemetry. Off unless OTEL_* say where to send them; then nothing is imported.

`otel.py` makes the spans; `docs/traces.md` says what they tell.
"""

import contextvars
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

from limner.domain.errors import SettingsError, how_to_install

if TYPE_CHECKING:
    from limner.otel import Tracing

T = TypeVar("T")
Tx = TypeVar("Tx")
Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"

_tracing: "Tracing | None" = None


class Span(Protocol):
    """One part of the work, from entering to leaving its context."""

    def set(self, attributes: Attributes) -> None:
        """Add what is known about it now."""
        ...

    def rename(self, name: str) -> None:
        """Give it another name."""
        ...

    def failed(self, kind: str) -> None:
        """It ended with an error of this kind. The error's text is not told: it may hold what a client sent."""
        ...


class _Nothing:
    """The span that is not recorded."""

    def __enter__(self) -> "_Nothing":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing."""

    def set(self, attributes: Attributes) -> None:
        """See `Span.set`."""

    def rename(self, name: str) -> None:
        """See `Span.rename`."""

    def failed(self, kind: str) -> None:
        """See `Span.failed`."""


_NOTHING = _Nothing()


def wanted() -> bool:
    """Whether the environment names a receiver of traces."""
    return (
        any(os.environ.get(name) for name in ENDPOINTS)
        and os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
        and os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() != "none"
    )


def collector() -> str:
    """Host and port of the receiver, without user, password and path."""
    url = next(os.environ[name] for name in ENDPOINTS if os.environ.get(name))
    return urlsplit(url).netloc.rpartition("@")[2]


def check() -> None:
    """SettingsError if traces are wanted and cannot be sent."""
    if not wanted():
        return
    for name in ENDPOINTS:
        if os.environ.get(name) and not os.environ[name].startswith(("http://", "https://")):
            raise SettingsError(f"{name} must begin with http:// or https://")
    for name in PROTOCOLS:
        if os.environ.get(name, PROTOCOL) not in ("", PROTOCOL):
            raise SettingsError(f"{name} must be {PROTOCOL}: traces are sent in no other way")
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter not in ("", "otlp"):
        raise SettingsError("OTEL_TRACES_EXPORTER must be `otlp` or `none`")
    missing = [name for name in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http") if not _is_there(name)]
    if missing:
        variable = next(name for name in ENDPOINTS if os.environ.get(name))
        raise SettingsError(f"{variable} needs {missing[0]}, which is not installed: {how_to_install('traces')}")


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def start(part: str) -> None:
    """Begin to record, if the environment asks for it. `part` of the service: `web` or `worker`. SettingsError.

    Call it in the process that records: its thread does not survive a fork.
    """
    global _tracing  # noqa: PLW0603  # one for each process, as the log
    check()
    if wanted() and _tracing is None:
        from limner.otel import Tracing

        _tracing = Tracing(part, collector())


def stop() -> None:
    """Send what is recorded, for at most two seconds, and record nothing more."""
    global _tracing
    stopped, _tracing = _tracing, None
    if stopped is not None:
        stopped.stop()


def on() -> bool:
    """Whether spans are recorded."""
    return _tracing is not None


def span(
    name: str, *, kind: Kind = "internal", parent: str | None = None, attributes: Attributes | None = None
) -> AbstractContextManager[Span]:
    """A span below `parent` (a W3C `traceparent`), or else below the current one, or else the first of a trace."""
    if _tracing is None:
        return _NOTHING
    return _tracing.span(name, kind, parent, attributes)


def step(name: str, attributes: Attributes | None = None) -> AbstractContextManager[Span]:
    """A span below the current one; nothing where there is none."""
    if _tracing is None or not _tracing.within():
        return _NOTHING
    return _tracing.span(name, "internal", None, attributes)


def record(
    name: str, began: datetime, ended: datetime, *, parent: str | None, attributes: Attributes | None = None
) -> None:
    """A span of the past below `parent`; nothing without one."""
    if _tracing is not None and parent is not None:
        _tracing.record(name, began, ended, parent, attributes)


def traceparent() -> str | None:
    """What names the current span to another process; None where there is none."""
    return None if _tracing is None else _tracing.traceparent()


def in_context(work: Callable[[Tx], T]) -> Callable[[Tx], T]:
    """`work`, whose spans are below the current one, whichever thread runs it."""
    if _tracing is None:
        return work
    context = contextvars.copy_context()
    return lambda tx: context.run(work, tx)
