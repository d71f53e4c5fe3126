"""Two web processes and a worker, with PostgreSQL and Redis: whichever process is asked, the service is one."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx
import pytest
from click.testing import CliRunner, Result
from standardwebhooks import Webhook
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from limner.cli import main
from limner.domain.key import SHOWN
from tests.conftest import another
from tests.journeys.client import FINAL, PATIENCE_S, Json, metric, problem, rows, server_sent
from tests.journeys.conftest import make_cluster
from tests.journeys.keys import ASKS_FOR_KEYS, new_key, revoke, with_key
from tests.journeys.processes import client_at, connection_to, two
from tests.journeys.receiver import Receiver, receiving
from tests.journeys.server import Cluster

STORY = ["job.queued", "job.running", "job.succeeded"]
REFUSED_WITHIN_S = 12.0
SOON_S = 20.0  # for a busy machine, and far below the 60 s of the job that is stopped
Pair = tuple[httpx.Client, httpx.Client]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture(scope="module")
def cluster(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, receiver: Receiver
) -> Iterator[Cluster]:
    """It asks for keys, has one worker, and knows `misbehave`."""
    made = make_cluster(
        tmp_path_factory.mktemp("cluster"),
        request,
        module="tests.journeys.misbehaving.serve",
        work="tests.journeys.misbehaving.work",
        LIMNER_WEB_PROCESSES="2",
        LIMNER_WORKERS="1",
        **ASKS_FOR_KEYS,
        LIMNER_OPEN_METRICS="true",
        LIMNER_FETCH_PRIVATE_HOSTS="127.0.0.1",
        LIMNER_FETCH_PORTS=str(receiver.port),
    )
    made.start()
    yield made
    made.stop()
    made.check_log()


@pytest.fixture(scope="module")
def pids(cluster: Cluster) -> tuple[int, int]:
    """The ids of both processes."""
    return two(cluster)


@pytest.fixture
def key(cluster: Cluster) -> str:
    return new_key(cluster)


@pytest.fixture
def pair(cluster: Cluster, pids: tuple[int, int], key: str) -> Iterator[Pair]:
    """A client of each process, both with the same key."""
    one, other = (client_at(cluster, pid, with_key(key)) for pid in pids)
    yield one, other
    one.close()
    other.close()


def send(client: httpx.Client, photo: bytes, *, path: str = "/v1/detect", wait: bool = False, **fields: str) -> Json:
    """Send a photo; the job."""
    headers = {"Prefer": f"wait={PATIENCE_S}"} if wait else {}
    answer = client.post(path, files={"image": photo}, data=fields, headers=headers)
    assert answer.status_code in (200, 202), answer.text
    job: Json = answer.json()
    return job


def ended(client: httpx.Client, job_id: str) -> Json:
    """The job, once it has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while (job := client.get(f"/v1/jobs/{job_id}").json())["status"] not in FINAL:
        assert time.monotonic() < deadline, job
        time.sleep(0.02)
    return dict(job)


def socket_at(cluster: Cluster, pid: int, path: str, headers: dict[str, str] | None = None) -> ClientConnection:
    """A WebSocket of this process."""
    return connect(cluster.socket_url + path, sock=connection_to(cluster, pid), additional_headers=headers)


def until_ended(connection: ClientConnection, job_id: str) -> list[Json]:
    """The events of a job, up to its end."""
    seen: list[Json] = []
    while not seen or seen[-1]["job"]["id"] != job_id or seen[-1]["type"] != STORY[-1]:
        seen.append(json.loads(connection.recv(timeout=PATIENCE_S)))
    return [event for event in seen if event["job"]["id"] == job_id]


