"""The blob store in a folder: `ab/cdef…`, one file a blob, written whole or not at all."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from limner.domain.errors import NotFoundError, SettingsError, UnavailableError

_HEX = frozenset("0123456789abcdef")


class DiskBlobs:
    """`ports.BlobStore` in `folder`. With `durable=False` the power-cut guarantee (fsync) is left out."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(f"LIMNER_BLOBS_URL: {error}") from None

    def put(self, data: bytes) -> str:
        """See `ports.BlobStore.put`."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._path(sha256)
        with _told_as_unavailable():
            try:
                os.utime(path)  # young again: a sweep for forgotten blobs must leave it to its new owner
                self._sync_folder(path.parent)  # who wrote it may be about to, and this answer must not wait for that
            except FileNotFoundError:
                self._write(path, data)
        return sha256

    def _write(self, path: Path, data: bytes) -> None:
        shelf = path.parent
        if not shelf.exists():
            shelf.mkdir(mode=0o700, exist_ok=True)
            self._sync_folder(self._folder)
        handle, name = tempfile.mkstemp(prefix="new-", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                if self._durable:
                    file.flush()
                    os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
        self._sync_folder(shelf)

    def _sync_folder(self, folder: Path) -> None:
        """A renamed file is only safe once its folder's entry is on disk too."""
        if not self._durable:
            return
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def get(self, sha256: str) -> bytes:
        """See `ports.BlobStore.get`."""
        try:
            return self._path(sha256).read_bytes()
        except FileNotFoundError:
            raise _gone() from None

    def has(self, sha256: str) -> bool:
        """See `ports.BlobStore.has`."""
        return self._path(sha256).exists()

    def delete(self, sha256: str) -> None:
        """See `ports.BlobStore.delete`."""
        with suppress(FileNotFoundError):
            self._path(sha256).unlink()

    def local_path(self, sha256: str) -> Path:
        """See `ports.BlobStore.local_path`."""
        path = self._path(sha256)
        if not path.exists():
            raise _gone()
        return path

    def older_than(self, moment: datetime) -> Iterator[str]:
        """See `ports.BlobStore.older_than`. Left-over parts of broken writes are removed on the way."""
        limit = moment.timestamp()
        for shelf in self._folder.iterdir():
            if shelf.is_file():
                if shelf.name.startswith("new-") and shelf.stat().st_mtime < limit:
                    shelf.unlink(missing_ok=True)
                continue
            for path in shelf.iterdir():
                with suppress(FileNotFoundError):
                    if _is_sha256(shelf.name + path.name) and path.stat().st_mtime < limit:
                        yield shelf.name + path.name

    def ping(self) -> None:
        """See `ports.BlobStore.ping`."""
        with tempfile.TemporaryFile(prefix="new-", dir=self._folder) as file:
            file.write(b"ok")

    def _path(self, sha256: str) -> Path:
        if not _is_sha256(sha256):  # nothing from outside becomes a path unchecked
            raise NotFoundError("not a SHA-256")
        return self._folder / sha256[:2] / sha256[2:]


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and _HEX.issuperset(text)


def _gone() -> NotFoundError:
    return NotFoundError("these bytes are no longer here")


@contextmanager
def _told_as_unavailable() -> Iterator[None]:
    """A full disk, a folder that may not be written or is gone: it may be another time."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"the folder of photos cannot be written ({error.strerror})") from error
