"""Connections that ask for more than their share: closed in time, and nobody else waits for them."""

import contextlib
import json
import os
import resource
import select
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import another, as_jpeg
from tests.journeys.client import get, listening, metric, received, submit
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server

MB = 1_000_000
_opened: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    for connection in _opened:
        connection.close()
    _opened.clear()


SOON_S = 20  # "soon" on a machine that is busy otherwise; the time-outs below are about a second


class Bystander:
    """An ordinary user, who asks all the while, by new connections and by one that is kept."""

    def __init__(self, server: Server) -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=30) as kept:
            while not self._done.is_set():
                for ask in (kept.get, lambda path: httpx.get(self._server.url + path, timeout=30)):
                    begun = time.monotonic()
                    try:
                        answer = ask("/v1/jobs?limit=1")
                        if answer.status_code != 200:
                            self.failures.append(answer.text)
                    except httpx.HTTPError as error:
                        self.failures.append(repr(error))
                    self.seconds.append(time.monotonic() - begun)
                self._done.wait(0.02)

    def __enter__(self) -> "Bystander":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


@contextlib.contextmanager
def attacked(server: Server, *, memory_mb: int) -> Iterator[Bystander]:
    """While something is done to the server: others are answered, and its memory grows by no more than `memory_mb`."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status")
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")  # the peak is counted from here
    before = _figure(status, "VmRSS")
    with Bystander(server) as bystander:
        yield bystander
        eventually(lambda: len(bystander.seconds) >= 20)
    grown = (_figure(status, "VmHWM") - before) / 1000
    ordered = sorted(bystander.seconds)
    median, worst = ordered[len(ordered) // 2], ordered[-1]
    print(
        f"memory +{grown:.0f} MB; others: {len(ordered)} requests, p50 {median * 1e3:.0f} ms, max {worst * 1e3:.0f} ms"
    )
    assert not bystander.failures, bystander.failures[:3]
    assert grown < memory_mb
    assert median < 0.5
    assert worst < 10


def _figure(status: Path, name: str) -> int:
    return int(status.read_text().partition(name + ":")[2].split()[0])


def opened(server: Server, data: bytes = b"", *, source: str | None = None, narrow: bool = False) -> socket.socket:
    """A connection that has sent `data`. A narrow one takes little that is not read."""
    connection = socket.socket()
    _opened.append(connection)
    if narrow:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    if source is not None:
        connection.bind((source, 0))
    connection.settimeout(SOON_S)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(data)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed it, or said why it will."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(0):
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except ConnectionResetError:
        return True


def pour(connection: socket.socket, piece: bytes, limit: int = 50 * MB, seconds: float = SOON_S) -> int:
    """Send the same again and again, reading nothing, until the server closes or takes no more; the bytes it took."""
    connection.settimeout(2)
    sent, deadline = 0, time.monotonic() + seconds
    with contextlib.suppress(ConnectionError, TimeoutError):
        while sent < limit and time.monotonic() < deadline:
            sent += connection.send(piece)
    return sent


def all_at_once(number: int, attack: Callable[[], int]) -> list[int]:
    """What an attack by so many at once comes to."""
    results: list[int] = []
    threads = [threading.Thread(target=lambda: results.append(attack())) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == number
    return results


def eventually(condition: Callable[[], bool], seconds: float = SOON_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def closed(server: Server, why: str) -> float:
    """How many connections the server has closed for this reason."""
    return metric(server, "limner_connections_closed_total", why=why)


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server closes."""
    answer = b""
    connection.settimeout(SOON_S)
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
EVENTS = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
POST = b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

# --- silence and headers ---------------------------------------------------------------------------------------------


def test_who_sends_no_whole_header_is_closed(start_server: StartServer) -> None:
    server = start_server(LIMNER_HEADER_TIMEOUT_S="1", LIMNER_IDLE_TIMEOUT_S="4")
    with attacked(server, memory_mb=30):
        begun = time.monotonic()
        silent = [opened(server) for _ in range(50)]
        dribbling = [opened(server, b"GET / HTTP/1.1\r\nX: ") for _ in range(50)]
        after_one = opened(server, GET + b"\r\n")
        answer = b""
        while b'"ok"}' not in answer:  # all of it: what is left unread would count as "not closed"
            answer += after_one.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        after_one.sendall(b"GET /")
        lines = opened(server)
        while not all(is_closed(each) for each in [*silent, *dribbling, after_one, lines]):
            assert time.monotonic() - begun < SOON_S
            for each in dribbling:
                with contextlib.suppress(ConnectionError):
                    each.send(b"x")
            with contextlib.suppress(ConnectionError):
                lines.send(b"\r\n")
            time.sleep(0.1)
        assert metric(server, "limner_connections_closed_total", why="silent") >= 50
        assert metric(server, "limner_connections_closed_total", why="too slow") >= 50
    eventually(lambda: any(line["message"] == "connections closed" for line in server.log_lines()))


