"""`jobs/blobs.py`: storing and removing a blob's bytes according to its row, on every job store and blob store."""

from datetime import UTC, datetime
from typing import cast

import pytest

from limner.blob_ports import BlobStore
from limner.domain.blob import BlobState
from limner.domain.errors import UnavailableError
from limner.domain.job import Job
from limner.jobs import blobs as bytes_of_jobs
from limner.jobs import transitions
from limner.jobs.transitions import Submitted
from tests.contract.machine import DAY, Machine, new_job, unsent
from tests.contract.rival import sha256_of


def submit(machine: Machine, blobs: BlobStore, job: Job, *data: str) -> Submitted:
    return bytes_of_jobs.transact_with_bytes(
        machine.store,
        blobs,
        {sha256_of(each): each.encode() for each in data},
        lambda tx, is_stored: transitions.submit(
            tx, job, max_queued=9, cache_for=DAY, is_stored=is_stored, is_intact=lambda _: True
        ),
    )


def remove(machine: Machine, blobs: BlobStore, *data: str) -> None:
    bytes_of_jobs.remove(machine.store, blobs, [sha256_of(each) for each in data])


def state(machine: Machine, data: str) -> BlobState | None:
    return machine.store.transact(lambda tx: tx.blob_state(sha256_of(data)))


def test_bytes_are_stored_before_the_row_that_names_them(machine: Machine, blobs: BlobStore) -> None:
    job = new_job(picture=sha256_of("photo"))
    assert unsent(submit(machine, blobs, job, "photo").job) == job
    assert blobs.get(sha256_of("photo")) == b"photo"
    assert state(machine, "photo") is BlobState.KEPT


def test_a_repeat_stores_no_bytes(machine: Machine, blobs: BlobStore) -> None:
    submit(machine, blobs, new_job("work", picture=sha256_of("photo"), idempotency_key="k"), "photo")
    again = new_job("work", picture=sha256_of("same work, other bytes"), idempotency_key="k")
    submit(machine, blobs, again, "same work, other bytes")
    assert not blobs.has(sha256_of("same work, other bytes"))


def test_bytes_that_do_not_exist_are_not_referred_to(machine: Machine, blobs: BlobStore) -> None:
    job = new_job(picture=sha256_of("photo"))
    with pytest.raises(UnavailableError, match="erased"):
        submit(machine, blobs, job)
    assert machine.reader.get(job.id) is None


def test_only_bytes_that_no_job_names_are_removed(machine: Machine, blobs: BlobStore) -> None:
    job = new_job(picture=sha256_of("photo"))
    submit(machine, blobs, job, "photo")
    blobs.put(b"stray")
    remove(machine, blobs)
    remove(machine, blobs, "photo", "stray", "never seen")
    assert blobs.has(sha256_of("photo"))
    assert not blobs.has(sha256_of("stray"))
    assert [state(machine, data) for data in ("photo", "stray", "never seen")] == [BlobState.KEPT, None, None]
    assert machine.erase(job.id).marked == [sha256_of("photo")]
    remove(machine, blobs, "photo")
    assert not blobs.has(sha256_of("photo"))
    assert state(machine, "photo") is None


def test_a_blob_that_cannot_be_removed_does_not_prevent_the_others(machine: Machine, blobs: BlobStore) -> None:
    class Stuck:
        """A store that cannot remove one of its blobs."""

        def delete(self, sha256: str) -> None:
            if sha256 == sha256_of("stuck"):
                raise UnavailableError("no")
            blobs.delete(sha256)

    data = ("a", "stuck", "b")
    for each in data:
        blobs.put(each.encode())
    with pytest.raises(UnavailableError):
        remove(machine, cast("BlobStore", Stuck()), *data)
    assert [blobs.has(sha256_of(each)) for each in data] == [False, True, False]
    assert [state(machine, each) for each in data] == [None, BlobState.REMOVING, None]
    left = machine.reader.blobs_in(BlobState.REMOVING, datetime.now(UTC) + DAY, 9)
    bytes_of_jobs.finish_removal(machine.store, blobs, left)  # like the sweep
    assert not blobs.has(sha256_of("stuck"))
    assert state(machine, "stuck") is None


def test_a_removal_that_does_not_end_is_given_up_on_and_nothing_is_stored(
    machine: Machine, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytes_of_jobs, "REMOVAL_WAIT_S", 0.001)
    machine.claim(sha256_of("photo"))  # and the thread that claimed it has ended
    job = new_job(picture=sha256_of("photo"))
    with pytest.raises(UnavailableError, match="being removed"):
        submit(machine, blobs, job, "photo")
    assert machine.reader.get(job.id) is None
    assert not blobs.has(sha256_of("photo"))
    bytes_of_jobs.finish_removal(machine.store, blobs, [sha256_of("photo")])
    assert unsent(submit(machine, blobs, job, "photo").job) == job


def test_a_removal_that_takes_too_long_leaves_the_rest_to_the_sweep(
    machine: Machine, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bytes_of_jobs, "CLAIM_S", -1)
    blobs.put(b"stray")
    remove(machine, blobs, "stray")
    assert blobs.has(sha256_of("stray"))
    assert machine.reader.blobs_in(BlobState.REMOVING, datetime.now(UTC) + DAY, 9) == [sha256_of("stray")]
