"""`private_folder.py`: the temporary folder is gone at the end, also after a kill, and never while its owner lives."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from limner import private_folder

HOLD = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from limner import private_folder
held = ExitStack()
folder = private_folder.make(Path(sys.argv[1]), held)
(folder / "photo").write_bytes(b"face")
print(folder, flush=True)
time.sleep(60)
"""


def killed(parent: Path, *, with_remover: bool) -> Path:
    """The folder of a process that made one and was killed with SIGKILL, the remover first if it is to die too."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(parent)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert (folder / "photo").exists()
    if with_remover:
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
    process.kill()
    process.wait()
    process.stdout.close()
    return folder


def test_at_the_end_it_is_gone(tmp_path: Path) -> None:
    with ExitStack() as held:
        folder = private_folder.make(tmp_path / "parent", held)
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "photo").write_bytes(b"face")
    assert list((tmp_path / "parent").iterdir()) == []


def test_it_goes_soon_after_its_owner_was_killed(tmp_path: Path) -> None:
    folder = killed(tmp_path, with_remover=False)
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_goes_at_the_next_start_and_nothing_else_does(tmp_path: Path) -> None:
    with ExitStack() as others:
        living = private_folder.make(tmp_path, others)
        foreign, installation = tmp_path / "limner-notes", tmp_path / "limner-data"
        for folder in (foreign, installation):
            folder.mkdir()
        (installation / "limner.db.lock").touch()  # of a service that is not running just now
        (tmp_path / "limner-link").symlink_to(installation)
        (tmp_path / "limner-file").touch()
        left = killed(tmp_path, with_remover=True)
        assert (left / "photo").exists()
        with ExitStack() as held:
            mine = private_folder.make(tmp_path, held)
            names = {path.name for path in tmp_path.iterdir()}
            assert names == {
                living.name,
                mine.name,
                "limner-notes",
                "limner-data",
                "limner-link",
                "limner-file",
            }
            with (living / private_folder.LOCK).open("r+b") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    pass
                else:
                    raise AssertionError("its owner lives")
