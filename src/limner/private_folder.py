"""Temporary folders (photos of a service without a database, metrics). They are removed however the service ends.

The folder cannot be unlinked while it is in use, because several processes open files in it by name.
"""

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "limner-"
LOCK = "memory.lock"
# Waits until its standard input is closed. The operating system closes it when the service ends, also by SIGKILL.
# Worker processes end a little later and may still write a file, so a removal that fails is tried again after 1 s.
REMOVER = 'read -r _; rm -rf -- "$1" 2>/dev/null || { sleep 1; rm -rf -- "$1"; }'


def make(parent: Path | None, held: ExitStack, *, watched: bool = True) -> Path:
    """A new folder in `parent` (default: the system's folder for temporary files), removed when `held` closes. OSError.

    If this process is killed, a small shell process removes the folder; if that is killed too, the next call does.
    Without `watched`, only the next call does: the shell waits for each process that was forked from this one.
    """
    if parent is None:
        parent = Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    remove_left(parent)
    hidden = Path(tempfile.mkdtemp(prefix="." + PREFIX, dir=parent))
    lock = held.enter_context((hidden / LOCK).open("wb"))
    fcntl.flock(lock, fcntl.LOCK_EX)
    folder = hidden.rename(
        parent / hidden.name.removeprefix(".")
    )  # `remove_left` must not find the folder without its lock
    held.callback(shutil.rmtree, folder, ignore_errors=True)
    if watched:
        _start_remover(folder, held)
    return folder


def remove_left(parent: Path) -> None:
    """Remove the folders in `parent` whose service has ended. Folders of other users and other programs stay."""
    for folder in parent.glob(PREFIX + "*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / LOCK).open("r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
                log.warning("files that a killed service had left were removed", extra={"folder": str(folder)})
        except (BlockingIOError, FileNotFoundError, NotADirectoryError):
            continue  # its service is still running, or another program made it
        except OSError as error:
            log.warning("files that a killed service had left stay", extra={"detail": str(error)})


def _start_remover(folder: Path, held: ExitStack) -> None:
    try:
        remover = subprocess.Popen(  # noqa: S603  # nothing in it comes from a client
            ["/bin/sh", "-c", REMOVER, "limner-remover", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal must not end it
        )
    except OSError as error:
        log.warning("a killed service would leave its files until the next start", extra={"detail": str(error)})
        return
    held.callback(remover.wait)
    assert remover.stdin is not None
    held.callback(remover.stdin.close)
