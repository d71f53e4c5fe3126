"""Webhooks from end to end: a real receiver checks signatures, fails, and misbehaves."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from limner.cli import main
from tests.conftest import another
from tests.journeys.client import all_events, finished, get, metric, problem, submit
from tests.journeys.conftest import BOTH_IF_SLOW, make_server, served
from tests.journeys.receiver import Received, Receiver, receiving
from tests.journeys.server import Server

TIMEOUT_S = 1.0


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture(scope="module")
def other() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture(scope="module", params=BOTH_IF_SLOW)
def sending(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, receiver: Receiver, other: Receiver
) -> Iterator[Server]:
    """A server with 127.0.0.1 as its only allowed private host, and short pauses."""
    yield from served(make_server(tmp_path_factory.mktemp("sending"), request, **settings_for(receiver, other)))


def settings_for(*receivers: Receiver) -> dict[str, str]:
    return {
        "LIMNER_FETCH_PRIVATE_HOSTS": "127.0.0.1",
        "LIMNER_FETCH_PORTS": ",".join(["80", "443", "1", *(str(each.port) for each in receivers)]),
        "LIMNER_WEBHOOK_TIMEOUT_S": str(TIMEOUT_S),
        "LIMNER_WEBHOOK_RETRY_S": "0.1",
        "LIMNER_WEBHOOK_TRIES": "3",
        "LIMNER_SWEEP_S": "0.3",
    }


def limner(server: Server, *words: str) -> str:
    """The output of a command on the server's database."""
    from click.testing import CliRunner

    done = CliRunner().invoke(main, words, env=server.variables, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def secret(server: Server) -> str:
    return limner(server, "webhooks", "secret").split()[-1]


def verified(received: Received, of: str) -> Any:
    """The body, after the library of the receivers has checked it."""
    return Webhook(of).verify(received.body, received.headers)


def deliveries(server: Server, job_id: str) -> list[dict[str, Any]]:
    (hook,) = get(server, f"/v1/jobs/{job_id}/webhooks").json()["webhooks"]
    found: list[dict[str, Any]] = hook["deliveries"]
    return found


def ended(server: Server, job_id: str) -> dict[str, Any]:
    """The only delivery of a job, once it has ended."""
    deadline = time.monotonic() + 30
    while True:
        found = deliveries(server, job_id)
        if found and found[0]["ended_at"]:
            assert len(found) == 1
            return found[0]
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_a_jobs_end_is_sent_and_signed(sending: Server, receiver: Receiver, astronaut_jpeg: bytes) -> None:
    job = submit(sending, another(astronaut_jpeg, 1), webhook_url=f"{receiver.url}/fine/one")
    (received,) = receiver.wait("/fine/one")
    event = verified(received, secret(sending))
    assert event in all_events(sending)  # exactly the event of the stream
    assert (event["type"], event["job"]["id"], event["job"]["faces_count"]) == ("job.succeeded", job["id"], 1)
    assert event["job"]["url"] == job["url"]
    assert received.headers["content-type"] == "application/json"
    delivery = ended(sending, job["id"])
    assert (delivery["state"], delivery["tries"], delivery["last_status"]) == ("delivered", 1, 204)
    assert (delivery["id"], delivery["event_id"]) == (received.headers["webhook-id"], event["id"])
    with pytest.raises(Exception, match="signature"):
        verified(received, "whsec_" + "A" * 44)


def test_a_secret_can_be_replaced_with_both_signing_for_a_while(
    sending: Server, receiver: Receiver, astronaut_jpeg: bytes
) -> None:
    old = secret(sending)
    new = limner(sending, "webhooks", "secret", "--new", "--overlap", "1h").split()[-1]
    submit(sending, another(astronaut_jpeg, 71), webhook_url=f"{receiver.url}/fine/both")
    (received,) = receiver.wait("/fine/both")
    assert verified(received, new) == verified(received, old)
    newest = limner(sending, "webhooks", "secret", "--new").split()[-1]
    submit(sending, another(astronaut_jpeg, 72), webhook_url=f"{receiver.url}/fine/newest")
    (received,) = receiver.wait("/fine/newest")
    verified(received, newest)
    for each in (old, new):
        with pytest.raises(Exception, match="signature"):
            verified(received, each)


def test_a_cached_result_is_sent_too(sending: Server, receiver: Receiver, astronaut_jpeg: bytes) -> None:
    photo = another(astronaut_jpeg, 2)
    submit(sending, photo, wait=True)
    answer = httpx.post(
        f"{sending.url}/v1/detect",
        files={"image": photo},
        data={"webhook_url": f"{receiver.url}/fine/cached"},
        headers={"Idempotency-Key": "one"},
        timeout=60,
    )
    assert answer.json()["cached"] == "exact"
    (received,) = receiver.wait("/fine/cached")
    assert verified(received, secret(sending))["job"]["id"] == answer.json()["id"]


def test_a_failed_try_is_repeated_with_the_same_id(sending: Server, receiver: Receiver, astronaut_jpeg: bytes) -> None:
    receiver.answers["/fine/again"] = [500, 503]
    job = submit(sending, another(astronaut_jpeg, 3), webhook_url=f"{receiver.url}/fine/again")
    tries = receiver.wait("/fine/again", 3)
    assert len({each.headers["webhook-id"] for each in tries}) == 1
    assert len({each.body for each in tries}) == 1
    assert tries[1].at - tries[0].at >= 0.08
    assert tries[2].at - tries[1].at >= 0.48  # six times as long, less a fifth
    for each in tries:
        verified(each, secret(sending))
    delivery = ended(sending, job["id"])
    assert (delivery["state"], delivery["tries"], delivery["next_try_at"]) == ("delivered", 3, None)


def test_after_the_last_try_it_is_failed_and_can_be_replayed(
    sending: Server, receiver: Receiver, astronaut_jpeg: bytes
) -> None:
    receiver.answers["/fine/late"] = [500, 500, 500]
    job = submit(sending, another(astronaut_jpeg, 4), webhook_url=f"{receiver.url}/fine/late")
    receiver.wait("/fine/late", 3)
    assert ended(sending, job["id"])["state"] == "failed"
    answer = httpx.post(f"{sending.url}/v1/jobs/{job['id']}/webhooks/replay")
    assert answer.status_code == 200
    assert receiver.wait("/fine/late", 4)[3].headers["webhook-id"] == receiver.at("/fine/late")[0].headers["webhook-id"]
    assert ended(sending, job["id"])["state"] == "delivered"
    limner(sending, "webhooks", "replay", "--job", job["id"])
    receiver.wait("/fine/late", 5)


def test_gone_disables(sending: Server, receiver: Receiver, astronaut_jpeg: bytes) -> None:
    receiver.answers["/fine/gone"] = [410]
    job = submit(sending, another(astronaut_jpeg, 5), webhook_url=f"{receiver.url}/fine/gone")
    receiver.wait("/fine/gone")
    delivery = ended(sending, job["id"])
    assert (delivery["state"], delivery["tries"], delivery["last_status"]) == ("failed", 1, 410)
    (hook,) = get(sending, f"/v1/jobs/{job['id']}/webhooks").json()["webhooks"]
    assert (hook["state"], "410" in hook["reason"], hook["host"]) == ("disabled", True, f"127.0.0.1:{receiver.port}")


@pytest.mark.parametrize(
    ("path", "state", "status"),
    [
        ("/endless", "delivered", 200),
        ("/dripping", "delivered", 200),
        ("/silent", "failed", None),
        ("/endless-headers", "failed", None),
        ("/garbage", "failed", None),
        ("/to?http://169.254.169.254/latest/meta-data", "failed", 307),
        ("/to?/other", "failed", 307),
    ],
)
def test_hostile_receivers(
    sending: Server, receiver: Receiver, astronaut_jpeg: bytes, path: str, state: str, status: int | None
) -> None:
    before = len(receiver.received)
    job = submit(sending, another(astronaut_jpeg, 1000 + sum(path.encode())), webhook_url=receiver.url + path)
    delivery = ended(sending, job["id"])
    assert (delivery["state"], delivery["last_status"]) == (state, status)
    if status is None:
        assert delivery["last_error"] == "webhook_url: No answer arrived within 1 s."
    assert {each.path for each in receiver.received[before:]} == {path}


def test_a_closed_port_tells_no_more_than_a_silent_one(sending: Server, astronaut_jpeg: bytes) -> None:
    job = submit(sending, another(astronaut_jpeg, 6), webhook_url="http://127.0.0.1:1/x")
    assert ended(sending, job["id"])["last_error"] == "webhook_url: No answer arrived within 1 s."


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/",
        "http://[::1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0.0.0.0/",
        "http://10.1.2.3/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://user:pass@127.0.0.1/",
        "http://127.0.0.1:22/",
        "file:///etc/passwd",
        "//127.0.0.1/",
        "http://127.0.0.1/\r\nX: y",
        "http://127.0.0.1/" + "x" * 3000,
    ],
)
def test_private_addresses_are_refused_at_once(sending: Server, astronaut_jpeg: bytes, url: str) -> None:
    answer = httpx.post(
        f"{sending.url}/v1/detect", files={"image": astronaut_jpeg}, data={"webhook_url": url}, timeout=60
    )
    assert "webhook_url" in problem(answer, 422, "url-not-allowed")["detail"]


