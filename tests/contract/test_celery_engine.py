"""The web process's side of Celery on a real Redis: what is sent, what is sent again, and that no caller waits."""

import ast
import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import amqp.exceptions
import pytest
import redis
from kombu.exceptions import OperationalError

from limner.adapters.celery_engine import CeleryEngine, broker_app, broker_errors, connected, depth
from limner.adapters.redis_bus import connect
from limner.ports import Waiting
from tests.services.redis_server import RedisServer

SOON_S = 20.0
QUICK_S = 0.5


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may stop."""
    server = RedisServer(tmp_path)
    server.process.start()
    yield server
    server.process.stop()


@contextmanager
def engine(url: str, *, capacity: int = 1000) -> Iterator[CeleryEngine]:
    made = CeleryEngine(broker_app(url), capacity=capacity, rest_s=0.1)
    made.start()
    yield made
    made.stop(1)


def queued(url: str, lane: str = "cpu") -> list[str]:
    """The ids in a lane's queue, oldest first, as another program would read them."""
    with redis.Redis.from_url(url) as client:
        messages = [json.loads(text) for text in client.lrange(lane, 0, -1)]  # type: ignore[union-attr]
    found = [ast.literal_eval(message["headers"]["argsrepr"]) for message in reversed(messages)]
    assert {of_lane for _, of_lane in found} <= {lane}
    return [job_id for job_id, _ in found]


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON_S
    while not what():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def waiting(job_id: str, *, sent_ago_s: float | None) -> Waiting:
    now = datetime.now(UTC)
    return Waiting(job_id, "cpu", None if sent_ago_s is None else now - timedelta(seconds=sent_ago_s))


