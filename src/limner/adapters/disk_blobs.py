"""The blob store in a folder: one file per blob, `ab/cdef…`, written completely or not at all."""

import fcntl
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count, islice
from pathlib import Path

from limner.domain.errors import NotFoundError, SettingsError, UnavailableError

log = logging.getLogger(__name__)

_HEX = frozenset("0123456789abcdef")
_PART = "new-"  # the prefix of files that are not yet complete
_OWNER = "database-id"
MARK_S = 5.0  # another process that claims the folder needs a few milliseconds to write the id


class DiskBlobs:
    """`blob_ports.BlobStore` and `blob_ports.OwnedBlobs` in `folder`.

    With `durable=False` it does not call fsync, so a power cut may lose blobs. With `shared=True`, several processes
    may claim the folder at the same time, if all of them say so. With `create=False` a folder that is missing stays
    missing, and nothing can be stored: a worker must not put an empty one in the place of one that is away.
    """

    def __init__(self, folder: Path, *, durable: bool, shared: bool = False, create: bool = True) -> None:
        self._folder = folder
        self._root = str(folder)  # joining strings is faster than `Path`, which costs more than writing a small file
        self._durable = durable
        self._shared = shared
        self._numbers = count()
        self._claimed: int | None = None
        if not create:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(f"LIMNER_BLOBS_URL: {error}") from None

    def put(self, data: bytes, *, sha256: str | None = None, media_type: str | None = None) -> str:  # noqa: ARG002
        """See `blob_ports.BlobStore.put`."""
        sha256 = sha256 or hashlib.sha256(data).hexdigest()
        path = self._path(sha256)
        with _errors_as_unavailable("written"):
            if not self.has(sha256, size=len(data)) or not self._renewed(path):
                self._write(path, data)
        return sha256

    def _renewed(self, path: str) -> bool:
        """Make the file young, so that a sweep for forgotten blobs leaves it to its new owner. False if it is gone."""
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
        self._sync_folder(os.path.dirname(path))  # its writer may not have come to that yet
        return True

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
        """See `blob_ports.BlobStore.get`."""
        path = self._path(sha256)
        with _errors_as_unavailable("read"):
            try:
                with open(path, "rb", buffering=0) as file:
                    data = file.read()
            except (FileNotFoundError, NotADirectoryError):
                raise _gone() from None
        if hashlib.sha256(data).hexdigest() != sha256:
            log.warning("a damaged file is removed, so that its bytes can be stored again", extra={"file": path})
            with suppress(UnavailableError):  # then the next one who reads it tries
                self.delete(sha256)
            raise _gone()
        return data

    def part(self, sha256: str, *, start: int, stop: int) -> bytes:
        """See `blob_ports.BlobStore.part`."""
        path = self._path(sha256)
        with _errors_as_unavailable("read"):
            try:
                with open(path, "rb") as file:
                    file.seek(start)
                    data = file.read(max(stop - start, 0))
            except (FileNotFoundError, NotADirectoryError):
                raise _gone() from None
        if len(data) < stop - start:
            raise _gone()
        return data

    def has(self, sha256: str, *, size: int | None = None) -> bool:
        """See `blob_ports.BlobStore.has`."""
        try:
            found = os.stat(self._path(sha256)).st_size
        except OSError:
            return False
        return size is None or found == size

    def delete(self, sha256: str) -> None:
        """See `blob_ports.BlobStore.delete`."""
        path = self._path(sha256)
        with _errors_as_unavailable("written"), suppress(FileNotFoundError):
            os.unlink(path)

    def check_removable(self) -> None:
        """See `blob_ports.BlobStore.check_removable`."""
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise UnavailableError("The folder of photos is read-only or missing, so nothing was erased.")

    def local_path(self, sha256: str, *, size: int | None = None) -> Path:
        """See `blob_ports.BlobStore.local_path`."""
        if not self.has(sha256, size=size):
            raise _gone()
        return Path(self._path(sha256))

    def temporary_url(self, sha256: str, *, head: bool = False) -> str | None:  # noqa: ARG002
        """See `blob_ports.BlobStore.temporary_url`: a folder has no URLs."""
        return None

    def written(self, *, before: datetime, since: datetime | None = None) -> Iterator[str]:
        """See `blob_ports.BlobStore.written`. Also removes old incomplete files."""
        latest = before.timestamp()
        earliest = since.timestamp() if since is not None else 0.0
        for part in self._folder.glob(_PART + "*"):
            with suppress(FileNotFoundError):
                if part.is_file() and part.stat().st_mtime < latest:
                    part.unlink()
        for sha256, path in self._all():
            with suppress(FileNotFoundError):
                if earliest <= path.stat().st_mtime < latest:
                    yield sha256

    def _all(self) -> Iterator[tuple[str, Path]]:
        for shelf in self._folder.iterdir():
            if shelf.is_dir():
                for path in shelf.iterdir():
                    if _is_sha256(shelf.name + path.name):
                        yield shelf.name + path.name, path

    @property
    def owner_mark(self) -> str:
        """See `blob_ports.OwnedBlobs.owner_mark`."""
        return f"{self._root}/{_OWNER}"

    def claim(self) -> str | None:
        """See `blob_ports.OwnedBlobs.claim`. The lock is on the file with the id, whatever path leads to the folder."""
        try:
            # For reading alone: a file that is open for writing would keep its disk from being made read-only.
            self._claimed = os.open(self.owner_mark, os.O_RDONLY | os.O_CREAT, 0o600)
            alone = self._lock(fcntl.LOCK_EX)
            together = not alone and self._shared and self._lock(fcntl.LOCK_SH, wait_s=MARK_S)
            owner = os.pread(self._claimed, 255, 0).decode(errors="replace").strip() or None
        except OSError as error:
            raise SettingsError(f"LIMNER_BLOBS_URL: {error}") from None
        if not alone and (not together or owner is None):
            self.release()
            raise SettingsError(f"LIMNER_BLOBS_URL: another service uses the folder {self._root} already")
        if alone and self._shared and owner is not None:
            self._let_others_share()
        return owner

    def belong_to(self, database_id: str) -> None:
        """See `blob_ports.OwnedBlobs.belong_to`."""
        with _errors_as_unavailable("written"), open(self.owner_mark, "r+b", buffering=0) as file:
            file.write(f"{database_id}\n".encode())  # in place: the lock is on this very file
            os.fsync(file.fileno())
        if self._shared:
            self._let_others_share()

    def _let_others_share(self) -> None:
        """Only who is alone may write the id of an owner, so that two services cannot both give the folder theirs."""
        if not self._lock(fcntl.LOCK_SH, wait_s=MARK_S):
            raise UnavailableError("The folder of photos is being claimed by another service. Try again.")

    def _lock(self, kind: int, *, wait_s: float = 0.0) -> bool:
        """Change the lock on the file with the id. False if another process prevents it for `wait_s`."""
        assert self._claimed is not None
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(self._claimed, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.01)
            else:
                return True

    def sample(self, limit: int) -> list[str]:
        """See `blob_ports.OwnedBlobs.sample`."""
        return [sha256 for sha256, _ in islice(self._all(), limit)]

    def release(self) -> None:
        """See `blob_ports.OwnedBlobs.release`."""
        if self._claimed is not None:
            os.close(self._claimed)
            self._claimed = None

    def ping(self) -> None:
        """See `blob_ports.BlobStore.ping`."""
        with _errors_as_unavailable("written"), tempfile.TemporaryFile(prefix=_PART, dir=self._folder) as file:
            file.write(b"ok")

    def _path(self, sha256: str) -> str:
        if not _is_sha256(sha256):  # text from a client must not become a path unchecked
            raise NotFoundError("The id is not a SHA-256.")
        return f"{self._root}/{sha256[:2]}/{sha256[2:]}"


def owner_of(folder: Path) -> str | None:
    """The id of the database that a folder of blobs belongs to; None if it has none yet."""
    mark = folder / _OWNER
    return (mark.read_text().strip() or None) if mark.is_file() else None


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and _HEX.issuperset(text)


def _gone() -> NotFoundError:
    return NotFoundError("The file is missing or damaged. Send the photo again, and it is made again.")


@contextmanager
def _errors_as_unavailable(action: str) -> Iterator[None]:
    """Raise UnavailableError for an OSError: the disk may have space, or the folder be writable, at another time."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"The folder of photos cannot be {action} ({error.strerror}).") from error
