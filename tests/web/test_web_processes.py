"""Several web processes: stopped, replaced one by one, replaced when they die, and never left behind."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from tests.services.process import ServerProcess, free_port


class Service:
    """A running `small_service.py` of two processes."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder / "metrics"
        self.folder.mkdir()
        self.log = folder / "log"
        self.process = ServerProcess(
            [sys.executable, "-m", "tests.web.small_service", str(self.port), "2", str(self.folder)],
            self._is_ready,
            self.log,
        )

    def children(self) -> set[int]:
        """The ids of the web processes."""
        found = set()
        for each in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
                spawned = b"spawn_main" in (each / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == self.process.pid and spawned:
                found.add(int(each.name))
        return found

    def answering(self) -> set[int]:
        """The ids of those that answer."""
        return {httpx.get(self.url).json()["pid"] for _ in range(30)}

    def until_answered_by(self, wanted: set[int], number: int = 2) -> set[int]:
        """Wait until as many processes answer, none of them in `wanted`'s complement."""
        deadline = time.monotonic() + 30
        while len(found := self.answering()) < number or found & wanted:
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.1)
        return found

    def _is_ready(self) -> bool:
        try:
            return len(self.answering()) == 2
        except httpx.TransportError:
            return False


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    made.process.start()
    yield made
    made.process.kill()
    assert "Traceback" not in made.log.read_text()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until_ended(pids: set[int]) -> None:
    deadline = time.monotonic() + 20
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_rolling_restart_answers_every_request(service: Service) -> None:
    old = service.children()
    answered: Counter[int] = Counter()
    failed: list[str] = []
    stop = threading.Event()

    def post(keep: bool) -> None:
        client = httpx.Client()
        while not stop.is_set():
            try:
                answer = client.post(
                    service.url, content=b"x" * 100_000, headers={} if keep else {"Connection": "close"}
                )
                answered[answer.json()["pid"]] += 1
            except httpx.TransportError as error:
                failed.append(repr(error))
        client.close()

    def listen() -> None:
        while not stop.is_set():
            try:
                with connect(f"ws://127.0.0.1:{service.port}/socket", proxy=None) as socket:
                    socket.recv()
            except ConnectionClosed:
                pass  # 1012: connect again
            except (InvalidHandshake, OSError) as error:
                failed.append(repr(error))

    threads = [threading.Thread(target=post, args=(number % 2 == 0,)) for number in range(4)]
    threads += [threading.Thread(target=listen) for _ in range(2)]
    for thread in threads:
        thread.start()
    with connect(f"ws://127.0.0.1:{service.port}/socket", proxy=None) as socket:
        told = int(socket.recv())
        assert told in old
        os.kill(service.process.pid, signal.SIGHUP)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    new = service.until_answered_by(old)
    until_ended(old)
    stop.set()
    for thread in threads:
        thread.join()
    assert not new & old
    assert sum(answered.values()) > 100
    assert failed == []
    total = httpx.get(f"{service.url}/metrics").text
    counted = next(line for line in total.splitlines() if line.startswith("limner_jobs_finished_total{"))
    assert float(counted.rpartition(" ")[2]) >= sum(answered.values()), "replaced processes have counted too"


def test_a_socket_is_closed_with_as_much_of_the_reason_as_fits(service: Service) -> None:
    """A reason longer than a frame was an error of the application, and the client got no code."""
    url = f"{service.url.replace('http', 'ws')}/socket?reason={'%C3%A9' * 100}"
    with connect(url, proxy=None) as connection:
        connection.recv(timeout=10)
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    assert closed.value.rcvd.reason == "é" * 61
    assert "Traceback" not in service.log.read_text()


def test_a_process_that_dies_is_replaced(service: Service) -> None:
    one = min(service.children())
    os.kill(one, signal.SIGKILL)
    service.until_answered_by({one})
    assert len(service.children()) == 2


def test_a_stop_lets_open_requests_end(service: Service) -> None:
    children = service.children()
    slow: list[int] = []
    thread = threading.Thread(target=lambda: slow.append(httpx.get(f"{service.url}/?wait=2").status_code))
    thread.start()
    time.sleep(0.5)
    os.kill(service.process.pid, signal.SIGTERM)
    thread.join()
    assert slow == [200]
    until_ended({service.process.pid, *children})
    with pytest.raises(httpx.ConnectError):
        httpx.get(service.url)


def test_no_process_outlives_a_killed_parent(service: Service) -> None:
    children = service.children()
    assert len(children) == 2
    os.kill(service.process.pid, signal.SIGKILL)
    until_ended(children)


def test_a_closing_terminal_ends_no_web_process(service: Service) -> None:
    one, other = service.children()
    os.kill(one, signal.SIGHUP)
    time.sleep(0.5)
    assert service.children() == {one, other}


def test_what_is_away_is_waited_for(service: Service) -> None:
    (service.folder / "unavailable").touch()
    gone, left = service.children()
    os.kill(gone, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while service.log.read_text().count("cannot start yet: the database is away") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert service.answering() == {left}
    (service.folder / "unavailable").unlink()
    service.until_answered_by({gone})


def test_wrong_settings_keep_the_old_processes_at_a_restart_and_stop_a_start(service: Service) -> None:
    (service.folder / "wrong").touch()
    old = service.children()
    os.kill(service.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + 60
    while "aborting the restart" not in service.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert service.answering() == old
    os.kill(min(old), signal.SIGKILL)
    until_ended({service.process.pid, *old})
    assert "a web process could not start" in service.log.read_text()


def test_a_stop_is_not_lost_where_other_code_swallows_it(service: Service) -> None:
    (service.folder / "deaf").touch()
    old = service.children()
    os.kill(min(old), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while not (service.folder / "starting").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(service.process.pid, signal.SIGTERM)
    until_ended({service.process.pid, *old})


def test_a_process_that_dies_while_it_is_asked_for_its_health_is_replaced_soon(service: Service) -> None:
    old = service.children()
    os.kill(min(old), signal.SIGSTOP)
    time.sleep(2)  # in which the supervisor asks it
    os.kill(min(old), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while len(service.children() - {min(old)}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
