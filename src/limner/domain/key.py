"""API keys: what a key may do, how it is made and recognised, and who a request comes from."""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from limner.domain.errors import NotFoundError

TOKEN_PREFIX = "lim_"  # noqa: S105  # lets people and secret scanners recognise a leaked key
SHOWN = len(TOKEN_PREFIX) + 6
"""How much of a key is kept readable, so that people can tell keys apart: 36 of 256 bits."""


class Scope(StrEnum):
    """What a key may do. `admin` includes the others, and applies to the jobs of all keys."""

    SUBMIT = "submit"
    READ = "read"
    ERASE = "erase"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as stored: its SHA-256, never the key itself. `scopes` are separated by spaces.

    `rate_per_minute` and `daily_quota` are unlimited when None. `last_used_at` is right to the hour. After a rotation,
    the SHA-256 of the earlier key is accepted until `old_until`.
    """

    id: str
    name: str
    prefix: str
    hash: str
    scopes: str
    created_at: datetime
    rate_per_minute: int | None = None
    daily_quota: int | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    old_hash: str | None = None
    old_until: datetime | None = None

    def accepts(self, digest: str, now: datetime) -> bool:
        """Whether the SHA-256 is that of the key, or of the one before its rotation while that is still accepted."""
        if hmac.compare_digest(self.hash, digest):
            return True
        return (
            self.old_hash is not None
            and self.old_until is not None
            and now < self.old_until
            and hmac.compare_digest(self.old_hash, digest)
        )

    def state(self, now: datetime) -> str:
        """`valid`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from. `key_id` becomes the owner of the jobs that it submits; None: nobody."""

    key_id: str | None
    scopes: frozenset[Scope]
    rate_per_minute: int | None = None
    daily_quota: int | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the caller has this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def only(self) -> str | None:
        """The key whose jobs are the only ones that exist for this caller; None: all jobs do."""
        return None if Scope.ADMIN in self.scopes else self.key_id

    def sees(self, owner: str | None) -> bool:
        """Whether a job of this owner exists for the caller."""
        return self.only is None or self.only == owner


ANYONE = Caller(None, frozenset(Scope))
"""The caller of a service that asks for no keys."""

ADMIN_ID = "admin"
"""The owner of the jobs that are submitted with `LIMNER_ADMIN_KEY`, which has no row."""


def find_key(keys: Iterable[Key], named: str) -> Key:
    """The key that is named by its id, or by its first characters as they are shown. NotFoundError unless it is one."""
    shown = named.removesuffix("…")
    found = [key for key in keys if key.id == named or (len(shown) >= SHOWN and key.prefix == shown)]
    if len(found) != 1:
        raise NotFoundError(f"{len(found) or 'No'} keys are named {named!r}. `limner keys list` shows their ids.")
    return found[0]


def caller_of(key: Key) -> Caller:
    """The caller that a valid key stands for."""
    return Caller(key.id, frozenset(map(Scope, key.scopes.split())), key.rate_per_minute, key.daily_quota)


def new_token() -> str:
    """A new key: `lim_` and 256 random bits."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """The SHA-256 of a key, in hex. It needs no slow hash, because a key is random and cannot be guessed."""
    return hashlib.sha256(token.encode()).hexdigest()


def joined(scopes: Collection[Scope]) -> str:
    """Scopes as `Key.scopes` has them."""
    return " ".join(sorted(set(scopes)))


def owned(name: str, owner: str | None) -> str:
    """A cache or idempotency key that no other owner has: a hash of both. Without an owner, the name itself."""
    return name if owner is None else hashlib.sha256(f"{owner}\n{name}".encode()).hexdigest()