def limner(cluster: Cluster, *words: str) -> Result:
    """A command on the service's database."""
    return CliRunner().invoke(main, words, env=cluster.variables)


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_the_same_work_sent_to_both_at_once_runs_once(cluster: Cluster, pair: Pair, small_jpeg: bytes) -> None:
    photo = another(small_jpeg, 1)
    before = metric(cluster, "limner_jobs_submitted_total", how="new")
    jobs: list[Json] = []
    barrier = threading.Barrier(2)

    def post(client: httpx.Client) -> None:
        barrier.wait(10)
        jobs.extend(send(client, photo) for _ in range(6))

    threads = [threading.Thread(target=post, args=(client,)) for client in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {ended(pair[0], job["id"])["status"] for job in jobs} == {"succeeded"}
    assert len({job["id"] for job in jobs}) == 12
    assert metric(cluster, "limner_jobs_submitted_total", how="new") == before + 1
    ids = ", ".join(f"'{job['id']}'" for job in jobs)
    assert rows(cluster, f"SELECT count(*) FROM jobs WHERE attempt > 0 AND id IN ({ids})") == [(1,)]  # noqa: S608


def test_an_idempotency_key_holds_at_both(pair: Pair, small_jpeg: bytes) -> None:
    headers = {"Idempotency-Key": "the same"}
    one, other = (each.post("/v1/detect", files={"image": another(small_jpeg, 2)}, headers=headers) for each in pair)
    assert one.json()["id"] == other.json()["id"]


def test_waiting_at_one_ends_with_the_job_and_the_other_has_its_picture(pair: Pair, small_jpeg: bytes) -> None:
    job = send(pair[0], another(small_jpeg, 3), wait=True)
    assert job["status"] == "succeeded"
    assert pair[1].get(f"/v1/jobs/{job['id']}").json()["result"] == job["result"]
    url = job["artifacts"][0]["url"]
    assert "signature=" in url
    pictures = [each.get(url, headers={"Authorization": ""}) for each in pair]  # by signature, made by one of them
    assert [each.status_code for each in pictures] == [200, 200]
    assert pictures[0].content == pictures[1].content
    assert send(pair[1], another(small_jpeg, 3))["cached"] == "exact"


def test_events_reach_sockets_and_streams_of_both(
    cluster: Cluster, pids: tuple[int, int], pair: Pair, key: str, small_jpeg: bytes
) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket_at(cluster, pid, "/v1/events", with_key(key))) for pid in pids * 3]
        for number in range(6):
            job = send(pair[number % 2], another(small_jpeg, 10 + number))
            told = [until_ended(each, job["id"]) for each in sockets]
            assert [event["type"] for event in told[0]] == STORY
            assert all(each == told[0] for each in told)
    for client in pair:
        with client.stream("GET", f"/v1/events?after=0&job={job['id']}") as answer:
            events = server_sent(answer.iter_lines())
            assert [next(events) for _ in STORY] == told[0]
            answer.close()


def test_a_cancel_at_the_other_frees_the_worker_long_before_its_end(pair: Pair, small_jpeg: bytes) -> None:
    for canceller, watcher in (pair, pair[::-1]):
        job = send(watcher, small_jpeg, path="/v1/misbehave", how="steps", seconds="60")
        while watcher.get(f"/v1/jobs/{job['id']}").json()["status"] != "running":
            time.sleep(0.02)
        began = time.monotonic()
        assert canceller.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"
        assert watcher.get(f"/v1/jobs/{job['id']}").json()["status"] == "cancelled"
        assert send(watcher, another(small_jpeg, int(began * 1000)), wait=True)["status"] == "succeeded"
        assert time.monotonic() - began < SOON_S


def test_what_is_erased_at_one_is_gone_at_the_other_with_a_receipt(
    cluster: Cluster, pair: Pair, small_jpeg: bytes
) -> None:
    job = send(pair[0], another(small_jpeg, 20), wait=True)
    url = job["artifacts"][0]["url"]
    assert pair[0].get(url).status_code == pair[1].get(url).status_code == 200
    answer = pair[1].delete(f"/v1/jobs/{job['id']}", headers={"Prefer": "return=representation"})
    assert (answer.status_code, answer.json()["pending"]) == (200, [])
    assert len(answer.json()["released"]) == 3, "whether they are removed would tell what others have sent"
    for path in (f"/v1/jobs/{job['id']}", url):
        problem(pair[0].get(path), 404, "not-found")
    with pair[0].stream("GET", f"/v1/events?after=0&job={job['id']}") as stream:
        event = next(server_sent(stream.iter_lines()))
        assert event["job"] == {"id": job["id"], "operation": "detect"}
        stream.close()
    receipt = cluster.folder / "receipt.json"
    receipt.write_text(answer.text)
    done = limner(cluster, "verify-erasure", str(receipt))
    assert (done.exit_code, "BAD" in done.output) == (0, False), done.output
    receipt.write_text(answer.text.replace(job["id"], job["id"][::-1]))
    assert limner(cluster, "verify-erasure", str(receipt)).exit_code != 0


def test_erasing_a_running_job_at_the_other_stops_it(cluster: Cluster, pair: Pair, small_jpeg: bytes) -> None:
    job = send(pair[0], small_jpeg, path="/v1/misbehave", how="steps", seconds="60")
    while pair[0].get(f"/v1/jobs/{job['id']}").json()["status"] != "running":
        time.sleep(0.02)
    assert pair[1].delete(f"/v1/jobs/{job['id']}").status_code == 204
    began = time.monotonic()
    assert send(pair[0], another(small_jpeg, 30), wait=True)["status"] == "succeeded"
    assert time.monotonic() - began < SOON_S
    assert rows(cluster, "SELECT count(*) FROM jobs WHERE id = ?", job["id"]) == [(0,)]


# --- webhooks, keys, metrics -----------------------------------------------------------------------------------------


