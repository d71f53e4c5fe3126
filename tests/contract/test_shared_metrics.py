"""Metrics of several processes: added up, without the gauges of ended processes, in a bounded number of files."""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from limner import telemetry
from tests.services.process import free_port

# Counts what it is told to on its standard input; `tell` prints the metrics.
PROCESS = """
import sys
from pathlib import Path
from limner import shared_metrics
shared_metrics.use_folder(Path(sys.argv[1]))
from limner import telemetry
print("ready", flush=True)
for line in sys.stdin:
    match line.split():
        case ["finish", operation, seconds]:
            telemetry.JOBS_FINISHED.labels(operation, "succeeded").inc()
            telemetry.JOB_SECONDS.labels(operation).observe(float(seconds))
        case ["sockets", number]:
            telemetry.SOCKETS.labels("sse").set(float(number))
        case ["results", number]:
            telemetry.CACHE_RESULTS.set(float(number))
        case ["serve", port]:
            shared_metrics.serve("127.0.0.1", int(port))
    print("done", flush=True)
"""


class Counting:
    """A process that counts into the folder."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._hear("ready")

    def do(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        self._hear("done")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _hear(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{word}\n"


class Group:
    """Processes with a common folder; the first of them serves the metrics."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.processes: list[Counting] = []
        self.start().do(f"serve {self.port}")

    def start(self) -> Counting:
        self.processes.append(Counting(self.folder))
        return self.processes[-1]

    def value(self, name: str, **labels: str) -> float | None:
        """A sample of what a scrape tells; None where there is none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        found = [s for family in families for s in family.samples if s.name == name and s.labels == labels]
        assert len(found) <= 1, found
        return found[0].value if found else None


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    made = Group(tmp_path)
    yield made
    for each in made.processes:
        each.kill()


def test_counters_and_histograms_outlive_their_process_and_gauges_do_not(group: Group) -> None:
    one, two = group.start(), group.start()
    one.do("finish detect 0.2")
    two.do("finish detect 0.002")
    one.do("sockets 3")
    two.do("sockets 4")

    def counted() -> list[float | None]:
        return [
            group.value("limner_jobs_finished_total", operation="detect", status="succeeded"),
            group.value("limner_job_seconds_count", operation="detect"),
            group.value("limner_job_seconds_bucket", operation="detect", le="0.0025"),
            group.value("limner_job_seconds_bucket", operation="detect", le="+Inf"),
            round(group.value("limner_job_seconds_sum", operation="detect") or 0, 6),
        ]

    assert counted() == [2, 2, 1, 2, 0.202]
    assert group.value("limner_sockets", stream="sse") == 7
    one.kill()
    assert counted() == [2, 2, 1, 2, 0.202]
    assert group.value("limner_sockets", stream="sse") == 4
    group.start().do("finish detect 0.002")
    assert counted() == [3, 3, 2, 3, 0.204]


def test_what_is_read_from_the_database_is_told_once_and_only_by_who_reads_it(group: Group) -> None:
    one, two = group.start(), group.start()
    assert group.value("limner_cache_results") is None
    one.do("results 5")
    two.do("results 6")
    assert group.value("limner_cache_results") == 6
    one.do("results 5")
    assert group.value("limner_cache_results") == 5


def test_restarts_leave_no_files(group: Group) -> None:
    files: set[int] = set()
    for _ in range(4):
        process = group.start()
        process.do("finish detect 0.2")
        process.do("sockets 1")
        process.kill()
        assert group.value("limner_sockets", stream="sse") is None
        files.add(len(list(group.folder.iterdir())))
    assert len(files) == 1
    assert group.value("limner_jobs_finished_total", operation="detect", status="succeeded") == 4


def test_every_gauge_says_how_it_is_combined() -> None:
    modes = {each._multiprocess_mode for each in telemetry.METRICS if isinstance(each, telemetry.Gauge)}
    assert modes == {"livesum", "livemostrecent"}, "the mode `all`, the client's default, adds a label for each process"


def test_the_folder_must_be_chosen_first(tmp_path: Path) -> None:
    code = (
        "import pathlib, prometheus_client\n"
        "from limner import shared_metrics\n"
        "shared_metrics.use_folder(pathlib.Path())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), check=False
    )
    assert ended.returncode == 1
    assert "before the folder of metrics was chosen" in ended.stderr
