"""All settings, each read from one environment variable. `docs/settings.md` lists them; a test checks the list."""

import difflib
import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from limner.domain.errors import SettingsError
from limner.domain.lane import CPU, GPU, PAINT, REMOTE, REMOTE_JOB_TIMEOUT_S, Lane
from limner.vision.header import Limits
from limner.vision.manifest import CONTENT_FILTER, MANIFEST, OPTIONAL

PREFIX = "LIMNER_"
EMBEDDED = "processes:"
LOOPBACK = ("127.0.0.0/8", "::1")


def _cores() -> int:
    """The number of cores that this process may use, with the CPU set of a container considered."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _data_folder() -> Path:
    """The platform's folder for this user's data of Limner. It is not created."""
    return platformdirs.user_data_path("limner", appauthor=False)


def _database_url() -> str:
    return f"sqlite:///{_data_folder() / 'limner.db'}"


def database_file(url: str) -> Path | None:
    """The file of a URL `sqlite:///path`, read without SQLAlchemy, which is slow to import. None for another URL."""
    scheme, _, file = url.partition(":///")
    return Path(file) if scheme == "sqlite" and file else None


def _blobs_url(earlier: dict[str, Any]) -> str:
    """`blobs` beside the database file. Two databases must not share it: each removes the blobs it does not use."""
    file = database_file(str(earlier.get("database_url", "")))
    return str((file.parent if file is not None else _data_folder()) / "blobs")


def _lease_s(earlier: dict[str, Any]) -> float:
    """Without a supervisor beside the worker, only the end of the lease tells that it is gone."""
    return 60 if earlier.get("engine_url") == EMBEDDED else 20


def _paint_workers(earlier: dict[str, Any]) -> int:
    """They rest while other jobs need the cores."""
    return int(earlier.get("workers", 1))


def _live_sockets(earlier: dict[str, Any]) -> int:
    """Off where the jobs run elsewhere: such a machine may have no cores to spare."""
    return 4 if earlier.get("engine_url") == EMBEDDED else 0


def _painters_dir() -> Path:
    return _data_folder() / "painters"


def _models_dir() -> Path:
    """`models` in the data folder. A cache folder may be emptied, and a server without network could not refill it."""
    return _data_folder() / "models"


Port = Annotated[int, Field(ge=1, le=65535)]


SECRET_LENGTH = 32


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Settings(BaseSettings):
    """Read once at start. A variable is `LIMNER_` and the field's name in capitals, unless an alias is given."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    database_url: str = Field(
        default_factory=_database_url,
        description="`sqlite:///path`, `postgresql://user:password@host/name`, or `memory:` for no database",
    )
    blobs_url: str = Field(
        default_factory=_blobs_url,
        description="Folder for photos and artifacts (with `memory:`: a temporary one), or `s3://bucket/prefix`",
    )
    artifact_urls: Literal["service", "presigned"] = Field(
        "service",
        description="Who sends an artifact's bytes: `service`, or `presigned`: S3, by a URL that ends after a minute",
    )
    s3_public_url: str | None = Field(
        None,
        pattern=r"^https?://[^/?#@\s]+/?$",
        description="Address by which clients reach S3, for `presigned`; default: that of `AWS_ENDPOINT_URL`",
    )
    engine_url: str = Field(
        EMBEDDED,
        description="What runs jobs: `processes:`, worker processes of this one; or a broker of Celery, `redis://…`, "
        "`rediss://…` or `amqp://…`, whose workers are started by `limner work`",
    )
    bus_url: str = Field(
        "local:", description="What wakes the event streams: `local:`, or `redis://…` for several processes"
    )
    models_dir: Path = Field(
        default_factory=_models_dir, description="Folder of the model files (`limner models fetch` fills it)"
    )
    painters_dir: Path = Field(
        default_factory=_painters_dir, description="Folder of your own painters: networks, servers, workflows"
    )

    content_filter: Literal["off", "hosted", "all"] = Field(
        "off",
        description="Which pictures that `generate` has made are held back if they seem to show nudity: none, those "
        "that other servers have made, or all; needs `limner models fetch content-filter`",
    )
    content_filter_score: float = Field(
        0.5, gt=0, lt=1, description="Score of a picture from which on it is held back; lower is stricter"
    )

    c2pa_certificate: Path | None = Field(
        None,
        description="File of the certificate (PEM, with those that issued it) by which pictures that `generate` "
        "has made are signed; needs `limner[c2pa]`",
    )
    c2pa_key: Path | None = Field(None, description="File of the certificate's private key (PEM)")

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: int = Field(8282, ge=0, le=65535, description="Port to listen on")
    web_processes: int = Field(
        1, ge=1, le=64, description="Web processes; above 1 only with PostgreSQL, a broker and Redis"
    )
    accel_prefix: str | None = Field(
        None,
        pattern=r"^/[A-Za-z0-9_./-]*/$",
        description="Where nginx has the folder of blobs, e.g. `/_blobs/`: it sends artifacts (X-Accel-Redirect)",
    )
    public_url: str | None = Field(
        None, description="Base of all URLs given out, e.g. `https://faces.example`; default: what the client called"
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated origins of other web sites that may use the API from a browser, or `*`"
    )

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Comma-separated host names that the service answers to, beside `localhost`, IP addresses and the "
        "name in `LIMNER_PUBLIC_URL`; `*`: any",
    )

    require_keys: Literal["auto", "on", "off"] = Field(
        "auto", description="Whether callers need an API key; `auto`: unless `LIMNER_HOST` is a loopback address"
    )
    admin_key: SecretStr | None = Field(
        None, description="A key with the scope `admin`, at least 32 characters, for the time before there are others"
    )
    url_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Comma-separated secrets, 32 characters each, that sign URLs of pictures: the first signs, all are "
        "accepted; default: one that is made at the first start and kept in the database",
    )
    url_lifetime_s: float = Field(
        3600, ge=60, le=604_800, description="Seconds for which a signed URL is valid, and at most a quarter more"
    )
    image_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Comma-separated keys, 32 characters each, that sign `/v1/image/…`: the first signs, all are "
        "accepted; default: none, and no such URL is answered",
    )
    image_unsafe: bool = Field(
        False,
        description="`/v1/image/unsafe/…` needs no signature. Only where nobody but this machine can connect, and not "
        "behind a proxy",
    )
    image_max_age_s: int = Field(
        3600, ge=0, le=31_536_000, description="Seconds for which caches may keep what `/v1/image/…` has answered"
    )
    image_wait_s: float = Field(
        30, gt=0, le=100, description="Longest time that a request for `/v1/image/…` waits for its picture"
    )
    open_metrics: bool = Field(False, description="`/metrics` needs no key, for a Prometheus in a private network")

    workers: int = Field(
        default_factory=_cores,
        ge=1,
        le=256,
        description="Worker processes (of each `limner work` with Celery); default: the cores",
    )
    paint_workers: int = Field(
        default_factory=_paint_workers,
        ge=0,
        le=256,
        description="Worker processes, started when needed, for pictures that are made on the CPU, which take what "
        "other jobs leave of it; default: as many as `LIMNER_WORKERS`",
    )
    gpu_workers: int = Field(
        0, ge=0, le=64, description="Worker processes for jobs on a GPU, one for each device; each has the device alone"
    )
    remote_workers: int = Field(
        4, ge=0, le=256, description="Worker processes, started when needed, for jobs that another server does"
    )
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="Port on which `limner work` serves the metrics of its processes; 0: none"
    )
    worker_memory_bytes: int = Field(
        4_000_000_000,
        ge=0,
        description="Address space that one worker process may take; 0: no limit, as always for a worker with a GPU",
    )
    worker_jobs: int = Field(1000, ge=0, description="Jobs after which a worker process is replaced; 0: never")
    max_queued: int = Field(1000, ge=1, description="Queued jobs before new ones are answered 429")
    paint_max_queued: int = Field(1000, ge=1, description="The same for pictures that are made on the CPU")
    gpu_max_queued: int = Field(100, ge=1, description="The same for jobs on a GPU")
    remote_max_queued: int = Field(1000, ge=1, description="The same for jobs that another server does")
    max_attempts: int = Field(5, ge=1, description="Starts of one job before it counts as crashed")
    lease_s: float = Field(
        default_factory=_lease_s, gt=0, description="Seconds after which the job of a silent worker is given to another"
    )
    sweep_s: float = Field(5, gt=0, description="Seconds between two sweeps for jobs that were left lying")
    job_timeout_s: float = Field(120, gt=0, description="Longest time one job may run")
    paint_job_timeout_s: float = Field(600, gt=0, description="The same for pictures that are made on the CPU")
    gpu_job_timeout_s: float = Field(600, gt=0, description="The same for a job on a GPU")
    remote_job_timeout_s: float = Field(
        REMOTE_JOB_TIMEOUT_S,
        gt=0,
        description="The same for a job that another server does, with all its pictures; each of them may take 300 s, "
        "or an entry's `timeout_s`",
    )
    drain_s: float = Field(20, ge=0, description="Seconds that running jobs and open requests get at a stop")
    durability: Literal["full", "relaxed"] = Field(
        "full",
        description="`full`: an accepted job survives a power cut; `relaxed`: it survives a crash, and is faster",
    )
    keep_days: float = Field(
        30, ge=0, description="Days after which jobs are erased, also those that still wait; 0 keeps them for ever"
    )
    cache_hours: float = Field(
        720, ge=0, description="Hours during which a result answers identical requests; 0: never"
    )

    max_upload_bytes: int = Field(40_000_000, ge=1, description="Largest picture, bytes (base64: after decoding)")
    max_pixels: int = Field(64_000_000, ge=1, description="Largest picture, width × height")
    max_side: int = Field(16_384, ge=1, description="Largest picture, longer side, pixels")
    upload_memory_bytes: int = Field(
        512_000_000, ge=1, description="Memory for all uploads being received; more are answered 429"
    )
    upload_timeout_s: float = Field(30, gt=0, description="Longest time one upload may take to arrive")
    max_wait_s: float = Field(60, ge=0, description="Longest `Prefer: wait` that is honoured")
    fetch_timeout_s: float = Field(10, gt=0, description="Longest time that fetching an `image_url` may take")
    fetch_private_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Comma-separated host names that `image_url` and webhooks may reach although they are private"
    )
    fetch_ports: Annotated[tuple[Port, ...], NoDecode] = Field(
        (80, 443), description="Comma-separated ports that `image_url` and webhooks may reach"
    )
    webhook_timeout_s: float = Field(10, gt=0, le=300, description="Longest time that one try of a webhook may take")
    webhook_retry_s: float = Field(
        5,
        gt=0,
        description="Seconds before the second try of a webhook; each later pause is six times as long, up to 10 h",
    )
    webhook_tries: int = Field(8, ge=1, le=20, description="Tries of a webhook's delivery before it counts as failed")
    max_connections: int = Field(8000, ge=16, description="Open connections; over it, idle ones are closed")
    max_connections_per_address: int = Field(
        2000, ge=1, description="Open connections of one address (IPv6: of a /64 network)"
    )
    proxy_addresses: Annotated[tuple[str, ...], NoDecode] = Field(
        default_factory=lambda: LOOPBACK,
        description="Comma-separated addresses and networks of proxies in front, whose connections are not counted",
    )
    header_timeout_s: float = Field(10, gt=0, description="Longest time that a request's header may take to arrive")
    idle_timeout_s: float = Field(75, gt=0, description="Time after which a connection without a request is closed")
    send_timeout_s: float = Field(30, gt=0, description="Time after which a reader that takes nothing is closed")
    max_header_bytes: int = Field(32_768, ge=1024, description="Largest request line and header; larger: 431")
    answer_memory_bytes: int = Field(
        256_000_000, ge=1, description="Memory for all answers that are not read; over it, the largest are closed"
    )
    max_sockets: int = Field(5000, ge=1, description="Open event streams (WebSocket and SSE); more are refused")
    event_buffer: int = Field(1000, ge=1, description="Events a slow reader may fall behind before it is closed (1013)")

    live_sockets: int = Field(
        default_factory=_live_sockets,
        ge=0,
        le=100,
        description="Open sockets of live detection in one web process, which share one process beside it; 0: off. "
        "Default: 4, and 0 with a broker",
    )
    live_idle_s: float = Field(
        60, ge=0, description="Seconds after the last live socket until the process of live detection is ended"
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line logged")
    log_format: Literal["auto", "rich", "json"] = Field(
        "auto", description="`auto`: rich on a terminal, JSON otherwise"
    )
    simulated_delay_s: float = Field(
        0,
        ge=0,
        le=60,
        validation_alias=AliasChoices("SIMULATED_DELAY_S", "simulated_delay_s"),
        description="`SIMULATED_DELAY_S`: classic contour jobs wait this long before they are answered as done",
    )
    load_test_mode: bool = Field(
        False,
        validation_alias=AliasChoices("LOAD_TEST_MODE", "load_test_mode"),
        description="`LOAD_TEST_MODE`: no simulated delay for anyone, and one log line a request less",
    )

    def lanes(self) -> dict[str, Lane]:
        """The lanes of jobs, by name. With a broker, how many workers serve each is decided where they are started."""
        broker = self.engine_url != EMBEDDED
        paint_workers = max(self.paint_workers, 1) if broker else self.paint_workers
        gpu_workers = max(self.gpu_workers, 1) if broker else self.gpu_workers
        remote_workers = max(self.remote_workers, 1) if broker else self.remote_workers
        return {
            CPU: Lane(self.workers, self.max_queued, self.job_timeout_s),
            PAINT: Lane(paint_workers, self.paint_max_queued, self.paint_job_timeout_s, on_demand=True),
            GPU: Lane(gpu_workers, self.gpu_max_queued, self.gpu_job_timeout_s),
            REMOTE: Lane(remote_workers, self.remote_max_queued, self.remote_job_timeout_s, on_demand=True),
        }

    def model_names(self) -> list[str]:
        """The models that a service with these settings needs."""
        bundles = {None} if self.content_filter == "off" else {None, CONTENT_FILTER}
        return [each.name for each in (*MANIFEST, *OPTIONAL) if each.bundle in bundles]

    def limits(self) -> Limits:
        """The size limits of an accepted picture."""
        return Limits(max_bytes=self.max_upload_bytes, max_pixels=self.max_pixels, max_side=self.max_side)

    def keys_required(self) -> bool:
        """Whether callers need an API key."""
        return self.require_keys == "on" or (self.require_keys == "auto" and not is_loopback(self.host))

    @field_validator("database_url")
    @classmethod
    def _has_no_parameters(cls, value: str) -> str:
        if value.startswith("sqlite:") and "?" in value:
            raise ValueError("a SQLite URL has no parameters: remove what follows the `?`")
        return value

    @field_validator("admin_key", "url_secrets", "image_keys")
    @classmethod
    def _are_long(cls, value: SecretStr | tuple[SecretStr, ...] | None) -> object:
        for secret in (value,) if isinstance(value, SecretStr) else value or ():
            text = secret.get_secret_value()
            if len(text) < SECRET_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError(f"must have at least {SECRET_LENGTH} characters, all ASCII, and no space")
        return value

    @field_validator("proxy_addresses")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            ipaddress.ip_network(each, strict=False)
        return value

    @field_validator(
        "allowed_origins",
        "allowed_hosts",
        "fetch_private_hosts",
        "fetch_ports",
        "proxy_addresses",
        "url_secrets",
        "image_keys",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


KEY = "LIMNER_KEY"
"""The API key of `limner … --server`: a variable of the command line, so no setting of a service, and none of these."""


def load(**overrides: object) -> Settings:
    """Settings from the environment and `overrides`. SettingsError names each invalid or unknown variable."""
    _refuse_unknown()
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic validates them
    except ValidationError as error:
        wrong = "; ".join(f"{variable(str(e['loc'][0]))}: {e['msg']}" for e in error.errors(include_input=False))
        raise SettingsError(wrong) from None


def _refuse_unknown() -> None:
    """SettingsError for a variable `LIMNER_…` that is no setting, so that a misspelt one is noticed."""
    known = {name.removeprefix(PREFIX): name for name in map(variable, Settings.model_fields)}
    wrong = []
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in (KEY, *known.values()):
            near = difflib.get_close_matches(name.upper().removeprefix(PREFIX), known, n=1)
            advice = f"did you mean {known[near[0]]}?" if near else "docs/settings.md lists them all."
            wrong.append(f"{name} is not a setting; {advice}")
    if wrong:
        raise SettingsError(" ".join(wrong))


def variable(field: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias if field in Settings.model_fields else None
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return field if field.isupper() else f"{PREFIX}{field.upper()}"
