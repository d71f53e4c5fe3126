"""`limner.client` with a real service, for threads and asyncio, also over a connection that is not reliable."""

import asyncio
import io
import json
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from limner.cli import main
from limner.client import (
    AsyncClient,
    Client,
    JobCancelledError,
    JobFailedError,
    NoPictureError,
    NotReachedError,
    ProblemError,
    UnexpectedAnswerError,
    WaitTimeoutError,
)
from limner.client.calls import checked_url
from limner.client.files import write
from tests.conftest import MODELS, another
from tests.journeys.conftest import StartServer
from tests.journeys.keys import ADMIN, ASKS_FOR_KEYS
from tests.journeys.server import Server
from tests.journeys.unreliable import Busy, CutAfter, LoseAnswer, unreliable


@pytest.fixture(scope="module")
def client(shared_server: Server) -> Iterator[Client]:
    with Client(shared_server.url) as made:
        yield made


@pytest.fixture
def photo(tmp_path: Path, astronaut_jpeg: bytes) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(astronaut_jpeg)
    return path


def no_face() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(file, "PNG")
    return file.getvalue()


def test_detect_and_save(client: Client, photo: Path, tmp_path: Path) -> None:
    job = client.detect(str(photo), mark="blur")
    assert (job.operation, job.status, job.finished) == ("detect", "succeeded", True)
    assert job.result is not None
    (face,) = job.result.faces
    assert 0.8 < face.score < 1
    assert face.landmarks.left_eye.x < face.landmarks.right_eye.x
    old = os.umask(0o027)
    try:
        assert job.save(tmp_path / "out.jpg") == [tmp_path / "out.jpg"]
    finally:
        os.umask(old)
    assert (tmp_path / "out.jpg").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "out.jpg").read_bytes() == job.read() == job.read("marked.jpg")
    assert job.save(f"{tmp_path}/new/") == [tmp_path / "new" / "marked.jpg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out.jpg", "photo.jpg"], "no part is left"
    assert job.inputs[0].size == photo.stat().st_size
    assert client.job(job.id).parameters == {
        "mark": "blur", "precise": False, "landmarks": "five",
    }  # fmt: skip


def test_every_way_to_give_a_photo(client: Client, photo: Path) -> None:
    ids = set()
    with photo.open("rb") as file:
        for given in (str(photo), photo, photo.read_bytes(), file):
            ids.add(client.detect(given, mark="none").inputs[0].size)
    assert ids == {photo.stat().st_size}
    with pytest.raises(FileNotFoundError):
        client.detect("missing.jpg")
    with photo.open() as text, pytest.raises((TypeError, UnicodeDecodeError)):
        client.detect(text)  # type: ignore[arg-type]
    for wrong in (5, iter([b"photo"])):
        with pytest.raises(TypeError, match="a picture is a path"):
            client.detect(wrong)  # type: ignore[arg-type]


def test_what_is_no_ordinary_file_is_written_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(tmp_path / "pipe", b"picture")
    assert (os.read(reader, 100), (tmp_path / "pipe").is_fifo()) == (b"picture", True)
    os.close(reader)
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link", b"picture")
    assert ((tmp_path / "file").read_bytes(), (tmp_path / "link").is_symlink()) == (b"picture", True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "pipe"]


