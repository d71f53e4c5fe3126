"""The database and the store of photos that the settings name, opened for a service, a worker or a command."""

import fcntl
import logging
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from limner import tracing
from limner.blob_ports import BlobStore
from limner.domain.errors import SettingsError, UnavailableError, how_to_install
from limner.ports import EventLog, JobReader, JobStore
from limner.settings import Settings, database_file
from limner.together import S3, scheme

if TYPE_CHECKING:
    from limner.adapters.disk_blobs import DiskBlobs
    from limner.adapters.s3_blobs import S3Blobs
    from limner.adapters.sql.keys import SqlKeys
    from limner.adapters.sql.opening import Stores as Opened
    from limner.adapters.sql.traces import SqlTraces
    from limner.adapters.sql.webhooks import SqlHookReader

log = logging.getLogger(__name__)

FileId = tuple[int, int]
"""Device and inode of a SQLite file; None in its place stands for PostgreSQL."""


@dataclass
class Stores:
    """What a command needs to read and change the data of a service."""

    store: JobStore
    reader: JobReader
    keys: "SqlKeys"
    hooks: "SqlHookReader"
    events: EventLog
    traces: "SqlTraces"
    blobs: "DiskBlobs | S3Blobs"
    place: str
    """Where the database is, for people."""


@contextmanager
def open_stores(settings: Settings, *, create: bool = False) -> Iterator[Stores]:
    """The stores of a service, which may be running.

    With `create`, the database is created and migrated if need be; else SettingsError.
    """
    from limner.adapters.sql.keys import SqlKeys
    from limner.adapters.sql.migrate import head_revision, migrate
    from limner.adapters.sql.opening import WORKER_CONNECTIONS
    from limner.adapters.sql.traces import SqlTraces
    from limner.adapters.sql.webhooks import SqlHookReader

    if settings.database_url == "memory:":
        raise SettingsError("With LIMNER_DATABASE_URL=memory: all data is gone when the service stops")
    file = None
    if not create:
        try:
            file = existing_file(settings)
        except UnavailableError as error:
            raise SettingsError(f"LIMNER_DATABASE_URL: {error.detail}") from None
    with ExitStack() as held:
        opened, blobs = open_pair(settings, held, file, WORKER_CONNECTIONS)
        if create:
            migrate(opened.database)
        elif opened.database.revision() != head_revision():
            raise SettingsError("The tables of the database are not up to date. Run `limner migrate`.")
        database = opened.database
        yield Stores(
            opened.store,
            opened.reader,
            SqlKeys(database),
            SqlHookReader(database),
            opened.events,
            SqlTraces(database),
            blobs,
            database.name,
        )


def open_paired(settings: Settings, held: ExitStack, file: FileId | None) -> "tuple[Opened, DiskBlobs | S3Blobs]":
    """The stores of the web process, with the database migrated and paired with its blobs. SettingsError."""
    from limner.adapters.sql.migrate import migrate
    from limner.adapters.sql.opening import WEB_CONNECTIONS
    from limner.jobs import pairing

    stores, blobs = open_pair(settings, held, file, WEB_CONNECTIONS, create_folder=True)
    done = migrate(stores.database)
    if done:
        log.info("database migrated", extra={"revisions": done})
    held.callback(blobs.release)
    pairing.pair(stores.store, stores.reader, blobs, database=stores.database.name, folder=settings.blobs_url)
    return stores, blobs


def open_pair(
    settings: Settings, held: ExitStack, file: FileId | None, connections: int, *, create_folder: bool = False
) -> "tuple[Opened, DiskBlobs | S3Blobs]":
    """Database and blobs, until `held` is closed. `connections` limits those to PostgreSQL."""
    from limner.adapters.sql.opening import open_stores as open_database

    durable = settings.durability == "full"
    stores = open_database(settings.database_url, durable=durable, connections=connections, file=file)
    held.callback(stores.close)
    return stores, open_blobs(settings, shared=stores.shared, create_folder=create_folder)


def open_blobs(settings: Settings, *, shared: bool = False, create_folder: bool = False) -> "DiskBlobs | S3Blobs":
    """The store of photos and artifacts. With `shared`, several web processes may claim it. SettingsError."""
    if not settings.blobs_url.startswith(S3):
        from limner.adapters.disk_blobs import DiskBlobs

        folder = Path(settings.blobs_url.removeprefix("file:"))
        return DiskBlobs(folder, durable=settings.durability == "full", shared=shared, create=create_folder)
    with cluster_libraries("LIMNER_BLOBS_URL"):
        from limner.adapters.s3_blobs import S3Blobs
    return S3Blobs(
        settings.blobs_url, presigned=settings.artifact_urls == "presigned", public_url=settings.s3_public_url
    )


def traced(blobs: BlobStore) -> BlobStore:
    """The same store, with spans of its calls if traces are wanted."""
    if not tracing.on():
        return blobs
    from limner.adapters.traced_blobs import TracedBlobs

    return TracedBlobs(blobs)


@contextmanager
def cluster_libraries(variable: str) -> Iterator[None]:
    """SettingsError if a library of the extra `cluster`, which a setting needs, is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{variable} needs {error.name}, which is not installed: {how_to_install('cluster')}"
        ) from None


def sqlite_file(settings: Settings) -> Path | None:
    """The file of a SQLite URL, without importing SQLAlchemy; None for PostgreSQL. SettingsError for another URL."""
    if settings.database_url.startswith("postgresql://"):
        return None
    file = database_file(settings.database_url)
    if file is None or file.name == ":memory:":
        raise SettingsError(
            "LIMNER_DATABASE_URL must be 'sqlite:///path', 'postgresql://user:password@host/name' or 'memory:', not "
            f"{scheme(settings.database_url)!r}"
        )
    return file


def existing_file(settings: Settings) -> FileId | None:
    """The file of the database, which only the web process creates. UnavailableError if there is none."""
    path = sqlite_file(settings)
    if path is None:
        return None
    try:
        file = path.resolve().stat()
    except OSError as error:
        raise UnavailableError(
            f"There is no database {path} yet ({error.strerror}): `limner serve` creates it."
        ) from None
    return file.st_dev, file.st_ino


def claim(settings: Settings, held: ExitStack) -> FileId | None:
    """Lock a SQLite database for this web process: `local:` wakes only its readers, `Sweep.recover` must be alone.

    Returns its file, which is created if there is none.
    """
    database = sqlite_file(settings)
    if database is None:
        return None
    try:
        database = database.resolve()  # the same lock, whatever path leads to the file
        database.parent.mkdir(parents=True, exist_ok=True)
        database.touch(mode=0o600)  # results describe faces: other users may not read them
        file = database.stat()
        if not stat.S_ISREG(file.st_mode):
            raise SettingsError(f"LIMNER_DATABASE_URL: {database} is not a file")
        lock: IO[bytes] = held.enter_context(database.with_name(database.name + ".lock").open("ab"))
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links that lead in a circle
        raise SettingsError(f"LIMNER_DATABASE_URL: {error}") from None
    if file.st_nlink > 1:
        raise SettingsError(
            f"LIMNER_DATABASE_URL: {database} has {file.st_nlink} names (hard links), and SQLite would keep a log "
            "for each: remove the others, or copy the file"
        )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(
            f"another process is serving {database.name} already; LIMNER_BUS_URL=local: allows only one"
        ) from None
    return file.st_dev, file.st_ino