def test_what_is_no_url(sending: Server, astronaut_jpeg: bytes) -> None:
    for value in (1, ["http://x/"], {"a": 1}, True):
        problem(httpx.post(f"{sending.url}/v1/detect", json={"webhook_url": value}), 422, "invalid-request")
    problem(get(sending, "/v1/jobs/none/webhooks"), 404, "not-found")
    problem(httpx.post(f"{sending.url}/v1/jobs/none/webhooks/replay"), 404, "not-found")
    job = submit(sending, another(astronaut_jpeg, 7), wait=True)
    assert get(sending, f"/v1/jobs/{job['id']}/webhooks").json() == {"webhooks": []}
    problem(httpx.post(f"{sending.url}/v1/jobs/{job['id']}/webhooks/replay"), 422, "invalid-request")


def test_the_setting_is_needed(shared_server: Server, receiver: Receiver, astronaut_jpeg: bytes) -> None:
    answer = httpx.post(
        f"{shared_server.url}/v1/detect",
        files={"image": astronaut_jpeg},
        data={"webhook_url": f"{receiver.url}/fine/never"},
        timeout=60,
    )
    problem(answer, 422, "url-not-allowed")
    assert not receiver.at("/fine/never")


def test_slow_receivers_delay_no_others(
    sending: Server, receiver: Receiver, other: Receiver, astronaut_jpeg: bytes
) -> None:
    photo = another(astronaut_jpeg, 20)
    submit(sending, photo, wait=True)
    slow = [submit(sending, photo, webhook_url=f"{receiver.url}/silent/{number}") for number in range(60)]
    begun = time.monotonic()
    submit(sending, photo, webhook_url=f"{other.url}/fine/quick")
    (received,) = other.wait("/fine/quick")
    assert received.at - begun < TIMEOUT_S, "it waited for the silent receiver"
    for job in slow:  # so that the tests that follow need not wait for them
        assert httpx.delete(job["url"], timeout=60).status_code == 204


