"""Thumbnails: made by the worker of what the job shows, shared with jobs of the same work, gone with the job."""

from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest

from limner.context import Context
from limner.domain.blob import BlobState
from limner.domain.errors import BadImageError, JobCrashedError, UnavailableError
from limner.domain.job import File, Job, Role, Status
from limner.jobs import blobs as bytes_of_jobs
from limner.operation import Choices, PhotoParams, operation
from tests.contract.machine import new_job
from tests.contract.rival import sha256_of
from tests.contract.test_runner import PHOTO, Bench, Told, bench

__all__ = ["bench"]  # the fixture

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
WHITE, GREY, DARK = 255, 128, 30


def grey(value: int, side: int = 1000) -> Array:
    return np.full((side // 2, side, 3), value, np.uint8)


def covering(bench: Bench) -> None:
    """Add an operation that is to cover faces."""

    @operation(version=1, choices=Choices(covers=lambda _: True))
    def cover(params: PhotoParams, ctx: Context) -> Told:
        """Call the test's function."""
        return Told(words=bench.act(ctx))

    bench.runner.catalogue = {**bench.runner.catalogue, "cover": cover}


def see_photo(ctx: Context, pixels: Array) -> None:
    """As if the operation had decoded the photo, whose bytes are no picture here."""
    assert ctx._thumbnail is not None
    ctx._thumbnail.see_photo(pixels)


def shown(bench: Bench, job: Job) -> int | None:
    """The grey that the job's thumbnail shows."""
    file = job.thumbnail
    if file is None:
        return None
    data = bench.blobs.get(file.sha256)
    assert data[8:12] == b"WEBP"
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert (file.name, file.media_type, file.size) == ("thumbnail.webp", "image/webp", len(data))
    assert (file.width, file.height) == (pixels.shape[1], pixels.shape[0])
    return round(float(pixels.mean()))


def everything(bench: Bench) -> set[str]:
    return set(bench.blobs.written(before=datetime.now(UTC) + timedelta(days=1)))


def draw(ctx: Context, *, photo: int | None = None, made: int | None = None, covered: int | None = None) -> str:
    if photo is not None:
        see_photo(ctx, grey(photo))
    if made is not None:
        ctx.show(grey(made))
    if covered is not None:
        ctx.show(grey(covered), covered=True)
    return "done"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({}, None),
        ({"photo": WHITE}, WHITE),
        ({"photo": WHITE, "made": GREY}, GREY),
        ({"photo": WHITE, "made": GREY, "covered": DARK}, DARK),
        ({"covered": DARK}, DARK),
    ],
)
def test_it_shows_the_covered_picture_else_the_new_one_else_the_photo(
    bench: Bench, seen: dict[str, int], expected: int | None
) -> None:
    bench.act = lambda ctx: draw(ctx, **seen)
    job = bench.run()
    found = shown(bench, job)
    assert (found is None) == (expected is None)
    assert found is None or abs(found - (expected or 0)) <= 3
    assert job.artifacts == ()


def test_its_longer_side_is_480_pixels_and_a_small_picture_keeps_its_size(bench: Bench) -> None:
    bench.act = lambda ctx: draw(ctx, photo=WHITE)
    file = bench.run().thumbnail
    assert file is not None
    assert (file.width, file.height) == (480, 240)
    bench.act = lambda ctx: str(see_photo(ctx, grey(GREY, 100)))
    small = bench.run().thumbnail
    assert small is not None
    assert (small.width, small.height) == (100, 50)


def test_what_is_drawn_later_on_the_photo_does_not_change_it(bench: Bench) -> None:
    def act(ctx: Context) -> str:
        photo = grey(WHITE, 100)
        see_photo(ctx, photo)
        photo[:] = 0
        return "done"

    bench.act = act
    assert shown(bench, bench.run()) == WHITE


def test_transparent_parts_are_white(bench: Bench) -> None:
    hidden = np.zeros((500, 1000), np.uint8)
    bench.act = lambda ctx: str(ctx.show(grey(0), alpha=hidden))
    assert shown(bench, bench.run()) == WHITE


@pytest.mark.parametrize("operation_name", ["plain", "cover"])
def test_a_failed_job_shows_its_photo_unless_faces_were_to_be_covered(bench: Bench, operation_name: str) -> None:
    def act(ctx: Context) -> str:
        draw(ctx, photo=WHITE, made=GREY)
        raise BadImageError

    covering(bench)
    bench.act = act
    job = bench.run(operation=operation_name)
    assert job.status is Status.FAILED
    found = shown(bench, job)
    assert found is None if operation_name == "cover" else found == WHITE


