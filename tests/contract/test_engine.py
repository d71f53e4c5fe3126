"""Every adapter of `ports.Engine`, held to its contract."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from limner.ports import Engine
from tests.contract.conftest import Run

MakeEngine = Callable[[Run, int, int], Engine]
SOON_S = 10


@dataclass
class Work:
    """Jobs that report their start and wait for leave to end."""

    started: "queue.Queue[str]" = field(default_factory=queue.Queue)
    ended: list[str] = field(default_factory=list)
    leave: threading.Event = field(default_factory=threading.Event)

    def run(self, job_id: str, on_start: Callable[[int], None]) -> None:
        on_start(7)
        self.started.put(job_id)
        self.leave.wait(SOON_S)
        self.ended.append(job_id)


@pytest.fixture
def work() -> Work:
    return Work()


def test_what_is_sent_is_run_once(make_engine: MakeEngine, work: Work) -> None:
    work.leave.set()
    engine = make_engine(work.run, 2, 100)
    engine.start()
    for number in range(50):
        engine.send(f"job {number}", "cpu")
    started = {work.started.get(timeout=SOON_S) for _ in range(50)}
    engine.stop(SOON_S)
    assert started == {f"job {number}" for number in range(50)}
    assert sorted(work.ended) == sorted(started)


def test_what_was_sent_before_the_start_is_run_too(make_engine: MakeEngine, work: Work) -> None:
    engine = make_engine(work.run, 1, 10)
    engine.send("early", "cpu")
    work.leave.set()
    engine.start()
    assert work.started.get(timeout=SOON_S) == "early"
    engine.stop(SOON_S)


def test_sending_twice_does_no_harm(make_engine: MakeEngine, work: Work) -> None:
    engine = make_engine(work.run, 1, 10)
    engine.start()
    engine.send("running", "cpu")
    work.started.get(timeout=SOON_S)
    for _ in range(5):
        engine.send("running", "cpu")
        engine.send("waiting", "cpu")
    work.leave.set()
    assert work.started.get(timeout=SOON_S) == "waiting"
    engine.send("last", "cpu")
    assert work.started.get(timeout=SOON_S) == "last"
    engine.stop(SOON_S)


def test_a_full_line_drops_and_takes_again_later(make_engine: MakeEngine, work: Work) -> None:
    engine = make_engine(work.run, 1, 2)
    engine.start()
    engine.send("first", "cpu")
    work.started.get(timeout=SOON_S)
    for number in range(100):
        engine.send(f"job {number}", "cpu")
    work.leave.set()
    taken = []
    while not taken or taken[-1] != "again":
        taken.append(work.started.get(timeout=SOON_S))
        engine.send("again", "cpu")
    assert 2 <= len(taken) < 100
    engine.stop(SOON_S)


def test_running_names_the_attempts_of_this_process(make_engine: MakeEngine, work: Work) -> None:
    engine = make_engine(work.run, 2, 10)
    engine.start()
    assert engine.running() == []
    engine.send("a", "cpu")
    engine.send("b", "cpu")
    for _ in range(2):
        work.started.get(timeout=SOON_S)
    assert sorted(engine.running()) == [("a", 7), ("b", 7)]
    work.leave.set()
    engine.stop(SOON_S)
    assert engine.running() == []


def test_a_job_that_raises_takes_no_worker_with_it(
    make_engine: MakeEngine, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    def run(job_id: str, on_start: Callable[[int], None]) -> None:
        if job_id == "bad":
            raise RuntimeError("what no job should do")
        work.run(job_id, on_start)

    work.leave.set()
    engine = make_engine(run, 1, 10)
    engine.start()
    engine.send("bad", "cpu")
    engine.send("good", "cpu")
    assert work.started.get(timeout=SOON_S) == "good"
    engine.stop(SOON_S)
    assert "worker error" in caplog.text


def test_stop_lets_the_running_end_and_takes_nothing_new(make_engine: MakeEngine, work: Work) -> None:
    engine = make_engine(work.run, 1, 10)
    engine.start()
    engine.send("running", "cpu")
    engine.send("waiting", "cpu")
    work.started.get(timeout=SOON_S)
    threading.Timer(0.2, work.leave.set).start()
    engine.stop(SOON_S)
    engine.send("late", "cpu")
    assert work.ended == ["running"]
    assert work.started.empty()


def test_stop_does_not_wait_longer_than_it_may(make_engine: MakeEngine, work: Work) -> None:
    engine = make_engine(work.run, 1, 10)
    engine.start()
    engine.send("endless", "cpu")
    work.started.get(timeout=SOON_S)
    engine.stop(0)
    assert engine.running() == [("endless", 7)]  # for its owner to hand back
    work.leave.set()
