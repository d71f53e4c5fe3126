"""`ports.JobReader` and `ports.EventLog` on every store."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.adapters.sql import pages, transaction
from limner.domain.blob import BlobState
from limner.domain.errors import NotFoundError
from limner.domain.event import EventType
from limner.domain.job import Job, Outcome, Status
from limner.ports import JobFilter, LaneLoad, Transaction
from tests.contract.databases import Databases
from tests.contract.machine import (
    DAY,
    FAR,
    LEASE,
    MACHINES,
    SUMMARY,
    Machine,
    as_listed,
    at_once,
    new_job,
    open_machine,
    unsent,
)


def test_an_empty_store_has_nothing(machine: Machine) -> None:
    soon = datetime.now(UTC) + DAY
    reader = machine.reader
    assert reader.get("no such job") is None
    assert reader.file("no such file") is None
    assert reader.artifact("no such job", "a.jpg") is None
    assert (reader.page(), reader.waiting(10), reader.stranded(10)) == ([], [], [])
    assert [reader.count(status) for status in Status] == [0] * len(Status)
    assert (reader.outdated(soon, 10), reader.overdue(soon, 10)) == ([], [])
    assert reader.blobs_in(BlobState.MARKED, soon, 10) == []
    assert reader.similar("key", computed_since=soon - FAR, limit=10) == []
    assert reader.totals() == (0, 0)
    assert (machine.log.last_id(), machine.events()) == (0, [])
    machine.store.transact(lambda tx: tx.ping())


def test_pages_are_newest_first_and_follow_one_another(machine: Machine) -> None:
    stored = [machine.submit(new_job()) for _ in range(7)]
    seen: list[Job] = []
    before = None
    while page := machine.reader.page(before=before, limit=3):
        assert len(page) <= 3
        seen += page
        before = page[-1].id
        machine.submit(new_job())  # what is new meanwhile does not shift the pages
    assert seen == [as_listed(job) for job in stored[::-1]]


def test_pages_by_every_combination_of_filters(machine: Machine) -> None:
    jobs: list[Job] = []
    for number in range(12):
        job = machine.submit(new_job(operation="detect" if number % 2 else "contours"))
        if number % 3 == 0:
            assert machine.finish(machine.start(job), "a.jpg", "b.svg")
        elif number % 3 == 1:
            machine.cancel(job.id)
        jobs.append(machine.known(job))
    newest_first = jobs[::-1]
    filters = product(
        (None, "detect", "contours", "unknown"),
        (None, *Status),
        (None, jobs[0].id, jobs[5].id, "zzz"),
        (1, 3, 50),
    )
    for operation, status, before, limit in filters:
        expected = [
            job
            for job in newest_first
            if (operation is None or job.operation == operation)
            and (status is None or job.status is status)
            and (before is None or job.id < before)
        ]
        page = machine.reader.page(JobFilter(operation, status), before=before, limit=limit)
        assert page == [as_listed(job) for job in expected[:limit]], (operation, status, before, limit)


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("img", [5, 4, 0]),
        ("IMG_0001", [0]),
        ("_0", [5, 0]),
        ("%", [3]),
        ("!", [3]),
        ("ferien/", [1]),
        ("STRASSE", [2]),
        ("straße", [2]),
        ("\u00e9", [4]),
        ("e\u0301", [4]),
        ("nothing", []),
        ("'", [3]),
    ],
)
def test_a_part_of_the_label_is_found(machine: Machine, part: str, found: list[int]) -> None:
    labels = ("IMG_0001.jpg", "Ferien/a.png", "Hauptstraße", "100 %!'", "Cafe\u0301 img", "x img_0")
    jobs = [machine.submit(new_job(label=label)) for label in labels]
    machine.submit(new_job())
    page = machine.reader.page(JobFilter(label=part))
    assert [job.id for job in page] == [jobs[number].id for number in found]


def test_a_search_goes_together_with_every_filter(machine: Machine) -> None:
    jobs: list[Job] = []
    for number in range(16):
        job = machine.submit(
            new_job(
                operation="detect" if number % 2 else "crop",
                label="a cat" if number % 3 else "a dog" if number % 4 else None,
                key_id="mine" if number % 5 else None,
            )
        )
        if number % 7 == 0:
            machine.cancel(job.id)
        jobs.append(machine.known(job))
    newest_first = jobs[::-1]
    choices = product(
        (None, "crop"),
        (None, Status.QUEUED),
        (None, "mine"),
        (None, "CAT"),
        (None, jobs[3].created_at),
        (None, jobs[12].created_at),
        (None, jobs[14].id),
        (2, 50),
    )
    for operation, status, key_id, label, since, until, before, limit in choices:
        expected = [
            job
            for job in newest_first
            if operation in (None, job.operation)
            and status in (None, job.status)
            and key_id in (None, job.key_id)
            and (label is None or label.casefold() in (job.label or ""))
            and (since is None or job.created_at >= since)
            and (until is None or job.created_at < until)
            and (before is None or job.id < before)
        ]
        wanted = JobFilter(operation, status, key_id, label, since, until)
        page = machine.reader.page(wanted, before=before, limit=limit)
        assert page == [as_listed(job) for job in expected[:limit]], (wanted, before, limit)


@pytest.mark.parametrize("moment", [datetime.min, datetime.max, datetime(1969, 1, 1)])
def test_times_at_the_ends_of_the_calendar(machine: Machine, moment: datetime) -> None:
    job = machine.submit(new_job())
    far = moment.replace(tzinfo=UTC)
    late = moment.year > 2000
    assert [each.id for each in machine.reader.page(JobFilter(since=far))] == ([] if late else [job.id])
    assert [each.id for each in machine.reader.page(JobFilter(until=far))] == ([job.id] if late else [])


def test_a_search_ends_at_its_limit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = []
    for number in range(5):
        jobs.append(machine.submit(new_job(label=f"photo {number}")))
        time.sleep(0.002)  # `until` is a bound of the ids, which count milliseconds
    monkeypatch.setattr(pages, "SEARCHED", 3)
    pages._page.cache_clear()
    try:
        assert [each.id for each in machine.reader.page(JobFilter(label="photo 2"))] == [jobs[2].id]
        assert machine.reader.page(JobFilter(label="photo 1")) == []
        until = JobFilter(label="photo 1", until=jobs[3].created_at)
        assert [each.id for each in machine.reader.page(until)] == [jobs[1].id]
    finally:
        pages._page.cache_clear()


def test_numbered_pages_and_counts_of_an_operation(machine: Machine) -> None:
    owners = ("one", "two", None)
    stored = [
        machine.submit(new_job(operation="generate" if number % 2 else "detect", key_id=owners[number % 3]))
        for number in range(24)
    ]
    machine.finish(machine.start(stored[5]), "image-1.jpg")
    for operation, key_id in product(("generate", "detect", "unknown"), (None, "one", "two", "three")):
        expected = [
            as_listed(machine.known(job))
            for job in stored[::-1]
            if job.operation == operation and key_id in (None, job.key_id)
        ]
        for skip, limit in ((0, 3), (3, 3), (0, 50), (11, 50), (50, 3)):
            page = machine.reader.numbered_page(operation, key_id=key_id, skip=skip, limit=limit)
            assert page == expected[skip : skip + limit], (operation, key_id, skip, limit)
        for limit in (1, 5, 100):
            assert machine.reader.count_of(operation, key_id=key_id, limit=limit) == min(len(expected), limit)


def test_files_are_found_by_their_own_id_and_artifacts_by_their_name(machine: Machine) -> None:
    job = machine.done(new_job(), "marked.jpg", "other.svg")
    for file in job.files:
        assert machine.reader.file(file.id) == file
    for file in job.artifacts:
        assert machine.reader.artifact(job.id, file.name) == file
    assert machine.reader.artifact(job.id, "image") is None, "an input is no artifact"


def test_waiting_is_oldest_first_and_bounded(machine: Machine) -> None:
    stored = [machine.submit(new_job(lane="gpu")) for _ in range(4)]
    machine.submit(new_job(stored[0].cache_key))  # behind a leader
    machine.start(stored[1])
    assert machine.waiting(2) == [(stored[0].id, "gpu"), (stored[2].id, "gpu")]
    assert machine.waiting(9) == [(stored[number].id, "gpu") for number in (0, 2, 3)]


def test_overdue_lists_those_whose_lease_ended_first(machine: Machine) -> None:
    stored = [machine.submit(new_job()) for _ in range(3)]
    for job, minutes in zip(stored, (3, 1, 2), strict=True):
        machine.start(job, lease=timedelta(minutes=minutes))
    assert machine.reader.overdue(datetime.now(UTC), 9) == []
    assert machine.reader.overdue(datetime.now(UTC) + 2.5 * LEASE, 9) == [stored[1].id, stored[2].id]
    assert machine.reader.overdue(datetime.now(UTC) + FAR, 2) == [stored[1].id, stored[2].id]


def test_outdated_lists_finished_jobs_oldest_first(machine: Machine) -> None:
    finished = [machine.done(new_job()) for _ in range(3)]
    machine.submit(new_job(created_at=datetime.now(UTC) - FAR))
    running = machine.submit(new_job(created_at=datetime.now(UTC) - FAR))
    machine.start(running)
    soon = datetime.now(UTC) + DAY
    assert machine.reader.outdated(soon, 10) == [job.id for job in finished]
    assert machine.reader.outdated(soon, 2) == [job.id for job in finished[:2]]
    assert machine.reader.outdated(finished[1].created_at, 10) == [finished[0].id]


def test_stale_lists_queued_jobs_oldest_first(machine: Machine) -> None:
    queued = [machine.submit(new_job()) for _ in range(3)]
    machine.done(new_job())
    machine.start(machine.submit(new_job(created_at=datetime.now(UTC) - FAR)))
    soon = datetime.now(UTC) + DAY
    assert machine.reader.stale(soon, 10) == [job.id for job in queued]
    assert machine.reader.stale(soon, 2) == [job.id for job in queued[:2]]
    assert machine.reader.stale(queued[1].created_at, 10) == [queued[0].id]


def test_counts_by_status(machine: Machine) -> None:
    for _ in range(3):
        machine.submit(new_job())
    machine.start(machine.submit(new_job()))
    machine.done(new_job())
    assert [machine.reader.count(status) for status in Status] == [3, 1, 1, 0, 0]


def test_lanes_tell_what_waits_and_since_when(machine: Machine) -> None:
    assert machine.reader.lanes() == []
    first, second = machine.submit(new_job()), machine.submit(new_job())
    other = machine.submit(new_job(lane="other"))
    machine.done(new_job())
    loads = machine.reader.lanes()
    assert loads == [LaneLoad("cpu", 2, 0, first.created_at), LaneLoad("other", 1, 0, other.created_at)]
    machine.start(first)
    machine.start(other)
    assert machine.reader.lanes() == [LaneLoad("cpu", 1, 1, second.created_at), LaneLoad("other", 0, 1, None)]


def test_similar_lists_succeeded_jobs_with_a_hash_newest_first(machine: Machine) -> None:
    def ended(phash: str | None, status: str = "succeeded", key: str | None = "like") -> Job:
        job = machine.submit(new_job(similarity_key=key))
        error = {"title": "broken"} if status == "failed" else None
        result = None if error else {}
        machine.try_finish(machine.start(job), Outcome(result=result, error=error, phash=phash))
        return machine.known(job)

    first, second = ended("01"), ended("02")
    ended(None)
    ended("03", "failed")
    ended("04", key="another")
    ended("05", key=None)
    machine.submit(new_job(similarity_key="like"))
    since = datetime.now(UTC) - DAY
    similar = machine.reader.similar
    assert similar("like", computed_since=since, limit=9) == [(second.id, "02"), (first.id, "01")]
    assert similar("like", computed_since=since, limit=1) == [(second.id, "02")]
    assert second.computed_at is not None
    assert similar("like", computed_since=second.computed_at, limit=9) == [(second.id, "02")]


def test_blobs_are_listed_by_their_state_and_when_they_came_into_it(machine: Machine) -> None:
    for picture in ("a", "b", "c"):
        machine.submit(new_job(picture=picture))
    for job in machine.reader.page()[:2]:
        machine.erase(job.id)
    machine.claim("b")
    now = datetime.now(UTC)
    assert machine.reader.blobs_in(BlobState.MARKED, now + DAY, 9) == ["c"]
    assert machine.reader.blobs_in(BlobState.REMOVING, now + DAY, 9) == ["b"]
    assert machine.reader.blobs_in(BlobState.MARKED, now - DAY, 9) == []
    assert machine.reader.without_row(["a", "x", "b", "c", "y"]) == ["x", "y"]
    assert machine.claim("x", "y", "z") == ["x", "y", "z"]
    assert len(machine.reader.blobs_in(BlobState.REMOVING, now + DAY, 2)) == 2
    assert machine.reader.without_row(["x"]) == []


# --- events ----------------------------------------------------------------------------------------------------------


def test_events_come_in_order_by_pages_and_filters(machine: Machine) -> None:
    one = machine.done(new_job())
    two = machine.submit(new_job(operation="contours"))
    everything = machine.events()
    ids = [event.id for event in everything]
    assert ids == sorted(set(ids))
    after = machine.log.after
    assert machine.log.last_id() == ids[-1]
    assert after(ids[0], limit=2) == everything[1:3]
    assert [event.job_id for event in after(0, limit=9, job_id=one.id)] == [one.id] * 3
    assert [event.id for event in after(ids[0], limit=1, job_id=one.id)] == [ids[1]]
    assert [event.job_id for event in after(0, limit=9, operation="contours")] == [two.id]
    assert [event.id for event in after(ids[1], limit=9, operation="detect")] == [ids[2]]
    assert after(0, limit=9, job_id=one.id, operation="contours") == []
    assert len(after(0, limit=9, job_id=one.id, operation="detect")) == 3
    assert after(ids[-1], limit=9) == []


def test_an_event_keeps_the_state_of_its_time(machine: Machine) -> None:
    job = machine.done(new_job(), "marked.jpg")
    contents = [event.content or {} for event in machine.events()]
    assert [each["status"] for each in contents] == ["queued", "running", "succeeded"]
    assert [each["progress"] for each in contents] == [0.0, 0.0, 1.0]
    assert [len(each["artifacts"]) for each in contents] == [0, 0, 1]
    assert contents[-1]["artifacts"][0]["id"] == job.artifacts[0].id
    assert contents[-1]["summary"] == SUMMARY
    assert "result" not in contents[-1]  # no landmark in the log of events


def test_event_ids_are_never_used_again(machine: Machine) -> None:
    machine.done(new_job())
    last = machine.log.last_id()
    later = datetime.now(UTC) + DAY
    assert machine.drop_events(later, 2) == last - 1
    assert [event.id for event in machine.events()] == [last]
    looked_at = machine.drop_events(later, 2, after=last - 1)
    assert looked_at is not None
    assert looked_at >= last
    assert (machine.events(), machine.drop_events(later, 2, after=looked_at)) == ([], None)
    assert machine.log.last_id() == last
    machine.submit(new_job())
    assert [event.id for event in machine.events()] == [last + 1]


def test_dropping_events_keeps_the_young(machine: Machine) -> None:
    machine.submit(new_job())
    machine.drop_events(datetime.now(UTC) - DAY)
    assert machine.told() == ["job.queued"]


def test_events_of_a_clock_that_was_ahead_hold_up_no_others(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction, "EVENTS_AT_ONCE", 5)
    job = machine.submit(new_job())
    now = datetime.now(UTC)
    for count, time_of_clock in ((12, now + FAR), (12, now - DAY), (7, now + FAR), (3, now - DAY)):
        machine.store.transact(partial(_log, job=job, count=count, now=time_of_clock))
    assert len(machine.events()) == 35
    looked_at: int | None = 0
    steps = 0
    while looked_at is not None:
        looked_at = machine.drop_events(now - DAY / 2, 4, after=looked_at)
        steps += 1
    assert [event.time for event in machine.events()][1:] == [now + FAR] * 19
    assert steps < 20


def _log(tx: Transaction, job: Job, count: int, now: datetime) -> None:
    """Log so many events at this time of the clock."""
    tx.now = lambda: now  # type: ignore[method-assign]
    for _ in range(count):
        tx.log(job, EventType.PROGRESS)


def test_a_reader_that_continues_after_the_last_id_misses_no_event(machine: Machine) -> None:
    writers, each = 4, 25
    ended = threading.Event()
    seen: list[int] = []

    def read() -> None:
        last = 0
        while True:
            over = ended.is_set()
            while rows := machine.log.after(last, limit=7):
                seen.extend(row.id for row in rows)
                last = rows[-1].id
            if over:
                return
            ended.wait(0.001)

    reader = threading.Thread(target=read)
    reader.start()
    other = machine.again()
    calls = [lambda m=m: [m.submit(new_job()) for _ in range(each)] for m in [machine, other] * (writers // 2)]  # type: ignore[misc]
    at_once(calls)
    ended.set()
    reader.join()
    assert seen == [event.id for event in machine.events()]
    assert len(seen) == writers * each


@pytest.mark.parametrize("text", ["", "\0", "a\0b", "😀", "x" * 5000, "'; --", "%s %(id)s"])
def test_strange_text_finds_nothing(machine: Machine, text: str) -> None:
    job, reader = machine.done(new_job(), "a.jpg"), machine.reader
    assert (reader.get(text), reader.file(text), reader.artifact(job.id, text)) == (None, None, None)
    assert reader.get(job.id + text) == (None if text else reader.get(job.id))
    assert (reader.is_current(text, 1), reader.is_running_on(text)) == (False, False)
    assert reader.page(JobFilter(operation=text)) == []
    assert reader.page(before=text) == ([as_listed(machine.known(job))] if text > job.id else [])
    assert machine.log.after(0, limit=9, job_id=text) == []
    assert reader.without_row([text]) == [text]
    with pytest.raises(NotFoundError):
        machine.erase(text)
    assert machine.try_start(text) is None


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=MACHINES)
def lasting(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    with databases.one(request.param, tmp_path_factory.mktemp("values")) as url:
        made = open_machine(url)
        yield made
        made.close()


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_objects = st.dictionaries(st.text(), _json, max_size=4)
_moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))


@given(params=_objects, created_at=_moments, result=_objects, summary=_objects)
def test_values_are_read_as_they_were_written(
    lasting: Machine, params: dict[str, Any], created_at: datetime, result: dict[str, Any], summary: dict[str, Any]
) -> None:
    job = new_job(params=params, created_at=created_at)
    lasting.submit(job)
    assert unsent(lasting.known(job)) == job
    lasting.try_finish(lasting.start(job), Outcome(result=result, summary=summary))
    assert (lasting.known(job).result, lasting.known(job).summary) == (result, summary)
    lasting.erase(job.id)
