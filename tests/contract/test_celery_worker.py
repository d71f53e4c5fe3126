"""The names of a Celery worker's children: whether the process behind one has ended."""

import os
import subprocess
import sys
import time

from limner.adapters.celery_worker import has_ended, name_of


def test_a_name_tells_whether_its_process_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        name = name_of(process.pid)
        assert not has_ended(name)
        assert not has_ended(name_of(os.getpid()))
        process.kill()
        while not has_ended(name):  # also while nobody has asked for its exit status
            time.sleep(0.01)
    assert has_ended(name)
    assert len(name) <= 128, "it fits into its column"


def test_a_later_process_with_the_same_number_is_another() -> None:
    host, space, pid, _ = name_of(os.getpid()).rsplit("/", 3)
    assert has_ended(f"{host}/{space}/{pid}/1")


def test_of_processes_elsewhere_and_of_other_names_nothing_is_known() -> None:
    host, space, _, started = name_of(os.getpid()).rsplit("/", 3)
    assert not has_ended(f"{host}/{space}x/999999999/{started}")
    assert not has_ended(f"{host}x/{space}/999999999/{started}")
    assert not has_ended(f"{host}/{space}/no number/{started}")
    assert not has_ended("cpu-1234-1")


def test_a_message_that_is_given_back_makes_one_line() -> None:
    """Celery would add another with a traceback for each job, as long as the database is away."""
    code = """
from limner import celery_app
from limner.domain.errors import UnavailableError

class Away:
    def run(self, job_id, lane):
        raise UnavailableError("The database is away.")

celery_app._set_up_log()
celery_app.AGAIN_S = 0
celery_app._child = Away()
celery_app.run.apply(("a job", "cpu"))
"""
    url = "redis://127.0.0.1:1/0"
    settings = {"LIMNER_ENGINE_URL": url, "LIMNER_BUS_URL": url, "LIMNER_LOG_FORMAT": "json"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=inherited | settings, capture_output=True, text=True, check=True
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert len(lines) == 1, lines
    assert "The database is away." in lines[0]
    assert "Traceback" not in lines[0]
