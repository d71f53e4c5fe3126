"""What webhooks need of a store: rows of webhooks, deliveries and secrets, in a transaction and for reading.

Docstrings are the contracts, as in `ports.py`.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Protocol

from limner.domain.webhook import Delivery, Hook


class HookRows(Protocol):
    """Webhooks inside a transaction (`ports.Transaction.hooks`)."""

    def last_event_id(self) -> int:
        """The highest event id that the transaction can see, 0 without events."""
        ...

    def hook(self, hook_id: str) -> Hook | None:
        """A webhook."""
        ...

    def add(self, hook: Hook) -> None:
        """Add a webhook."""
        ...

    def change(self, hook_id: str, **values: Any) -> bool:
        """Set fields of a webhook. False if there is none."""
        ...

    def remove(self, hook_id: str) -> bool:
        """Remove a webhook with its deliveries and its secret. False if there is none."""
        ...

    def remove_of_job(self, job_id: str) -> tuple[int, int]:
        """Remove a job's own webhooks, and all deliveries of its events. Returns how many of each there were."""
        ...

    def deliver(self, delivery: Delivery) -> bool:
        """Add a delivery. False if its id exists already."""
        ...

    def delivery(self, delivery_id: str) -> Delivery | None:
        """A delivery."""
        ...

    def deliveries(self, job_id: str) -> list[Delivery]:
        """The deliveries of a job's events, by webhook and event."""
        ...

    def change_delivery(self, delivery: Delivery, **values: Any) -> bool:
        """Set fields of a delivery, if state, tries and time of the next try are still those of `delivery`."""
        ...

    def give_up(self, hook_id: str, reason: str, now: datetime) -> int:
        """Waiting → failed for all deliveries of a webhook. Returns how many there were."""
        ...

    def secret(self, owner: str) -> str | None:
        """The secret of a key's id, of a webhook's, or of the service (an empty text)."""
        ...

    def set_secret(self, owner: str, secret: str, *, old_until: datetime | None = None) -> None:
        """Set or replace it. With `old_until`, the one before signs too until then."""
        ...


class HookReader(Protocol):
    """Reads webhooks. Every method raises UnavailableError when the database cannot be used."""

    def wanted_since(self) -> int | None:
        """The lowest `since_event` of the active webhooks, None without any."""
        ...

    def of_all(self) -> list[Hook]:
        """The webhooks that belong to no single job, oldest first."""
        ...

    def of_job(self, job_id: str) -> list[Hook]:
        """A job's own webhooks."""
        ...

    def hook(self, hook_id: str) -> Hook | None:
        """A webhook."""
        ...

    def secrets(self, owner: str, now: datetime) -> list[str]:
        """The secret of a key's id, of a webhook's, or of the service (an empty text), and the one before while that
        signs too."""
        ...

    def deliveries(self, job_id: str) -> list[Delivery]:
        """See `HookRows.deliveries`."""
        ...

    def recent(self, hook_id: str, limit: int) -> list[Delivery]:
        """The newest deliveries of a webhook, newest first."""
        ...

    def due(self, now: datetime, *, besides: Collection[str], limit: int) -> list[Delivery]:
        """Waiting deliveries whose next try is due, longest due first, except to the hosts in `besides` (at most 8).

        Of one job and webhook only the first event, so that they arrive in order.
        """
        ...

    def next_due(self) -> datetime | None:
        """When the next delivery is due, None if none waits."""
        ...
