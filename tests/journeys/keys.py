"""A server that asks for keys, and keys in its database."""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from uuid_utils import uuid7

from limner.adapters.sql.keys import SqlKeys
from limner.adapters.sql.opening import open_stores
from limner.domain.key import SHOWN, Key, Scope, hash_of, joined, new_token
from tests.journeys.server import Server

ADMIN = "an administrator's key of the environment, 1"[:40].replace(" ", "-").replace("'", "")
OWN = (Scope.SUBMIT, Scope.READ, Scope.ERASE)


ASKS_FOR_KEYS = {"LIMNER_REQUIRE_KEYS": "on", "LIMNER_ADMIN_KEY": ADMIN}
"""Settings of a server that asks for keys although it listens on a loopback address."""


def key_server(folder: Path, **variables: str) -> Server:
    """A server that asks for keys, not started."""
    return Server(folder, **ASKS_FOR_KEYS, **variables)


def new_key(server: Server, scopes: Collection[Scope] = OWN, **changes: Any) -> str:
    """A key that the server accepts at once."""
    token = new_token()
    key = Key(str(uuid7()), "of a test", token[:SHOWN], hash_of(token), joined(scopes), datetime.now(UTC))
    values = {field: getattr(key, field) for field in Key.__slots__} | changes
    transact(server, lambda tx: tx.add_key(Key(**values)))
    return token


def revoke(server: Server, token: str) -> None:
    """Revoke a key in the database, as the command line does."""
    transact(server, lambda tx: tx.change_key(_id_of(server, token), revoked_at=datetime.now(UTC)))


def _id_of(server: Server, token: str) -> str:
    stores = open_stores(server.variables["LIMNER_DATABASE_URL"], durable=False)
    try:
        key = SqlKeys(stores.database).by_hash(hash_of(token))
        assert key is not None
        return key.id
    finally:
        stores.close()


def transact(server: Server, work: Any) -> Any:
    """A transaction in the server's database, from this process."""
    stores = open_stores(server.variables["LIMNER_DATABASE_URL"], durable=False)
    try:
        return stores.store.transact(work)
    finally:
        stores.close()


def with_key(token: str) -> dict[str, str]:
    """The header of a key."""
    return {"Authorization": f"Bearer {token}"}


def as_caller(server: Server, token: str) -> httpx.Client:
    """A client that sends this key."""
    return httpx.Client(base_url=server.url, headers=with_key(token), timeout=60)


def send(client: httpx.Client, photo: bytes, *, path: str = "/v1/detect", **headers: str) -> dict[str, Any]:
    """Send a photo and wait for the finished job."""
    answer = client.post(path, files={"image": photo}, headers={"Prefer": "wait=60", **headers})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job
