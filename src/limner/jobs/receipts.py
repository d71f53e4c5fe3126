"""Receipts of erasures: made and signed when a job is erased, checked later against what the service still has.

A receipt is a JSON object. Its signature is an HMAC-SHA256 with a key that only the service's database holds, over the
object without the signature, as JSON with sorted names and without spaces.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from limner.blob_ports import BlobStore
from limner.domain.job import File
from limner.jobs.pairing import DATABASE_ID
from limner.ports import EventLog, JobReader, JobStore, Removed, Traces, Transaction
from limner.webhook_ports import HookReader

VERSION = 1
KEY = "receipt_key"
KEPT = "another job uses these bytes"
_SIGNATURE = "signature"
_PREFIX = "hmac-sha256="
_MOST_EVENTS = 100_000
LONGEST_TEXT = 255

Receipt = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Issuer:
    """The service that signs receipts: its database's id, if it has one, and its key."""

    service_id: str | None
    key: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    good: bool
    text: str


def issuer(tx: Transaction) -> Issuer:
    """The issuer, with its key made if this is the first receipt."""
    key = tx.fact(KEY)
    if key is None:
        tx.lock([KEY])
        key = tx.fact(KEY)
    if key is None:
        key = secrets.token_hex(32)
        tx.set_fact(KEY, key)
    return Issuer(tx.fact(DATABASE_ID), key)


def make(
    by: Issuer,
    job_id: str,
    files: tuple[File, ...],
    counts: Removed,
    *,
    marked: list[str],
    removed: list[str],
    tell_others: bool,
) -> Receipt:
    """The signed receipt of an erasure. `marked` blobs were to be removed; those not in `removed` still are.

    Without `tell_others`, removed and kept blobs are one list, `released`, because a kept one would tell its owner that
    somebody else sent the same bytes.
    """
    sizes = {file.sha256: file.size for file in files}

    def listed(sha256s: list[str]) -> list[dict[str, Any]]:
        return [{"sha256": sha256, "size": sizes[sha256]} for sha256 in sorted(sha256s)]

    gone = [each for each in marked if each in removed]
    used = [each for each in sizes if each not in marked]
    body = {
        "version": VERSION,
        "service_id": by.service_id,
        "job_id": job_id,
        "erased_at": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "removed": {**asdict(counts), "blobs": listed(gone if tell_others else [])},
        "kept": [{**each, "reason": KEPT} for each in listed(used if tell_others else [])],
        "released": listed([] if tell_others else [*gone, *used]),
        "pending": listed([each for each in marked if each not in removed]),
    }
    return {**body, _SIGNATURE: _sign(body, by.key)}


def _sign(body: Receipt, key: str) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return _PREFIX + hmac.new(bytes.fromhex(key), text, hashlib.sha256).hexdigest()


def is_receipt(value: object) -> bool:
    """Whether a JSON value has the form of a receipt of this version."""
    if not isinstance(value, dict) or value.get("version") != VERSION:
        return False
    blobs = value["removed"].get("blobs") if isinstance(value.get("removed"), dict) else None
    if not all(_is_text(value.get(name)) for name in ("job_id", "erased_at", _SIGNATURE)):
        return False
    for listed in (blobs, value.get("kept"), value.get("released"), value.get("pending")):
        if not isinstance(listed, list):
            return False
        if not all(isinstance(each, dict) and _is_sha256(each.get("sha256")) for each in listed):
            return False
    return all(_is_text(each.get("reason")) for each in value["kept"])


def _is_text(value: object) -> bool:
    """Whether it is a text that databases take and terminals show as it is."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and len(value) <= LONGEST_TEXT


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Verifier:
    """Compares receipts with everything that the service stores."""

    store: JobStore
    reader: JobReader
    hooks: HookReader
    events: EventLog
    traces: Traces
    blobs: BlobStore

    def check(self, receipt: Receipt) -> Iterator[Finding]:
        """What was found for a receipt (`is_receipt`); it holds if all findings are good. UnavailableError."""
        yield from self._check_origin(receipt)
        yield from self._check_rows(receipt["job_id"])
        for each in (*receipt["removed"]["blobs"], *receipt["released"], *receipt["pending"]):
            yield self._check_blob(each["sha256"], receipt["job_id"])
        for each in receipt["kept"]:
            yield Finding(True, f"picture {each['sha256'][:12]}… was kept: {each.get('reason')}")

    def _check_origin(self, receipt: Receipt) -> Iterator[Finding]:
        key, service_id = self.store.transact(lambda tx: (tx.fact(KEY), tx.fact(DATABASE_ID)))
        body = {name: value for name, value in receipt.items() if name != _SIGNATURE}
        if key is None:
            yield Finding(False, "this database has issued no receipt yet: it is another one, or an older copy")
        elif hmac.compare_digest(_sign(body, key).encode(), receipt[_SIGNATURE].encode()):
            yield Finding(True, f"the receipt was issued by this service at {receipt['erased_at']}, and is unchanged")
        else:
            yield Finding(False, "the receipt was not issued by this service, or was changed")
        if receipt.get("service_id") != service_id:
            yield Finding(False, "the receipt names another database")

    def _check_rows(self, job_id: str) -> Iterator[Finding]:
        told = [each for each in self.events.after(0, limit=_MOST_EVENTS, job_id=job_id) if each.content is not None]
        for left, name in (
            (self.reader.get(job_id) is not None, "the job"),
            (self.traces.files_of(job_id) > 0, "files of the job"),
            (bool(told), "contents of the job's events"),
            (bool(self.hooks.of_job(job_id)), "webhooks of the job"),
            (bool(self.hooks.deliveries(job_id)), "deliveries of the job's events"),
        ):
            yield Finding(not left, f"the database {'still has' if left else 'has nothing of'} {name}")

    def _check_blob(self, sha256: str, job_id: str) -> Finding:
        name = f"picture {sha256[:12]}…"
        if not self.blobs.has(sha256):
            return Finding(True, f"{name} is not stored")
        if self.traces.naming(sha256, besides=job_id):
            return Finding(True, f"{name} is stored, because another job uses these bytes")
        return Finding(False, f"{name} is still stored")