def test_followers_and_cached_answers_have_it_too(bench: Bench) -> None:
    bench.act = lambda ctx: draw(ctx, photo=GREY)
    params = {"image": {"sha256": sha256_of(PHOTO), "media_type": "image/png", "size": 9, "width": 1, "height": 1}}
    leader = bench.submit(new_job("work", picture=sha256_of(PHOTO), operation="plain", params=params))
    follower = bench.submit(new_job("work", picture=sha256_of(PHOTO), operation="plain", params=params))
    assert follower.leader_id == leader.id
    bench.runner.run(leader.id)
    cached = bench.submit(new_job("work", picture=sha256_of(PHOTO), operation="plain", params=params))
    jobs = [bench.machine.known(each) for each in (leader, follower, cached)]
    assert [each.cached for each in jobs] == [None, "exact", "exact"]
    files = [each.thumbnail for each in jobs]
    assert len({each.sha256 for each in files if each}) == 1
    assert len({each.id for each in files if each}) == 3


def test_followers_of_a_job_that_fails_have_it_too(bench: Bench) -> None:
    def act(ctx: Context) -> str:
        draw(ctx, photo=GREY)
        raise BadImageError

    bench.act = act
    leader, follower = (bench.submit(cache_key="same") for _ in range(2))
    bench.runner.run(leader.id)
    one, other = (bench.machine.known(each).thumbnail for each in (leader, follower))
    assert one is not None
    assert other is not None
    assert (one.sha256, one.id != other.id) == (other.sha256, True)


def test_a_similar_answer_has_that_of_its_source(bench: Bench) -> None:
    bench.act = lambda ctx: draw(ctx, photo=GREY)
    bench.phash = 0
    source = bench.submit_similar()
    bench.runner.run(source.id)
    other = bench.submit_similar()
    bench.runner.run(other.id)
    done = bench.machine.known(other)
    assert done.cached == "similar"
    assert shown(bench, done) == shown(bench, bench.machine.known(source))


def test_it_is_erased_with_the_last_job_that_has_it(bench: Bench) -> None:
    bench.act = lambda ctx: draw(ctx, photo=GREY)
    first = bench.run(cache_key="same")
    second = bench.submit(cache_key="same")
    assert first.thumbnail is not None
    sha256 = first.thumbnail.sha256
    for job, left in ((first, True), (second, False)):
        marked = bench.machine.erase(job.id).marked
        bytes_of_jobs.remove(bench.machine.store, bench.blobs, marked)
        assert (sha256 in everything(bench)) == left
    assert everything(bench) == set()


def test_one_that_is_lost_is_made_anew(bench: Bench) -> None:
    bench.act = lambda ctx: draw(ctx, photo=GREY)
    first = bench.run(cache_key="same")
    assert first.thumbnail is not None
    intact: list[File] = []
    again = bench.machine.submit(
        new_job("same", picture=sha256_of(PHOTO)), is_intact=lambda file: intact.append(file) or False
    )
    assert again.status is Status.QUEUED
    assert [each.role for each in intact] == [Role.THUMBNAIL]


def test_a_job_succeeds_without_it_if_it_cannot_be_stored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise UnavailableError("the disk is full")

    def act(ctx: Context) -> str:
        draw(ctx, photo=GREY)
        monkeypatch.setattr(bench.blobs, "put", full)
        return "done"

    bench.act = act
    job = bench.run()
    assert (job.status, job.thumbnail) == (Status.SUCCEEDED, None)


def test_an_overtaken_attempt_leaves_none(bench: Bench) -> None:
    def act(ctx: Context) -> str:
        draw(ctx, photo=GREY)
        bench.machine.lose("worker", "stopped")
        return "done"

    bench.act = act
    job = bench.run()
    assert job.thumbnail is None
    assert everything(bench) == {sha256_of(PHOTO)}
    assert bench.machine.reader.blobs_in(BlobState.MARKED, datetime.now(UTC) + timedelta(days=1), 9) == []


def test_events_tell_that_there_is_one_and_the_label(bench: Bench) -> None:
    bench.act = lambda ctx: draw(ctx, photo=GREY)
    job = bench.run(label="A photo.jpg")
    events = bench.machine.events(job)
    assert [(each.content or {}).get("thumbnail") for each in events] == [False, False, True]
    assert {(each.content or {}).get("label") for each in events} == {"A photo.jpg"}
    bench.machine.erase(job.id)
    assert {each.content for each in bench.machine.events(job)} == {None}


def test_a_crashed_job_has_none(bench: Bench) -> None:
    job = bench.machine.start(bench.submit())
    bench.machine.lose("worker", "died", max_attempts=1)
    done = bench.machine.known(job)
    assert done.error is not None
    assert done.error["type"].endswith(JobCrashedError.slug)
    assert done.thumbnail is None
