"""Two web processes behind nginx, with PostgreSQL, Redis and a worker, are replaced, killed and without a database."""

import json
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.conftest import another
from tests.journeys.client import PATIENCE_S, get, metric, submit
from tests.journeys.processes import client_at, two
from tests.journeys.server import Cluster
from tests.services.nginx import Nginx
from tests.services.postgres import Postgres
from tests.services.redis_server import RedisServer


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that the tests of this file may stop."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.process.stop()


@pytest.fixture(scope="module")
def cluster(
    own_postgres: Postgres, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    made = Cluster(
        tmp_path_factory.mktemp("cluster"),
        redis_server.new_database(),
        LIMNER_DATABASE_URL=own_postgres.new_database(),
        LIMNER_WEB_PROCESSES="2",
        LIMNER_WORKERS="1",
        LIMNER_ACCEL_PREFIX="/_blobs/",
        LIMNER_SWEEP_S="1",
    )
    made.start()
    two(made)
    yield made
    made.stop()
    made.check_log()


@pytest.fixture(scope="module")
def nginx(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    made = Nginx(tmp_path_factory.mktemp("nginx"), f"127.0.0.1:{cluster.port}", cluster.folder / "blobs")
    made.process.start()
    yield made
    made.process.stop()


@pytest.fixture
def database_back(cluster: Cluster, own_postgres: Postgres) -> Iterator[Callable[[], None]]:
    """PostgreSQL is stopped, until this is called. The errors of that time are removed from the logs."""
    cluster.check_log()
    own_postgres.process.stop()
    called = False

    def start() -> None:
        nonlocal called
        called = True
        own_postgres.start()

    yield start
    if not called:
        start()
    until(lambda: get(cluster, "/readyz").status_code == 200)
    for log in (cluster.log, cluster.worker.log):
        assert "Traceback" not in log.read_text()
        os.truncate(log, 0)


def until(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Load:
    """Clients that send photos through nginx and one that listens, until the context ends."""

    def __init__(self, nginx: Nginx, photo: bytes, *, begin: int) -> None:
        self.accepted: list[str] = []
        self.failed: list[str] = []
        self.types: defaultdict[str, list[str]] = defaultdict(list)
        self._nginx, self._photo, self._number = nginx, photo, begin
        self._lock = threading.Lock()
        self._stop, self._heard, self._listening = threading.Event(), threading.Event(), threading.Event()
        self._posting = [threading.Thread(target=self._post) for _ in range(3)]
        self._listener = threading.Thread(target=self._listen)

    def __enter__(self) -> "Load":
        self._listener.start()
        assert self._listening.wait(PATIENCE_S)
        for thread in self._posting:
            thread.start()
        until(lambda: len(self.accepted) >= 10)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop sending, and wait until the listener has heard of the end of every accepted job."""
        self._stop.set()
        for thread in self._posting:
            thread.join()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not all("job.succeeded" in self.types[each] for each in self.accepted):
            time.sleep(0.1)
        self._heard.set()
        self._listener.join()

    def _post(self) -> None:
        with httpx.Client(base_url=self._nginx.url, timeout=PATIENCE_S) as client:
            while not self._stop.is_set():
                with self._lock:
                    self._number += 1
                    photo = another(self._photo, self._number)
                try:
                    answer = client.post("/v1/detect", files={"image": photo})
                except httpx.TransportError as error:
                    self.failed.append(repr(error))
                    continue
                if answer.status_code in (200, 202):
                    self.accepted.append(answer.json()["id"])
                elif answer.status_code != 429:
                    self.failed.append(answer.text)
                time.sleep(0.1)

    def _listen(self) -> None:
        last = 0
        while not self._heard.is_set():
            try:
                with connect(f"ws://127.0.0.1:{self._nginx.port}/v1/events?after={last}", proxy=None) as events:
                    self._listening.set()
                    while not self._heard.is_set():
                        try:
                            told = json.loads(events.recv(timeout=0.2))
                        except TimeoutError:
                            continue
                        if told["id"] <= last:
                            self.failed.append(f"event {told['id']} after {last}")
                        last = told["id"]
                        self.types[told["job"]["id"]].append(told["type"])
            except (WebSocketException, OSError):
                time.sleep(0.05)  # the process that sent them is replaced: resume by id

    def check(self) -> None:
        """Every accepted job ended exactly once, and its events are complete."""
        for each in self.accepted:
            told = Counter(self.types[each])
            assert (told["job.queued"], told["job.succeeded"]) == (1, 1), (each, self.types[each])


def test_a_rolling_restart_under_load_loses_nothing(cluster: Cluster, nginx: Nginx, small_jpeg: bytes) -> None:
    with Load(nginx, small_jpeg, begin=0) as load:
        old = list(two(cluster))
        assert cluster.process is not None
        os.kill(cluster.process.pid, signal.SIGHUP)
        two(cluster, without=old)
    assert load.failed == []
    load.check()


def test_a_killed_web_process_loses_nothing_accepted(cluster: Cluster, nginx: Nginx, small_jpeg: bytes) -> None:
    with Load(nginx, small_jpeg, begin=100_000) as load:
        killed = two(cluster)[0]
        os.kill(killed, signal.SIGKILL)
        two(cluster, without=[killed])
    load.check()
    assert len(load.failed) <= 3, "one request of each sender, at most"


def test_artifacts_come_through_nginx_from_either(cluster: Cluster, nginx: Nginx, small_jpeg: bytes) -> None:
    url = submit(cluster, small_jpeg, wait=True)["artifacts"][0]["url"]
    direct = [client_at(cluster, pid) for pid in two(cluster)]
    for client in direct:
        assert client.get(url).headers["x-accel-redirect"].startswith("/_blobs/")
        client.close()
    picture = httpx.get(url.replace(str(cluster.port), str(nginx.port)))
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert picture.content


def test_without_a_database_both_say_so_and_go_on_when_it_is_back(
    cluster: Cluster, database_back: Callable[[], None], small_jpeg: bytes
) -> None:
    pids = cluster.web_processes()
    for pid in pids:
        with closing(client_at(cluster, pid)) as client:
            assert client.get("/readyz").status_code == 503
            assert "limner_database_up 0.0" in client.get("/metrics").text.splitlines()
            answer = client.post("/v1/detect", files={"image": small_jpeg})
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:limner:problem:unavailable")
    database_back()
    two(cluster)
    assert cluster.web_processes() == pids, "no process had to be replaced"
    assert metric(cluster, "limner_database_up") == 1
    assert submit(cluster, another(small_jpeg, 200_000), wait=True)["status"] == "succeeded"


def test_a_process_that_starts_while_the_database_is_away_serves_when_it_is_back(
    cluster: Cluster, database_back: Callable[[], None], small_jpeg: bytes
) -> None:
    killed, stays = cluster.web_processes()
    os.kill(killed, signal.SIGKILL)
    until(lambda: set(cluster.web_processes()) - {killed, stays})
    time.sleep(2)  # the new one tries to start meanwhile
    assert get(cluster, "/healthz").status_code == 200
    database_back()
    assert stays in two(cluster, without=[killed])
    assert submit(cluster, another(small_jpeg, 300_000), wait=True)["status"] == "succeeded"
