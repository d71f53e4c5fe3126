"""Asking another server: silence, endless bodies, disconnects, bombs, errors, and stopping at any moment."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from limner.domain import errors
from limner.painters.remote import (
    Answer,
    FilePart,
    RemoteServer,
    base_url,
    fitted,
    form,
    from_base64,
    key_from,
    picture_from,
    preview_from,
    read_json,
)
from tests.painters.servers import Reply, Request, bomb, gradient, png, serving


def asking(url: str, timeout_s: float = 5, **options: object) -> RemoteServer:
    return RemoteServer(url, wait=lambda: None, timeout_s=timeout_s, **options)  # type: ignore[arg-type]


def test_the_answer_comes_whole_with_its_status_and_headers() -> None:
    with serving(lambda _: Reply(b"x" * 100_000, 418, {"X-Seed": "5"})) as server, asking(server.url) as remote:
        answer = remote.ask("POST", "/paint", headers={"X-Own": "1"}, body=b"b" * 300_000)
    assert (answer.status, answer.headers["x-seed"], len(answer.body)) == (418, "5", 100_000)
    (request,) = server.requests
    assert (request.method, request.path, len(request.body)) == ("POST", "/paint", 300_000)
    assert request.headers["x-own"] == "1"
    assert request.headers["host"] == server.url.removeprefix("http://")


def test_a_form_is_read_as_it_was_meant() -> None:
    fields = {"prompt": 'a "fox"\r\n--x\r\nContent-Disposition: none', "text_prompts[0][text]": "ÄÖ", "empty": ""}
    headers, body = form([*fields.items(), ("image", FilePart(b"\r\n--\0", "image/png"))])
    read = Request("POST", "/", {"content-type": headers["Content-Type"]}, body).form()
    assert {name: value.decode() for name, value in read.items() if name != "image"} == fields
    assert read["image"] == b"\r\n--\0"
    with pytest.raises(ValueError, match="no name"):
        form([('a"\r\nX: 1', "b")])


def test_a_silent_server_is_left_after_the_time_and_told_as_perhaps_charged() -> None:
    over = threading.Event()

    def wait(_: Request) -> Reply:
        over.wait(20)
        return Reply()

    with serving(wait) as server, asking(server.url, 1.2) as remote:
        start = time.monotonic()
        with pytest.raises(errors.PainterTimeoutError, match="charged"):
            remote.ask("GET", "/")
        over.set()
    assert 1 < time.monotonic() - start < 15
    assert len(server.requests) == 1  # it is never asked again
    assert not errors.PainterTimeoutError.retryable


class StoppedError(Exception):
    """Stands for a cancelled job."""


@pytest.mark.parametrize("silent", ["before the answer", "within the body"])
def test_a_job_stops_while_the_server_is_silent(silent: str) -> None:
    over, stopped = threading.Event(), threading.Event()

    def wait(_: Request) -> Reply:
        if silent == "before the answer":
            stopped.set()
            over.wait(20)
        return Reply(parts())

    def parts() -> Iterator[bytes]:
        yield b"x"
        stopped.set()
        over.wait(20)
        yield b"y" * 1_000_000

    def stop() -> None:
        if stopped.is_set():
            raise StoppedError

    with serving(wait) as server:
        start = time.monotonic()
        with RemoteServer(server.url, wait=stop, timeout_s=30) as remote, pytest.raises(StoppedError):
            remote.ask("GET", "/")
        took = time.monotonic() - start
        over.set()
    assert took < 15


def test_a_job_stops_while_the_server_reads_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        ends = time.monotonic() + 1

        def stop() -> None:
            if time.monotonic() > ends:
                raise StoppedError

        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with RemoteServer(url, wait=stop, timeout_s=30) as remote, pytest.raises(StoppedError):
            remote.ask("POST", "/", body=bytes(50_000_000))
    assert time.monotonic() - ends < 15


def test_an_endless_body_is_cut() -> None:
    def endless(_: Request) -> Reply:
        return Reply(iter(lambda: b"x" * 65_536, b""))

    with (
        serving(endless) as server,
        asking(server.url, 30) as remote,
        pytest.raises(errors.PainterServerError, match="more than 1,000,000"),
    ):
        remote.ask("GET", "/", max_bytes=1_000_000)
    assert server.broken.wait(10)


def test_a_body_that_trickles_ends_with_the_time() -> None:
    def trickle(_: Request) -> Reply:
        def parts() -> Iterator[bytes]:
            for _ in range(200):
                time.sleep(0.1)
                yield b"x"

        return Reply(parts())

    with serving(trickle) as server, asking(server.url, 1) as remote, pytest.raises(errors.PainterTimeoutError):
        remote.ask("GET", "/")


@pytest.mark.parametrize(
    "reply", [None, Reply(b"short", headers={"Content-Length": "1000"})], ids=["no answer", "half an answer"]
)
def test_a_disconnect_is_told(reply: Reply | None) -> None:
    with (
        serving(lambda _: reply) as server,
        asking(server.url) as remote,
        pytest.raises(errors.PainterServerError, match="closed the connection"),
    ):
        remote.ask("GET", "/")
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_and_one_that_speaks_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with asking(url) as remote, pytest.raises(errors.PainterServerError, match="could not be reached"):
        remote.ask("GET", "/")
    with asking("http://no-such-host.invalid") as remote, pytest.raises(errors.PainterServerError, match="reached"):
        remote.ask("GET", "/")
    with socket.create_server(("127.0.0.1", 0)) as odd:

        def speak() -> None:
            peer, _ = odd.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"SSH-2.0-something\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        url = f"http://127.0.0.1:{odd.getsockname()[1]}"
        with asking(url) as remote, pytest.raises(errors.PainterServerError, match="closed the connection"):
            remote.ask("GET", "/")
        thread.join(10)


def test_a_compressed_answer_and_a_redirect_are_not_followed() -> None:
    def answer(request: Request) -> Reply:
        if request.path == "/packed":
            return Reply(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
        return Reply(status=302, headers={"Location": "http://169.254.169.254/"})

    with serving(answer) as server, asking(server.url) as remote:
        with pytest.raises(errors.PainterServerError, match="compressed"):
            remote.ask("GET", "/packed")
        moved = remote.ask("GET", "/")
        assert isinstance(remote.problem(moved), errors.PainterServerError)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.PainterRequestError),
        (401, errors.PainterKeyError),
        (402, errors.PainterCreditError),
        (403, errors.ContentRefusedError),
        (404, errors.PainterRequestError),
        (413, errors.TooLargeError),
        (422, errors.PainterRequestError),
        (429, errors.PainterBusyError),
        (500, errors.PainterServerError),
        (503, errors.PainterServerError),
    ],
)
def test_each_status_is_told_as_what_it_is(status: int, kind: type[errors.LimnerError]) -> None:
    remote = asking("http://painter.example", hidden=["sk-secret", "my words"])
    body = json.dumps({"error": {"message": "key sk-secret, prompt 'my words'\nwas wrong"}}).encode()
    problem = remote.problem(Answer(status, {}, body))
    assert type(problem) is kind
    assert "secret" not in problem.detail
    assert "my words" not in problem.detail
    if status in {400, 403, 422}:
        assert problem.detail.endswith("key …, prompt '…' was wrong")


def test_a_key_in_the_headers_is_hidden_without_being_named() -> None:
    for value in ("Bearer s3cr3t-key", "s3cr3t-key", "Basic s3cr3t-key"):
        remote = asking("http://painter.example", headers={"authorization": value, "Accept": "image/*"})
        body = json.dumps({"error": f"key s3cr3t-key ({value}) is not allowed for image/*"}).encode()
        problem = remote.problem(Answer(403, {}, body))
        assert problem.detail == "painter.example refused the request: key … (…) is not allowed for image/*"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"errors": ["a", "b"], "name": "n"}', ": a; b"),
        (b'{"error": "plain"}', ": plain"),
        (b'{"message": "m"}', ": m"),
        (b'{"name": "n"}', ": n"),
        (b"[" * 90_000, "."),
        (b"\xff", "."),
        (b'{"error": 5}', "."),
        (json.dumps({"error": "x" * 9999}).encode(), ": " + "x" * 300),
    ],
    ids=range(8),
)
def test_the_words_of_each_server_are_found(body: bytes, told: str) -> None:
    problem = asking("http://painter.example").problem(Answer(400, {}, body))
    assert problem.detail == f"painter.example did not accept the request (400){told}"


def test_pictures_are_decoded_within_limits() -> None:
    pixels = gradient()
    assert (picture_from(png(pixels)) == pixels).all()
    for bad in (b"", b"<html>", png(pixels)[:200], bomb()):
        with pytest.raises(errors.PainterServerError, match="cannot be used"):
            picture_from(bad)
        assert preview_from(bad) is None


def test_base64_and_json_of_strangers() -> None:
    assert from_base64(base64.b64encode(b"abc").decode()) == b"abc"
    assert from_base64("data:image/png;base64,YWJj") == b"abc"
    for bad in ("!", "YQ", None, 5):
        with pytest.raises(errors.PainterServerError):
            from_base64(bad)
    for broken in (b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(errors.PainterServerError):
            read_json(broken)


def test_a_photo_is_made_smaller_only_where_it_must_be() -> None:
    photo = gradient(100, 200)
    assert fitted(photo, max_pixels=20_000, max_side=200) is photo
    assert fitted(photo, max_pixels=5000, max_side=200).shape == (50, 100, 3)
    assert fitted(photo, max_pixels=20_000, max_side=64, multiple=16).shape == (32, 64, 3)


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("X_URL", raising=False)
    assert base_url("X_URL") is None
    assert base_url("X_URL", "https://a.example") == "https://a.example"
    monkeypatch.setenv("X_URL", "http://b.example:81/v1/")
    assert base_url("X_URL", "https://a.example") == "http://b.example:81/v1"
    for bad in ("ftp://a", "a.example", "http://u:secret@a.example", "http://a/?q=1", "http://"):
        monkeypatch.setenv("X_URL", bad)
        with pytest.raises(ValueError, match="X_URL must") as told:
            base_url("X_URL")
        assert "secret" not in str(told.value)
    monkeypatch.setenv("X_KEY", "  ")
    assert key_from("X_KEY") is None
    monkeypatch.setenv("X_KEY", "a\r\nHost: b")
    with pytest.raises(ValueError, match="X_KEY must"):
        key_from("X_KEY")
