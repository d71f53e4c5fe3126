"""The process of live detection when it crashes, hangs, says nonsense or does not start."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from limner.adapters.live_process import LiveProcess
from limner.domain.errors import UnavailableError

ROOT = Path(__file__).parents[2]

Start = Callable[..., LiveProcess]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.chdir(ROOT)
    made = []

    def start(*arguments: str, **times: float) -> LiveProcess:
        command = [sys.executable, "-m", "tests.contract.live_worker", *arguments]
        made.append(LiveProcess(command, {"word": "a word"}, environment=dict(os.environ), **times))
        return made[-1]

    yield start
    for process in made:
        process.stop()
        process.rest()


def test_frames_of_any_size_arrive_whole(start: Start) -> None:
    process = start()
    assert not process.ready
    process.prepare()
    assert process.ready
    for size in (0, 1, 65_536, 1_000_000):
        assert process.look(os.urandom(size), landmarks=False) == {"faces": [], "bytes": size, "word": "a word"}


@pytest.mark.parametrize("deed", [b"abort", b"hang", b"garbage"])
def test_a_frame_that_ends_the_process_costs_only_itself(start: Start, deed: bytes) -> None:
    process = start(look_s=1.0)
    process.prepare()
    assert process.look(b"a frame", landmarks=False)["bytes"] == 7
    with pytest.raises(UnavailableError):
        process.look(deed, landmarks=False)
    assert not process.ready
    begun = time.monotonic()
    process.prepare()
    assert process.look(b"a frame", landmarks=False)["bytes"] == 7
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("deed", ["exit", "hang"])
def test_a_process_that_does_not_start_is_tried_again_more_and_more_slowly(start: Start, deed: str) -> None:
    process = start(deed, start_s=1.0)
    waits = []
    for _ in range(4):
        with pytest.raises(UnavailableError):
            process.prepare()
        waits.append(process._not_before - time.monotonic())
    assert waits == sorted(waits)
    assert waits[-1] > 1


def test_one_that_crashes_at_its_first_frame_counts_as_not_started(start: Start) -> None:
    process = start()
    for _ in range(3):
        process.prepare()
        with pytest.raises(UnavailableError):
            process.look(b"abort", landmarks=False)
    assert process._not_before - time.monotonic() > 0.4
    process.prepare()
    process.look(b"a frame", landmarks=False)
    with pytest.raises(UnavailableError):
        process.look(b"abort", landmarks=False)
    assert process._failures == 0


def test_a_command_that_is_not_there_is_told() -> None:
    process = LiveProcess(["/nonexistent"], {}, environment={})
    with pytest.raises(UnavailableError):
        process.prepare()
    assert not process.ready


def test_a_stop_ends_a_wait(start: Start) -> None:
    process = start("hang")
    threading.Timer(1.0, process.stop).start()
    begun = time.monotonic()
    with pytest.raises(UnavailableError):
        process.prepare()
    with pytest.raises(UnavailableError):
        process.prepare()
    assert time.monotonic() - begun < 30


def test_it_can_rest_and_begin_again(start: Start) -> None:
    process = start()
    for _ in range(2):
        process.prepare()
        assert process.look(b"a frame", landmarks=True)["bytes"] == 7
        process.rest()
        assert not process.ready
