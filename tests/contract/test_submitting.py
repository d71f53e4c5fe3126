"""`transitions.submit` on every store: the first of its cases that applies decides."""

from dataclasses import replace

import pytest

from limner.domain.blob import BlobState
from limner.domain.errors import InvalidRequestError, QueueFullError
from limner.domain.job import Job, Outcome, Status
from limner.jobs.transitions import Decision, Missing
from tests.contract.machine import DAY, NOTHING, SUMMARY, Machine, as_listed, at_once, new_job, unsent


def test_a_new_job_is_stored_as_queued_with_all_it_carries(machine: Machine) -> None:
    job = new_job(idempotency_key="k", similarity_key="like")
    assert machine.decide(job) is Decision.NEW
    assert unsent(machine.known(job)) == job
    assert machine.waiting(10) == [(job.id, "cpu")]
    assert machine.told() == ["job.queued"]


def test_case_1_a_known_idempotency_key_gives_the_first_job_back_unchanged(machine: Machine) -> None:
    first, again = new_job("same", idempotency_key="k"), new_job("same", idempotency_key="k")
    assert machine.submit(first) == machine.submit(again)
    machine.start(first)
    assert machine.submit(again) == machine.known(first)
    assert machine.decide(again) is Decision.REPEAT
    assert machine.reader.get(again.id) is None
    assert machine.told() == ["job.queued", "job.running"]


def test_case_1_comes_before_all_others_and_needs_no_bytes(machine: Machine) -> None:
    first = new_job("same", idempotency_key="k")
    machine.submit(first)
    again = new_job("same", idempotency_key="k", picture="not stored")
    assert machine.submit(again, max_queued=1, is_stored=_never).id == first.id  # the queue is full
    assert machine.finish(machine.start(first))
    assert machine.submit(again, is_stored=_never).id == first.id  # a cached answer is there


def test_case_1_refuses_a_key_that_was_used_for_other_work(machine: Machine) -> None:
    machine.submit(new_job("one", idempotency_key="k"))
    other = new_job("two", idempotency_key="k")
    with pytest.raises(InvalidRequestError, match="Idempotency-Key"):
        machine.submit(other)
    assert machine.reader.get(other.id) is None
    assert machine.submit(replace(other, idempotency_key="another")).id == other.id


def test_an_erased_jobs_idempotency_key_is_free_again(machine: Machine) -> None:
    first = new_job("one", idempotency_key="k")
    machine.submit(first)
    machine.erase(first.id)
    second = new_job("two", idempotency_key="k")
    assert machine.submit(second).id == second.id


def test_case_2_a_cached_result_answers_at_once_and_shares_the_artifacts(machine: Machine) -> None:
    source = machine.done(new_job("same"), "marked.jpg", "other.svg")
    job = new_job("same")
    submitted = machine.try_submit(job)
    assert not isinstance(submitted, Missing)
    assert submitted.decision is Decision.CACHED
    answer = submitted.job
    assert answer == machine.known(job)
    assert (answer.id, answer.status, answer.cached, answer.progress) == (job.id, Status.SUCCEEDED, "exact", 1.0)
    assert (answer.result, answer.summary, answer.attempt) == (source.result, SUMMARY, 0)
    assert answer.computed_at == source.computed_at
    assert answer.started_at == answer.finished_at
    assert answer.inputs == job.files
    assert [(each.name, each.sha256) for each in answer.artifacts] == [
        (each.name, each.sha256) for each in source.artifacts
    ]
    assert {each.job_id for each in answer.artifacts} == {job.id}
    assert not {each.id for each in answer.artifacts} & {each.id for each in source.artifacts}
    assert machine.told(job) == ["job.succeeded"]
    assert machine.waiting(10) == []


def test_case_2_comes_before_a_full_queue(machine: Machine) -> None:
    machine.done(new_job("same"))
    machine.submit(new_job())
    assert machine.submit(new_job("same"), max_queued=1).cached == "exact"


def test_case_2_only_within_its_time_counted_from_when_it_was_computed(machine: Machine) -> None:
    machine.done(new_job("same"))
    assert machine.decide(new_job("same"), cache_for=DAY) is Decision.CACHED
    late = new_job("same")
    assert machine.decide(late, cache_for=NOTHING) is Decision.NEW  # also what the cache itself answered


def test_case_2_failed_and_cancelled_jobs_are_no_cache_hits(machine: Machine) -> None:
    failed, cancelled = new_job("same"), new_job("same")
    machine.submit(failed)
    machine.fail(machine.start(failed))
    machine.submit(cancelled)
    machine.cancel(cancelled.id)
    assert machine.decide(new_job("same")) is Decision.NEW


def test_case_2_a_similar_result_answers_the_same_photo(machine: Machine) -> None:
    job = new_job("same")
    machine.submit(job)
    machine.try_finish(machine.start(job), Outcome(result={}, cached="similar", cache_distance=3))
    assert machine.submit(new_job("same")).cached == "exact"


