"""Spans of the calls of a blob store, where traces are wanted."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from limner.blob_ports import BlobStore
from limner.tracing import step


class TracedBlobs:
    """`blob_ports.BlobStore` that records the calls of another store which are part of a request or a job.

    A photo's SHA-256 names the photo, so it is not recorded.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def put(self, data: bytes, *, sha256: str | None = None, media_type: str | None = None) -> str:
        """See `blob_ports.BlobStore.put`."""
        with step("blobs.put", {"limner.bytes": len(data)}):
            return self._blobs.put(data, sha256=sha256, media_type=media_type)

    def get(self, sha256: str) -> bytes:
        """See `blob_ports.BlobStore.get`."""
        with step("blobs.get") as span:
            data = self._blobs.get(sha256)
            span.set({"limner.bytes": len(data)})
            return data

    def part(self, sha256: str, *, start: int, stop: int) -> bytes:
        """See `blob_ports.BlobStore.part`."""
        with step("blobs.part", {"limner.bytes": stop - start}):
            return self._blobs.part(sha256, start=start, stop=stop)

    def has(self, sha256: str, *, size: int | None = None) -> bool:
        """See `blob_ports.BlobStore.has`."""
        with step("blobs.has"):
            return self._blobs.has(sha256, size=size)

    def delete(self, sha256: str) -> None:
        """See `blob_ports.BlobStore.delete`."""
        with step("blobs.delete"):
            self._blobs.delete(sha256)

    def check_removable(self) -> None:
        """See `blob_ports.BlobStore.check_removable`."""
        self._blobs.check_removable()

    def local_path(self, sha256: str, *, size: int | None = None) -> Path | None:
        """See `blob_ports.BlobStore.local_path`."""
        return self._blobs.local_path(sha256, size=size)

    def temporary_url(self, sha256: str, *, head: bool = False) -> str | None:
        """See `blob_ports.BlobStore.temporary_url`."""
        return self._blobs.temporary_url(sha256, head=head)

    def written(self, *, before: datetime, since: datetime | None = None) -> Iterator[str]:
        """See `blob_ports.BlobStore.written`."""
        return self._blobs.written(before=before, since=since)

    def ping(self) -> None:
        """See `blob_ports.BlobStore.ping`."""
        self._blobs.ping()
