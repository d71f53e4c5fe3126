"""The bus over a real Redis that is killed, frozen and started again: callers never wait, and wake-ups come back."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from limner.adapters.redis_bus import RedisBus
from tests.services.redis_server import RedisServer

SOON_S = 30.0
QUICK_S = 0.5  # for a call that must not wait for the network, on a busy machine


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that these tests may stop."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.process.start()
    yield server
    server.process.stop()


@contextmanager
def bus(server: RedisServer) -> Iterator[RedisBus]:
    made = RedisBus(server.url, rest_s=0.1, ping_s=0.3, silence_s=1.0)
    yield made
    made.close()


def reaches(sender: RedisBus, woken: threading.Event) -> None:
    """Wait until a wake-up of one bus reaches the listener at another."""
    deadline = time.monotonic() + SOON_S
    woken.clear()
    while not woken.is_set():
        assert time.monotonic() < deadline
        sender.wake()
        woken.wait(0.1)


def slowest_wake(sender: RedisBus, times: int) -> float:
    slowest = 0.0
    for _ in range(times):
        start = time.monotonic()
        sender.wake()
        slowest = max(slowest, time.monotonic() - start)
    return slowest


def test_a_wake_up_reaches_other_processes_and_the_own_at_once(own_redis: RedisServer) -> None:
    with bus(own_redis) as one, bus(own_redis) as two:
        here, there = threading.Event(), threading.Event()
        one.subscribe(here.set)
        two.subscribe(there.set)
        reaches(one, there)
        reaches(two, here)
        calls = []
        one.subscribe(lambda: calls.append(threading.current_thread()))
        one.wake()
        assert calls == [threading.current_thread()], "before it was sent anywhere"


def test_many_wake_ups_are_sent_as_few(own_redis: RedisServer) -> None:
    with bus(own_redis) as one, bus(own_redis) as two:
        calls: list[float] = []
        woken = threading.Event()
        two.subscribe(woken.set)
        reaches(one, woken)
        two.subscribe(lambda: calls.append(time.monotonic()))
        for _ in range(20_000):
            one.wake()
        time.sleep(0.3)
        assert 1 <= len(calls) < 10_000


@pytest.mark.alone
def test_wake_ups_come_back_after_a_kill_and_the_log_is_short(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with bus(own_redis) as one, bus(own_redis) as two:
        there = threading.Event()
        two.subscribe(there.set)
        reaches(one, there)
        own_redis.process.kill()
        assert slowest_wake(one, 1000) < QUICK_S
        time.sleep(1)
        there.clear()
        own_redis.process.start()
        assert there.wait(SOON_S), "a listener is called when Redis is back: something may have happened"
        reaches(one, there)
        told = [record.getMessage() for record in caplog.records]
    assert sum("Redis is away" in line for line in told) <= 2, "one line for each bus"
    assert sum("Redis is back" in line for line in told) <= 2


@pytest.mark.alone
def test_a_frozen_redis_is_noticed_and_nobody_waits(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with bus(own_redis) as one, bus(own_redis) as two:
        there = threading.Event()
        two.subscribe(there.set)
        reaches(one, there)
        own_redis.process.freeze()
        try:
            assert slowest_wake(one, 1000) < QUICK_S
            deadline = time.monotonic() + SOON_S
            while not any("Redis is away" in record.getMessage() for record in caplog.records):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            own_redis.process.thaw()
        reaches(one, there)


def test_no_password_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    closed = RedisBus("redis://:geheim@127.0.0.1:1/0", rest_s=0.05)
    closed.subscribe(lambda: None)
    closed.wake()
    time.sleep(0.3)
    closed.close()
    assert "Redis is away" in caplog.text
    assert "geheim" not in caplog.text
