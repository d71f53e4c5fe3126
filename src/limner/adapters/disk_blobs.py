"""The blob store in a folder: one file per blob, `ab/cdef…`, written completely or not at all."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from limner.domain.errors import NotFoundError, SettingsError, UnavailableError

_HEX = frozenset("0123456789abcdef")
_PART = "new-"  # the prefix of files that are not yet complete


class DiskBlobs:
    """`ports.BlobStore` in `folder`. With `durable=False` it does not call fsync, so a power cut may lose blobs."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder
        self._root = str(folder)  # joining strings is faster than `Path`, which costs more than writing a small file
        self._durable = durable
        self._numbers = count()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(f"LIMNER_BLOBS_URL: {error}") from None

    def put(self, data: bytes, *, sha256: str | None = None) -> str:
        """See `ports.BlobStore.put`."""
        sha256 = sha256 or hashlib.sha256(data).hexdigest()
        path = self._path(sha256)
        with _errors_as_unavailable():
            try:
                os.utime(path)  # a new date, so that the sweep does not remove it before the new job has its row
                self._sync_folder(os.path.dirname(path))  # the thread that wrote it may not have done this yet
            except FileNotFoundError:
                self._write(path, data)
        return sha256

    def _write(self, path: str, data: bytes) -> None:
        shelf = os.path.dirname(path)
        with suppress(FileExistsError):
            os.mkdir(shelf, mode=0o700)
            self._sync_folder(self._root)
        # Processes and threads write at the same time, so each file needs a name of its own.
        part = f"{self._root}/{_PART}{os.getpid()}-{next(self._numbers)}"
        try:
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(handle, "wb", buffering=0) as file:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
                if self._durable:
                    os.fsync(handle)
            os.replace(part, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(part)
            raise
        self._sync_folder(shelf)

    def _sync_folder(self, folder: str) -> None:
        """Write the folder's entries to the disk: only then does a renamed file survive a power cut."""
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
            with open(self._path(sha256), "rb", buffering=0) as file:
                return file.read()
        except FileNotFoundError:
            raise _gone() from None

    def has(self, sha256: str) -> bool:
        """See `ports.BlobStore.has`."""
        return os.path.exists(self._path(sha256))

    def delete(self, sha256: str) -> None:
        """See `ports.BlobStore.delete`."""
        path = self._path(sha256)
        with _errors_as_unavailable(), suppress(FileNotFoundError):
            os.unlink(path)

    def local_path(self, sha256: str) -> Path:
        """See `ports.BlobStore.local_path`."""
        path = self._path(sha256)
        if not os.path.exists(path):
            raise _gone()
        return Path(path)

    def written(self, *, before: datetime, since: datetime | None = None) -> Iterator[str]:
        """See `ports.BlobStore.written`. Also removes old incomplete files."""
        latest = before.timestamp()
        earliest = since.timestamp() if since is not None else 0.0
        for shelf in self._folder.iterdir():
            if shelf.is_file():
                if shelf.name.startswith(_PART) and shelf.stat().st_mtime < latest:
                    shelf.unlink(missing_ok=True)
                continue
            for path in shelf.iterdir():
                with suppress(FileNotFoundError):
                    if _is_sha256(shelf.name + path.name) and earliest <= path.stat().st_mtime < latest:
                        yield shelf.name + path.name

    def ping(self) -> None:
        """See `ports.BlobStore.ping`."""
        with _errors_as_unavailable(), tempfile.TemporaryFile(prefix=_PART, dir=self._folder) as file:
            file.write(b"ok")

    def _path(self, sha256: str) -> str:
        if not _is_sha256(sha256):  # text from a client must not become a path unchecked
            raise NotFoundError("The id is not a SHA-256.")
        return f"{self._root}/{sha256[:2]}/{sha256[2:]}"


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and _HEX.issuperset(text)


def _gone() -> NotFoundError:
    return NotFoundError("The file does not exist any more.")


@contextmanager
def _errors_as_unavailable() -> Iterator[None]:
    """Raise UnavailableError for an OSError: the disk may have space, or the folder be writable, at another time."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"The folder of photos cannot be written ({error.strerror}). Try again.") from error