def test_one_file_can_be_written_by_several_threads(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write(tmp_path / "file", bytes([number]) * 200_000), range(64)))
    assert len(set((tmp_path / "file").read_bytes())) == 1
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("key", ["", "secret\nkey", "secret key", "secrét"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ValueError, match="key has letters") as refused:
        Client("http://127.0.0.1:1", key=key)
    assert "secr" not in str(refused.value)


def test_typed_results_of_every_operation(client: Client, photo: Path, tmp_path: Path) -> None:
    contours = client.contours(photo, scheme="own", regions={"mine": [10, 152, 234]}, opacity=0.5, photo=False)
    assert contours.result is not None
    assert list(contours.result.mask_contours) == ["mine"]
    crop = client.crop(photo, width=40, height=30)
    assert crop.result is not None
    assert (crop.result.crops[0].width, crop.result.crops[0].height) == (40, 30)
    made = client.generate(photo, style="pixel", size="64", count=2, seed=5)
    assert made.result is not None
    assert [each.seed for each in made.result.pictures] == [5, 6]
    with pytest.raises(ValueError, match="2 pictures: save to a folder"):
        made.save(tmp_path / "one.jpg")
    assert [path.name for path in made.save(tmp_path)] == ["image-1.jpg", "image-2.jpg"]
    assert [path.name for path in made.save(tmp_path / "second.jpg", "image-2.jpg")] == ["second.jpg"]
    steps = client.pipeline(photo, steps=[{"operation": "detect", "mark": "none"}, {"operation": "contours"}]).result
    assert steps is not None
    assert steps.steps["detect"].result.faces[0].score > 0.8
    assert steps.steps["contours"].result.landmarks_source == "server"
    samples = client.samples(photo, size=64).result
    assert samples is not None
    assert samples.samples[0].style == "cartoon"
    assert client.run("detect", photo, mark="none").result.image.width == 512
    assert {each["name"] for each in client.operations()} >= {"detect", "generate"}
    assert client.painters()[0]["name"]


def test_a_text_that_a_form_would_read_as_json_arrives_as_text(client: Client, photo: Path) -> None:
    with pytest.raises(ProblemError) as refused:
        client.detect(photo, colour="[red]", mark="solid")
    assert [each["field"] for each in refused.value.fields] == ["colour"]
    assert "JSON" not in refused.value.detail


def test_errors_have_the_fields_of_the_problem(client: Client, photo: Path, tmp_path: Path) -> None:
    with pytest.raises(ProblemError) as refused:
        client.detect(photo, mark="wink", max_faces=0)
    error = refused.value
    assert (error.status, error.slug, error.title, error.retryable) == (
        422,
        "invalid-request",
        "Invalid request",
        False,
    )
    assert {each["field"] for each in error.fields} == {"mark", "max_faces"}
    assert error.request_id
    with pytest.raises(ProblemError, match="Not found"):
        client.run("paint", photo)
    with pytest.raises(ProblemError) as missing:
        client.job("0" * 32)
    assert missing.value.slug == "not-found"
    with pytest.raises(ValueError, match="not the id"):
        client.job("../operations")
    with pytest.raises(JobFailedError) as failed:
        client.contours(no_face())
    assert (failed.value.slug, failed.value.job.status) == ("no-face-found", "failed")
    nothing = client.detect(no_face())
    with pytest.raises(NoPictureError, match="no face"):
        nothing.save(tmp_path / "out.jpg")
    with pytest.raises(NoPictureError, match="There is no other"):
        client.detect(photo).read("other")


def test_jobs_are_listed_cancelled_and_erased(client: Client, photo: Path, astronaut_jpeg: bytes) -> None:
    before = datetime.now(UTC)
    job = client.submit("generate", another(astronaut_jpeg, 77), style="oil", size="1024", count=8, label="Monday")
    assert [each.id for each in client.jobs(q="monday", since=before)] == [job.id]
    assert list(client.jobs(q="monday", until=before)) == []
    assert job.id in [each.id for each in client.jobs(operation="generate")]
    with pytest.raises(WaitTimeoutError) as late:
        job.wait(timeout_s=0)
    assert late.value.job.id == job.id
    assert job.cancel().status == "cancelled"
    with pytest.raises(JobCancelledError):
        job.wait()
    with pytest.raises(ProblemError, match="finished"):
        job.cancel()
    assert job.erase()["job_id"] == job.id
    with pytest.raises(ProblemError) as gone:
        job.refresh()
    assert gone.value.status == 404


def test_a_job_is_run_again_with_changes(client: Client, astronaut_jpeg: bytes) -> None:
    job = client.detect(another(astronaut_jpeg, 79), mark="solid", colour="red")
    again = job.rerun(mark="box", colour=None).wait()
    assert again.id != job.id
    assert again.parameters is not None
    assert (again.parameters["mark"], "colour" in again.parameters) == ("box", False)
    assert again.read() != job.read()


def test_events_of_a_job_end_with_it(client: Client, astronaut_jpeg: bytes) -> None:
    job = client.submit("detect", another(astronaut_jpeg, 78))
    events = list(job.events())
    assert [each.type for each in events if each.type != "job.progress"] == [
        "job.queued",
        "job.running",
        "job.succeeded",
    ]
    assert events[-1].job.faces_count == 1
    assert events[-1].job.artifacts[0].name == "marked.jpg"
    assert job.wait().result is not None


def test_asyncio(shared_server: Server, photo: Path, tmp_path: Path, astronaut_jpeg: bytes) -> None:
    async def use() -> None:
        async with AsyncClient(shared_server.url) as client:
            jobs = await asyncio.gather(
                *(client.detect(another(astronaut_jpeg, 80 + n), mark="solid") for n in range(3))
            )
            assert [len(job.result.faces) for job in jobs if job.result] == [1, 1, 1]
            assert await jobs[0].save(tmp_path / "a.jpg") == [tmp_path / "a.jpg"]
            assert (tmp_path / "a.jpg").read_bytes() == await jobs[0].read()
            submitted = await client.submit("crop", photo, width=20, height=20)
            done = await submitted.wait()
            assert [event.type async for event in done.events()][-1] == "job.succeeded"
            assert done.id in [job.id async for job in client.jobs()]
            with pytest.raises(ProblemError):
                await client.detect(photo, mark="wink")
            assert (await done.erase())["job_id"] == done.id
            assert await client.operations()
            assert await client.painters()

    asyncio.run(use())


# --- a connection that is not reliable ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_a_submission_that_is_sent_again_is_one_job(
    shared_server: Server, client: Client, astronaut_jpeg: bytes, kind: str
) -> None:
    data = another(astronaut_jpeg, 90 if kind == "threads" else 91)
    with unreliable(shared_server.port) as proxy:
        proxy.faults.extend([LoseAnswer(), Busy(503, "Retry-After: 1\r\n"), LoseAnswer()])
        before = {each.id for each in client.jobs(operation="generate")}
        if kind == "threads":
            with Client(proxy.url) as over:
                made = over.generate(data, style="pixel", size="64").id
        else:

            async def generate() -> str:
                async with AsyncClient(proxy.url) as over:
                    return (await over.generate(data, style="pixel", size="64")).id

            made = asyncio.run(generate())
    after = {each.id for each in client.jobs(operation="generate")}
    assert after - before == {made}, "`generate` without a seed paints anew for each submission, but for a repeat"
    posts = [head for head in proxy.requests if head.startswith(b"POST")]
    assert len(posts) >= 4
    keys = {line for head in posts for line in head.lower().split(b"\r\n") if line.startswith(b"idempotency-key")}
    assert len(keys) == 1
    assert b"photo" not in b"".join(posts)


