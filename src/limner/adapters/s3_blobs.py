"""The blob store in an S3 bucket: one object per blob, `prefix/<sha256>`, beside the mark of the owner.

Every call has a time-out and few retries. Access keys, region and endpoint are obstore's: the variables AWS_*.
"""

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from limner.domain.errors import NotFoundError, SettingsError, UnavailableError

log = logging.getLogger(__name__)

START_S = 60.0  # how long a start waits for a bucket that is not there yet
START_PAUSE_S = 1.0
QUICK_S = 5.0  # of what carries no photo, and may be done while the database is locked
SLOW_S = 20.0  # of a whole photo
RETRIES = 3
LISTED_AT_ONCE = 1000
URL_S = 60.0  # a client follows a redirect at once

_OWNER = "database-id"
_TEST = "write-test"
_HEX = frozenset("0123456789abcdef")
_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9!_.*'()-]+)*)/?")
_METADATA_SERVICE = "169.254.169.254"  # where obstore asks for a key last
_ANSWER = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_used_in: list[int] = []  # the first process that has used obstore, of this one and those it was forked from


class S3Blobs:
    """`blob_ports.BlobStore` and `blob_ports.OwnedBlobs` for a URL `s3://bucket/prefix`.

    Nothing is asked of the network before the first method is called. With `presigned`, clients get URLs of the
    bucket. Use it first after forking: obstore's threads do not exist in the child of a process that has used it.
    """

    def __init__(
        self, url: str, *, presigned: bool = False, public_url: str | None = None, start_s: float = START_S
    ) -> None:
        found = _URL.fullmatch(url)
        if found is None:  # the URL is not repeated: it may hold a key
            raise SettingsError(
                "LIMNER_BLOBS_URL must be 's3://bucket/prefix'; keys belong in AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, the address of the service in AWS_ENDPOINT_URL"
            )
        self._bucket = found[1]
        self._prefix = found[2].strip("/")
        self._presigned = presigned
        self._start_s = start_s
        self._quick_store = _store(self._bucket, self._prefix, QUICK_S)
        self._slow_store = _store(self._bucket, self._prefix, SLOW_S)
        # A signature holds the address that the client calls, and making one asks nothing of the network.
        self._signing_store = (
            self._quick_store
            if public_url is None
            else _store(self._bucket, self._prefix, QUICK_S, public_url.rstrip("/"))
        )

    def put(self, data: bytes, *, sha256: str | None = None, media_type: str | None = None) -> str:
        """See `blob_ports.BlobStore.put`."""
        sha256 = sha256 or hashlib.sha256(data).hexdigest()
        key = _key(sha256)
        # Clients that fetch the bytes by URL must not keep photos of faces: they would not learn of an erasure.
        attributes = {"Content-Type": media_type or "application/octet-stream", "Cache-Control": "private, no-store"}
        with _errors_as_unavailable("written"):
            # Not "create if absent": equal bytes may be written twice, and some services let such writers take turns.
            if not self.has(sha256, size=len(data)):
                obstore.put(self._slow, key, data, use_multipart=False, attributes=attributes)
        return sha256

    def get(self, sha256: str) -> bytes:
        """See `blob_ports.BlobStore.get`."""
        key = _key(sha256)
        with _errors_as_unavailable("read"):
            data = bytes(obstore.get(self._slow, key).bytes())
        if hashlib.sha256(data).hexdigest() != sha256:
            log.warning("a damaged object is removed, so that its bytes can be stored again", extra={"object": key})
            with suppress(UnavailableError):  # then the next one who reads it tries
                self.delete(sha256)
            raise _gone()
        return data

    def part(self, sha256: str, *, start: int, stop: int) -> bytes:
        """See `blob_ports.BlobStore.part`."""
        key = _key(sha256)
        if stop <= start:
            return b""
        with _errors_as_unavailable("read"):
            data = bytes(obstore.get_range(self._slow, key, start=start, end=stop))
        if len(data) != stop - start:
            raise _gone()
        return data

    def has(self, sha256: str, *, size: int | None = None) -> bool:
        """See `blob_ports.BlobStore.has`."""
        key = _key(sha256)
        try:
            with _errors_as_unavailable("read"):
                found = obstore.head(self._quick, key)["size"]
        except NotFoundError:
            return False
        return size is None or found == size

    def delete(self, sha256: str) -> None:
        """See `blob_ports.BlobStore.delete`."""
        with _errors_as_unavailable("written"), suppress(FileNotFoundError):
            obstore.delete(self._quick, _key(sha256))

    def check_removable(self) -> None:
        """See `blob_ports.BlobStore.check_removable`. In a bucket with versioning, nothing can be removed for good."""
        try:
            with _errors_as_unavailable("written"):
                versioned = self._write_test()
                obstore.delete(self._quick, _TEST)
        except UnavailableError as error:
            raise UnavailableError(f"{error.detail} So nothing was erased.") from None
        if versioned:
            raise UnavailableError("The bucket of photos keeps old versions, so nothing was erased.")

    def local_path(self, sha256: str, *, size: int | None = None) -> Path | None:
        """See `blob_ports.BlobStore.local_path`: there are no files."""
        if not self.has(sha256, size=size):
            raise _gone()
        return None

    def temporary_url(self, sha256: str, *, head: bool = False) -> str | None:
        """See `blob_ports.BlobStore.temporary_url`."""
        key = _key(sha256)
        if not self._presigned:
            return None
        with _errors_as_unavailable("read"):
            return obstore.sign(self._signing, "HEAD" if head else "GET", key, timedelta(seconds=URL_S))

    def written(self, *, before: datetime, since: datetime | None = None) -> Iterator[str]:
        """See `blob_ports.BlobStore.written`. Reads the list in parts, so it takes little memory."""
        earliest = since or datetime.min.replace(tzinfo=UTC)
        return (sha256 for sha256, written in self._all() if earliest <= written < before)

    def _all(self) -> Iterator[tuple[str, datetime]]:
        with _errors_as_unavailable("read"):
            parts = obstore.list(self._quick, chunk_size=LISTED_AT_ONCE)
        while True:
            with _errors_as_unavailable("read"):  # not around `yield`, where errors are the reader's
                part = next(parts, None)
            if part is None:
                return
            yield from ((each["path"], each["last_modified"]) for each in part if _is_sha256(each["path"]))

    @property
    def owner_mark(self) -> str:
        """See `blob_ports.OwnedBlobs.owner_mark`."""
        return "/".join(filter(None, ("s3:/", self._bucket, self._prefix, _OWNER)))

    def claim(self) -> str | None:
        """See `blob_ports.OwnedBlobs.claim`. Waits for a bucket that does not answer or exist yet.

        It keeps no other service away, because all processes of one database share the bucket.
        """
        deadline = time.monotonic() + self._start_s
        waited = False
        while True:
            try:
                owner = self.look()
                with self._errors_at_start():
                    self._refuse_versions(self._write_test())
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    raise self._unusable(error.detail) from None
                if not waited:
                    log.warning("waiting for the bucket of photos", extra={"detail": error.detail})
                waited = True
                time.sleep(START_PAUSE_S)
            else:
                return owner

    def look(self) -> str | None:
        """The id of the database that owns the blobs, None if none does. Writes nothing.

        SettingsError if the bucket cannot be used, UnavailableError if that may change by itself.
        """
        with self._errors_at_start():
            next(obstore.list(self._quick, chunk_size=1), None)  # some services create a bucket at the first write
            try:
                found = obstore.get(self._quick, _OWNER)
            except FileNotFoundError:
                return None
            self._refuse_versions(_is_version(found.meta["version"]))
            return bytes(found.bytes()).decode(errors="replace").strip() or None

    @contextmanager
    def _errors_at_start(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            told = f"The bucket {self._bucket} cannot be used: {_reason(error)}."
            if "NoSuchBucket" in str(error):
                told += f" Create it, for example with `aws s3 mb s3://{self._bucket}`."
            if _needs_settings(error):
                raise self._unusable(
                    f"{told} Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, and that the key may list, "
                    "read, write and delete objects."
                ) from None
            raise UnavailableError(told) from None

    def _unusable(self, detail: str) -> SettingsError:
        return SettingsError(f"LIMNER_BLOBS_URL: {detail}")

    def _refuse_versions(self, versioned: bool) -> None:
        if versioned:
            raise self._unusable(
                f"The bucket {self._bucket} keeps old versions of objects, so erased photos would stay. Use a bucket "
                "without versioning."
            )

    def _write_test(self) -> bool:
        """Write something; returns whether the bucket keeps old versions."""
        return _is_version(obstore.put(self._quick, _TEST, b"ok", use_multipart=False)["version"])

    def belong_to(self, database_id: str) -> None:
        """See `blob_ports.OwnedBlobs.belong_to`. SettingsError if another database was faster."""
        with _errors_as_unavailable("written"):
            try:
                obstore.put(self._slow, _OWNER, database_id.encode(), mode="create", use_multipart=False)
            except AlreadyExistsError:
                if self.look() != database_id:
                    raise self._unusable(f"{self.owner_mark} names another database, which has just started") from None

    def sample(self, limit: int) -> list[str]:
        """See `blob_ports.OwnedBlobs.sample`."""
        return [sha256 for sha256, _ in islice(self._all(), limit)]

    def release(self) -> None:
        """See `blob_ports.OwnedBlobs.release`: nothing is kept."""

    def ping(self) -> None:
        """See `blob_ports.BlobStore.ping`."""
        with _errors_as_unavailable("written"):
            self._write_test()

    @property
    def _quick(self) -> S3Store:
        _check_not_forked()
        return self._quick_store

    @property
    def _signing(self) -> S3Store:
        _check_not_forked()
        return self._signing_store

    @property
    def _slow(self) -> S3Store:
        _check_not_forked()
        return self._slow_store


def _store(bucket: str, prefix: str, timeout_s: float, address: str | None = None) -> S3Store:
    """A client of the bucket, at `address` or AWS_ENDPOINT_URL. SettingsError for AWS_* that cannot be used."""
    allow_http = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("true", "1", "yes")
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        endpoint = os.environ.get(name, "")
        if endpoint.startswith("http://") and not allow_http:
            raise SettingsError(f"{name} is not https: set AWS_ALLOW_HTTP=true if the network can be trusted")
        if "@" in endpoint:
            raise SettingsError(f"{name} must be an address without a user or password")
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            # Not every service can delete several at once.
            # (Of the names of an address, this is the one that no variable overrules.)
            config={"disable_bulk_delete": True, **({"aws_endpoint_url_s3": address} if address else {})},
            client_options={
                "allow_http": allow_http or address is not None,
                "connect_timeout": timedelta(seconds=min(timeout_s, 3)),
                "timeout": timedelta(seconds=timeout_s),
            },
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": timedelta(seconds=timeout_s),
                "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
            },
        )
    except (BaseError, ValueError) as error:
        raise SettingsError(f"LIMNER_BLOBS_URL: one of the variables AWS_* is wrong ({type(error).__name__})") from None


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and _HEX.issuperset(text)


