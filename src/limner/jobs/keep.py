"""Keeping the bytes that a row has just come to name."""

from limner.ports import BlobStore, JobStore


def keep_named(store: JobStore, blobs: BlobStore, sha256: str, data: bytes) -> None:
    """See that the bytes of a blob are there if, and only if, a job names it.

    Between the storing of bytes and the row that names them an erasure of another job may have removed the very same
    bytes: then they are stored again. And the job may itself be erased by now: then they go once more.
    """
    if not blobs.has(sha256):
        blobs.put(data)
        store.forget([sha256], blobs.delete)
