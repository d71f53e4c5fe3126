"""`HookRows` and `HookReader` of `webhook_ports.py` in SQL."""

from collections.abc import Collection
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import and_, bindparam, delete, exists, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or_not  # SQLite has the same clause

from limner.adapters.sql.database import Database
from limner.adapters.sql.schema import deliveries, events, hooks, webhook_secrets
from limner.adapters.sql.statement import Driver, Statement
from limner.domain.webhook import Delivery, DeliveryState, Hook

HOOK_FIELDS = tuple(each.name for each in fields(Hook))
DELIVERY_FIELDS = tuple(each.name for each in fields(Delivery))
MAX_BESIDES = 8

# Literally the conditions of the partial indexes.
_ACTIVE = text("hooks.state = 'active'")
_WAITING = text("deliveries.state = 'waiting'")

_LAST_EVENT = Statement(select(func.max(events.c.id)))
_HOOK = Statement(select(hooks).where(hooks.c.id == bindparam("id")))
_OF_JOB = Statement(select(hooks).where(hooks.c.job_id == bindparam("job_id")).order_by(hooks.c.id))
_OF_ALL = Statement(select(hooks).where(hooks.c.job_id.is_(None)).order_by(hooks.c.id))
_WANTED_SINCE = Statement(select(func.min(hooks.c.since_event)).where(_ACTIVE))
_ADD_HOOK = Statement(insert(hooks), HOOK_FIELDS)
_REMOVE_HOOK = Statement(delete(hooks).where(hooks.c.id == bindparam("of_hook")))
_REMOVE_OF_HOOK = Statement(delete(deliveries).where(deliveries.c.hook_id == bindparam("of_hook")))
_REMOVE_HOOKS = Statement(delete(hooks).where(hooks.c.job_id == bindparam("of_job")))
_REMOVE_DELIVERIES = Statement(delete(deliveries).where(deliveries.c.job_id == bindparam("of_job")))
_ADD_DELIVERY = Statement(insert_or_not(deliveries).on_conflict_do_nothing(), DELIVERY_FIELDS)
_DELIVERY = Statement(select(deliveries).where(deliveries.c.id == bindparam("id")))
_DELIVERIES = Statement(
    select(deliveries)
    .where(deliveries.c.job_id == bindparam("job_id"))
    .order_by(deliveries.c.hook_id, deliveries.c.event_id)
)
_RECENT = Statement(
    select(deliveries)
    .where(deliveries.c.hook_id == bindparam("hook_id"))
    .order_by(deliveries.c.event_id.desc())
    .limit(bindparam("most"))
)
_GIVE_UP = Statement(
    update(deliveries)
    .where(deliveries.c.hook_id == bindparam("of_hook"), _WAITING)
    .values(state=DeliveryState.FAILED, last_error=bindparam("new_error"), ended_at=bindparam("now"))
)
_earlier = deliveries.alias("earlier")
_DUE = Statement(
    select(deliveries)
    .where(
        _WAITING,
        deliveries.c.next_try_at <= bindparam("now"),
        and_(*(deliveries.c.host != bindparam(f"host_{number}") for number in range(MAX_BESIDES))),
        ~exists().where(
            _earlier.c.job_id == deliveries.c.job_id,
            _earlier.c.hook_id == deliveries.c.hook_id,
            _earlier.c.event_id < deliveries.c.event_id,
            _earlier.c.state == DeliveryState.WAITING,
        ),
    )
    .order_by(deliveries.c.next_try_at)
    .limit(bindparam("most"))
)
_NEXT_DUE = Statement(select(deliveries.c.next_try_at).where(_WAITING).order_by(deliveries.c.next_try_at).limit(1))
_SECRET = Statement(select(webhook_secrets.c.secret).where(webhook_secrets.c.owner == bindparam("owner")))
_REMOVE_SECRET = Statement(delete(webhook_secrets).where(webhook_secrets.c.owner == bindparam("owner")))
_SECRETS = Statement(
    select(webhook_secrets.c.secret, webhook_secrets.c.old_secret, webhook_secrets.c.old_until).where(
        webhook_secrets.c.owner == bindparam("owner")
    )
)
_ADD_SECRET = Statement(insert(webhook_secrets), ("owner", "secret", "old_secret", "old_until"))


@cache
def _change_hook(names: frozenset[str]) -> Statement:
    changed: dict[str, Any] = {name: bindparam(f"new_{name}") for name in sorted(names)}
    return Statement(update(hooks).where(hooks.c.id == bindparam("of_hook")).values(changed))


@cache
def _change_delivery(names: frozenset[str]) -> Statement:
    """The statement that sets these fields of a delivery, if it is still as it was read."""
    return Statement(
        update(deliveries)
        .where(
            deliveries.c.id == bindparam("of_delivery"),
            deliveries.c.state == bindparam("was_state"),
            deliveries.c.tries == bindparam("was_tries"),
            deliveries.c.next_try_at == bindparam("was_next_try_at"),
        )
        .values({name: bindparam(f"new_{name}") for name in sorted(names)})
    )


