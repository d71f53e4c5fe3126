"""Checks, part by part, whether a service could start here. It creates, changes and repairs nothing."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from limner import settings, tracing
from limner.adapters import disk_blobs
from limner.adapters.sql import inspect as sql_inspect
from limner.adapters.sql.opening import WEB_CONNECTIONS, WORKER_CONNECTIONS
from limner.assembly.engines import celery_app
from limner.assembly.stores import open_blobs
from limner.domain.errors import LimnerError, SettingsError, UnavailableError
from limner.jobs.pairing import DATABASE_ID
from limner.painters import PAINTERS, configuration, wrong_entries
from limner.settings import EMBEDDED, LOOPBACK, Settings, is_loopback
from limner.together import LOCAL, MEMORY, S3, check_together
from limner.vision import weights
from limner.vision.models import Models

TRACES_S = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one part of the service: whether it works, and a note for the user."""

    part: str
    well: bool
    note: str


def examine() -> Iterator[Finding]:
    """A finding for each part. If the settings are invalid, the other parts are skipped."""
    try:
        chosen = settings.load()
        check_together(chosen)
    except LimnerError as error:
        yield Finding("settings", False, error.detail)
        return
    yield Finding("settings", True, "valid")
    yield _finding("models", lambda: _models(chosen))
    yield _finding("detector", lambda: _detector(chosen.models_dir))
    database = _finding("database", lambda: _database(chosen))
    yield database
    if chosen.database_url != MEMORY:
        yield _finding("photos", lambda: _photos(chosen))
    yield _finding("painters", _painters)
    yield _finding("address", lambda: _address(chosen))
    if database.well:
        yield _finding("keys", lambda: _keys(chosen))
    if database.well and chosen.database_url != MEMORY:
        yield _finding("webhooks", lambda: _webhooks(chosen.database_url))
    if chosen.engine_url != EMBEDDED:
        yield _finding("workers", lambda: _workers(chosen))
    if chosen.bus_url != LOCAL:
        yield _finding("bus", lambda: _bus(chosen.bus_url))
    if tracing.wanted():
        yield _finding("traces", _traces)


