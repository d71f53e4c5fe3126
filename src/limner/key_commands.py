"""`limner keys`: creates, lists, revokes and rotates API keys in the database that the settings name."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from limner.command_types import Commands, Duration
from limner.domain.errors import SettingsError
from limner.domain.key import SHOWN, Key, Scope, find_key, hash_of, joined, new_token

if TYPE_CHECKING:
    from limner.assembly.stores import Stores

MOST = 1_000_000_000  # what a column of the database holds
MOST_DAYS = 36_500
DEFAULT_SCOPES = (Scope.SUBMIT, Scope.READ, Scope.ERASE)


@click.group(cls=Commands)
def keys() -> None:
    """API keys: create, list, revoke, rotate."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What the key may do; repeat for several. Default: submit, read and erase its own jobs.",
)
@click.option("--rate", type=click.IntRange(1, MOST), help="Most requests per minute.")
@click.option("--quota", type=click.IntRange(1, MOST), help="Most submissions per day (UTC).")
@click.option("--days", type=click.FloatRange(0, MOST_DAYS, min_open=True), help="Days after which the key expires.")
def create(name: str, scopes: tuple[str, ...], rate: int | None, quota: int | None, days: float | None) -> None:
    """Create a key called NAME and print it. It is shown only now: the database has its SHA-256."""
    from uuid_utils import uuid7

    if days is not None and not math.isfinite(days):  # click lets `nan` pass
        raise click.BadParameter("must be a number", param_hint="--days")
    if not (0 < len(name) <= 64 and name.isprintable()):
        raise click.BadParameter("must have 1 to 64 printable characters", param_hint="NAME")
    token, now = new_token(), datetime.now(UTC)
    key = Key(
        id=str(uuid7()),
        name=name,
        prefix=token[:SHOWN],
        hash=hash_of(token),
        scopes=joined([Scope(scope) for scope in scopes] or DEFAULT_SCOPES),
        created_at=now,
        rate_per_minute=rate,
        daily_quota=quota,
        expires_at=None if days is None else now + timedelta(days=days),
    )
    with _database(create=True) as stores:
        stores.store.transact(lambda tx: tx.add_key(key))
    _show(key, token, stores.place)


@keys.command("list")
def list_keys() -> None:
    """List all keys, oldest first."""
    with _database() as stores:
        known = stores.keys.all()
    now = datetime.now(UTC)
    for key in known:
        limits = [f"{most}/{unit}" for most, unit in ((key.rate_per_minute, "min"), (key.daily_quota, "day")) if most]
        used = f"used {key.last_used_at:%Y-%m-%d %H:00}" if key.last_used_at else "never used"
        expires = [f"expires {key.expires_at:%Y-%m-%d %H:%M}"] if key.expires_at else []
        if key.old_until is not None and key.old_until > now:
            expires.append(f"the one before works until {key.old_until:%Y-%m-%d %H:%M}")
        facts = [f"{key.prefix}…", key.state(now), key.scopes, *limits, used, *expires]
        click.echo(f"{key.id}  {key.name}: {', '.join(facts)}")
    if not known:
        click.echo("There are no keys.")


@keys.command()
@click.argument("key")
def revoke(key: str) -> None:
    """Revoke KEY, named by its id or by its first characters as `list` shows them. Its jobs stay."""
    changed, _ = _change(key, lambda _: {"revoked_at": datetime.now(UTC)})
    click.echo(f"{changed.name} is revoked. Running services refuse it within 5 s, and end its streams within 10 s.")


@keys.command()
@click.argument("key")
@click.option("--overlap", type=Duration(), default="0s", help="How long the old one works too, e.g. 1h, at most 30d.")
def rotate(key: str, overlap: timedelta) -> None:
    """Give KEY a new secret and print it; owner, scopes and limits stay.

    Without --overlap the old one is refused within 5 s. One from an earlier rotation is refused in any case.
    """
    token = new_token()

    def values(before: Key) -> dict[str, Any]:
        old: dict[str, Any] = {"old_hash": None, "old_until": None}
        if overlap:
            old = {"old_hash": before.hash, "old_until": datetime.now(UTC) + overlap}
        return {"prefix": token[:SHOWN], "hash": hash_of(token), **old}

    changed, place = _change(key, values, valid=True)
    _show(changed, token, place)


def _show(key: Key, token: str, place: str) -> None:
    """Print a key and, because the settings may be those of another service, which database has it."""
    click.echo(f"{key.name} ({key.id}), scopes: {key.scopes}, in the database {place}", err=True)
    click.echo("The key is shown only once:", err=True)
    click.echo(token)


def _change(named: str, change: Callable[[Key], dict[str, Any]], *, valid: bool = False) -> tuple[Key, str]:
    """Set fields of the key that is named; the key now, and its database.

    NotFoundError; SettingsError if `valid` is wanted and it is not.
    """
    now = datetime.now(UTC)
    with _database() as stores:
        key = find_key(stores.keys.all(), named)
        if valid and key.state(now) != "valid":
            raise SettingsError(f"The key is {key.state(now)}. Create another.")
        values = change(key)
        stores.store.transact(lambda tx: tx.change_key(key.id, **values))
    return replace(key, **values), stores.place


@contextmanager
def _database(*, create: bool = False) -> "Iterator[Stores]":
    """The stores of the service. With `create`, its database is made if it has not been started yet. SettingsError."""
    from limner import settings
    from limner.assembly.stores import open_stores

    chosen = settings.load()
    if chosen.database_url == "memory:":
        raise SettingsError(
            "With LIMNER_DATABASE_URL=memory: the keys are gone when the service stops: set LIMNER_ADMIN_KEY instead"
        )
    with open_stores(chosen, create=create) as stores:
        yield stores
