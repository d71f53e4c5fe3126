"""Webhooks: what is delivered to whom, when it is tried again, and when a receiver is given up.

Each function runs in one transaction or is plain arithmetic; `web/webhook_sender.py` does the sending. A delivery's id
is made of its webhook and its event, so queuing an event again changes nothing.
"""

import base64
import logging
import random
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from uuid_utils import uuid7

from limner.domain.errors import InvalidRequestError, NotFoundError
from limner.domain.event import Event
from limner.domain.webhook import ENDINGS, Delivery, DeliveryState, Hook, HookState
from limner.jobs import transitions
from limner.ports import Transaction

log = logging.getLogger(__name__)

CURSOR = "webhooks_queued_to"
"""The fact that holds the id of the last event whose deliveries are queued."""
OF_JOB_EVENTS = " ".join(ENDINGS)
GROWTH = 6
LONGEST_S = 10 * 3600.0
JITTER = 0.2
DISABLED_AFTER = timedelta(days=5)
GONE = 410
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Webhook:
    """What a submission asks for: the URL, and the beginning of the URLs in what is sent to it."""

    url: str
    base_url: str


@dataclass(frozen=True, slots=True)
class Result:
    """How one try ended: the answer's status if there was one, else an error. `final`: a further try is pointless."""

    status: int | None
    error: str | None = None
    final: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the receiver has accepted it."""
        return self.status is not None and self.status // 100 == 2


def new_secret() -> str:
    """A secret of 256 bits as Standard Webhooks writes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def signing_secret(tx: Transaction, owner: str, *, new: bool = False, old_until: datetime | None = None) -> str:
    """The secret that signs the webhooks of the jobs of a key's id, or of no key (an empty text).

    It is made when it is first needed, and replaced if `new`; until `old_until`, the one before signs too.
    """
    known = None if new else tx.hooks.secret(owner)
    if known is None:
        tx.lock([f"webhook secret {owner}"])  # others may need their first one at the same moment
        known = None if new else tx.hooks.secret(owner)
    if known is None:
        known = new_secret()
        tx.hooks.set_secret(owner, known, old_until=old_until)
    return known


def secret_of_hook(tx: Transaction, hook_id: str, *, new: bool = False, old_until: datetime | None = None) -> str:
    """The secret of a webhook of all jobs, replaced if `new`; until `old_until`, the one before signs too.

    NotFoundError.
    """
    hook = tx.hooks.hook(hook_id)
    if hook is None or hook.job_id is not None:
        raise NotFoundError(f"There is no webhook {hook_id}. `limner webhooks list` shows them.")
    if hook.secret is not None and not new:
        return hook.secret
    if hook.secret is not None:
        tx.hooks.set_secret(hook.signer, hook.secret)  # so that it may go on signing beside the new one
        tx.hooks.change(hook.id, secret=None)
    return signing_secret(tx, hook.signer, new=new, old_until=old_until)


def attach(tx: Transaction, job_id: str, webhook: Webhook, since: int, key_id: str | None = None) -> None:
    """Have the job's end sent to a webhook. `since` is the last event's id before the job's first event."""
    signing_secret(tx, key_id or "")
    tx.hooks.add(
        Hook(
            id=str(uuid7()),
            url=webhook.url,
            events=OF_JOB_EVENTS,
            state=HookState.ACTIVE,
            created_at=_now(),
            since_event=since,
            job_id=job_id,
            key_id=key_id,
            base_url=webhook.base_url,
        )
    )


def subscribe(
    tx: Transaction, url: str, events: Sequence[str], base_url: str, since: int, key_id: str | None = None
) -> Hook:
    """Have these events of all jobs after the id `since` (with `key_id`: of this key's jobs) sent to `url`."""
    hook = Hook(
        id=str(uuid7()),
        url=url,
        events=" ".join(events),
        state=HookState.ACTIVE,
        created_at=_now(),
        since_event=since,
        key_id=key_id,
        base_url=base_url,
        secret=new_secret(),
    )
    tx.hooks.add(hook)
    return hook


def wants(hook: Hook, event: Event) -> bool:
    """Whether the event is to be sent to the webhook. Erased jobs have nothing to tell."""
    if hook.state is HookState.DISABLED or event.content is None or event.id <= hook.since_event:
        return False
    if hook.key_id is not None and hook.key_id != event.key_id:
        return False  # one key must never learn of another's jobs
    return event.type in hook.events.split()