def _finding(part: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(part, True, look())
    except LimnerError as error:
        return Finding(part, False, error.detail)
    except Exception as error:  # noqa: BLE001  # a diagnosis reports every error
        return Finding(part, False, f"{type(error).__name__}: {error}")


def _models(chosen: Settings) -> str:
    weights.check(chosen.models_dir, chosen.model_names())
    return f"{chosen.models_dir}, all as expected"


def _detector(folder: Path) -> str:
    Models(folder).detector().detect(np.zeros((64, 64, 3), np.uint8))
    return "runs"


def _database(chosen: settings.Settings) -> str:
    state = sql_inspect.state(chosen.database_url, connections=_connections(chosen))
    file = settings.database_file(chosen.database_url)
    if file is not None:
        _check_folder(file.parent)
    return state


def _connections(chosen: settings.Settings) -> int:
    """How many connections to PostgreSQL the web processes and their workers may open. `limner work` has its own."""
    workers = chosen.workers if chosen.engine_url == EMBEDDED else 0
    return chosen.web_processes * WEB_CONNECTIONS + workers * WORKER_CONNECTIONS


def _photos(chosen: Settings) -> str:
    url, folder = chosen.blobs_url, Path(chosen.blobs_url.removeprefix("file:"))
    is_s3 = url.startswith(S3)
    if is_s3:
        from limner.adapters.s3_blobs import S3Blobs

        place = open_blobs(chosen)
        assert isinstance(place, S3Blobs)
        owner = place.look()
    else:
        _check_folder(folder)
        owner = disk_blobs.owner_of(folder)
    known = sql_inspect.fact(chosen.database_url, DATABASE_ID)
    if owner is not None and (known not in (None, owner) or sql_inspect.is_new(chosen.database_url)):
        raise SettingsError(f"{url} belongs to another database, and `limner serve` would refuse it")
    if is_s3:
        return f"{url}, " + ("in use" if owner is not None else "not used yet")
    return str(folder) if folder.exists() else f"`limner serve` will create {folder}"


def _painters() -> str:
    wrong = wrong_entries()
    if wrong:
        raise SettingsError("; ".join(wrong))
    names = [f"{name}/{entry}" for name in PAINTERS for entry in configuration.entry_names(name)]
    return f"entries of your own: {', '.join(names) or 'none'}"


def _address(chosen: Settings) -> str:
    """Where the service listens, and the names and URLs by which others know it."""
    told = f"{chosen.host}:{chosen.port}"
    if chosen.public_url is None:
        told += "; URLs in answers are those that clients call"
        if not is_loopback(chosen.host) or chosen.accel_prefix is not None:
            told += (
                "; behind a proxy with a name, set LIMNER_PUBLIC_URL: other names than "
                f"{', '.join(('localhost', *chosen.allowed_hosts))} are answered 421"
            )
        return told
    public = urlsplit(chosen.public_url)
    if public.scheme not in ("http", "https") or not public.hostname:
        raise SettingsError("LIMNER_PUBLIC_URL must begin with http:// or https:// and name a host")
    if not is_loopback(chosen.host) and chosen.proxy_addresses == LOOPBACK:
        told += "; a proxy on another machine must be in LIMNER_PROXY_ADDRESSES, or all its clients count as one"
    return f"{told}; known as {public.scheme}://{public.netloc.rpartition('@')[2]}"


def _keys(chosen: Settings) -> str:
    if not chosen.keys_required():
        who = "this machine" if is_loopback(chosen.host) else f"everyone who can connect to {chosen.host}"
        return f"not required: {who} sees, sends and erases all photos"
    found = None
    if chosen.database_url != MEMORY:
        found = sql_inspect.rows(chosen.database_url, "SELECT scopes, expires_at FROM keys WHERE revoked_at IS NULL")
    now_us = time.time() * 1e6
    valid = [scopes.split() for scopes, ends in found or () if ends is None or ends > now_us]
    admins = sum("admin" in scopes for scopes in valid)
    told = f"required; {len(valid)} valid, {admins} of them with the scope admin"
    if chosen.admin_key is not None:
        return f"{told}; LIMNER_ADMIN_KEY is set"
    return told if valid else f"{told}: run `limner keys create`, or every request is answered 401"


def _webhooks(url: str) -> str:
    disabled = sql_inspect.rows(url, "SELECT count(*) FROM hooks WHERE state = 'disabled'")
    failed = sql_inspect.rows(
        url,
        "SELECT host, last_status, last_error FROM deliveries WHERE state = 'failed' ORDER BY ended_at DESC LIMIT 3",
    )
    if disabled is None or failed is None:
        return "none yet"
    told = f"{disabled[0][0]} disabled; " if disabled[0][0] else ""
    if not failed:
        return f"{told}no failed delivery"
    last = ", ".join(f"{host} ({status or error})" for host, status, error in failed)
    return f"{told}last failed deliveries: {last}; `limner webhooks list` and `replay --failed` go on from here"


def _workers(chosen: Settings) -> str:
    app = celery_app(chosen)
    from limner.adapters.celery_engine import broker_errors, workers_of_lanes
    from limner.operations import CATALOGUE

    place = _without_password(chosen.engine_url)
    try:
        counts = workers_of_lanes(app)
    except broker_errors(app) as error:
        raise UnavailableError(
            f"the broker {place} cannot be used ({type(error.__cause__ or error).__name__}): start it, or correct "
            "LIMNER_ENGINE_URL. Jobs are accepted meanwhile, and wait"
        ) from None
    finally:
        app.close()
    idle = sorted({lane for each in CATALOGUE.values() for lane in each.ready_lanes() if not counts[lane]})
    if idle:
        lanes = ",".join(idle)
        raise UnavailableError(f"no worker answers for {lanes}: start `limner work --lanes {lanes}`")
    return f"{place}; " + ", ".join(f"{lane}: {count}" for lane, count in counts.items() if count)


def _bus(url: str) -> str:
    import redis

    from limner.adapters.redis_bus import connect

    place = _without_password(url)
    try:
        with connect(url) as client:
            client.ping()
    except redis.RedisError as error:
        raise UnavailableError(
            f"Redis at {place} cannot be used ({type(error).__name__}): start it, or correct LIMNER_BUS_URL. Events "
            "come a second late meanwhile"
        ) from None
    return place


def _traces() -> str:
    from limner.otel import collector_takes

    place = tracing.collector()
    if not collector_takes(timeout_s=TRACES_S):
        raise UnavailableError(
            f"the collector {place} does not take traces: start it, or check OTEL_EXPORTER_OTLP_ENDPOINT and "
            "OTEL_EXPORTER_OTLP_HEADERS. The service works without it"
        )
    return place


def _without_password(url: str) -> str:
    return url.partition("://")[2].rpartition("@")[2]


def _check_folder(folder: Path) -> None:
    """SettingsError unless files can be created in `folder` or, if it does not exist yet, the folder itself can."""
    nearest = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not nearest.is_dir():
        raise SettingsError(f"{nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise SettingsError(f"this user has no permission to write {nearest}")
