"""Keeping a blob's bytes in step with its row: stored before a job names them, removed after the last one let go.

The row is the wall between the two. A removal first makes the row `removing`, in a transaction; a submission that meets
such a row waits until it is gone and stores the bytes again.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import TypeVar

from limner.domain.errors import LimnerError, UnavailableError
from limner.jobs import transitions
from limner.jobs.transitions import IsStored, Missing
from limner.ports import BlobStore, JobStore, Transaction

T = TypeVar("T")

log = logging.getLogger(__name__)

ROUNDS = 100
REMOVAL_WAIT_S = 0.02  # a removal takes a few milliseconds
CLAIM_S = 30.0  # whoever claimed a removal and did not get round to it for so long leaves it to the sweep


def transact_with_bytes(
    store: JobStore,
    blobs: BlobStore,
    data: Mapping[str, bytes],
    work: Callable[[Transaction, IsStored], T | Missing],
    *,
    stored: Collection[str] = (),
    unseen: Collection[str] = (),
) -> T:
    """Run `work` in a transaction; the bytes that it finds missing are stored, and it runs again.

    `data` holds the bytes by SHA-256; those in `stored` have been stored by the caller already. So bytes are written
    only where the answer needs them. Those in `unseen` it will surely need: they are stored before the first run.
    UnavailableError when a removal of the same bytes does not end.
    """
    have = set(stored)
    try:
        for sha256 in unseen:
            have.add(sha256)
            blobs.put(data[sha256], sha256=sha256)
        return _transact(store, blobs, data, work, have)
    except Exception:
        with suppress(LimnerError):  # the sweep tidies up what cannot be now
            discard(store, blobs, have.difference(stored))
        raise


def _transact(
    store: JobStore,
    blobs: BlobStore,
    data: Mapping[str, bytes],
    work: Callable[[Transaction, IsStored], T | Missing],
    have: set[str],
) -> T:
    def is_stored(sha256: str) -> bool:
        return sha256 in have and blobs.has(sha256)

    for _ in range(ROUNDS):
        answer = store.transact(lambda tx: work(tx, is_stored))
        if not isinstance(answer, Missing):
            return answer
        if answer.leaving:
            time.sleep(REMOVAL_WAIT_S)
            continue
        for sha256 in answer.sha256s:
            if sha256 not in data:  # of the cached result that was to answer: it is being erased
                raise UnavailableError("the cached result is being erased; try again")
            blobs.put(data[sha256], sha256=sha256)
            have.add(sha256)
    raise UnavailableError("the same picture is being removed just now; try again")


def remove(store: JobStore, blobs: BlobStore, sha256s: Iterable[str]) -> None:
    """Remove the bytes of those blobs that are marked, or that have no row. Others are left alone."""
    wanted = list(sha256s)
    if not wanted:
        return
    claimed = store.transact(lambda tx: transitions.claim_removal(tx, wanted))
    finish_removal(store, blobs, claimed)


def discard(store: JobStore, blobs: BlobStore, sha256s: Collection[str]) -> None:
    """Remove bytes that were stored in vain, if they have no row.

    It writes no row, because the database may be full, so the bytes go inside the transaction, under their lock.
    """
    if not sha256s:
        return

    def delete(tx: Transaction) -> None:
        for sha256 in transitions.without_row(tx, sha256s):
            blobs.delete(sha256)

    store.transact(delete)


def finish_removal(store: JobStore, blobs: BlobStore, claimed: Collection[str]) -> None:
    """Remove the bytes of blobs whose rows are `removing` and the caller's, then the rows.

    One that cannot be removed does not keep the others; its error is raised at the end.
    """
    if not claimed:
        return
    since = time.monotonic()
    removed: list[str] = []
    error: Exception | None = None
    for sha256 in claimed:
        if time.monotonic() - since > CLAIM_S:
            log.warning("removal took too long; the sweep goes on with it", extra={"left": len(claimed) - len(removed)})
            break
        try:
            blobs.delete(sha256)
        except Exception as failed:
            log.exception("bytes not removed; the sweep tries again", extra={"sha256": sha256})
            error = error or failed
        else:
            removed.append(sha256)

    def drop(tx: Transaction) -> None:
        for sha256 in removed:
            tx.drop_blob(sha256)

    store.transact(drop)
    if error is not None:
        raise error
