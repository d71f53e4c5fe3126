"""Which settings work together. `docs/deploy.md` has the same as a table, and a test compares."""

from urllib.parse import urlsplit

from limner.domain.errors import SettingsError, SigningError
from limner.settings import EMBEDDED, Settings, is_loopback
from limner.tracing import check as check_tracing

LOCAL = "local:"
MEMORY = "memory:"
S3 = "s3://"
BROKERS = ("redis:", "rediss:", "amqp:", "amqps:")
BUSES = ("redis:", "rediss:")


def check_together(settings: Settings) -> None:
    """SettingsError, with the reason, for settings that no adapter can use, or that cannot be used together."""
    _check_urls(settings)
    _check_processes(settings)
    _check_blobs(settings)
    check_tracing()
    _check_signing(settings)
    _check_unsafe(settings)
    if settings.keys_required() and settings.admin_key is None and settings.database_url == MEMORY:
        raise SettingsError(
            f"API keys are required, because LIMNER_HOST is {settings.host}, and with LIMNER_DATABASE_URL=memory: "
            "`limner keys create` has no database to write to. Set LIMNER_ADMIN_KEY, or LIMNER_REQUIRE_KEYS=off "
            "if everyone who can connect may see all photos"
        )


def _check_unsafe(settings: Settings) -> None:
    """Behind a proxy on this machine, a stranger's request looks like one of this machine."""
    if not settings.image_unsafe:
        return
    if not is_loopback(settings.host) or settings.keys_required():
        raise SettingsError(
            "LIMNER_IMAGE_UNSAFE is for a service that only this machine can reach: LIMNER_HOST must be a loopback "
            "address, and no API keys required. Sign the URLs instead, with LIMNER_IMAGE_KEYS"
        )
    if settings.public_url is not None and not is_loopback(urlsplit(settings.public_url).hostname or ""):
        raise SettingsError(
            "LIMNER_IMAGE_UNSAFE cannot be used with LIMNER_PUBLIC_URL: a proxy in front would let anyone use unsigned "
            "URLs. Sign them, with LIMNER_IMAGE_KEYS"
        )


def scheme(url: str) -> str:
    """The scheme of a URL. The rest may contain a password."""
    return url.partition(":")[0] + ":"


def _check_urls(settings: Settings) -> None:
    engine, bus = scheme(settings.engine_url), scheme(settings.bus_url)
    if settings.engine_url != EMBEDDED and engine not in BROKERS:
        raise SettingsError(f"LIMNER_ENGINE_URL must be 'processes:' or begin with {_or(BROKERS)}, not {engine!r}")
    if settings.bus_url != LOCAL and bus not in BUSES:
        raise SettingsError(f"LIMNER_BUS_URL must be 'local:' or begin with {_or(BUSES)}, not {bus!r}")
    for name, url in (("LIMNER_ENGINE_URL", settings.engine_url), ("LIMNER_BUS_URL", settings.bus_url)):
        if url not in (EMBEDDED, LOCAL):
            _check_address(name, url)
    if "://" in settings.blobs_url and not settings.blobs_url.startswith(S3):
        raise SettingsError(
            f"LIMNER_BLOBS_URL must be a folder or 's3://bucket/prefix', not {scheme(settings.blobs_url)!r}"
        )


def _check_address(name: str, url: str) -> None:
    """SettingsError, which does not repeat the URL, unless it names a host, a possible port, and for Redis a number."""
    try:
        parts = urlsplit(url)
        named = parts.hostname is not None and parts.port != 0
    except ValueError:
        named = False
    if not named:
        raise SettingsError(
            f"{name} must be like redis://:password@host:6379/0; in a password, write # as %23, / as %2F and @ as %40"
        )
    if scheme(url) in BUSES and not parts.path.strip("/").isdecimal() and parts.path.strip("/"):
        raise SettingsError(f"{name} must end with the number of a database of Redis, such as /0")


def _check_processes(settings: Settings) -> None:
    broker = settings.engine_url != EMBEDDED
    local_bus = settings.bus_url == LOCAL
    if settings.web_processes > 1:
        if not broker:
            raise SettingsError(
                "LIMNER_WEB_PROCESSES above 1 needs LIMNER_ENGINE_URL=redis://…: the workers of processes: belong to "
                "one web process"
            )
        if local_bus:
            raise SettingsError(
                "LIMNER_WEB_PROCESSES above 1 needs LIMNER_BUS_URL=redis://…: local: wakes the event streams of one "
                "process"
            )
        if not settings.database_url.startswith("postgresql"):
            raise SettingsError(
                "LIMNER_WEB_PROCESSES above 1 needs LIMNER_DATABASE_URL=postgresql://…: a SQLite file belongs to one "
                "web process"
            )
    if broker and local_bus:
        raise SettingsError(
            "LIMNER_ENGINE_URL with a broker needs LIMNER_BUS_URL=redis://…: local: reaches one process, and jobs run "
            "in others"
        )
    if broker and settings.database_url == MEMORY:
        raise SettingsError(
            "LIMNER_ENGINE_URL with a broker needs another LIMNER_DATABASE_URL: memory: is a folder of one process, "
            "and jobs run in others"
        )


def _check_blobs(settings: Settings) -> None:
    is_s3 = settings.blobs_url.startswith(S3)
    if is_s3 and settings.database_url == MEMORY:
        raise SettingsError("LIMNER_BLOBS_URL must be a folder with LIMNER_DATABASE_URL=memory:")
    if settings.artifact_urls == "presigned" and not is_s3:
        raise SettingsError("LIMNER_ARTIFACT_URLS=presigned needs LIMNER_BLOBS_URL=s3://bucket/prefix")
    if settings.s3_public_url is not None and settings.artifact_urls != "presigned":
        raise SettingsError(
            "LIMNER_S3_PUBLIC_URL needs LIMNER_ARTIFACT_URLS=presigned: else clients call no S3 service"
        )
    if settings.accel_prefix is not None and is_s3:
        raise SettingsError("LIMNER_ACCEL_PREFIX needs LIMNER_BLOBS_URL to be a folder: nginx cannot read S3 as files")


def _check_signing(settings: Settings) -> None:
    if settings.c2pa_certificate is None and settings.c2pa_key is None:
        return
    if settings.c2pa_certificate is None or settings.c2pa_key is None:
        raise SettingsError("LIMNER_C2PA_CERTIFICATE and LIMNER_C2PA_KEY belong together: set both or neither")
    from limner.vision import signing

    if not signing.is_installed():
        raise SettingsError(
            "LIMNER_C2PA_CERTIFICATE needs c2pa-python, which is not installed: pip install 'limner[c2pa]'"
        )
    try:
        signing.Identity(settings.c2pa_certificate, settings.c2pa_key).check()
    except SigningError as error:
        raise SettingsError(f"LIMNER_C2PA_CERTIFICATE, LIMNER_C2PA_KEY: {error.detail}") from error


def _or(schemes: tuple[str, ...]) -> str:
    return " or ".join(f"'{each}//'" for each in schemes)
