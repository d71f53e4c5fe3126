"""Metrics of several processes as one: each process writes its own into files of a common folder.

`telemetry.py` has the metrics themselves. The folder must be chosen before it is imported.
"""

import fcntl
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # the Prometheus client reads it when it is imported
ADDED_UP = ("counter", "histogram")
ENDED = 0
"""Stands for the processes that have ended, in the name of the file that keeps what they have counted."""


def use_folder(folder: Path) -> None:
    """From now on this process and those that it starts write their metrics into `folder`: empty, private to them.

    Call it before anything imports `prometheus_client`, and once, in the process that starts the others.
    """
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client was imported before the folder of metrics was chosen")
    os.environ[FOLDER] = str(folder)


def exposition() -> bytes:
    """All metrics in the text format of Prometheus: of all processes that use the folder, or else of this one."""
    from prometheus_client import generate_latest

    return generate_latest(_registry())


def serve(host: str, port: int) -> Callable[[], None]:
    """Answer any request to this address with `exposition()`, in a thread. Returns the function that stops it. OSError.

    It answers one client after the other, so it is for an internal port.
    """
    from prometheus_client import make_wsgi_app

    server = make_server(host, port, make_wsgi_app(_registry()), handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class _Quiet(WSGIRequestHandler):
    timeout = 5.0

    def log_message(self, *_: object) -> None:
        """Nothing: each scrape would be a line."""


def _registry() -> "CollectorRegistry":
    from prometheus_client import REGISTRY, CollectorRegistry

    folder = os.environ.get(FOLDER)
    if folder is None:
        return REGISTRY
    registry = CollectorRegistry()
    registry.register(_Folder(Path(folder)))
    return registry


class _Folder:
    """Collects from the files. Those of ended processes become one, or their number would grow with each restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> "Iterable[Metric]":
        from prometheus_client.multiprocess import MultiProcessCollector

        with self._locked():  # or a scrape could see an ended process twice, or not at all
            self._fold_ended()
            return MultiProcessCollector(None, str(self._folder)).collect()  # type: ignore[no-untyped-call,no-any-return]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _fold_ended(self) -> None:
        ended = [file for file in self._folder.glob("*_*.db") if not _is_running(int(file.stem.rpartition("_")[2]))]
        for kind in ADDED_UP:
            files = [file for file in ended if file.name.startswith(kind)]
            if files:
                _add_up(files, self._folder / f"{kind}_{ENDED}.db")
        for file in ended:  # what a gauge tells ends with its process
            file.unlink()


def _add_up(files: list[Path], total: Path) -> None:
    from prometheus_client.mmap_dict import MmapedDict

    sums: defaultdict[str, float] = defaultdict(float)
    for file in (*files, total):
        if file.exists():
            for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
                sums[key] += value
    part = total.with_suffix(".part")
    part.unlink(missing_ok=True)
    written = MmapedDict(str(part))  # type: ignore[no-untyped-call]
    for key, value in sums.items():
        written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    part.replace(total)


def _is_running(pid: int) -> bool:
    if pid == ENDED:
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # a process of another user has taken the number
        return False
    return True