def test_case_3_a_full_queue_stores_nothing_and_needs_no_bytes(machine: Machine) -> None:
    first = new_job("same")
    machine.submit(first, max_queued=1)
    for job in (new_job(idempotency_key="k"), new_job("same", idempotency_key="k")):
        with pytest.raises(QueueFullError):
            machine.submit(job, max_queued=1, is_stored=_never)
        assert machine.reader.get(job.id) is None
    assert machine.told() == ["job.queued"]
    machine.start(first)
    assert machine.decide(new_job(idempotency_key="k"), max_queued=1) is Decision.NEW


def test_case_4_the_same_work_in_flight_is_waited_for(machine: Machine) -> None:
    leader, second, third = new_job("same"), new_job("same"), new_job("same")
    machine.submit(leader)
    assert machine.decide(second) is Decision.SHARED
    assert machine.known(second) == replace(second, leader_id=leader.id)
    machine.start(leader)
    assert machine.submit(third).leader_id == leader.id  # the leader, never a follower
    assert machine.waiting(10) == []
    assert machine.try_start(second.id) is None
    assert machine.reader.count(Status.QUEUED) == 2
    assert machine.told(second) == ["job.queued"]


def test_bytes_that_are_not_stored_are_asked_for_and_nothing_is_written(machine: Machine) -> None:
    job = new_job(picture="photo")
    assert machine.try_submit(job, is_stored=_never) == Missing(("photo",), leaving=False)
    assert machine.reader.get(job.id) is None
    assert machine.told() == []
    assert machine.decide(job) is Decision.NEW
    assert machine.store.transact(lambda tx: tx.blob_state("photo")) is BlobState.KEPT
    assert machine.decide(new_job(picture="photo"), is_stored=_never) is Decision.NEW  # they are kept


def test_bytes_that_are_being_removed_are_waited_for(machine: Machine) -> None:
    job = new_job(picture="photo")
    machine.submit(job)
    assert machine.erase(job.id).marked == ["photo"]
    assert machine.claim("photo") == ["photo"]
    again = new_job(picture="photo")
    assert machine.try_submit(again) == Missing(("photo",), leaving=True)
    assert machine.reader.get(again.id) is None
    assert machine.store.transact(lambda tx: tx.drop_blob("photo"))
    assert machine.decide(again) is Decision.NEW


def test_marked_bytes_are_kept_again(machine: Machine) -> None:
    job = new_job(picture="photo")
    machine.submit(job)
    machine.erase(job.id)
    assert machine.try_submit(new_job(picture="photo"), is_stored=_never) == Missing(("photo",), leaving=False)
    machine.submit(new_job(picture="photo"))
    assert machine.claim("photo") == []
    assert machine.store.transact(lambda tx: tx.blob_state("photo")) is BlobState.KEPT


def test_same_work_submitted_by_many_at_once_has_one_leader(machine: Machine) -> None:
    handed_in = [new_job("same") for _ in range(16)]
    stored = at_once([lambda job=job: machine.submit(job) for job in handed_in])  # type: ignore[misc]
    leaders = [job for job in stored if job.leader_id is None]
    assert len(leaders) == 1
    assert {job.leader_id for job in stored} == {None, leaders[0].id}
    assert machine.waiting(100) == [(leaders[0].id, "cpu")]


def test_one_idempotency_key_used_by_many_at_once_is_one_job(machine: Machine) -> None:
    other = machine.again()
    stored: list[Job] = at_once(
        [lambda each=each: each.submit(new_job("same", idempotency_key="k")) for each in [machine, other] * 8]  # type: ignore[misc]
    )
    assert len({job.id for job in stored}) == 1
    assert machine.told() == ["job.queued"]


def test_the_queue_is_not_overfilled_by_more_than_run_at_the_same_time(machine: Machine) -> None:
    def try_it(each: Machine) -> bool:
        try:
            each.submit(new_job(), max_queued=5)
        except QueueFullError:
            return False
        return True

    other = machine.again()
    accepted = sum(at_once([lambda each=each: try_it(each) for each in [machine, other] * 20]))  # type: ignore[misc]
    most = 5 if machine.writers == 1 else 5 + 2 * machine.writers - 1
    assert 5 <= accepted <= most
    assert machine.reader.count(Status.QUEUED) == accepted
    assert not try_it(machine)


def test_a_job_whose_id_is_there_already_is_not_inserted(machine: Machine) -> None:
    job = machine.submit(new_job(idempotency_key="k"))
    for twin in (replace(job, idempotency_key=None), new_job(idempotency_key="k")):
        assert not machine.store.transact(lambda tx, twin=twin: tx.insert(twin))  # type: ignore[misc]
    assert machine.reader.page() == [as_listed(job)]


def _never(sha256: str) -> bool:
    return False