def queue(tx: Transaction, wanted: Iterable[tuple[Hook, Event]], reached: int) -> int:
    """Add a delivery for each pair, and remember that all events up to id `reached` are queued."""
    now = _now()
    count = 0
    pairs = list(wanted)
    present = transitions.hold(tx, {event.job_id for _, event in pairs})
    for hook, event in pairs:
        if tx.hooks.hook(hook.id) is None or event.job_id not in present:
            continue  # removed or erased meanwhile
        count += tx.hooks.deliver(
            Delivery(
                id=f"{hook.id}-{event.id}",
                hook_id=hook.id,
                job_id=event.job_id,
                event_id=event.id,
                event_type=event.type,
                host=host_of(hook.url),
                state=DeliveryState.WAITING,
                tries=0,
                next_try_at=now,
                created_at=now,
            )
        )
        if hook.job_id is not None and event.type in ENDINGS:
            tx.hooks.change(hook.id, state=HookState.DONE)
    if reached > int(tx.fact(CURSOR) or 0):
        tx.set_fact(CURSOR, str(reached))
    return count


def claim(tx: Transaction, due: Iterable[Delivery], lease: timedelta) -> list[Delivery]:
    """Take these deliveries for one try each. They are due again after `lease`, if this process ends meanwhile.

    Returns those that no other process has taken.
    """
    until = _now() + lease
    taken = []
    for delivery in due:
        if tx.hooks.change_delivery(delivery, next_try_at=until):
            current = tx.hooks.delivery(delivery.id)
            assert current is not None  # changed in this transaction
            taken.append(current)
    return taken


def settle(tx: Transaction, delivery: Delivery, result: Result, *, tries: int, first_s: float) -> DeliveryState | None:
    """Record how the try of a claimed delivery ended, and plan the next. None if it was taken back or erased."""
    now = _now()
    done = delivery.tries + 1
    if result.delivered:
        changed = tx.hooks.change_delivery(
            delivery,
            state=DeliveryState.DELIVERED,
            tries=done,
            last_status=result.status,
            last_error=None,
            ended_at=now,
        )
        if changed:
            tx.hooks.change(delivery.hook_id, failing_since=None)
        return DeliveryState.DELIVERED if changed else None
    failed = result.final or result.status == GONE or done >= tries
    state = DeliveryState.FAILED if failed else DeliveryState.WAITING
    changed = tx.hooks.change_delivery(
        delivery,
        state=state,
        tries=done,
        last_status=result.status,
        last_error=result.error,
        next_try_at=now if failed else now + pause(done, first_s),
        ended_at=now if failed else None,
    )
    if not changed:
        return None
    hook = tx.hooks.hook(delivery.hook_id)
    if hook is not None:
        _note_failure(tx, hook, result, now)
    return state


def _note_failure(tx: Transaction, hook: Hook, result: Result, now: datetime) -> None:
    """Disable a webhook whose receiver is gone, or has failed for days."""
    reason = None
    if result.status == GONE:
        reason = "The receiver answered 410 (gone)."
    elif hook.failing_since is not None and now - hook.failing_since > DISABLED_AFTER:
        reason = f"The receiver has failed for {DISABLED_AFTER.days} days."
    if reason is not None:
        tx.hooks.change(hook.id, state=HookState.DISABLED, reason=reason)
        tx.hooks.give_up(hook.id, reason, now)
        log.warning("webhook disabled", extra={"webhook": hook.id, "reason": reason})
    elif hook.failing_since is None:
        tx.hooks.change(hook.id, failing_since=now)


def pause(tries: int, first_s: float) -> timedelta:
    """The time before the next try after `tries` tries: six times as long each time, up to 10 h, ± a fifth."""
    seconds = min(first_s * GROWTH ** (tries - 1), LONGEST_S)
    return timedelta(seconds=seconds * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  # spreads load only


def replay(tx: Transaction, deliveries: Iterable[Delivery]) -> int:
    """Send these deliveries again, from the first try on, with the same ids; a disabled webhook is enabled again."""
    now = _now()
    count = 0
    for delivery in deliveries:
        hook = tx.hooks.hook(delivery.hook_id)
        if hook is None:
            continue
        if hook.state is HookState.DISABLED:
            tx.hooks.change(
                hook.id,
                state=HookState.DONE if hook.job_id is not None else HookState.ACTIVE,
                failing_since=None,
                reason=None,
            )
        count += tx.hooks.change_delivery(
            delivery, state=DeliveryState.WAITING, tries=0, next_try_at=now, last_error=None, ended_at=None
        )
    return count


def replay_of_job(tx: Transaction, job_id: str, *, own: bool) -> int:
    """Replay the deliveries of a job; `own`: only to webhooks that belong to this job. NotFoundError.

    InvalidRequestError if there are none yet.
    """
    if tx.job(job_id) is None:
        raise NotFoundError("The job does not exist. It may have been erased.")
    found = tx.hooks.deliveries(job_id)
    if own:
        found = [each for each in found if (hook := tx.hooks.hook(each.hook_id)) is not None and hook.job_id == job_id]
    count = replay(tx, found)
    if not count:
        raise InvalidRequestError("The job has nothing to send again: it has no webhook, or has not ended yet.")
    return count


def host_of(url: str) -> str:
    """Host and port of a checked URL."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"[:255]


def _now() -> datetime:
    return datetime.now(UTC)
