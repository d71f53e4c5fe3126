"""The embedded engine with real worker processes: its guarantees when they crash, hang and end."""

import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from limner.adapters.process_engine import ProcessEngine
from limner.adapters.process_worker import Pipe, PipeBus
from limner.domain.lane import Lane
from limner.ports import LossReason

ROOT = Path(__file__).parents[2]
WORKER = [sys.executable, "-m", "tests.contract.engine_worker"]
SOON_S = 30.0


@dataclass
class Rows:
    """An overseer with lists instead of tables."""

    told: list[tuple[str, LossReason]] = field(default_factory=list)
    again: list[tuple[str, str]] = field(default_factory=list)  # what `lost` answers
    unwanted: bool = False
    down: bool = False
    slow_s: float = 0
    asked: int = 0

    def lost(self, worker: str, reason: LossReason) -> list[tuple[str, str]]:
        self.asked += 1
        time.sleep(self.slow_s)
        if self.down:
            raise OSError("the database is down")
        self.told.append((worker, reason))
        return self.again

    def wanted(self, worker: str) -> bool:  # noqa: ARG002
        self.asked += 1
        if self.down:
            raise OSError("the database is down")
        return not self.unwanted


@dataclass
class Service:
    """An engine with its callbacks and overseer, and the lines that its workers have written."""

    folder: Path
    rows: Rows = field(default_factory=Rows)
    wakes: int = 0
    reports: list[dict[str, Any]] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    engine: ProcessEngine = field(init=False)

    def make(
        self,
        lanes: dict[str, int],
        *,
        command: list[str] = WORKER,
        capacity: int = 1000,
        timeout_s: float = 30,
        on_demand: tuple[str, ...] = (),
        jobs_per_worker: int = 0,
        ready_within_s: float = 30,
        **greeting: object,
    ) -> ProcessEngine:
        self.engine = ProcessEngine(
            command,
            {"folder": str(self.folder), **greeting},
            lanes={name: Lane(size, capacity, timeout_s, on_demand=name in on_demand) for name, size in lanes.items()},
            jobs_per_worker=jobs_per_worker,
            overseer=self.rows,
            on_wake=self.wake,
            on_report=self.reports.append,
            on_ready=self.ready.append,
            start_s=ready_within_s,
        )
        return self.engine

    def start(self, lanes: dict[str, int], **more: Any) -> ProcessEngine:
        engine = self.make(lanes, **more)
        engine.start()
        always = sum(size for name, size in lanes.items() if name not in more.get("on_demand", ()))
        until(lambda: self.ready[-1:] == [always])
        return engine

    def wake(self) -> None:
        self.wakes += 1

    def lines(self, name: str) -> list[str]:
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def pids(self) -> list[int]:
        """Process ids of all workers ever started, oldest first."""
        return [int(line.split()[1]) for line in self.lines("processes")]

    def done(self) -> list[str]:
        return [report["job"] for report in self.reports]

    def reasons(self) -> list[LossReason]:
        return [reason for _, reason in self.rows.told]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.chdir(ROOT)
    service = Service(tmp_path)
    yield service
    service.engine.stop(0)
    assert not [pid for pid in service.pids() if alive(pid)]


def until(what: Callable[[], object], within_s: float = SOON_S) -> float:
    """Wait until the condition is true; returns the seconds that it took."""
    start = time.monotonic()
    while not what():
        assert time.monotonic() - start < within_s, "not in time"
        time.sleep(0.005)
    return time.monotonic() - start


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_sent_job_runs_once_and_is_reported(service: Service) -> None:
    engine = service.make({"cpu": 2})
    jobs = [f"{number} quick 0" for number in range(50)]
    for job in jobs[:5]:
        engine.send(job, "cpu")  # before the start
    engine.start()
    for job in jobs:
        engine.send(job, "cpu")
    until(lambda: len(service.reports) == 50)
    assert sorted(service.done()) == sorted(jobs) == sorted(service.lines("ended"))
    assert service.rows.told == []