def test_a_webhook_of_all_jobs(sending: Server, receiver: Receiver, astronaut_jpeg: bytes) -> None:
    added = limner(
        sending, "webhooks", "add", f"{receiver.url}/fine/all", "--event", "job.queued", "--event", "job.succeeded"
    )
    own = next(word for word in added.split() if word.startswith("whsec_"))
    hook_id = added.split()[1]
    job = submit(sending, another(astronaut_jpeg, 8), wait=True)
    received = receiver.wait("/fine/all", 2)
    events = [verified(each, own) for each in received]
    assert [event["type"] for event in events] == ["job.queued", "job.succeeded"]  # in order
    assert {event["job"]["id"] for event in events} == {job["id"]}
    new = limner(sending, "webhooks", "secret", "--webhook", hook_id, "--new", "--overlap", "1h").strip()
    assert new == limner(sending, "webhooks", "secret", "--webhook", hook_id).strip() != own
    limner(sending, "webhooks", "replay", "--webhook", hook_id, "--limit", "1")
    both = receiver.wait("/fine/all", 3)[-1]
    assert verified(both, new) == verified(both, own) == events[-1]
    listed = limner(sending, "webhooks", "list")
    assert hook_id in listed
    assert "all jobs" in listed
    assert "whsec_" not in listed
    assert "/fine/all" not in listed  # the path may hold a password
    limner(sending, "webhooks", "remove", hook_id)
    submit(sending, another(astronaut_jpeg, 9), wait=True)
    time.sleep(1.5)
    assert len(receiver.at("/fine/all")) == 3


def test_erasing_a_job_ends_its_deliveries(sending: Server, receiver: Receiver, astronaut_jpeg: bytes) -> None:
    receiver.answers["/fine/erased"] = [500] * 10
    job = submit(sending, another(astronaut_jpeg, 10), wait=True, webhook_url=f"{receiver.url}/fine/erased")
    receiver.wait("/fine/erased")
    assert httpx.delete(job["url"], timeout=60).status_code == 204
    tries = len(receiver.at("/fine/erased"))
    time.sleep(1.0)
    assert len(receiver.at("/fine/erased")) <= tries + 1
    problem(get(sending, f"/v1/jobs/{job['id']}/webhooks"), 404, "not-found")


def test_the_log_has_no_urls_and_no_secrets(sending: Server) -> None:
    text = sending.log.read_text()
    for word in ("whsec_", "/fine", secret(sending)):
        assert word not in text
    assert any(line["message"] == "webhook not delivered" for line in sending.log_lines())
    assert metric(sending, "limner_webhooks_sent_total", outcome="delivered") > 3
    assert metric(sending, "limner_webhooks_sent_total", outcome="retry") > 3


def test_a_kill_loses_no_webhook(tmp_path: Any, astronaut_jpeg: bytes) -> None:
    with receiving() as receiver:
        server = Server(tmp_path, **settings_for(receiver) | {"LIMNER_DURABILITY": "full"})
        server.start()
        receiver.answers["/fine/killed"] = [503] * 2
        jobs: list[dict[str, Any]] = []

        def send() -> None:
            for number in range(8):
                photo = another(astronaut_jpeg, number)
                jobs.append(submit(server, photo, webhook_url=f"{receiver.url}/fine/killed"))

        sender = threading.Thread(target=send)
        sender.start()
        receiver.wait("/fine/killed", 2)
        sender.join()
        server.kill()
        server.start()
        for job in jobs:
            finished(server, job["id"])
            assert ended(server, job["id"])["state"] == "delivered"
        told = {json.loads(each.body)["job"]["id"] for each in receiver.at("/fine/killed")}
        assert told == {job["id"] for job in jobs}
        server.stop()
        server.check_log()