def test_a_connection_that_rests_is_closed_later(start_server: StartServer) -> None:
    server = start_server(LIMNER_HEADER_TIMEOUT_S="1", LIMNER_IDLE_TIMEOUT_S="2.5")
    connection = opened(server)
    for pause_s in (0, 1.5):
        time.sleep(pause_s)
        connection.sendall(GET + b"\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
    begun = time.monotonic()
    assert connection.recv(1) == b""
    # Later than the header's time-out and a sweep, and the time counts from the last answer. The clock is 0.1 s behind.
    assert 2.3 < time.monotonic() - begun < SOON_S


ENDLESS = {
    "a path": (b"GET /", b"a"),
    "a query": (b"GET /?", b"a"),
    "a field's value": (GET + b"X: ", b"a"),
    "a field's name": (GET, b"a"),
    "fields": (GET, b"X: y\r\n"),
    "empty lines": (b"", b"\r\n"),
    "what follows a body": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n", b"X: y\r\n"),
    "a field that follows a body": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: ", b"y"),
    "a chunk's extension": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"y"),
    "a method": (b"", b"A"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_a_header_without_an_end_is_not_kept(shared_server: Server, what: str) -> None:
    server = shared_server
    begin, piece = ENDLESS[what]
    with attacked(server, memory_mb=40):
        sent = all_at_once(10, lambda: pour(opened(server, begin), piece * (65536 // len(piece))))
        assert max(sent) < 10 * MB  # what the kernel holds
    connection = opened(server, begin)
    time.sleep(0.3)
    connection.sendall(piece * (40_000 // len(piece)))
    assert read_all(connection)[9:12] in (b"431", b"400")


def test_a_header_up_to_the_limit_is_taken_and_one_byte_more_is_told(start_server: StartServer) -> None:
    server = start_server(LIMNER_MAX_HEADER_BYTES="2000")
    assert get(server, "/healthz", **{"X-Long": "y" * 1700}).status_code == 200
    answer = get(server, "/healthz", **{"X-Long": "y" * 2000})
    assert answer.status_code == 431
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 431
    many = httpx.get(f"{server.url}/healthz", headers=[(f"X-{number}", "y") for number in range(101)])
    assert many.status_code == 431
    sent = b"".join(
        b"%s\r\n" % each
        for each in (
            b"POST /v1/detect HTTP/1.1",
            b"Host: localhost",
            b"Content-Length: 50000",
            b"Connection: close",
            b"",
        )
    )
    assert read_all(opened(server, sent + bytes(50_000)))[9:12] == b"415"  # a body beside it is no header


# --- their number ----------------------------------------------------------------------------------------------------


def test_a_thousand_silent_connections_shut_nobody_out(start_server: StartServer) -> None:
    server = start_server(LIMNER_MAX_CONNECTIONS="200")
    with attacked(server, memory_mb=40):
        silent = []
        for _ in range(1100):
            silent.append(opened(server))
            if len(silent) % 50 == 0:
                assert get(server, "/healthz").status_code == 200
        # who has waited longest without a request has made room
        eventually(lambda: sum(is_closed(each) for each in silent) >= 890)
        assert not is_closed(silent[-1])
    assert metric(server, "limner_connections") <= 200
    eventually(lambda: any(line["message"] == "connections closed" for line in server.log_lines()))
    told = [line for line in server.log_lines() if line["message"] == "connections closed"]
    assert len(told) < 20
    assert told[0]["why"]["full"] > 0
    for each in silent:
        each.close()


def test_where_all_are_in_use_newcomers_are_told_and_come_in_later(start_server: StartServer) -> None:
    server = start_server(LIMNER_MAX_CONNECTIONS="20")
    streams = [opened(server, EVENTS + b"\r\n") for _ in range(20)]
    for stream in streams:
        assert stream.recv(4096).startswith(b"HTTP/1.1 200")
    refused = read_all(opened(server))
    assert refused.startswith(b"HTTP/1.1 503")
    assert b"urn:limner:problem:unavailable" in refused
    streams.pop().close()
    eventually(lambda: not read_all(opened(server, GET + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 503"))
    assert all(not is_closed(stream) or stream.recv(10) for stream in streams)


def test_one_address_does_not_take_all(start_server: StartServer) -> None:
    server = start_server(
        LIMNER_PROXY_ADDRESSES="192.0.2.1", LIMNER_MAX_CONNECTIONS_PER_ADDRESS="20", LIMNER_MAX_CONNECTIONS="60"
    )
    with attacked(server, memory_mb=30):
        taken = [opened(server, EVENTS + b"\r\n", source="127.0.0.2") for _ in range(20)]
        for stream in taken:
            assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        for _ in range(50):
            assert read_all(opened(server, source="127.0.0.2")).startswith(b"HTTP/1.1 503")
    assert metric(server, "limner_connections_closed_total", why="address full") >= 50


# --- open files ------------------------------------------------------------------------------------------------------


def test_the_limit_of_open_files_is_raised_and_told(start_server: StartServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = start_server(LIMNER_MAX_CONNECTIONS="400")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (told,) = (line for line in server.log_lines() if line["message"] == "the limit of open files was raised")
    assert (told["level"], told["old"]) == ("INFO", 256)
    assert told["new"] == min(hard, 1_048_576)
    if hard > 1000:
        connections = [opened(server, GET + b"\r\n") for _ in range(350)]
        assert all(each.recv(4096).startswith(b"HTTP/1.1 200") for each in connections)


def test_a_limit_that_is_too_low_is_told_and_kept_below(tmp_path: Path) -> None:
    server = Server(tmp_path, LIMNER_WORKERS="1")
    command = f'ulimit -n 300; exec "{sys.executable}" -m limner.cli serve --host 127.0.0.1 --port {server.port}'
    with server.log.open("ab") as log:
        server.process = subprocess.Popen(
            ["bash", "-c", command], env=os.environ | server.variables, stdout=log, stderr=log
        )
    eventually(server._ready, 60)
    try:
        (told,) = (line for line in server.log_lines() if line["message"].startswith("LIMNER_MAX_CONNECTIONS is above"))
        assert (told["level"], told["limit"]) == ("WARNING", 300)
        assert 16 <= told["connections"] < 200
        with attacked(server, memory_mb=30):
            silent = [opened(server) for _ in range(500)]
            assert get(server, "/healthz").status_code == 200
            assert submit(server, _dot(), wait=True)["status"] == "succeeded"
        del silent
    finally:
        server.stop()
    server.check_log()


def _dot() -> bytes:
    return as_jpeg(np.zeros((64, 64, 3), np.uint8))


# --- sending ahead, and not reading ----------------------------------------------------------------------------------


def test_a_few_requests_sent_ahead_are_answered_in_order(shared_server: Server) -> None:
    server = shared_server
    sent = b"".join(
        b"GET /v1/jobs/%d HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: r%d\r\n\r\n" % (n, n) for n in range(6)
    )
    connection = opened(server, sent)
    answer = b""
    while answer.count(b"HTTP/1.1 404") < 6 or not answer.endswith(b"}"):
        answer += connection.recv(65536)
    order = [answer.index(b"x-request-id: r%d" % number) for number in range(6)]
    assert order == sorted(order)
    connection.sendall(GET + b"\r\n")
    assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_what_is_sent_far_ahead_is_not_read(start_server: StartServer) -> None:
    server = start_server(LIMNER_SEND_TIMEOUT_S="1")
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with attacked(server, memory_mb=80):
        connections = [opened(server, narrow=True) for _ in range(20)]
        sent = all_at_once(20, lambda: pour(connections.pop(), request * 1000))
        assert max(sent) < 10 * MB
    assert metric(server, "limner_connections_closed_total", why="pipelining") > 0


def test_bodies_behind_a_request_that_takes_its_time_are_not_gathered(shared_server: Server) -> None:
    server = shared_server
    before = closed(server, "pipelining")
    with attacked(server, memory_mb=60):
        body = POST + b"Content-Length: 19000000\r\n\r\n"
        sent = all_at_once(20, lambda: pour(opened(server, EVENTS + b"\r\n" + body), bytes(65536)))
        assert max(sent) < 10 * MB
    # A few are not closed: the first read held so little of their body that it may wait.
    assert closed(server, "pipelining") - before >= 10


@pytest.mark.alone
def test_who_does_not_read_is_closed(start_server: StartServer) -> None:
    server = start_server(LIMNER_SEND_TIMEOUT_S="1", LIMNER_IDLE_TIMEOUT_S="1")
    with attacked(server, memory_mb=80):
        connections = [opened(server, narrow=True) for _ in range(20)]
        for connection in connections:
            connection.setblocking(False)

        def ask() -> bool:
            for connection in connections:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return metric(server, "limner_connections_closed_total", why="not reading") >= 20

        eventually(ask, 60)
        eventually(lambda: metric(server, "limner_connections") < 5)


@pytest.mark.alone
def test_unread_answers_are_bounded_together(start_server: StartServer) -> None:
    server = start_server(LIMNER_ANSWER_MEMORY_BYTES="1000000")
    with attacked(server, memory_mb=60):
        connections = [opened(server, narrow=True) for _ in range(40)]
        for connection in connections:
            connection.setblocking(False)

        def ask() -> bool:
            for connection in connections:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return metric(server, "limner_connections_closed_total", why="unread answers") > 0

        eventually(ask, 60)


@pytest.mark.alone
def test_a_slow_reader_who_goes_on_gets_all(start_server: StartServer, astronaut: npt.NDArray[np.uint8]) -> None:
    server = start_server(LIMNER_SEND_TIMEOUT_S="0.5")
    large = astronaut.repeat(6, axis=0).repeat(6, axis=1)
    grainy = large // 2 + np.random.default_rng(1).integers(0, 128, large.shape).astype(np.uint8)
    (marked,) = submit(server, as_jpeg(grainy), wait=True)["artifacts"]
    assert marked["size"] > 5 * MB  # more than the kernel holds
    connection = opened(server, b"GET %s HTTP/1.0\r\n\r\n" % marked["url"].removeprefix(server.url).encode())
    got, begun = 0, time.monotonic()
    while chunk := connection.recv(100_000):
        got += len(chunk)
        time.sleep(0.04)
    assert got > marked["size"]
    assert time.monotonic() - begun > 2  # several times as long as a reader may pause


# --- event streams ---------------------------------------------------------------------------------------------------


def _frame(opcode: int, data: bytes, *, fin: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    assert len(data) < 126
    return struct.pack("!BB4x", opcode | (0x80 if fin else 0), 0x80 | len(data)) + data


FLOODS = {
    "pings": _frame(9, b"") * 10_000,
    "large pings": _frame(9, bytes(125)) * 500,
    "pongs": _frame(10, b"") * 10_000,
    "messages": _frame(1, b"") * 10_000,
    "large messages": _frame(2, bytes(125)) * 500,
    "parts of a message": _frame(1, b"", fin=False) + _frame(0, b"", fin=False) * 10_000,
}


@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_of_frames_closes_its_socket(shared_server: Server, what: str) -> None:
    server = shared_server
    before = closed(server, "too many frames")
    with attacked(server, memory_mb=60), listening(server) as honest:

        def attack() -> int:
            one = opened(server, EVENTS + UPGRADE + b"\r\n")
            assert one.recv(4096).startswith(b"HTTP/1.1 101")
            return pour(one, FLOODS[what])

        sent = all_at_once(10, attack)
        assert max(sent) < 10 * MB
        job = submit(server, another(_dot(), list(FLOODS).index(what)), wait=True)
        assert received(honest)["job"]["id"] == job["id"]
    assert closed(server, "too many frames") - before == 10
    eventually(lambda: metric(server, "limner_sockets") == 0)


def test_a_socket_that_says_a_little_is_let_be(shared_server: Server) -> None:
    """120 frames are more than the 100 at once, but in 4 s the socket may send 40 more."""
    with listening(shared_server) as one:
        for pause_s in (0, 4):
            time.sleep(pause_s)
            for _ in range(30):
                one.send("hello")
                assert one.ping().wait(10)
        one.send(b"\xff is no UTF-8", text=True)
        assert one.ping().wait(10)
    shared_server.check_log()


def test_a_socket_with_a_large_header_is_refused(shared_server: Server) -> None:
    server = shared_server
    with pytest.raises(InvalidStatus) as told:
        connect(server.socket_url + "/v1/events", proxy=None, additional_headers={"Cookie": "x" * 10_000})
    assert told.value.response.status_code == 431
    eventually(lambda: metric(server, "limner_connections") < 5)


@pytest.mark.parametrize("stream", ["sse", "events"])
def test_a_listener_that_never_reads_is_closed(start_server: StartServer, stream: str) -> None:
    server = start_server(LIMNER_SEND_TIMEOUT_S="1")
    submit(server, _dot(), wait=True)
    _many_events(server, 20_000)
    head = EVENTS.replace(b"events", b"events?after=0") + UPGRADE * (stream == "events") + b"\r\n"
    with attacked(server, memory_mb=60):
        never = [opened(server, head, narrow=True) for _ in range(20)]
        eventually(lambda: metric(server, "limner_connections_closed_total", why="not reading") >= len(never), 60)
        eventually(lambda: metric(server, "limner_sockets") == 0)


def test_many_listeners_who_have_missed_much_keep_nobody_waiting(start_server: StartServer) -> None:
    """Their pages were encoded in one go: 600 took 8 s for 450 events."""
    server = start_server()
    submit(server, _dot(), wait=True)
    _many_events(server, 2000)
    heads = [EVENTS.replace(b"events", b"events?after=0") + more + b"\r\n" for more in (b"", UPGRADE)]
    with attacked(server, memory_mb=200) as bystander:
        for number in range(300):
            opened(server, heads[number % 2], narrow=True)
        eventually(lambda: metric(server, "limner_sockets") == 300)
        time.sleep(3)
    assert max(bystander.seconds) < 3


def _many_events(server: Server, number: int) -> None:
    """As if the last event had happened so many times."""
    more = """
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        INSERT INTO events (type, time, job_id, operation, content)
        SELECT type, time, job_id, operation, content FROM (SELECT * FROM events ORDER BY id DESC LIMIT 1), n
    """
    with contextlib.closing(sqlite3.connect(server.folder / "limner.db", timeout=30)) as database, database:
        database.execute(more, (number,))


# --- bodies ----------------------------------------------------------------------------------------------------------


def test_a_body_that_dribbles_is_given_up(start_server: StartServer) -> None:
    server = start_server(LIMNER_UPLOAD_TIMEOUT_S="2", LIMNER_HEADER_TIMEOUT_S="2")
    expects = opened(server, POST + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
    chunked = [opened(server, POST + b"Transfer-Encoding: chunked\r\n\r\n") for _ in range(50)]
    nobody_asked = opened(server, GET + b"Content-Length: 1000000\r\n\r\n")
    open_ones = [expects, *chunked, nobody_asked]
    with attacked(server, memory_mb=30):
        deadline = time.monotonic() + SOON_S
        answers = dict.fromkeys(open_ones, b"")
        while open_ones:
            assert time.monotonic() < deadline
            for each in chunked:
                with contextlib.suppress(OSError):
                    each.send(b"1\r\n \r\n")
            with contextlib.suppress(OSError):
                nobody_asked.send(b"x")
            for each in select.select(open_ones, [], [], 0.1)[0]:
                try:
                    got = each.recv(65536)
                except ConnectionResetError:
                    got = b""
                answers[each] += got
                if not got:
                    open_ones.remove(each)
    assert b"HTTP/1.1 408" in answers[expects]
    assert answers[expects].startswith(b"HTTP/1.1 100")
    assert all(answers[each].startswith(b"HTTP/1.1 408") for each in chunked)
    assert answers[nobody_asked].startswith(b"HTTP/1.1 200")


def test_many_bodies_at_once_stay_within_the_memory_for_them(start_server: StartServer) -> None:
    server = start_server(
        LIMNER_UPLOAD_MEMORY_BYTES="20000000", LIMNER_UPLOAD_TIMEOUT_S="2", LIMNER_HEADER_TIMEOUT_S="2"
    )
    head = POST + b"Content-Length: 9000000\r\n\r\n"
    with attacked(server, memory_mb=100):

        def attack() -> int:
            with opened(server, head) as connection:
                with contextlib.suppress(ConnectionError):
                    connection.sendall(bytes(8_000_000))
                answer = read_all(connection)
            return int(answer[9:12] or b"0")

        statuses = all_at_once(20, attack)
    assert set(statuses) <= {429, 408}
    assert statuses.count(429) >= 10


# --- other protocols -------------------------------------------------------------------------------------------------


def test_http_2_and_other_methods_are_refused_cleanly(shared_server: Server) -> None:
    server = shared_server
    before = closed(server, "pipelining")
    with attacked(server, memory_mb=30):
        h2c = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        twice = opened(server, (GET + h2c + b"\r\n") * 2 + GET + b"Connection: close\r\n\r\n")
        assert read_all(twice).count(b"HTTP/1.1 200") == 3  # not taken up: answered as HTTP/1.1
        body = json.dumps({"image": "AAAA"}).encode()
        answer = read_all(
            opened(server, POST + h2c + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        )
        assert answer.startswith(b"HTTP/1.1 415"), answer
        preface = read_all(opened(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
        assert preface.startswith(b"HTTP/1.1 400")
        connected = read_all(opened(server, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n"))
        assert connected.startswith(b"HTTP/1.1 405")
        traced = httpx.request("TRACE", f"{server.url}/healthz")
        assert traced.status_code == 405
    socket_behind_stream = opened(
        server,
        EVENTS + b"\r\n" + EVENTS + UPGRADE + b"\r\n",
    )
    assert socket_behind_stream.recv(4096).startswith(b"HTTP/1.1 200")
    assert closed(server, "pipelining") - before == 1
