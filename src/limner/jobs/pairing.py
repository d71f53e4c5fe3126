"""A database and its folder of blobs belong together: both store the same id, and a start with another pair is refused.

The sweep removes blobs that the database does not name. After a mistyped path, it would remove all of them.
"""

import logging
from uuid import uuid4

from limner.blob_ports import OwnedBlobs
from limner.domain.errors import SettingsError
from limner.ports import JobReader, JobStore, Transaction

log = logging.getLogger(__name__)

DATABASE_ID = "database_id"
SAMPLE = 1000


def pair(store: JobStore, reader: JobReader, blobs: OwnedBlobs, *, database: str, folder: str) -> None:
    """Claim the blobs for the database, and store the same id in both if they have none yet.

    SettingsError if another service uses the blobs, if they belong to another database, or if the database names none
    of them. The message names both paths, and neither is changed.
    """
    owner = blobs.claim()
    known = store.transact(lambda tx: tx.fact(DATABASE_ID))
    if owner is not None and owner == known:
        return
    sample = blobs.sample(SAMPLE)
    named = len(reader.without_row(sample)) < len(sample)
    if owner is not None and (known is not None or not named):
        advice = "move its photos elsewhere" if sample else f"remove {blobs.owner_mark}, for it has no photos"
        raise _refused(database, folder, "belongs to another database", f"to give it to this database, {advice}")
    if owner is None and sample and not named:
        raise _refused(
            database, folder, "holds photos of which this database names none", "choose an empty one, or move them"
        )
    # A database without an id is new, or a backup from before there were ids. It takes over the id of the folder.
    chosen = known or store.transact(lambda tx: _name(tx, owner or str(uuid4())))
    if owner is None:
        if not sample and reader.totals()[1]:
            log.warning("the folder of photos is empty, but the database names photos", extra={"folder": folder})
        blobs.belong_to(chosen)


def _name(tx: Transaction, database_id: str) -> str:
    """Give the database this id, unless another process was faster; the id that it has."""
    tx.lock([DATABASE_ID])
    known = tx.fact(DATABASE_ID)
    if known is None:
        tx.set_fact(DATABASE_ID, database_id)
    return known or database_id


def _refused(database: str, folder: str, reason: str, advice: str) -> SettingsError:
    kind = "bucket" if "://" in folder else "folder"
    return SettingsError(
        f"LIMNER_BLOBS_URL: the {kind} {folder} {reason} ({database}), so its photos would be deleted. "
        f"Is LIMNER_DATABASE_URL or LIMNER_BLOBS_URL mistyped? If not, {advice}."
    )
