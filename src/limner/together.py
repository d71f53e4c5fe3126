"""Which settings work together. `docs/deploy.md` has the same as a table, and a test compares."""

from limner.domain.errors import SettingsError
from limner.settings import Settings


def check_together(settings: Settings) -> None:
    """SettingsError, with the reason, for settings that are valid one by one but not together."""
    broker = settings.engine_url != "processes:"
    local_bus = settings.bus_url == "local:"
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
    if broker and settings.database_url == "memory:":
        raise SettingsError(
            "LIMNER_ENGINE_URL with a broker needs another LIMNER_DATABASE_URL: memory: is a folder of one process, "
            "and jobs run in others"
        )
    if settings.accel_prefix is not None and settings.blobs_url.startswith("s3:"):
        raise SettingsError("LIMNER_ACCEL_PREFIX needs LIMNER_BLOBS_URL to be a folder: nginx cannot read S3 as files")
