"""Stores a blob's bytes before a job refers to them, and removes them after no job does.

The blob's row keeps the two apart. A removal first sets the row to `removing`, in a transaction of its own; a
submission that finds such a row waits until it is gone and stores the bytes again.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import TypeVar

from limner.blob_ports import BlobStore
from limner.domain.errors import LimnerError, UnavailableError
from limner.jobs import transitions
from limner.jobs.transitions import IsStored, Missing
from limner.ports import JobStore, Transaction

T = TypeVar("T")

log = logging.getLogger(__name__)

ROUNDS = 100
REMOVAL_WAIT_S = 0.02  # a removal takes a few milliseconds
CLAIM_S = 30.0  # a thread that claimed removals leaves those it has not begun by then to the sweep


def transact_with_bytes(
    store: JobStore,
    blobs: BlobStore,
    data: Mapping[str, bytes],
    work: Callable[[Transaction, IsStored], T | Missing],
    *,
    media_types: Mapping[str, str] | None = None,
    stored: Collection[str] = (),
    unseen: Collection[str] = (),
) -> T:
    """Run `work` in a transaction. If it returns `Missing`, store those bytes and run it again.

    `data` holds the bytes by SHA-256, `media_types` their types. The caller has already stored those in `stored`. Those
    in `unseen` are certainly needed, so they are stored before the first run. UnavailableError when a removal of the
    same bytes does not end.
    """
    have = set(stored)
    media_types = media_types or {}
    try:
        for sha256 in unseen:
            have.add(sha256)
            blobs.put(data[sha256], sha256=sha256, media_type=media_types.get(sha256))
        return _transact(store, blobs, data, media_types, work, have)
    except Exception:
        with suppress(LimnerError):  # what cannot be removed now, the sweep removes later
            discard(store, blobs, have.difference(stored))
        raise


def _transact(
    store: JobStore,
    blobs: BlobStore,
    data: Mapping[str, bytes],
    media_types: Mapping[str, str],
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
            if sha256 not in data:  # an artifact of the cached result, whose job is being erased
                raise UnavailableError("The cached result is being erased. Try again.")
            blobs.put(data[sha256], sha256=sha256, media_type=media_types.get(sha256))
            have.add(sha256)
    raise UnavailableError("The same picture is being removed. Try again.")


def remove(store: JobStore, blobs: BlobStore, sha256s: Iterable[str]) -> list[str]:
    """Remove the bytes of these blobs, except those whose row says `kept` or `removing`. Returns those removed."""
    wanted = list(sha256s)
    if not wanted:
        return []
    claimed = store.transact(lambda tx: transitions.claim_removal(tx, wanted))
    return finish_removal(store, blobs, claimed)


def discard(store: JobStore, blobs: BlobStore, sha256s: Collection[str]) -> None:
    """Remove bytes that were stored but are not needed, if they have no row.

    This writes no row, because the disk of the database may be full. So it removes the bytes inside the transaction,
    while it holds their lock.
    """
    if not sha256s:
        return

    def delete(tx: Transaction) -> None:
        for sha256 in transitions.without_row(tx, sha256s):
            blobs.delete(sha256)

    store.transact(delete)


def finish_removal(store: JobStore, blobs: BlobStore, claimed: Collection[str]) -> list[str]:
    """Remove the bytes of blobs that the caller has set to `removing`, then their rows. Returns those removed.

    If a blob cannot be removed, the others still are, and its error is raised at the end.
    """
    if not claimed:
        return []
    since = time.monotonic()
    removed: list[str] = []
    errors: list[Exception] = []
    for sha256 in claimed:
        if time.monotonic() - since > CLAIM_S:
            log.warning("removal took too long; the sweep continues it", extra={"left": len(claimed) - len(removed)})
            break
        try:
            blobs.delete(sha256)
        except Exception as error:  # noqa: BLE001  # the first is raised at the end
            errors.append(error)
        else:
            removed.append(sha256)

    def drop(tx: Transaction) -> None:
        for sha256 in removed:
            tx.drop_blob(sha256)

    store.transact(drop)
    if errors:
        log.warning(
            "blobs could not be removed; the sweep tries again", extra={"blobs": len(errors), "detail": str(errors[0])}
        )
        raise errors[0]
    return removed
