"""Finds the API key of a token. Found keys are remembered for a few seconds, so a revocation takes that long."""

import asyncio
import contextvars
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar, TypeVarTuple

from limner.domain.errors import LimnerError
from limner.domain.key import ADMIN_ID, TOKEN_PREFIX, Caller, Key, Scope, caller_of, hash_of
from limner.key_ports import KeyReader
from limner.ports import JobStore

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

REMEMBERED_S = 5.0
REMEMBERED_KEYS = 1024
USE_NOTED_EVERY = timedelta(hours=1)
LONGEST_TOKEN = 512
THREADS = 4

ADMIN = Caller(ADMIN_ID, frozenset({Scope.ADMIN}))


class Keyring:
    """The keys of the database, and the one of `LIMNER_ADMIN_KEY`. Use it on the event loop only."""

    def __init__(self, keys: KeyReader, store: JobStore, admin_key: str | None) -> None:
        self._keys = keys
        self._store = store
        self._admin_hash = None if admin_key is None else hash_of(admin_key)
        self._known: OrderedDict[str, tuple[float, Key]] = OrderedDict()
        # Its own threads: who asks with wrong keys must not make others wait.
        self._pool = ThreadPoolExecutor(THREADS, "keys")

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown(wait=False)

    async def call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run blocking code in the keyring's threads."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: context.run(function, *args))

    def is_known(self, token: str) -> bool:
        """Whether the token was found to be a key since the start, so that it is no guess."""
        digest = hash_of(token)
        return self._is_admin(digest) or digest in self._known

    async def by_token(self, token: str) -> Caller | None:
        """The caller of a token; None if it is no key, or one that is revoked or has expired. UnavailableError."""
        digest = hash_of(token)
        if self._is_admin(digest):
            return ADMIN
        if not token.startswith(TOKEN_PREFIX) or len(token) > LONGEST_TOKEN:
            return None
        key = await self._find(digest, self._keys.by_hash)
        if key is None or not key.accepts(digest, datetime.now(UTC)):
            return None
        return caller_of(key)

    async def by_id(self, key_id: str) -> Caller | None:
        """The same for the id of a key."""
        if key_id == ADMIN_ID:
            return ADMIN if self._admin_hash is not None else None
        key = await self._find(key_id, self._keys.by_id)
        return None if key is None else caller_of(key)

    def _is_admin(self, digest: str) -> bool:
        return self._admin_hash is not None and hmac.compare_digest(self._admin_hash, digest)

    def _remembered(self, name: str) -> Key | None:
        until, key = self._known.get(name, (0.0, None))
        return key if time.monotonic() < until else None

    async def _find(self, name: str, look_up: Callable[[str], Key | None]) -> Key | None:
        """The valid key that `look_up` finds under a name, or that it found there a few seconds ago."""
        key = self._remembered(name)
        if key is None:
            key = await self.call(look_up, name)
            if key is None:
                return None
            self._remember(name, key)
        now = datetime.now(UTC)
        if key.state(now) != "valid":
            return None
        if key.last_used_at is None or now - key.last_used_at > USE_NOTED_EVERY:
            self._known[name] = (self._known[name][0], replace(key, last_used_at=now))
            self._pool.submit(self._note_use, key.id, now)
        return key

    def _remember(self, name: str, key: Key) -> None:
        self._known[name] = (time.monotonic() + REMEMBERED_S, key)
        self._known.move_to_end(name)
        while len(self._known) > REMEMBERED_KEYS:
            self._known.popitem(last=False)

    def _note_use(self, key_id: str, now: datetime) -> None:
        try:
            self._store.transact(lambda tx: tx.change_key(key_id, last_used_at=now))
        except LimnerError as error:  # the request must not fail; the next one tries again
            log.warning("the use of a key was not noted", extra={"key": key_id, "detail": error.detail})
