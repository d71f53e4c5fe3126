"""`adapters/sql/sqlite_store.py`: threads share one commit, and processes take turns."""

import fcntl
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from limner.adapters.sql.sqlite_store import TOGETHER, SqliteStore
from limner.domain.errors import QueueFullError, UnavailableError
from limner.domain.job import Job
from limner.ports import Transaction
from tests.contract.machine import Machine, new_job, open_sqlite

TURN_S = 0.15


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = open_sqlite(tmp_path / "jobs.db", turn_s=TURN_S)
    yield made
    made.close()


@contextmanager
def together(machine: Machine, works: list[Callable[[Transaction], Any]]) -> Iterator[list["Future[Any]"]]:
    """Run the transactions while another one holds the turn, so that all of them are one batch."""
    store = machine.store
    assert isinstance(store, SqliteStore)
    begun, go = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        begun.set()
        assert go.wait(10)

    with ThreadPoolExecutor(len(works) + 1) as pool:
        first = pool.submit(store.transact, hold)
        assert begun.wait(10)
        futures: list[Future[Any]] = []
        for number, work in enumerate(works, 1):  # in this order
            futures.append(pool.submit(store.transact, work))
            while len(store._waiting) < number:
                time.sleep(0.0005)
        yield futures
        go.set()
        first.result(10)


def insert(job: Job) -> Callable[[Transaction], bool]:
    return lambda tx: tx.insert(job)


def stored(machine: Machine) -> set[str]:
    return {job.id for job in machine.reader.page(limit=1000)}


def test_those_that_wait_share_one_commit(machine: Machine) -> None:
    jobs = [new_job() for _ in range(10)]
    with together(machine, [insert(job) for job in jobs]) as futures:
        commits = _count(machine, "COMMIT")
    assert all(future.result(10) for future in futures)
    assert stored(machine) == {job.id for job in jobs}
    assert len(commits) == 2, "one of the transaction that they waited for, one of them all"


def test_a_batch_has_a_largest_size(machine: Machine) -> None:
    jobs = [new_job() for _ in range(2 * TOGETHER + 1)]
    with together(machine, [insert(job) for job in jobs]) as futures:
        commits = _count(machine, "COMMIT")
    assert all(future.result(10) for future in futures)
    assert stored(machine) == {job.id for job in jobs}
    assert len(commits) == 4


def test_they_run_in_the_order_in_which_they_came_and_see_each_other(machine: Machine) -> None:
    order: list[int] = []
    job = new_job()

    def note(number: int, tx: Transaction) -> bool:
        order.append(number)
        return tx.insert(job) if number == 0 else tx.job(job.id) is not None

    works = [lambda tx, number=number: note(number, tx) for number in range(3 * TOGETHER)]
    with together(machine, works) as futures:
        pass
    assert all(future.result(10) for future in futures)
    assert order == sorted(order)


@pytest.mark.parametrize("error", [QueueFullError(), KeyError("x"), sqlite3.OperationalError("no such table: x")])
def test_an_error_in_one_leaves_the_others_whole(machine: Machine, error: Exception) -> None:
    good, bad = [new_job() for _ in range(4)], new_job()

    def fail(tx: Transaction) -> None:
        tx.insert(bad)
        raise error

    with together(machine, [insert(good[0]), insert(good[1]), fail, insert(good[2]), insert(good[3])]) as futures:
        pass
    expected = UnavailableError if isinstance(error, sqlite3.Error) else type(error)
    with pytest.raises(expected):
        futures.pop(2).result(10)
    assert all(future.result(10) for future in futures)
    assert stored(machine) == {job.id for job in good}


def test_an_error_of_one_that_is_alone_writes_nothing(machine: Machine) -> None:
    def fail(tx: Transaction) -> None:
        tx.insert(new_job())
        raise QueueFullError

    with pytest.raises(QueueFullError):
        machine.store.transact(fail)
    assert stored(machine) == set()
    machine.submit(new_job())


def test_a_commit_that_fails_fails_them_all(machine: Machine, tmp_path: Path) -> None:
    """A foreign key that is checked only at the end makes the commit fail, like a full disk."""
    store = machine.store
    assert isinstance(store, SqliteStore)
    jobs = [new_job() for _ in range(3)]

    def dangle(tx: Transaction) -> None:
        connection = tx._db.connection  # type: ignore[attr-defined]
        connection.execute("PRAGMA defer_foreign_keys=ON")
        tx.add_files(new_job(), new_job().files)

    with together(machine, [insert(jobs[0]), dangle, insert(jobs[1])]) as futures:
        pass
    for future in futures:
        with pytest.raises(sqlite3.IntegrityError):
            future.result(10)
    assert stored(machine) == set()
    machine.store.transact(insert(jobs[2]))  # and the store goes on
    assert stored(machine) == {jobs[2].id}