def test_each_webhook_is_sent_once(
    cluster: Cluster, pair: Pair, key: str, receiver: Receiver, small_jpeg: bytes
) -> None:
    shown = limner(cluster, "webhooks", "secret", "--key", key[:SHOWN])
    sent = [
        send(pair[number % 2], another(small_jpeg, 40 + number), webhook_url=f"{receiver.url}/fine/both")["id"]
        for number in range(10)
    ]
    received = receiver.wait("/fine/both", 10)
    time.sleep(1)  # in which a second process would send them again
    received = receiver.at("/fine/both")
    told = [Webhook(shown.output.strip()).verify(each.body, each.headers)["job"]["id"] for each in received]
    assert Counter(told) == Counter(sent)


def test_a_webhook_of_a_key_tells_of_its_jobs_alone(
    cluster: Cluster, pids: tuple[int, int], pair: Pair, key: str, receiver: Receiver, small_jpeg: bytes
) -> None:
    added = limner(cluster, "webhooks", "add", f"{receiver.url}/fine/key", "--key", key[:SHOWN]).output.split()
    with closing(client_at(cluster, pids[1], with_key(new_key(cluster)))) as stranger:
        send(stranger, another(small_jpeg, 70), wait=True)
    sent = send(pair[0], another(small_jpeg, 71), wait=True)["id"]
    (received,) = receiver.wait("/fine/key")
    assert Webhook(added[-1]).verify(received.body, received.headers)["job"]["id"] == sent
    limner(cluster, "webhooks", "remove", added[1])


def test_a_ticket_of_one_opens_one_stream_at_the_other(cluster: Cluster, pids: tuple[int, int], pair: Pair) -> None:
    for client, issuer, user in ((pair[0], *pids), (pair[1], *pids[::-1])):
        ticket = client.post("/v1/tickets").json()["ticket"]
        with socket_at(cluster, user, f"/v1/events?ticket={ticket}"):
            for pid in (issuer, user):
                with pytest.raises(InvalidStatus) as again:
                    socket_at(cluster, pid, f"/v1/events?ticket={ticket}")
                assert again.value.response.status_code == 401
                assert "used already" in json.loads(again.value.response.body)["detail"]


def test_a_rate_is_counted_over_both(cluster: Cluster, pids: tuple[int, int]) -> None:
    limited = with_key(new_key(cluster, rate_per_minute=4))
    while 60 - time.time() % 60 < 5:  # all of it in one minute of the clock
        time.sleep(0.2)
    with closing(client_at(cluster, pids[0], limited)) as one, closing(client_at(cluster, pids[1], limited)) as other:
        for left, client in enumerate((one, other, one, other)):
            answer = client.get("/v1/jobs")
            assert answer.status_code == 200
            assert answer.headers["ratelimit"].startswith(f'"minute";r={3 - left};')
        for client in (one, other):
            problem(client.get("/v1/jobs"), 429, "rate-limited")


def test_wrong_keys_are_counted_over_both(pair: Pair) -> None:
    def tried(client: httpx.Client, token: str) -> int:
        headers = {**with_key(token), "X-Forwarded-For": "203.0.113.7"}
        return client.get("/v1/jobs", headers=headers).status_code

    while 60 - time.time() % 60 < 20:  # all of it in one minute of the clock
        time.sleep(0.2)
    statuses = [tried(pair[number % 2], f"lim_{number}") for number in range(24)]
    assert statuses == [401] * 20 + [429] * 4
    assert pair[0].get("/v1/jobs").status_code == 200, "another address"


def test_a_revoked_key_ends_at_both(cluster: Cluster, pids: tuple[int, int], pair: Pair, key: str) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket_at(cluster, pid, "/v1/events", with_key(key))) for pid in pids]
        assert [each.get("/v1/jobs").status_code for each in pair] == [200, 200]
        revoke(cluster, key)
        began = time.monotonic()
        for each in sockets:
            with pytest.raises(ConnectionClosed) as closed:
                each.recv(timeout=REFUSED_WITHIN_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
        for client in pair:
            while client.get("/v1/jobs").status_code == 200:
                assert time.monotonic() - began < REFUSED_WITHIN_S
                time.sleep(0.1)
            problem(client.get("/v1/jobs"), 401, "unauthorized")


def test_each_tells_the_metrics_of_both(
    cluster: Cluster, pids: tuple[int, int], pair: Pair, key: str, small_jpeg: bytes
) -> None:
    def told(name: str, **labels: str) -> set[float]:
        return {metric(cluster, name, **labels) for _ in range(10)}

    (before,) = told("limner_jobs_submitted_total")
    for client in pair:
        send(client, another(small_jpeg, 60), wait=True)
    assert told("limner_jobs_submitted_total") == {before + 2}
    with ExitStack() as stack:
        for pid in (*pids, pids[0]):
            stack.enter_context(socket_at(cluster, pid, "/faces", with_key(key)))
        assert told("limner_sockets", stream="faces") == {3}
    assert told("limner_queue_depth", lane="cpu") == {0}
    assert told("limner_database_up") == {1}