def _key(sha256: str) -> str:
    if not _is_sha256(sha256):  # text from a client must not become a key unchecked
        raise NotFoundError("The id is not a SHA-256.")
    return sha256


def _gone() -> NotFoundError:
    return NotFoundError("The file is missing or damaged. Send the photo again, and it is made again.")


def _is_version(version: str | None) -> bool:
    """Whether a bucket that names this version keeps old ones. `null`: it did so earlier."""
    return version not in (None, "null")


def _check_not_forked() -> None:
    """RuntimeError in a process that was forked after the use of obstore: there, every call would hang."""
    if not _used_in:
        _used_in.append(os.getpid())
    if _used_in[0] != os.getpid():
        raise RuntimeError("S3 was used before this process was forked")


def _reason(error: Exception) -> str:
    """Why a call failed. The error's own text is not told: it is long, and may quote what was sent."""
    text = str(error)
    if _METADATA_SERVICE in text:
        return "there is no key (AWS_ACCESS_KEY_ID)"
    answer, code = _ANSWER.search(text), _CODE.search(text)
    if answer is None:
        return "it does not answer"
    return f"it answered {answer[1]}{f' {code[1]}' if code else ''}"


def _needs_settings(error: Exception) -> bool:
    """Whether the call fails until a setting or a permission is changed."""
    answer = _ANSWER.search(str(error))
    return _METADATA_SERVICE in str(error) or (answer is not None and answer[1] in ("301", "400", "401", "403"))


@contextmanager
def _errors_as_unavailable(action: str) -> Iterator[None]:
    """Raise NotFoundError for an object that is not there, UnavailableError for every other error."""
    try:
        yield
    except (BaseError, OSError) as error:
        if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error) and action == "read":
            raise _gone() from None
        if (answer := _ANSWER.search(str(error))) and answer[1] == "416":
            raise _gone() from None  # shorter than it was
        raise UnavailableError(f"The bucket of photos cannot be {action}: {_reason(error)}.") from None
