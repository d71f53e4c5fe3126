"""Events over WebSocket and server-sent events: live and replayed, to fast and slow clients."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.conftest import another
from tests.journeys.client import (
    Json,
    all_events,
    client,
    get,
    last_event_id,
    listening,
    metric,
    received,
    rows,
    server_sent,
    submit,
    until,
)
from tests.journeys.conftest import BOTH_IF_SLOW, StartServer, make_server, served
from tests.journeys.server import Server

STORY = ["job.queued", "job.running", "job.succeeded"]


@pytest.fixture(scope="module", params=BOTH_IF_SLOW)
def shared_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for all tests of this file, which must not disturb each other."""
    yield from served(make_server(tmp_path_factory.mktemp("server"), request))


@pytest.fixture(scope="module")
def past(shared_server: Server, astronaut_jpeg: bytes) -> list[Json]:
    """Jobs that have ended, in the order of their end."""
    return [submit(shared_server, another(astronaut_jpeg, 1000 + number), wait=True) for number in range(3)]


@contextlib.contextmanager
def sse(server: Server, query: str = "", **headers: str) -> Iterator[Iterator[Json]]:
    url = f"{server.url}/v1/events{query}"
    with httpx.stream("GET", url, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield server_sent(answer.iter_lines())


def closed_with(connection: ClientConnection, seen: list[int] | None = None) -> int | None:
    """The close code, once everything that comes before it has been read; `seen` gets the ids."""
    try:
        while True:
            message = connection.recv(timeout=60)
            if seen is not None:
                seen.append(json.loads(message)["id"])
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


# --- events ----------------------------------------------------------------------------------------------------------


def test_a_socket_tells_what_happens_from_now_on(
    shared_server: Server, past: list[Json], astronaut_jpeg: bytes
) -> None:
    with listening(shared_server) as one, listening(shared_server) as two:
        job = submit(shared_server, another(astronaut_jpeg, 1))
        events = until(one, "job.succeeded", job["id"])
        assert [event["type"] for event in events] == STORY
        assert until(two, "job.succeeded", job["id"]) == events
    assert {event["job"]["id"] for event in events} == {job["id"]}
    told = events[-1]["job"]
    assert events[-1]["time"].endswith("Z")
    assert (told["operation"], told["status"], told["progress"], told["faces_count"]) == ("detect", "succeeded", 1.0, 1)
    done = get(shared_server, job["url"]).json()
    assert told["url"] == done["url"]
    assert told["artifacts"] == done["artifacts"]
    assert "result" not in told


def test_a_cached_answer_has_events_too(shared_server: Server, past: list[Json], astronaut_jpeg: bytes) -> None:
    with listening(shared_server) as listener:
        job = submit(shared_server, another(astronaut_jpeg, 1000))
        event = received(listener)
    assert (event["type"], event["job"]["id"], event["job"]["cached"]) == ("job.succeeded", job["id"], "exact")


def test_cancel_and_failure_have_events(shared_server: Server, astronaut_jpeg: bytes) -> None:
    broken = astronaut_jpeg[: len(astronaut_jpeg) // 2]
    with listening(shared_server) as listener:
        job = submit(shared_server, broken)
        events = until(listener, "job.failed", job["id"])
    assert events[-1]["job"]["error"]["type"] == "urn:limner:problem:bad-image"


def test_a_socket_replays_and_goes_on_without_gap_or_double(
    shared_server: Server, past: list[Json], astronaut_jpeg: bytes
) -> None:
    everything = all_events(shared_server)
    middle = everything[len(everything) // 2]["id"]
    with listening(shared_server, f"/v1/events?after={middle}") as listener:
        job = submit(shared_server, another(astronaut_jpeg, 2))
        events = until(listener, "job.succeeded", job["id"])
    later = all_events(shared_server)
    assert events == [event for event in later if event["id"] > middle][: len(events)]


def test_filters(shared_server: Server, past: list[Json], astronaut_jpeg: bytes) -> None:
    wanted = past[1]["id"]
    with listening(shared_server, f"/v1/events?after=0&job={wanted}") as listener:
        assert [received(listener)["type"] for _ in range(3)] == STORY
    with sse(shared_server, f"?after=0&job={wanted}") as events:
        assert [next(events)["job"]["id"] for _ in range(3)] == [wanted] * 3
    with (
        listening(shared_server, "/v1/events?operation=contours") as contours,
        listening(shared_server, "/v1/events?operation=detect") as detect,
    ):
        other = submit(shared_server, another(astronaut_jpeg, 3))
        until(detect, "job.succeeded", other["id"])
        job = submit(shared_server, another(astronaut_jpeg, 3), path="/v1/contours")
        assert received(contours)["job"]["id"] == job["id"]
        until(contours, "job.succeeded", job["id"])


def test_server_sent_events_resume_after_the_last_id(
    shared_server: Server, past: list[Json], astronaut_jpeg: bytes
) -> None:
    everything = all_events(shared_server)
    with sse(shared_server, "?after=0") as events:
        assert [next(events) for _ in range(5)] == everything[:5]
    last = str(everything[4]["id"])
    with sse(shared_server, "?after=0", **{"Last-Event-ID": last}) as events:
        assert [next(events) for _ in range(4)] == everything[5:9]
    with sse(shared_server) as events:  # from now on
        job = submit(shared_server, another(astronaut_jpeg, 4))
        assert next(events)["job"]["id"] == job["id"]


def test_a_client_gets_several_pages_of_past_events(server: Server, astronaut_jpeg: bytes) -> None:
    submit(server, astronaut_jpeg, wait=True)
    with client(server) as session:
        for _ in range(240):  # cached answers: more than one page of rows
            assert session.post("/v1/detect", files={"image": astronaut_jpeg}).status_code == 200
    with sse(server, "?after=0") as events:
        ids = [next(events)["id"] for _ in range(243)]
    assert ids == sorted(set(ids)) == [row[0] for row in rows(server, "SELECT id FROM events ORDER BY id")]


def test_events_of_an_erased_job_have_no_content(shared_server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(shared_server, another(astronaut_jpeg, 5), wait=True)
    httpx.delete(job["url"])
    with listening(shared_server, f"/v1/events?after=0&job={job['id']}") as listener:
        assert [received(listener)["job"] for _ in range(3)] == [{"id": job["id"], "operation": "detect"}] * 3


# --- messages and connections of clients -----------------------------------------------------------------------------


def test_messages_of_clients_are_ignored_up_to_a_kilobyte(
    shared_server: Server, past: list[Json], astronaut_jpeg: bytes
) -> None:
    with listening(shared_server) as listener:
        listener.send("x" * 1024)
        listener.send(b"\0" * 1024)
        listener.send('{"type": "subscribe"}')
        job = submit(shared_server, another(astronaut_jpeg, 6))
        until(listener, "job.succeeded", job["id"])
        listener.send("x" * 1025)
        assert closed_with(listener) == 1009


@pytest.mark.parametrize("query", ["after=-1", "after=abc", f"after={'9' * 30}"])
def test_a_socket_with_an_invalid_query_is_refused(shared_server: Server, query: str) -> None:
    with pytest.raises(InvalidStatus), listening(shared_server, f"/v1/events?{query}"):
        pass


@pytest.mark.parametrize("path", ["/v1/events", "/faces", "/ws", "/ws/v1/faces"])
def test_a_page_of_another_site_may_not_listen(shared_server: Server, path: str) -> None:
    for origin in ("https://evil.example", "null", shared_server.url.replace("http:", "https:") + ".evil.example"):
        with pytest.raises(InvalidStatus) as refused, listening(shared_server, path, origin=origin):
            pass
        assert refused.value.response.status_code == 403
    with listening(shared_server, path, origin=shared_server.url):
        pass


def test_origins_that_are_allowed_may_listen_and_read(start_server: StartServer) -> None:
    server = start_server(
        LIMNER_ALLOWED_ORIGINS="https://a.example, https://b.example", LIMNER_PUBLIC_URL="https://faces.example/x/"
    )
    for origin in ("https://a.example", "https://b.example", "https://faces.example"):
        with listening(server, origin=origin):
            pass
    with pytest.raises(InvalidStatus), listening(server, origin="https://c.example"):
        pass
    allowed = get(server, "/v1/jobs", Origin="https://a.example")
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in get(server, "/v1/jobs", Origin="https://c.example").headers
    asked = {"Origin": "https://b.example", "Access-Control-Request-Method": "DELETE"}
    assert httpx.options(f"{server.url}/v1/jobs/x", headers=asked).status_code == 200


def test_urls_begin_as_the_client_called_or_as_the_settings_say(
    shared_server: Server, start_server: StartServer, astronaut_jpeg: bytes
) -> None:
    job = submit(shared_server, another(astronaut_jpeg, 7), wait=True)
    elsewhere = get(shared_server, f"/v1/jobs/{job['id']}", Host="192.0.2.7:81").json()
    assert elsewhere["url"] == f"http://192.0.2.7:81/v1/jobs/{job['id']}"
    server = start_server(LIMNER_PUBLIC_URL="https://faces.example/x/")
    with listening(server) as listener, listening(server, "/faces") as faces:
        answer = httpx.post(f"{server.url}/v1/detect", files={"image": astronaut_jpeg}, headers={"Prefer": "wait=30"})
        base = f"https://faces.example/x/v1/jobs/{answer.json()['id']}"
        assert answer.headers["location"] == answer.json()["url"] == base
        assert answer.json()["artifacts"][0]["url"] == f"{base}/artifacts/marked.jpg"
        assert until(listener, "job.succeeded", answer.json()["id"])[-1]["job"]["url"] == base
        assert json.loads(faces.recv(timeout=60))["processed_url"].startswith("https://faces.example/x/jobs/")


def test_open_streams_are_counted_and_bounded(start_server: StartServer) -> None:
    server = start_server(LIMNER_MAX_SOCKETS="3")
    with listening(server), listening(server, "/faces"), sse(server, "?after=0"):
        for path in ("/v1/events", "/faces", "/ws/v1/faces"):
            with pytest.raises(InvalidStatus) as refused, listening(server, path):
                pass
            response = refused.value.response
            assert response.status_code == 503
            assert response.headers["Retry-After"] == "2"
            assert json.loads(response.body or b"")["type"] == "urn:limner:problem:unavailable"
        answer = get(server, "/v1/events")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert metric(server, "limner_sockets") == 3
    while metric(server, "limner_sockets"):  # the count of open streams falls when clients disconnect
        threading.Event().wait(0.05)
    for _ in range(5):
        with sse(server):
            pass
    while metric(server, "limner_sockets"):
        threading.Event().wait(0.05)
    with listening(server), listening(server), listening(server):
        pass


# --- many clients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", BOTH_IF_SLOW, indirect=True)
def test_a_hundred_sockets_all_get_the_url_that_serves_the_picture(server: Server, astronaut_jpeg: bytes) -> None:
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(20) as pool:
        sockets = list(pool.map(lambda _: stack.enter_context(listening(server, "/faces")), range(100)))
        job = submit(server, astronaut_jpeg)
        messages = list(pool.map(lambda each: each.recv(timeout=60), sockets))
        assert len(set(messages)) == 1
        told = json.loads(messages[0])
        assert (told["job_id"], told["faces_count"]) == (job["id"], 1)
        picture = httpx.get(told["processed_url"])
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
        assert picture.content == get(server, f"/v1/jobs/{job['id']}/artifacts/marked.jpg").content


def test_clients_that_reconnect_often_lose_nothing(server: Server, astronaut_jpeg: bytes) -> None:
    """Each goes on from the last id it saw, again and again, while events are made as fast as they can be."""
    last: list[int] = []

    def read(at_once: int) -> list[int]:
        seen = [0]
        while not last or seen[-1] < last[0]:
            if at_once % 2:
                with (
                    contextlib.suppress(TimeoutError),
                    listening(server, f"/v1/events?after={seen[-1]}") as listener,
                ):
                    seen.extend(json.loads(listener.recv(timeout=1))["id"] for _ in range(at_once))
            else:
                url = f"{server.url}/v1/events?after={seen[-1]}"
                with contextlib.suppress(httpx.ReadTimeout), httpx.stream("GET", url, timeout=1) as answer:
                    events = server_sent(answer.iter_lines())
                    seen.extend(next(events)["id"] for _ in range(at_once))
        return seen[1:]

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, at_once) for at_once in (1, 4, 9, 30)]
        with client(server) as session:
            for number in range(60):
                session.post("/v1/detect", files={"image": another(astronaut_jpeg, number % 3)})
        while rows(server, "SELECT count(*) FROM jobs WHERE finished_at IS NULL") != [(0,)]:
            threading.Event().wait(0.05)
        last.append(last_event_id(server))
        for reader in readers:
            assert reader.result() == list(range(1, last[0] + 1))


@pytest.mark.slow
def test_a_slow_client_is_closed_and_resumes_without_loss(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_EVENT_BUFFER="20")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    narrow.connect(("127.0.0.1", server.port))
    submit(server, astronaut_jpeg, wait=True)
    with listening(server, "/v1/events?after=0", sock=narrow, max_queue=1) as slow, listening(server) as quick:
        assert received(slow)["id"] == 1
        jobs = 4000  # more than the connection itself holds
        with client(server) as session:
            for _ in range(jobs):
                assert session.post("/v1/detect", files={"image": astronaut_jpeg}).is_success
                received(quick)  # the slow client does not delay it
        seen = [1]
        assert closed_with(slow, seen) == 1013
    with listening(server, f"/v1/events?after={seen[-1]}") as again:
        while seen[-1] < 3 + jobs:
            seen.append(received(again)["id"])
    assert seen == list(range(1, 4 + jobs))


@pytest.mark.parametrize("path", ["/v1/events", "/faces"])
def test_a_stop_closes_sockets_with_1012_and_ends_streams(server: Server, path: str) -> None:
    with listening(server, path) as listener, sse(server) as events:
        stopped = threading.Thread(target=server.stop)
        stopped.start()
        assert closed_with(listener) == 1012
        assert list(events) == []
        stopped.join()


@pytest.mark.slow
def test_a_client_that_never_reads_is_closed(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_EVENT_BUFFER="20")
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    narrow.connect(("127.0.0.1", server.port))
    submit(server, astronaut_jpeg, wait=True)
    with contextlib.suppress(TimeoutError), listening(server, sock=narrow, max_queue=1, close_timeout=0.1):
        with client(server) as session:
            for _ in range(4000):
                assert session.post("/v1/detect", files={"image": astronaut_jpeg}).is_success
        while not metric(server, "limner_sockets_slow_total", stream="events"):
            threading.Event().wait(0.5)
    while metric(server, "limner_sockets"):
        threading.Event().wait(0.5)