def test_ids_go_to_the_queue_of_their_lane_and_nothing_else_does(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    with engine(url) as sender:
        sender.send("a", "cpu")
        sender.send("b", "remote")
        sender.send("c", "cpu")
        until(lambda: queued(url) == ["a", "c"] and queued(url, "remote") == ["b"])
    with redis.Redis.from_url(url) as client:
        assert all(len(text) < 2000 for text in client.lrange("cpu", 0, -1))  # type: ignore[union-attr]


def test_a_lane_that_does_not_exist_is_logged_once(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with engine(redis_server.new_database()) as sender:
        for _ in range(3):
            sender.send("a", "nowhere")
        assert sender.resend([Waiting("a", "nowhere", None)], datetime.now(UTC)) == []
    assert [record.levelno for record in caplog.records if "nowhere" in record.getMessage()] == [logging.ERROR]


def test_depth_is_that_of_the_queue_also_if_there_is_none(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    app = broker_app(url)
    with connected(app) as connection:
        assert depth(connection, "cpu") == 0
        app.send_task("limner.run", ("a",), queue="cpu")
        assert depth(connection, "cpu") == 1
        assert depth(connection, "gpu") == 0
    app.close()


def test_a_sweep_sends_again_what_was_lost_and_does_not_flood(redis_server: RedisServer) -> None:
    url = redis_server.new_database()
    with engine(url) as sender:
        fresh, late, old = (
            waiting("fresh", sent_ago_s=1),
            waiting("late", sent_ago_s=31),
            waiting("old", sent_ago_s=601),
        )
        assert sender.resend([fresh], datetime.now(UTC)) == []
        assert sender.resend([waiting("never", sent_ago_s=None)], datetime.now(UTC)) == ["never"]
        until(lambda: queued(url) == ["never"])
        assert sender.resend([fresh, late], datetime.now(UTC)) == [], (
            "the queue is not empty: it only has to wait for its turn"
        )
        assert sender.resend([fresh, late, old], datetime.now(UTC)) == ["old"]
        until(lambda: queued(url) == ["never", "old"])
        with redis.Redis.from_url(url) as client:
            client.flushdb()  # all messages are lost
        assert sender.resend([fresh, late], datetime.now(UTC)) == ["late"]
        until(lambda: queued(url) == ["late"])


def test_without_a_broker_nothing_is_resent_that_may_be_there(own_redis: RedisServer) -> None:
    own_redis.process.kill()
    with engine(own_redis.url) as sender:
        assert sender.resend([waiting("late", sent_ago_s=31)], datetime.now(UTC)) == []


@pytest.mark.alone
def test_what_is_sent_while_redis_is_down_arrives_later_once(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with engine(own_redis.url) as sender:
        own_redis.process.kill()
        ids = [f"job{number}" for number in range(20)]
        start = time.monotonic()
        for _ in range(2):
            for job_id in ids:
                sender.send(job_id, "cpu")
        assert time.monotonic() - start < QUICK_S
        assert sender.resend([waiting(job_id, sent_ago_s=None) for job_id in ids], datetime.now(UTC)) == ids
        until(lambda: "the broker is away" in caplog.text)
        own_redis.process.start()
        until(lambda: queued(own_redis.url) == ids)
        time.sleep(0.2)
        assert queued(own_redis.url) == ids
    told = [record.getMessage() for record in caplog.records if record.name.startswith("limner")]
    assert [line.split(";")[0] for line in told] == ["the broker is away", "the broker is back"]


@pytest.mark.alone
def test_a_frozen_redis_keeps_no_caller_waiting(own_redis: RedisServer) -> None:
    with engine(own_redis.url, capacity=100) as sender:
        sender.send("first", "cpu")
        until(lambda: queued(own_redis.url) == ["first"])
        own_redis.process.freeze()
        try:
            start = time.monotonic()
            for number in range(300):
                sender.send(f"job{number}", "cpu")
            assert time.monotonic() - start < QUICK_S
            sent = sender.resend(
                [waiting(f"other{number}", sent_ago_s=None) for number in range(300)], datetime.now(UTC)
            )
            assert len(sent) < 150, "what does not fit must be sent by a later sweep"
        finally:
            own_redis.process.thaw()
        until(lambda: len(set(queued(own_redis.url))) >= 101)
        assert set(queued(own_redis.url)) <= {"first", *(f"job{number}" for number in range(300)), *sent}


def test_a_broker_that_refuses_is_one_that_is_away(own_redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """The sweep goes on, and what was accepted is sent when the permission is there."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.acl_setuser("weak", enabled=True, passwords=["+pw"], categories=["-@all"], commands=["+ping", "+select"])
        with engine(own_redis.url.replace("//", "//weak:pw@")) as sender:
            sender.send("a", "cpu")
            until(lambda: "the broker is away" in caplog.text)
            assert sender.resend([waiting("late", sent_ago_s=31)], datetime.now(UTC)) == []
            client.acl_setuser("weak", enabled=True, categories=["+@all"], keys=["*"], channels=["*"])
            until(lambda: queued(own_redis.url) == ["a"])
    assert "Traceback" not in caplog.text
    assert issubclass(amqp.exceptions.AccessRefused, broker_errors(broker_app("amqp://guest:wrong@127.0.0.1:1//")))


def test_no_password_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with engine("redis://:geheim@127.0.0.1:1/0") as sender:
        sender.send("a", "cpu")
        until(lambda: "the broker is away" in caplog.text)
        sender.resend([waiting("a", sent_ago_s=31)], datetime.now(UTC))
    assert "geheim" not in caplog.text


def test_certificates_are_checked_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, tls=True)
    server.process.start()
    known = f"ssl_ca_certs={server.certificate}"
    try:
        for url, trusted in (
            (server.url, False),
            (f"{server.url}?{known}", True),
            (f"{server.url.replace('127.0.0.1', 'localhost')}?{known}", False),  # it is the certificate of the address
            (f"{server.url}?ssl_cert_reqs=none", True),
        ):
            app = broker_app(url)
            refused = pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED")
            with contextlib.nullcontext() if trusted else refused, connected(app) as connection:
                depth(connection, "cpu")
            with connect(url) as client, contextlib.nullcontext() if trusted else pytest.raises(redis.RedisError):
                client.ping()
    finally:
        server.process.stop()