class SqlHookRows:
    """`webhook_ports.HookRows` on a connection in which a transaction has begun."""

    def __init__(self, db: Driver) -> None:
        self._db = db

    def last_event_id(self) -> int:
        """See `HookRows.last_event_id`."""
        return int(_LAST_EVENT.value(self._db) or 0)

    def hook(self, hook_id: str) -> Hook | None:
        """See `HookRows.hook`."""
        return _hook(self._db, hook_id)

    def add(self, hook: Hook) -> None:
        """See `HookRows.add`."""
        _ADD_HOOK.run(self._db, **{name: getattr(hook, name) for name in HOOK_FIELDS})

    def change(self, hook_id: str, **values: Any) -> bool:
        """See `HookRows.change`."""
        new = {f"new_{name}": value for name, value in values.items()}
        return _change_hook(frozenset(values)).run(self._db, of_hook=hook_id, **new) > 0

    def remove(self, hook_id: str) -> bool:
        """See `HookRows.remove`."""
        _REMOVE_OF_HOOK.run(self._db, of_hook=hook_id)
        _REMOVE_SECRET.run(self._db, owner=hook_id)
        return _REMOVE_HOOK.run(self._db, of_hook=hook_id) > 0

    def remove_of_job(self, job_id: str) -> tuple[int, int]:
        """See `HookRows.remove_of_job`."""
        return _REMOVE_HOOKS.run(self._db, of_job=job_id), _REMOVE_DELIVERIES.run(self._db, of_job=job_id)

    def deliver(self, delivery: Delivery) -> bool:
        """See `HookRows.deliver`."""
        return _ADD_DELIVERY.run(self._db, **{name: getattr(delivery, name) for name in DELIVERY_FIELDS}) > 0

    def delivery(self, delivery_id: str) -> Delivery | None:
        """See `HookRows.delivery`."""
        row = _DELIVERY.row(self._db, id=delivery_id)
        return Delivery(*row) if row is not None else None

    def deliveries(self, job_id: str) -> list[Delivery]:
        """See `HookRows.deliveries`."""
        return _of_job(self._db, job_id)

    def change_delivery(self, delivery: Delivery, **values: Any) -> bool:
        """See `HookRows.change_delivery`."""
        changed = _change_delivery(frozenset(values)).run(
            self._db,
            of_delivery=delivery.id,
            was_state=delivery.state,
            was_tries=delivery.tries,
            was_next_try_at=delivery.next_try_at,
            **{f"new_{name}": value for name, value in values.items()},
        )
        return changed > 0

    def give_up(self, hook_id: str, reason: str, now: datetime) -> int:
        """See `HookRows.give_up`."""
        return _GIVE_UP.run(self._db, of_hook=hook_id, new_error=reason, now=now)

    def secret(self, owner: str) -> str | None:
        """See `HookRows.secret`."""
        return _secret(self._db, owner)

    def set_secret(self, owner: str, secret: str, *, old_until: datetime | None = None) -> None:
        """See `HookRows.set_secret`."""
        old = self.secret(owner) if old_until is not None else None
        _REMOVE_SECRET.run(self._db, owner=owner)
        _ADD_SECRET.run(self._db, owner=owner, secret=secret, old_secret=old, old_until=old_until)


class SqlHookReader:
    """`webhook_ports.HookReader`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def wanted_since(self) -> int | None:
        """See `HookReader.wanted_since`."""
        with self._database.reading() as db:
            since: int | None = _WANTED_SINCE.value(db)
        return since

    def of_all(self) -> list[Hook]:
        """See `HookReader.of_all`."""
        with self._database.reading() as db:
            return [Hook(*row) for row in _OF_ALL.rows(db)]

    def of_job(self, job_id: str) -> list[Hook]:
        """See `HookReader.of_job`."""
        with self._database.reading() as db:
            return [Hook(*row) for row in _OF_JOB.rows(db, job_id=job_id)]

    def hook(self, hook_id: str) -> Hook | None:
        """See `HookReader.hook`."""
        with self._database.reading() as db:
            return _hook(db, hook_id)

    def secrets(self, owner: str, now: datetime) -> list[str]:
        """See `HookReader.secrets`."""
        with self._database.reading() as db:
            row = _SECRETS.row(db, owner=owner)
        if row is None:
            return []
        secret, old, until = row
        return [secret, old] if old is not None and until is not None and now < until else [secret]

    def deliveries(self, job_id: str) -> list[Delivery]:
        """See `HookReader.deliveries`."""
        with self._database.reading() as db:
            return _of_job(db, job_id)

    def recent(self, hook_id: str, limit: int) -> list[Delivery]:
        """See `HookReader.recent`."""
        with self._database.reading() as db:
            return [Delivery(*row) for row in _RECENT.rows(db, hook_id=hook_id, most=limit)]

    def due(self, now: datetime, *, besides: Collection[str], limit: int) -> list[Delivery]:
        """See `HookReader.due`."""
        assert len(besides) <= MAX_BESIDES
        hosts = [*besides, *[""] * (MAX_BESIDES - len(besides))]
        excluded = {f"host_{number}": host for number, host in enumerate(hosts)}
        with self._database.reading() as db:
            return [Delivery(*row) for row in _DUE.rows(db, now=now, most=limit, **excluded)]

    def next_due(self) -> datetime | None:
        """See `HookReader.next_due`."""
        with self._database.reading() as db:
            due: datetime | None = _NEXT_DUE.value(db)
        return due


def _hook(db: Driver, hook_id: str) -> Hook | None:
    row = _HOOK.row(db, id=hook_id)
    return Hook(*row) if row is not None else None


def _of_job(db: Driver, job_id: str) -> list[Delivery]:
    return [Delivery(*row) for row in _DELIVERIES.rows(db, job_id=job_id)]


def _secret(db: Driver, owner: str) -> str | None:
    value: str | None = _SECRET.value(db, owner=owner)
    return value
