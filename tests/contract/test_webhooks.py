"""Webhooks in the store: queuing, claiming, trying again, giving up, replay, erasure."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from limner.domain.errors import InvalidRequestError, NotFoundError
from limner.domain.event import EventType
from limner.domain.job import Job
from limner.domain.webhook import ENDINGS, Delivery, DeliveryState, Hook, HookState
from limner.jobs import webhooks
from limner.jobs.webhooks import Result, Webhook
from limner.ports import Transaction
from tests.contract.machine import Machine, at_once, new_job

LEASE = timedelta(seconds=15)
SOON = timedelta(days=1)
URL = "https://receiver.example/path?token=secret"
GOOD = Result(204)
BAD = Result(500)


def with_hook(machine: Machine, job: Job, url: str = URL) -> Job:
    """Submit a job with a webhook, as `Submissions` does."""
    since = machine.store.transact(lambda tx: tx.hooks.last_event_id())
    submitted = machine.submit(job)
    machine.store.transact(lambda tx: webhooks.attach(tx, job.id, Webhook(url, "http://here"), since))
    return submitted


def subscribe(machine: Machine, *events: EventType, url: str = URL) -> Hook:
    since = machine.log.last_id()
    return machine.store.transact(lambda tx: webhooks.subscribe(tx, url, events or ENDINGS, "http://here", since))


def queue(machine: Machine, after: int = 0) -> int:
    """Queue what the events after an id ask for, as the sender does."""
    events = machine.log.after(after, limit=1000)
    wanted = [
        (hook, event)
        for event in events
        for hook in (*machine.hooks.of_all(), *machine.hooks.of_job(event.job_id))
        if webhooks.wants(hook, event)
    ]
    reached = events[-1].id if events else 0
    return machine.store.transact(lambda tx: webhooks.queue(tx, wanted, reached))


def due(machine: Machine, *besides: str, after: timedelta = SOON) -> list[Delivery]:
    return machine.hooks.due(datetime.now(UTC) + after, besides=besides, limit=100)


def claim(machine: Machine) -> list[Delivery]:
    found = due(machine)
    return machine.store.transact(lambda tx: webhooks.claim(tx, found, LEASE))


def settle(machine: Machine, delivery: Delivery, result: Result, *, tries: int = 3) -> DeliveryState | None:
    return machine.store.transact(lambda tx: webhooks.settle(tx, delivery, result, tries=tries, first_s=5))


def only(machine: Machine, job: Job) -> Delivery:
    (delivery,) = machine.hooks.deliveries(job.id)
    return delivery


def test_the_end_of_a_job_is_queued_once(machine: Machine) -> None:
    job = with_hook(machine, new_job())
    other = new_job()
    machine.done(other)
    assert queue(machine) == 0
    assert machine.finish(machine.start(job), "a")
    assert (queue(machine), queue(machine)) == (1, 0)
    delivery = only(machine, job)
    assert (delivery.event_type, delivery.state, delivery.tries) == (EventType.SUCCEEDED, DeliveryState.WAITING, 0)
    assert delivery.host == "receiver.example:443"
    assert machine.hooks.of_job(job.id)[0].state is HookState.DONE
    assert machine.hooks.wanted_since() is None  # nobody waits for events any more
    assert machine.hooks.deliveries(other.id) == []
    reached = machine.store.transact(lambda tx: tx.fact(webhooks.CURSOR))
    assert reached == str(machine.log.last_id())


def test_a_webhook_of_all_jobs_gets_what_it_asks_for_from_now_on(machine: Machine) -> None:
    machine.done(new_job())
    hook = subscribe(machine, EventType.QUEUED, EventType.FAILED)
    assert hook.secret is not None
    assert machine.hooks.wanted_since() == hook.since_event == machine.log.last_id()
    job = new_job()
    machine.submit(job)
    assert machine.fail(machine.start(job))
    assert queue(machine) == 2
    assert [each.event_type for each in machine.hooks.deliveries(job.id)] == [EventType.QUEUED, EventType.FAILED]
    assert [each.event_type for each in due(machine)] == [EventType.QUEUED]  # one after the other
    (first,) = claim(machine)
    assert settle(machine, first, GOOD) is DeliveryState.DELIVERED
    assert [each.event_type for each in due(machine)] == [EventType.FAILED]
    assert [each.id for each in machine.hooks.recent(hook.id, 1)] == [due(machine)[0].id]


def test_the_newest_deliveries_come_first(machine: Machine) -> None:
    hook = subscribe(machine, EventType.QUEUED)
    for _ in range(12):  # event ids of one and of two digits
        machine.submit(new_job())
    queue(machine)
    ids = [each.event_id for each in machine.hooks.recent(hook.id, 12)]
    assert ids == sorted(ids, reverse=True)
    assert [each.event_id for each in machine.hooks.recent(hook.id, 3)] == ids[:3]


def test_of_several_processes_one_takes_a_delivery(machine: Machine) -> None:
    job = with_hook(machine, new_job())
    machine.finish(machine.start(job))
    queue(machine)
    found = due(machine)
    machines = [machine.again() for _ in range(4)]
    taken = at_once([lambda m=each: m.store.transact(lambda tx: webhooks.claim(tx, found, LEASE)) for each in machines])
    assert sorted(map(len, taken)) == [0, 0, 0, 1]
    assert due(machine, after=timedelta(seconds=5)) == []
    assert len(due(machine, after=LEASE)) == 1  # the one who took it may have ended
    (delivery,) = claim(machine)
    (stale,) = next(each for each in taken if each)
    assert settle(machine, stale, BAD) is None  # it was taken back
    assert settle(machine, delivery, GOOD) is DeliveryState.DELIVERED
    assert due(machine) == []
    assert machine.hooks.next_due() is None


def test_pauses_grow_and_tries_end(machine: Machine) -> None:
    job = with_hook(machine, new_job())
    machine.finish(machine.start(job))
    queue(machine)
    for tries, seconds in ((1, 5), (2, 30)):
        (delivery,) = claim(machine)
        assert settle(machine, delivery, BAD) is DeliveryState.WAITING
        waiting = only(machine, job)
        left = (waiting.next_try_at - datetime.now(UTC)).total_seconds()
        assert (waiting.tries, waiting.last_status) == (tries, 500)
        assert 0.75 * seconds < left < 1.25 * seconds
    (delivery,) = claim(machine)
    assert settle(machine, delivery, Result(None, "no answer")) is DeliveryState.FAILED
    failed = only(machine, job)
    assert (failed.tries, failed.last_status, failed.last_error) == (3, None, "no answer")
    assert due(machine) == []


def test_the_pauses_of_the_default_settings_stay_below_two_days() -> None:
    pauses = [webhooks.pause(tries, 5).total_seconds() for tries in range(1, 8)]
    assert pauses == sorted(pauses[:5]) + pauses[5:]
    assert max(pauses) <= 12 * 3600
    assert 15 * 3600 < sum(pauses) < 48 * 3600


def test_a_refused_address_is_not_tried_again(machine: Machine) -> None:
    job = with_hook(machine, new_job())
    machine.finish(machine.start(job))
    queue(machine)
    (delivery,) = claim(machine)
    assert settle(machine, delivery, Result(None, "not public", final=True)) is DeliveryState.FAILED


def test_busy_hosts_are_left_out(machine: Machine) -> None:
    jobs = [with_hook(machine, new_job(), f"http://host-{number}.example/") for number in range(4)]
    for job in jobs:
        machine.finish(machine.start(job))
    queue(machine)
    hosts = {each.host for each in due(machine, "host-0.example:80", "host-2.example:80")}
    assert hosts == {"host-1.example:80", "host-3.example:80"}


def test_a_receiver_that_is_gone_is_disabled(machine: Machine) -> None:
    hook = subscribe(machine)
    jobs = [new_job(), new_job()]
    for job in jobs:
        machine.done(job)
    queue(machine)
    delivery, _ = claim(machine)
    assert settle(machine, delivery, Result(410)) is DeliveryState.FAILED
    found = machine.hooks.hook(hook.id)
    assert found is not None
    assert (found.state, "410" in str(found.reason)) == (HookState.DISABLED, True)
    assert due(machine) == []
    machine.done(new_job())
    assert queue(machine) == 0
    assert machine.store.transact(lambda tx: webhooks.replay(tx, tx.hooks.deliveries(jobs[1].id))) == 1
    found = machine.hooks.hook(hook.id)
    assert found is not None
    assert found.state is HookState.ACTIVE


def test_a_receiver_that_fails_for_days_is_disabled(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    hook = subscribe(machine)
    jobs = [new_job(), new_job(), new_job()]
    for job in jobs:
        machine.done(job)
    queue(machine)
    first, second, third = claim(machine)
    settle(machine, first, BAD)
    settle(machine, second, GOOD)
    found = machine.hooks.hook(hook.id)
    assert found is not None
    assert found.failing_since is None  # a success ends the count
    long_ago = datetime.now(UTC) - webhooks.DISABLED_AFTER - timedelta(hours=1)
    machine.store.transact(lambda tx: tx.hooks.change(hook.id, failing_since=long_ago))
    settle(machine, third, BAD)
    found = machine.hooks.hook(hook.id)
    assert found is not None
    assert found.state is HookState.DISABLED
    assert "webhook disabled" in caplog.text
    assert "secret" not in caplog.text


def test_erasing_a_job_removes_its_webhooks_and_deliveries(machine: Machine) -> None:
    subscribe(machine)
    job = with_hook(machine, new_job())
    machine.finish(machine.start(job))
    assert queue(machine) == 2
    claimed = claim(machine)
    machine.erase(job.id)
    assert machine.hooks.of_job(job.id) == machine.hooks.deliveries(job.id) == due(machine) == []
    assert {settle(machine, each, GOOD) for each in claimed} == {None}
    assert queue(machine) == 0  # an erased job has nothing to tell


def test_replay(machine: Machine) -> None:
    job = with_hook(machine, new_job())

    def replay(job_id: str) -> int:
        return machine.store.transact(lambda tx: webhooks.replay_of_job(tx, job_id, own=True))

    with pytest.raises(InvalidRequestError):
        replay(job.id)
    with pytest.raises(NotFoundError):
        replay("none")
    machine.finish(machine.start(job))
    queue(machine)
    (delivery,) = claim(machine)
    settle(machine, delivery, GOOD)
    assert replay(job.id) == 1
    assert (due(machine)[0].id, due(machine)[0].tries) == (delivery.id, 0)


def test_secrets(machine: Machine) -> None:
    with_hook(machine, new_job())
    first = machine.hooks.secrets("", datetime.now(UTC))
    with_hook(machine, new_job())
    assert machine.hooks.secrets("", datetime.now(UTC)) == first
    assert [each[:6] for each in first] == ["whsec_"]
    machine.store.transact(lambda tx: tx.hooks.set_secret("", "whsec_other"))
    now = datetime.now(UTC)
    assert machine.hooks.secrets("", now) == ["whsec_other"]
    until = now + timedelta(hours=1)
    machine.store.transact(lambda tx: tx.hooks.set_secret("", "whsec_third", old_until=until))
    assert machine.hooks.secrets("", now) == ["whsec_third", "whsec_other"]
    assert machine.hooks.secrets("", until) == ["whsec_third"]
    assert machine.hooks.secrets("a key", now) == []


def test_the_secret_of_a_webhook_of_all_jobs_can_be_replaced(machine: Machine) -> None:
    hook, other = subscribe(machine), subscribe(machine)
    first = hook.secret
    assert first is not None

    def asked(*, new: bool = False, old_until: datetime | None = None) -> str:
        return machine.store.transact(lambda tx: webhooks.secret_of_hook(tx, hook.id, new=new, old_until=old_until))

    def signing(now: datetime) -> list[str]:
        found = machine.hooks.hook(hook.id)
        assert found is not None
        return [found.secret] if found.secret else machine.hooks.secrets(found.signer, now)

    now = datetime.now(UTC)
    until = now + timedelta(hours=1)
    assert (asked(), signing(now)) == (first, [first])
    second = asked(new=True, old_until=until)
    assert (asked(), signing(now), signing(until)) == (second, [second, first], [second])
    third = asked(new=True)
    assert len({first, second, third}) == 3
    assert (signing(now), machine.hooks.secrets("", now)) == ([third], [])
    unchanged = machine.hooks.hook(other.id)
    assert unchanged is not None
    assert unchanged.secret == other.secret
    machine.store.transact(lambda tx: tx.hooks.remove(hook.id))
    assert machine.hooks.secrets(hook.id, now) == []
    for wrong in (hook.id, with_own_hook(machine)):
        with pytest.raises(NotFoundError):
            machine.store.transact(lambda tx, wrong=wrong: webhooks.secret_of_hook(tx, wrong))  # type: ignore[misc]


def with_own_hook(machine: Machine) -> str:
    """The id of a webhook of one job."""
    return machine.hooks.of_job(with_hook(machine, new_job()).id)[0].id


def test_the_first_webhooks_of_a_key_share_one_secret_also_when_they_come_at_once(machine: Machine) -> None:
    for number in range(5):
        key, jobs = f"key {number}", [new_job() for _ in range(4)]
        for job in jobs:
            machine.submit(job)

        def attach(job: Job, key: str = key) -> str | None:
            def work(tx: Transaction) -> str | None:
                webhooks.attach(tx, job.id, Webhook(URL, "http://here"), 0, key)
                return tx.hooks.secret(key)

            return machine.store.transact(work)

        seen = at_once([partial(attach, job) for job in jobs])
        assert set(seen) == {machine.hooks.secrets(key, datetime.now(UTC))[0]}
