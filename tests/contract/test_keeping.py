"""Bytes are there if, and only if, a job names them: also when an erasure comes in between."""

from limner.jobs.keep import keep_named
from limner.ports import BlobStore, JobStore
from tests.contract.test_job_store import new_job, submit

DATA = b"the bytes"


def test_bytes_that_a_row_names_are_stored_again(store: JobStore, blobs: BlobStore) -> None:
    sha256 = blobs.put(DATA)
    submit(store, new_job(picture=sha256))
    blobs.delete(sha256)  # an erasure, between the storing of the bytes and the row
    keep_named(store, blobs, sha256, DATA)
    assert blobs.get(sha256) == DATA


def test_bytes_of_a_job_that_was_erased_meanwhile_do_not_come_back(store: JobStore, blobs: BlobStore) -> None:
    sha256 = blobs.put(DATA)
    job = submit(store, new_job(picture=sha256))
    store.erase(job.id, blobs.delete)
    keep_named(store, blobs, sha256, DATA)
    assert not blobs.has(sha256)


def test_bytes_that_are_there_are_left_alone(store: JobStore, blobs: BlobStore) -> None:
    sha256 = blobs.put(DATA)
    keep_named(store, blobs, sha256, DATA)
    assert blobs.has(sha256), "another's upload may be about to name them"