def test_a_job_in_line_or_in_hand_is_not_put_in_line_twice(service: Service) -> None:
    engine = service.start({"cpu": 1})
    for _ in range(5):
        engine.send("1 sleep 0.2", "cpu")
        engine.send("2 quick 0", "cpu")
    until(lambda: len(service.reports) == 2)
    engine.send("2 quick 0", "cpu")
    until(lambda: len(service.reports) == 3)
    assert service.done() == ["1 sleep 0.2", "2 quick 0", "2 quick 0"]


@pytest.mark.alone
def test_a_full_line_drops_without_blocking_and_takes_again_later(service: Service) -> None:
    engine = service.start({"cpu": 1}, capacity=2)
    engine.send("0 sleep 0.3", "cpu")
    start = time.monotonic()
    for number in range(1, 100):
        engine.send(f"{number} quick 0", "cpu")
    assert time.monotonic() - start < 0.2
    until(lambda: len(service.reports) == 3)
    engine.send("99 quick 0", "cpu")
    until(lambda: service.done() == ["0 sleep 0.3", "1 quick 0", "2 quick 0", "99 quick 0"])


def test_an_unknown_lane_is_logged_once(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    engine = service.start({"cpu": 1})
    for number in range(3):
        engine.send(f"{number} quick 0", "gpu")
    engine.send("3 quick 0", "cpu")
    until(lambda: service.done() == ["3 quick 0"])
    assert caplog.text.count("no worker serves the lane 'gpu'") == 1


def test_a_slow_lane_does_not_hold_up_another(service: Service) -> None:
    engine = service.start({"cpu": 1, "gpu": 1})
    engine.send("1 sleep 1", "gpu")
    engine.send("2 sleep 1", "gpu")
    for number in range(3, 10):
        engine.send(f"{number} quick 0", "cpu")
    assert until(lambda: len(service.reports) == 7) < 0.9


def test_workers_on_demand_are_started_by_their_jobs_and_are_no_more_than_these(service: Service) -> None:
    engine = service.start({"cpu": 1, "remote": 3}, on_demand=("remote",))
    assert [line.split("-")[0] for line in service.lines("processes")] == ["cpu"]
    engine.send("1 sleep 1", "remote")
    engine.send("2 sleep 1", "remote")
    engine.send("3 quick 0", "cpu")
    until(lambda: sorted(service.done()) == ["1 sleep 1", "2 sleep 1", "3 quick 0"])
    engine.send("4 quick 0", "remote")
    until(lambda: len(service.reports) == 4)
    assert sorted(line.split("-")[0] for line in service.lines("processes")) == ["cpu", "remote", "remote"]
    assert service.ready == [1], "only what is always there counts as ready"


def test_a_worker_on_demand_ends_after_its_jobs_without_a_successor(service: Service) -> None:
    engine = service.start({"cpu": 1, "remote": 1}, on_demand=("remote",), jobs_per_worker=1)
    for number in (1, 2):
        engine.send(f"{number} quick 0", "remote")
        until(lambda number=number: len(service.reports) == number)  # type: ignore[misc]
        until(lambda: not alive(service.pids()[-1]))
    assert [line.split("-")[0] for line in service.lines("processes")] == ["cpu", "remote", "remote"]


def test_each_lane_has_its_own_bound(service: Service) -> None:
    engine = service.start({"cpu": 1, "gpu": 1}, capacity=1)
    engine.send("1 sleep 0.5", "gpu")
    engine.send("2 quick 0", "gpu")
    engine.send("3 quick 0", "gpu")  # dropped: the sweep sends it again
    engine.send("4 quick 0", "cpu")
    until(lambda: sorted(service.done()) == ["1 sleep 0.5", "2 quick 0", "4 quick 0"])


def test_a_job_reaches_an_idle_worker_within_a_millisecond(service: Service) -> None:
    engine = service.start({"cpu": 1})
    trips = []
    for number in range(200):
        start = time.perf_counter()
        engine.send(f"{number} quick 0", "cpu")
        while len(service.reports) <= number:
            time.sleep(0)
        trips.append(time.perf_counter() - start)
    assert sorted(trips)[100] < 0.01  # includes two small files: 0.3 ms on an idle machine


@pytest.mark.parametrize(
    ("deed", "words"),
    [("abort 0", "SIGABRT"), ("segv 0", "SIGSEGV"), ("exit 3", "exit status 3"), ("kill 0", "SIGKILL")],
)
def test_a_dead_worker_is_replaced_and_its_job_runs_again(
    service: Service, caplog: pytest.LogCaptureFixture, deed: str, words: str
) -> None:
    engine = service.start({"cpu": 2})
    engine.send("1 sleep 0.6", "cpu")
    until(lambda: service.lines("begun"))
    engine.send(f"2 {deed}", "cpu")
    assert until(lambda: f"2 {deed}" in service.lines("ended")) < 1
    until(lambda: "1 sleep 0.6" in service.done())
    assert service.lines("begun").count("1 sleep 0.6") == 1  # the other worker was not touched
    until(lambda: service.ready[-1] == 2)
    assert service.reasons() == ["died"]
    assert len(service.pids()) == 3
    assert f"ended (died): {words}" in caplog.text


def test_an_idle_worker_that_is_killed_is_replaced(service: Service) -> None:
    engine = service.start({"cpu": 2})
    os.kill(service.pids()[0], signal.SIGKILL)
    until(lambda: service.ready[-2:] == [1, 2])
    engine.send("1 quick 0", "cpu")
    until(lambda: service.done() == ["1 quick 0"])


def test_a_dead_worker_whose_child_holds_the_pipe_is_replaced(service: Service) -> None:
    engine = service.start({"cpu": 1})
    engine.send("1 grandchild 4", "cpu")
    assert until(lambda: service.done() == ["1 grandchild 4"]) < 2
    assert service.reasons() == ["died"]


def test_what_the_overseer_names_is_sent_again(service: Service) -> None:
    service.rows.again = [("5 quick 0", "gpu"), ("6 quick 0", "no such lane")]
    engine = service.start({"cpu": 1, "gpu": 1})
    engine.send("1 kill 0", "cpu")
    until(lambda: sorted(service.done()) == ["1 kill 0", "5 quick 0"])


def test_a_loss_is_reported_when_the_database_works_again(service: Service) -> None:
    engine = service.start({"cpu": 1})
    service.rows.down = True
    engine.send("1 kill 0", "cpu")
    until(lambda: service.rows.asked)
    until(lambda: service.ready[-1] == 1)
    engine.send("1 kill 0", "cpu")  # not before its loss is reported
    engine.send("2 quick 0", "cpu")
    until(lambda: service.done() == ["2 quick 0"])
    service.rows.down = False
    until(lambda: service.done() == ["2 quick 0", "1 kill 0"])
    assert service.reasons() == ["died"]


def test_a_worker_that_cannot_start_is_tried_again_later_each_time(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    (service.folder / "fail at start").write_text("7")
    engine = service.make({"cpu": 2})
    engine.send("1 quick 0", "cpu")
    engine.start()
    time.sleep(1.5)
    assert 2 <= len(service.pids()) <= 4  # at 0, .2, .6 and 1.4 s, and what a start takes
    assert "exit status 7" in caplog.text
    assert service.ready == []
    (service.folder / "fail at start").unlink()
    until(lambda: service.done() == ["1 quick 0"])
    until(lambda: service.ready[-1] == 2)
    assert service.rows.told == []
    for pid in service.pids()[-2:]:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(service.rows.told) == 2)
    assert until(lambda: service.ready[-1] == 2) < 2  # the waiting times start again


def test_a_worker_that_hangs_while_it_loads_its_models_is_replaced(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    engine = service.make({"cpu": 2}, ready_within_s=2, start_s=0.3)
    engine.send("1 quick 0", "cpu")
    engine.start()
    until(service.pids)
    os.kill(service.pids()[0], signal.SIGSTOP)
    until(lambda: service.done() == ["1 quick 0"])
    assert "was not ready within 2 s" in caplog.text
    assert not alive(service.pids()[0])
    until(lambda: service.ready[-1] == 2)
    time.sleep(2.2)  # those that became ready stay
    assert len(service.pids()) == 3


def test_without_a_free_file_descriptor_the_next_try_waits(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    engine = service.make({"cpu": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    engine.start()
    until(lambda: service.ready)
    victim = service.pids()[0]
    taken: list[int] = []
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 2, hard)
        )
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        os.kill(victim, signal.SIGKILL)
        until(lambda: "a worker could not be started" in caplog.text)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
    assert "engine error" not in caplog.text
    until(lambda: service.ready[-1] == 1 and len(service.pids()) == 2)


def test_a_missing_command_is_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.make({"cpu": 1}, command=["/no/such/program"]).start()
    until(lambda: "a worker could not be started" in caplog.text)


@pytest.mark.alone
def test_a_job_past_its_timeout_is_killed_within_two_seconds(service: Service) -> None:
    engine = service.start({"cpu": 2}, timeout_s=0.5)
    stuck = ["always sleep 60", "always hold 60"]
    for job in stuck:
        engine.send(job, "cpu")
    engine.send("3 quick 0", "cpu")
    assert 1.5 <= until(lambda: service.reasons() == ["timeout", "timeout"]) < 2.5
    until(lambda: service.done() == ["3 quick 0"])
    assert sorted(service.lines("begun")) == sorted([*stuck, "3 quick 0"])  # their rows have ended: not sent again
    engine.send(stuck[0], "cpu")  # and not lost
    until(lambda: service.lines("begun").count(stuck[0]) == 2)


@pytest.mark.alone
def test_a_timeout_does_not_wait_for_the_database(service: Service) -> None:
    answer = threading.Event()
    service.rows.wanted = lambda _: answer.wait(SOON_S)  # type: ignore[method-assign]
    engine = service.start({"cpu": 1}, timeout_s=0.2)
    pid = service.pids()[0]
    engine.send("1 sleep 60", "cpu")
    assert until(lambda: not alive(pid)) < 2.2
    answer.set()
    until(lambda: service.reasons() == ["timeout"])


def test_an_unwanted_job_is_killed_unless_it_ends_by_itself(service: Service) -> None:
    asked: dict[str, int] = Counter()

    def wanted(worker: str) -> bool:
        lane = worker.partition("-")[0]
        asked[lane] += 1
        return lane == "doubted" and asked[lane] > 2

    service.rows.wanted = wanted  # type: ignore[method-assign]
    engine = service.start({"ends": 1, "stays": 1, "doubted": 1})
    engine.send("1 sleep 2.2", "ends")
    engine.send("2 hold 60", "stays")
    engine.send("3 sleep 6.4", "doubted")  # its row did not exist yet at the first check
    assert 5.5 <= until(lambda: service.rows.told) < 8
    assert service.done() == ["1 sleep 2.2"]
    assert asked["ends"] == 2
    until(lambda: service.done()[-1] == "3 sleep 6.4")
    [(worker, reason)] = service.rows.told
    assert (worker.split("-")[0], reason) == ("stays", "died")


def test_a_lane_keeps_its_workers_while_one_is_replaced(service: Service) -> None:
    engine = service.start({"cpu": 2}, jobs_per_worker=20)
    jobs = [f"{number} sleep 0.005" for number in range(400)]
    for job in jobs:
        engine.send(job, "cpu")
    until(lambda: len(service.reports) == len(jobs))
    assert sorted(service.done()) == sorted(jobs) == sorted(service.lines("ended"))
    assert min(service.ready[2:]) == 2
    assert len(service.pids()) >= 4
    until(lambda: service.ready[-1] == 2 and sum(map(alive, service.pids())) == 2)
    assert service.rows.told == []


def test_the_first_worker_starts_alone(service: Service) -> None:
    engine = service.make({"cpu": 2, "gpu": 1}, start_s=0.4)
    engine.start()
    until(service.pids)
    time.sleep(0.2)
    assert len(service.pids()) == 1
    until(lambda: service.ready[-1:] == [3])
    assert [line.split("-")[0] for line in service.lines("processes")].count("cpu") == 2


def test_wake_ups_arrive_at_once(service: Service) -> None:
    engine = service.start({"cpu": 1})
    engine.send("1 wake 1", "cpu")
    assert until(lambda: service.wakes) < 1
    engine.send("2 wake 20000", "cpu")
    until(lambda: "2 wake 20000" in service.done())
    assert service.wakes >= 3


@pytest.mark.parametrize("kind", ["line", "flood"])
def test_a_worker_that_sends_garbage_is_killed(service: Service, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    engine = service.start({"cpu": 1})
    engine.send(f"1 garbage {kind}", "cpu")
    until(lambda: service.done() == [f"1 garbage {kind}"])
    assert service.reasons() == ["died"]
    assert "sent a broken message" in caplog.text


def test_an_error_in_a_job_does_not_end_its_worker(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    engine = service.start({"cpu": 1})
    engine.send("1 raise 0", "cpu")
    engine.send("2 quick 0", "cpu")
    until(lambda: service.done() == ["2 quick 0"])
    assert len(service.pids()) == 1
    engine.stop(1)
    assert "what no job should do" in capfd.readouterr().err


def test_errors_in_callbacks_do_not_end_the_engine(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    engine = service.start({"cpu": 1})
    service.engine._on_wake = lambda: 1 // 0
    engine.send("1 wake 1", "cpu")
    engine.send("2 quick 0", "cpu")
    until(lambda: len(service.reports) == 2)
    assert "error in a callback of the engine" in caplog.text


def test_a_memory_limit_is_an_error_in_the_job(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    engine = service.start({"cpu": 1}, memory=1 << 30)
    engine.send(f"1 hoard {1 << 31}", "cpu")
    engine.send("2 quick 0", "cpu")
    until(lambda: service.done() == ["2 quick 0"])
    engine.stop(1)
    assert "MemoryError" in capfd.readouterr().err


@pytest.mark.alone
def test_stop_when_idle_is_quick_and_may_be_repeated(service: Service) -> None:
    engine = service.start({"cpu": 2, "gpu": 1})
    start = time.monotonic()
    engine.stop(SOON_S)
    assert time.monotonic() - start < 0.5
    assert not [pid for pid in service.pids() if alive(pid)]
    engine.stop(SOON_S)
    engine.send("1 quick 0", "cpu")
    assert service.rows.told == []
    assert service.ready[-1] == 0


def test_stop_without_a_start(service: Service) -> None:
    engine = service.make({"cpu": 2})
    engine.send("1 quick 0", "cpu")
    engine.stop(SOON_S)
    engine.stop(SOON_S)


@pytest.mark.alone
def test_stop_at_the_very_start(service: Service) -> None:
    engine = service.make({"cpu": 2}, start_s=60)
    engine.start()
    until(service.pids)
    start = time.monotonic()
    engine.stop(SOON_S)
    assert time.monotonic() - start < 1


def test_stop_lets_the_running_end_and_takes_nothing_new(service: Service) -> None:
    engine = service.start({"cpu": 1})
    engine.send("1 sleep 0.4", "cpu")
    engine.send("2 quick 0", "cpu")
    until(lambda: service.lines("begun"))
    engine.stop(SOON_S)
    assert service.lines("ended") == service.done() == ["1 sleep 0.4"]
    assert service.lines("begun") == ["1 sleep 0.4"]
    assert service.rows.told == []


@pytest.mark.alone
def test_stop_does_not_wait_longer_than_it_may(service: Service) -> None:
    engine = service.start({"cpu": 2})
    engine.send("1 hold 60", "cpu")
    until(lambda: service.lines("begun"))
    start = time.monotonic()
    engine.stop(0.3)
    assert 0.3 <= time.monotonic() - start < 1
    assert service.reasons() == ["stopped"]


@pytest.mark.alone
def test_stop_does_not_wait_for_a_database_that_is_down(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    engine = service.start({"cpu": 1})
    service.rows.down = True
    engine.send("1 hold 60", "cpu")
    until(lambda: service.lines("begun"))
    start = time.monotonic()
    engine.stop(0)
    assert time.monotonic() - start < 1
    assert "could not report the lost worker" in caplog.text


@pytest.mark.alone
def test_stop_waits_for_a_database_that_is_down_once_not_for_each_worker(service: Service) -> None:
    engine = service.start({"cpu": 4})
    for number in range(4):
        engine.send(f"{number} hold 60", "cpu")
    until(lambda: len(service.lines("begun")) == 4)
    service.rows.down, service.rows.slow_s = True, 0.5  # a locked database answers after seconds
    start = time.monotonic()
    engine.stop(0)
    assert time.monotonic() - start < 1.2


def test_workers_ignore_signals_of_their_process_group(service: Service) -> None:
    engine = service.start({"cpu": 1})
    engine.send("1 sleep 0.3", "cpu")
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(service.pids()[0], number)
    until(lambda: service.done() == ["1 sleep 0.3"])
    assert len(service.pids()) == 1


def test_nothing_is_lost_while_workers_are_killed_at_random(service: Service) -> None:
    engine = service.start({"cpu": 2, "gpu": 1}, jobs_per_worker=50)
    chance = random.Random(6)  # noqa: S311
    jobs = [(f"{number} sleep 0.00{number % 5}", chance.choice(["cpu", "gpu"])) for number in range(400)]
    for job, lane in jobs:
        engine.send(job, lane)
    killed = 0
    while len(set(service.lines("ended"))) < len(jobs) and killed < 25:
        time.sleep(chance.uniform(0, 0.1))
        if running := [pid for pid in service.pids() if alive(pid)]:
            os.kill(chance.choice(running), signal.SIGKILL)
            killed += 1
    until(lambda: len(set(service.lines("ended"))) == len(jobs))
    assert killed > 5
    until(lambda: service.ready[-1] == 3)
    engine.send("400 quick 0", "gpu")
    until(lambda: "400 quick 0" in service.done())
    assert max(Counter(service.lines("ended")).values()) <= 2


PARENT = """
import sys, time
from pathlib import Path
from limner.adapters.process_engine import ProcessEngine
from limner.domain.lane import Lane

class Rows:
    lost = staticmethod(lambda worker, reason: [])
    wanted = staticmethod(lambda worker: True)

engine = ProcessEngine([sys.executable, "-m", "tests.contract.engine_worker"], {"folder": sys.argv[1]},
    lanes={"cpu": Lane(2, 9, 60)}, jobs_per_worker=0, overseer=Rows(),
    on_wake=lambda: None, on_report=lambda report: None, on_ready=lambda number: None)
engine.send("1 hold 60", "cpu")
engine.start()
while sys.argv[2] == "kill" or len(list(Path(sys.argv[1]).iterdir())) < 2:
    time.sleep(0.01)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a worker that is busy")
@pytest.mark.parametrize("how", ["kill", "exit"])
def test_workers_do_not_outlive_the_web_process(service: Service, how: str) -> None:
    service.make({"cpu": 1})
    with subprocess.Popen([sys.executable, "-c", PARENT, str(service.folder), how]) as parent:
        if how == "kill":
            until(lambda: service.lines("begun") and len(service.pids()) == 2)
            parent.kill()
        parent.wait(SOON_S)
        until(lambda: not [pid for pid in service.pids() if alive(pid)], 2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_holds_its_own_pipe_alone_and_leaves_no_core_dump(service: Service, tmp_path: Path) -> None:
    with (tmp_path / "the web process's").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        service.start({"cpu": 2})
    for pid in map(str, service.pids()):
        links = [link.readlink().as_posix() for link in (Path("/proc") / pid / "fd").iterdir()]
        assert len([link for link in links if link.startswith("socket:")]) == 1
        assert file.name not in links
        assert re.search(r"Max core file size +[01] ", (Path("/proc") / pid / "limits").read_text())
        assert int((Path("/proc") / pid / "oom_score_adj").read_text()) >= 500


def test_a_worker_is_not_started_by_hand() -> None:
    ended = subprocess.run(WORKER, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "a worker is started by the service, not by hand\n"


def test_a_workers_bus_has_no_listeners() -> None:
    with pytest.raises(RuntimeError, match="only the web process"):
        PipeBus(Pipe(0)).subscribe(lambda: None)
