"""The interfaces of the store of bytes, as `ports.py` has those of the database."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Protocol


class BlobStore(Protocol):
    """Bytes stored under their SHA-256 (lower-case hex)."""

    def put(self, data: bytes, *, sha256: str | None = None, media_type: str | None = None) -> str:
        """Store the bytes and return their SHA-256; pass `sha256` if it has been computed already.

        `media_type` is told to those who read the bytes by a URL of the store.

        When this returns, the bytes survive a power cut (unless durability is relaxed). Bytes that are stored already
        in their full size are not written again. UnavailableError when they cannot be written.
        """
        ...

    def get(self, sha256: str) -> bytes:
        """The bytes. NotFoundError, also if they are no longer those that were stored: then they are removed."""
        ...

    def part(self, sha256: str, *, start: int, stop: int) -> bytes:
        """The bytes from `start` to before `stop`, which are not compared with the SHA-256.

        NotFoundError, also if there are fewer.
        """
        ...

    def has(self, sha256: str, *, size: int | None = None) -> bool:
        """Whether these bytes are stored, and have this size. Fast, because the bytes are not read.

        A store across a network raises UnavailableError.
        """
        ...

    def delete(self, sha256: str) -> None:
        """Remove the bytes. Does nothing if they are not stored. UnavailableError."""
        ...

    def check_removable(self) -> None:
        """UnavailableError if nothing can be removed now, as far as this can be seen quickly."""
        ...

    def local_path(self, sha256: str, *, size: int | None = None) -> Path | None:
        """The file that holds the bytes, None if this store has no files. NotFoundError, also for another size."""
        ...

    def temporary_url(self, sha256: str, *, head: bool = False) -> str | None:
        """A URL of the store itself by which a client can read the bytes for a short time (with `head`: their HEAD).

        None if clients read through the service. Whether the bytes are stored is not checked. UnavailableError.
        """
        ...

    def written(self, *, before: datetime, since: datetime | None = None) -> Iterator[str]:
        """SHA-256s written before `before` and at or after `since`, in any order."""
        ...

    def ping(self) -> None:
        """Write something, to test whether that is possible. UnavailableError if it is not."""
        ...


class OwnedBlobs(Protocol):
    """Blobs of one place, which belong to one database. `jobs/pairing.py` decides to which."""

    @property
    def owner_mark(self) -> str:
        """Where the owner's id is kept, for people."""
        ...

    def claim(self) -> str | None:
        """Keep other services away until `release`, if this database cannot be shared with them.

        Returns the id of the database that owns the blobs, None if none does. SettingsError if another service has
        claimed them, or they cannot be written.
        """
        ...

    def belong_to(self, database_id: str) -> None:
        """Have the blobs, which are claimed, belong to a database. UnavailableError."""
        ...

    def sample(self, limit: int) -> list[str]:
        """SHA-256s of some of the blobs."""
        ...

    def release(self) -> None:
        """Let other services claim the blobs."""
        ...