def test_a_full_disk_is_unavailable_for_all_of_a_batch_and_passes(machine: Machine) -> None:
    first = machine.submit(new_job())
    big = new_job(params={"x": "x" * 3_000_000})
    with together(machine, [insert(new_job()), insert(big), insert(new_job())]) as futures:
        _limit_pages(machine, 5)
    for future in futures:
        with pytest.raises(UnavailableError, match="full"):
            future.result(10)
    assert stored(machine) == {first.id}
    with pytest.raises(UnavailableError, match="full"):
        machine.submit(new_job(params=big.params))  # alone
    assert machine.known(first) == first
    _limit_pages(machine, 1_000_000)
    machine.store.transact(insert(big))
    assert big.id in stored(machine)


@pytest.mark.alone
def test_waiting_too_long_for_the_turn_is_unavailable(machine: Machine, tmp_path: Path) -> None:
    first = machine.submit(new_job())
    with (tmp_path / "jobs.db.turn").open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        begun = time.monotonic()
        with pytest.raises(UnavailableError, match="busy"):
            machine.submit(new_job())
        assert TURN_S <= time.monotonic() - begun < 10 * TURN_S
        assert machine.known(first) == first  # reading goes on
    machine.submit(new_job())


def test_a_database_that_another_holds_is_unavailable(machine: Machine, tmp_path: Path) -> None:
    first = machine.submit(new_job())
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked"):
            machine.submit(new_job())
        assert machine.known(first) == first
        other.execute("ROLLBACK")
    machine.submit(new_job())


@pytest.mark.alone
def test_all_that_wait_too_long_for_the_turn_get_the_error(machine: Machine, tmp_path: Path) -> None:
    with (tmp_path / "jobs.db.turn").open("ab") as turn, ThreadPoolExecutor(6) as pool:
        fcntl.flock(turn, fcntl.LOCK_EX)
        begun = time.monotonic()
        futures = [pool.submit(machine.store.transact, insert(new_job())) for _ in range(6)]
        assert {type(future.exception(10)) for future in futures} == {UnavailableError}
        assert time.monotonic() - begun < 20 * TURN_S
    assert stored(machine) == set()
    machine.submit(new_job())


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_written_to_a_database_file_that_is_gone(machine: Machine, tmp_path: Path, replaced: bool) -> None:
    before, away = machine.submit(new_job()), tmp_path / "away.db"
    file = tmp_path / "jobs.db"
    file.rename(away)
    if replaced:
        file.write_bytes(away.read_bytes())
    with pytest.raises(UnavailableError, match="deleted or replaced"):
        machine.submit(new_job())
    away.replace(file)
    after = machine.submit(new_job())
    assert stored(machine) == {before.id, after.id}


def test_a_connection_that_breaks_is_replaced(machine: Machine) -> None:
    store = machine.store
    assert isinstance(store, SqliteStore)
    machine.submit(new_job())

    def break_it(tx: Transaction) -> None:
        tx._db.connection.close()  # type: ignore[attr-defined]

    with pytest.raises(sqlite3.ProgrammingError):
        store.transact(break_it)
    machine.submit(new_job())


def test_each_of_several_processes_gets_its_turn(machine: Machine, tmp_path: Path) -> None:
    writer = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.contract.machine import new_job, open_sqlite\n"
        "machine = open_sqlite(Path(sys.argv[1]))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "until, count = time.monotonic() + 1.0, 0\n"
        "while time.monotonic() < until:\n"
        "    machine.submit(new_job()); count += 1\n"
        "machine.close(); print(count)\n"
    )
    command = [sys.executable, "-c", writer, str(tmp_path / "jobs.db")]
    with ExitStack() as held:
        processes = [
            held.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
        counts = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert min(counts) > 0
    assert len(machine.events()) == sum(counts)


def _count(machine: Machine, wanted: str) -> list[str]:
    """A list of these statements that the store's connection has executed; it grows."""
    store = machine.store
    assert isinstance(store, SqliteStore)
    assert store._held is not None
    seen: list[str] = []
    connection: Any = store._held.dbapi_connection
    connection.set_trace_callback(lambda text: seen.append(text) if text == wanted else None)
    return seen


def _limit_pages(machine: Machine, more: int) -> None:
    """Let the database grow by at most this many pages; after that SQLite reports that the disk is full."""
    store = machine.store
    assert isinstance(store, SqliteStore)
    assert store._held is not None
    connection: Any = store._held.dbapi_connection
    (now,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={now + more}")
