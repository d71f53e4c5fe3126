"""API keys and the owners of jobs, files and events, on every job store."""

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from limner.adapters import rate_counters
from limner.adapters.rate_counters import LocalCounters, RedisCounters
from limner.domain.key import Key, owned
from limner.jobs.url_secret import url_secret
from limner.ports import JobFilter
from tests.contract.machine import Machine, at_once, new_job
from tests.services.redis_server import RedisServer

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
KEY = Key("id 1", "näme", "lim_abcdef", "0" * 64, "read submit", NOW, 60, 1000, NOW + timedelta(days=1), None, None)


def test_a_key_is_found_as_it_was_stored(machine: Machine) -> None:
    bare = Key("id 2", "b", "lim_ghijkl", "1" * 64, "admin", NOW)
    for key in (KEY, bare):
        machine.store.transact(lambda tx, key=key: tx.add_key(key))  # type: ignore[misc]
    assert machine.keys.all() == [KEY, bare]
    assert machine.keys.by_hash("0" * 64) == machine.keys.by_id("id 1") == KEY
    assert machine.keys.by_hash("2" * 64) is machine.keys.by_id("id 3") is None
    assert machine.store.transact(lambda tx: tx.change_key("id 1", revoked_at=NOW, hash="3" * 64))
    assert not machine.store.transact(lambda tx: tx.change_key("id 3", revoked_at=NOW))
    assert machine.keys.by_hash("3" * 64) == replace(KEY, revoked_at=NOW, hash="3" * 64)
    assert machine.keys.by_id("id 2") == bare


def test_a_rotated_key_is_found_by_both_for_a_while(machine: Machine) -> None:
    machine.store.transact(lambda tx: tx.add_key(KEY))
    until = NOW + timedelta(hours=1)
    machine.store.transact(lambda tx: tx.change_key("id 1", hash="5" * 64, old_hash="0" * 64, old_until=until))
    found = machine.keys.by_hash("0" * 64)
    assert found is not None
    assert found == machine.keys.by_hash("5" * 64) == machine.keys.by_id("id 1")
    assert found.accepts("5" * 64, until)
    assert found.accepts("0" * 64, until - timedelta(seconds=1))
    assert not found.accepts("0" * 64, until)
    assert not found.accepts("6" * 64, NOW)


def test_two_keys_cannot_be_the_same(machine: Machine) -> None:
    machine.store.transact(lambda tx: tx.add_key(KEY))
    with pytest.raises(Exception, match=r"(?i)unique"):
        machine.store.transact(lambda tx: tx.add_key(replace(KEY, id="id 2")))
    assert machine.keys.all() == [KEY]


def test_jobs_files_and_events_have_an_owner(machine: Machine) -> None:
    jobs = [machine.done(new_job(key_id=owner), "a.jpg") for owner in ("x", "y", None, "x")]
    assert [job.key_id for job in jobs] == ["x", "y", None, "x"]
    assert [job.id for job in machine.reader.page(JobFilter(key_id="x"))] == [jobs[3].id, jobs[0].id]
    assert [job.id for job in machine.reader.page(JobFilter(key_id="x"), before=jobs[3].id)] == [jobs[0].id]
    assert len(machine.reader.page()) == 4
    assert machine.reader.page(JobFilter(key_id="z")) == []
    for job in jobs[:2]:
        for owner in ("x", "y", "z"):
            mine = owner == job.key_id
            assert (machine.reader.artifact(job.id, "a.jpg", key_id=owner) is not None) == mine
            assert (machine.reader.file(job.files[0].id, key_id=owner) is not None) == mine
        assert machine.reader.artifact(job.id, "a.jpg") is not None
        assert machine.reader.file(job.files[0].id) is not None
    machine.erase(jobs[0].id)
    for owner, expected in (("x", [0, 3]), ("y", [1]), ("z", [])):
        found = machine.log.after(0, limit=100, key_id=owner)
        assert {event.job_id for event in found} == {jobs[number].id for number in expected}
        assert all(event.key_id == owner for event in found)
        assert len(found) == 3 * len(expected)
        if expected:
            job_id = jobs[expected[0]].id
            of_job = machine.log.after(0, limit=100, key_id=owner, job_id=job_id, operation="detect")
            assert [event.id for event in of_job] == [event.id for event in found if event.job_id == job_id]


def test_owners_share_no_work(machine: Machine) -> None:
    first = machine.submit(new_job(owned("work", "x"), key_id="x", idempotency_key=owned("key", "x")))
    second = machine.submit(new_job(owned("work", "y"), key_id="y", idempotency_key=owned("key", "y")))
    assert second.id != first.id
    assert second.leader_id is None
    follower = machine.submit(new_job(owned("work", "x"), key_id="x"))
    assert follower.leader_id == first.id


def test_the_secret_is_made_once(machine: Machine) -> None:
    other = machine.again()
    secret = url_secret(machine.store)
    assert len(secret) >= 32
    assert url_secret(machine.store) == url_secret(other.store) == secret


def test_local_counters_count_by_name() -> None:
    counters = LocalCounters()
    assert [counters.count("a", 60) for _ in range(3)] == [1, 2, 3]
    assert counters.count("b", 60) == 1
    assert LocalCounters().count("a", 60) == 1


def test_local_counters_begin_anew_and_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(rate_counters.time, "monotonic", lambda: now[0])
    counters = LocalCounters()
    assert [counters.count(name, 50) for name in ("a", "a", "b")] == [1, 2, 1]
    now[0] += 49
    assert counters.count("a", 50) == 3
    now[0] += 1
    assert counters.count("a", 50) == 1
    now[0] += 60
    assert counters.count("c", 50) == 1
    assert set(counters._counts) == {"c"}


def test_local_counters_count_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of Redis they are used by several; one tidies up while others count new names."""
    monkeypatch.setattr(rate_counters, "TIDY_S", 0.001)
    counters = LocalCounters()

    def count(thread: int) -> int:
        for number in range(10_000):
            counters.count(f"{thread} {number % 3000}", 60)
        return counters.count("all", 60)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        seen = at_once([partial(count, thread) for thread in range(4)])
    finally:
        sys.setswitchinterval(before)
    assert sorted(seen) == [1, 2, 3, 4]
    assert (counters.counted("all"), counters.counted("other"), counters.counted("0 0")) == (4, 0, 4)


def test_counters_in_redis_are_those_of_all_processes(redis_server: RedisServer) -> None:
    one, other = RedisCounters(redis_server.url), RedisCounters(redis_server.url)
    name = f"test {datetime.now(UTC)}"
    assert [one.count(name, 60), other.count(name, 60), one.count(name, 60)] == [1, 2, 3]
    assert (one.counted(name), other.counted(name), other.counted(f"{name} b")) == (3, 3, 0)


def test_without_redis_each_process_counts_for_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = RedisServer(tmp_path)
    server.process.start()
    counters = RedisCounters(server.url)
    assert [counters.count("a", 60) for _ in range(3)] == [1, 2, 3]
    server.process.kill()
    assert [counters.count("a", 60) for _ in range(3)] == [1, 2, 3]
    assert (counters.counted("a"), counters.counted("b")) == (3, 0)
    assert len(caplog.records) == 1, "said once, not for each request"
    assert server.url not in caplog.text
    server.process.start()
    counters._resting_until = 0.0
    assert counters.count("a", 60) == 1
    server.process.stop()