def test_a_service_that_stays_busy_is_told(shared_server: Server, photo: Path) -> None:
    problem = {"type": "urn:limner:problem:queue-full", "title": "Queue full", "status": 429, "detail": "It is full."}
    told = json.dumps({**problem, "retryable": True}).encode()
    with unreliable(shared_server.port) as proxy:
        proxy.faults.extend([Busy(429, "Retry-After: 1\r\n", told)] * 9)
        with Client(proxy.url, tries=2) as over, pytest.raises(ProblemError) as busy:
            over.detect(photo)
        assert (busy.value.slug, busy.value.retry_after_s, len(proxy.requests)) == ("queue-full", 1, 2)
        with Client(proxy.url, retry_for_s=0.5) as over, pytest.raises(ProblemError):
            over.detect(photo)  # it would have to wait for longer than it may
        assert len(proxy.requests) == 3
        proxy.faults.clear()
        proxy.faults.append(Busy(422, body=told.replace(b"true", b"false")))
        with Client(proxy.url) as over, pytest.raises(ProblemError):
            over.detect(photo)
        assert len(proxy.requests) == 4, "what is not retryable is not tried again"


def test_an_event_stream_goes_on_where_it_was_cut(shared_server: Server, client: Client, astronaut_jpeg: bytes) -> None:
    job = client.detect(another(astronaut_jpeg, 95))
    with unreliable(shared_server.port) as proxy, Client(proxy.url) as over:
        proxy.faults.extend([CutAfter(1), LoseAnswer(), Busy(503, "Retry-After: 0\r\n"), CutAfter(1)])
        events = list(over.events(job=job.id, after=0))
        assert [each.type for each in events] == ["job.queued", "job.running", "job.succeeded"]
        resumed = [line for head in proxy.requests for line in head.split(b"\r\n") if line.lower().startswith(b"last-")]
        assert resumed[0].endswith(b" 0")
        assert any(line.endswith(f" {events[0].id}".encode()) for line in resumed)


def test_an_event_stream_gives_up(shared_server: Server) -> None:
    with unreliable(shared_server.port) as proxy, Client(proxy.url) as over:
        proxy.faults.extend([LoseAnswer()] * 3)
        with pytest.raises(NotReachedError, match="3 times in a row"):
            next(over.events(reconnects=2))
        with pytest.raises(ProblemError, match="Invalid request"):
            next(over.events(after=-1))


