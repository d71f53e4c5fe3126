"""Webhooks: where events are sent to, and each delivery of one event."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from limner.domain.event import EventType


class HookState(StrEnum):
    """`active` → `done` (a job's webhook, after the job's last event) or `disabled`."""

    ACTIVE = "active"
    DONE = "done"
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    """`waiting` → `delivered`, or `failed` after the last try."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


ENDINGS = (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED)


@dataclass(frozen=True, slots=True)
class Hook:
    """A receiver of events: of one job (`job_id`), or of all jobs; with `key_id`, those of one API key.

    `events` are event types separated by spaces. Events up to `since_event` are not sent. `base_url` begins the URLs
    in what is sent. `secret` signs, until it is replaced; then, and where there is none, that of `signer` does.
    `failing_since` is the first failure since the last success.
    """

    id: str
    url: str
    events: str
    state: HookState
    created_at: datetime
    since_event: int = 0
    job_id: str | None = None
    key_id: str | None = None
    base_url: str | None = None
    secret: str | None = None
    failing_since: datetime | None = None
    reason: str | None = None

    @property
    def signer(self) -> str:
        """The owner of the secret that signs if the webhook has none: itself for all jobs, else the job's key, or
        nobody (an empty text)."""
        return self.id if self.job_id is None else self.key_id or ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook. `id` is what the receiver sees as `webhook-id`, the same at every try.

    While it is being sent, `next_try_at` is when that counts as given up. `last_status` is the HTTP status of the last
    answer, None if there was none. `host` is that of the URL, with its port.
    """

    id: str
    hook_id: str
    job_id: str
    event_id: int
    event_type: EventType
    host: str
    state: DeliveryState
    tries: int
    next_try_at: datetime
    created_at: datetime
    last_status: int | None = None
    last_error: str | None = None
    ended_at: datetime | None = None