def test_nobody_or_somebody_else_listens(shared_server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", tries=2) as nobody, pytest.raises(NotReachedError, match="No connection"):
        nobody.operations()
    with unreliable(shared_server.port) as proxy:
        proxy.faults.extend(
            [
                Busy(404),
                Busy(301, "Location: http://127.0.0.1:1/\r\n"),
                Busy(200),
                Busy(200, body=b'{"jobs": [{"id": 5}]}'),
            ]
        )
        with Client(proxy.url) as other:
            with pytest.raises(UnexpectedAnswerError, match="Is this its URL"):
                other.operations()
            with pytest.raises(UnexpectedAnswerError, match="leads elsewhere"):
                other.operations()
            with pytest.raises(UnexpectedAnswerError, match="not JSON"):
                other.operations()
            with pytest.raises(UnexpectedAnswerError, match="cannot be read"):
                next(other.jobs())


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8282", "ftp://host", "http://", "http://me:secret@host", "http://host/?a=b"]
)
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(ValueError, match="URL of a service") as refused:
        Client(url)
    assert "secret" not in str(refused.value)
    assert checked_url("https://host/faces/") == "https://host/faces"


def test_a_key_is_sent_and_not_shown(start_server: StartServer, photo: Path, tmp_path: Path) -> None:
    server = start_server(**ASKS_FOR_KEYS)
    with Client(server.url) as without, pytest.raises(ProblemError) as refused:
        without.detect(photo)
    assert refused.value.slug == "unauthorized"
    with Client(server.url, key=ADMIN) as client:
        assert client.detect(photo).save(tmp_path / "out.jpg")
        assert ADMIN not in repr(client)
        assert [event.type for event in client.events(after=0, job=client.detect(photo).id)][-1] == "job.succeeded"


# --- the command line -----------------------------------------------------------------------------------------------


def test_the_command_line_sends_photos_to_a_service(
    start_server: StartServer, tmp_path: Path, astronaut_jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(**ASKS_FOR_KEYS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(tmp_path / "none"))  # nothing runs here
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "1.jpg").write_bytes(astronaut_jpeg)
    (photos / "2.png").write_bytes(no_face())
    (photos / "3.txt").write_text("no picture")
    (photos / "4.jpg").write_bytes(astronaut_jpeg[:9000])
    (tmp_path / "key").write_text(f"{ADMIN}\n")

    def limner(*arguments: str) -> Result:
        return CliRunner().invoke(main, [*arguments, "--server", server.url])

    refused = limner("detect", "photos", "-o", "out")
    assert refused.exit_code == 1
    assert refused.stderr.splitlines() == [
        "Stopped after 0 of 4: 0 done.",
        "Error: Unauthorized: This request needs an API key. Send it as `Authorization: Bearer lim_…`.",
    ]
    done = limner("detect", "photos", "-o", "out", "--mark", "solid", "--format", "jpeg", "--key-file", "key")
    assert done.exit_code == 1
    assert re.sub(r"0\.9\d", "0.9…", done.stdout).splitlines() == [
        "photos/1.jpg: 1 face (0.9…) → out/1.marked.jpg",
        "photos/2.png: no face → out/2.jpg (copied)",
    ]
    assert done.stderr.splitlines() == [
        "photos/4.jpg: Broken picture: The picture is damaged and cannot be decoded.",
        "3 photos: 2 done (1 without a face, 1 copied), 1 failed, 1 other file skipped.",
    ]
    monkeypatch.setenv("LIMNER_KEY", ADMIN)
    drawn = limner("generate", "photos/1.jpg", "--style", "pixel", "--size", "64", "--seed", "3", "--json")
    assert json.loads(drawn.stdout)["written"] == ["photos/1.image-1.jpg"]
    wrong = limner("detect", "photos/1.jpg", "--colour", "[red]", "--mark", "solid", "-o", "new/")
    assert (wrong.exit_code, "colour" in wrong.stderr) == (1, True)
    with Client(server.url, key=ADMIN) as client:
        named = str([job.json for job in client.jobs()]) + server.log.read_text()
        assert "photos" not in named
    monkeypatch.setenv("LIMNER_MODELS_DIR", str(MODELS))
    here = CliRunner().invoke(main, ["detect", "photos/1.jpg"])  # LIMNER_KEY is no misspelt setting
    assert here.exit_code == 0, here.output
    nowhere = CliRunner().invoke(main, ["detect", "photos/1.jpg", "--server", "localhost:8282"])
    assert (nowhere.exit_code, "begins with http:// or https://" in nowhere.stderr) == (2, True)
