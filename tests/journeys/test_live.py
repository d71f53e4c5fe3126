"""Live detection with a real server: frames in, faces out, late frames dropped, nothing stored."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from limner.domain.key import Scope
from limner.settings import Settings
from limner.vision.faces import Box
from limner.vision.header import LIVE_LIMITS
from tests.conftest import as_jpeg
from tests.journeys.client import PATIENCE_S, Json, blobs, listening, metric, received, rows, submit
from tests.journeys.conftest import StartServer, served
from tests.journeys.keys import key_server, new_key, revoke, with_key
from tests.journeys.server import Server

LIVE = "/v1/live/detect"


# With a broker it is off unless LIMNER_LIVE_SOCKETS says otherwise.
pytestmark = pytest.mark.embedded


@pytest.fixture(scope="module")
def frame(astronaut: npt.NDArray[np.uint8]) -> bytes:
    """A camera's frame, 640×480, with one face."""
    return as_jpeg(np.asarray(Image.fromarray(astronaut).crop((0, 0, 512, 384)).resize((640, 480))), quality=75)


@pytest.fixture
def live(shared_server: Server) -> Iterator[ClientConnection]:
    with listening(shared_server, LIVE) as socket:
        yield socket


def asked(socket: ClientConnection, frame: bytes) -> Json:
    """The answer to a frame."""
    socket.send(frame)
    return received(socket)


def close_of(socket: ClientConnection) -> tuple[int, str]:
    """With which code and reason the server closes it; answers before are passed over."""
    with contextlib.suppress(ConnectionClosed):
        for _ in socket:
            pass
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


def looker(server: Server) -> int | None:
    """The process of live detection, if there is one."""
    found = [pid for pid in server.workers() if b"limner.live_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found[0] if found else None


def running_looker(server: Server) -> int:
    pid = looker(server)
    assert pid is not None
    return pid


def eventually_gone(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while looker(server) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def box_of(told: Json) -> Box:
    return Box(**told["box"])


def test_a_frame_is_answered_with_its_faces(shared_server: Server, live: ClientConnection, frame: bytes) -> None:
    first, second = asked(live, frame), asked(live, frame)
    assert (first["frame"], second["frame"]) == (1, 2)
    assert (first["width"], first["height"]) == (640, 480)
    assert first["faces"] == second["faces"]
    (face,) = first["faces"]
    assert set(face) == {"box", "score"}
    assert face["score"] > 0.8
    assert 0 < second["ms"] < PATIENCE_S * 1000
    thorough = submit(shared_server, frame, wait=True)["result"]["faces"][0]
    assert box_of(face).overlap(box_of(thorough)) > 0.8

    with listening(shared_server, f"{LIVE}?landmarks=true") as other:
        (pointed,) = asked(other, frame)["faces"]
    assert pointed["box"] == face["box"]
    for name, point in thorough["landmarks"].items():
        assert abs(pointed["landmarks"][name]["x"] - point["x"]) < 12
        assert abs(pointed["landmarks"][name]["y"] - point["y"]) < 12


def test_boxes_are_in_pixels_of_the_frame_as_it_was_sent(
    live: ClientConnection, astronaut: npt.NDArray[np.uint8]
) -> None:
    small = asked(live, as_jpeg(astronaut))["faces"][0]["box"]
    enlarged = np.asarray(Image.fromarray(astronaut).resize((1408, 1408)))
    told = asked(live, as_jpeg(enlarged))
    assert (told["width"], told["height"]) == (1408, 1408)
    (large,) = told["faces"]
    whole = Box(**{name: value * 1408 / 512 for name, value in small.items()})
    assert box_of(large).overlap(whole) > 0.8
    close = as_jpeg(astronaut[:300, 100:400])  # a face that fills the frame
    assert len(asked(live, close)["faces"]) == 1
    assert asked(live, as_jpeg(np.full((480, 640, 3), 90, np.uint8)))["faces"] == []
    assert asked(live, as_jpeg(np.full((2, 2, 3), 90, np.uint8)))["faces"] == []


def test_a_broken_frame_costs_only_that_frame(
    live: ClientConnection, shared_server: Server, frame: bytes, tmp_path: Path
) -> None:
    before = metric(shared_server, "limner_live_frames_total", outcome="failed")
    png = tmp_path / "frame.png"
    Image.new("RGB", (64, 64)).save(png)
    too_large = as_jpeg(np.zeros((1500, 1500, 3), np.uint8))
    for broken, status in (
        (b"", 415),
        (b"no picture", 415),
        (frame[:2000], 422),
        (frame[:2] + b"\xff" * 5000, 422),
        (png.read_bytes(), 415),
        (too_large, 413),
    ):
        told = asked(live, broken)
        assert (told["error"]["status"], told["error"]["retryable"]) == (status, False), told
        assert "faces" not in told
        assert told["error"]["type"].startswith("urn:limner:problem:")
    assert len(asked(live, frame)["faces"]) == 1
    assert metric(shared_server, "limner_live_frames_total", outcome="failed") - before == 6


def test_nothing_is_stored_or_logged(shared_server: Server, live: ClientConnection, frame: bytes) -> None:
    def kept() -> object:
        tables = [name for (name,) in rows(shared_server, "SELECT name FROM sqlite_master WHERE type = 'table'")]
        counts = {name: rows(shared_server, f"SELECT count(*) FROM {name}") for name in tables}  # noqa: S608
        return counts, sorted(blobs(shared_server))

    before, files = kept(), sorted(shared_server.folder.rglob("*"))
    log = len(shared_server.log.read_text())
    answers = [asked(live, frame) for _ in range(5)]
    asked(live, b"broken")
    assert kept() == before
    assert [each for each in sorted(shared_server.folder.rglob("*")) if each not in files] == []
    written = shared_server.log.read_text()[log:]
    assert str(answers[0]["faces"][0]["box"]["x"]) not in written
    assert "box" not in written
    process = Path(f"/proc/{running_looker(shared_server)}")
    assert b"LIMNER_" not in process.joinpath("environ").read_bytes()
    opened = {str(file.readlink()) for file in process.joinpath("fd").iterdir()}
    assert {file for file in opened if file.startswith(str(shared_server.folder))} <= {str(shared_server.log)}


def test_late_frames_are_dropped_and_the_newest_is_answered(
    shared_server: Server, live: ClientConnection, frame: bytes
) -> None:
    asked(live, frame)
    process = running_looker(shared_server)
    before = metric(shared_server, "limner_live_frames_total", outcome="dropped")
    os.kill(process, signal.SIGSTOP)
    try:
        for _ in range(8):
            live.send(frame)
        deadline = time.monotonic() + 4  # then the process counts as hung
        while metric(shared_server, "limner_live_frames_total", outcome="dropped") - before < 6:
            assert time.monotonic() < deadline
    finally:
        os.kill(process, signal.SIGCONT)
    looked_at, newest = received(live)["frame"], received(live)["frame"]
    assert (2 <= looked_at < newest, newest) == (True, 9)  # whichever of the first it was looking at, then the newest
    assert asked(live, frame)["frame"] == 10
    assert metric(shared_server, "limner_live_frames_total", outcome="dropped") - before == 6


def test_sockets_take_turns(shared_server: Server, live: ClientConnection, frame: bytes) -> None:
    """One sends as fast as it may. The other gets an answer to each frame, and does not wait behind the first's."""
    with listening(shared_server, LIVE) as greedy:
        asked(greedy, frame)
        asked(live, frame)
        for number in range(3, 13):
            for _ in range(6):
                greedy.send(frame)
            assert asked(live, frame)["frame"] == number - 1
        answered = [received(greedy)["frame"]]
        while answered[-1] < 61:
            answered.append(received(greedy)["frame"])
    assert answered == sorted(set(answered))
    assert 3 < len(answered) < 61


def test_a_crash_costs_a_frame_and_the_socket_goes_on(
    shared_server: Server, live: ClientConnection, frame: bytes
) -> None:
    asked(live, frame)
    process = running_looker(shared_server)
    os.kill(process, signal.SIGSTOP)
    live.send(frame)
    os.kill(process, signal.SIGKILL)
    told = received(live)
    assert (told["frame"], told["error"]["status"], told["error"]["retryable"]) == (2, 503, True)
    assert len(asked(live, frame)["faces"]) == 1
    assert running_looker(shared_server) != process


def test_what_no_client_may_send_closes_the_socket(shared_server: Server, frame: bytes) -> None:
    with listening(shared_server, LIVE) as socket:
        socket.send("a text")
        assert close_of(socket)[0] == 1003
    with listening(shared_server, LIVE) as socket:
        largest = frame + bytes(LIVE_LIMITS.max_bytes - len(frame))
        assert len(asked(socket, largest)["faces"]) == 1
        socket.send(largest + b"\0")
        assert close_of(socket)[0] == 1009
    with listening(shared_server, LIVE) as socket:
        socket.send(iter([frame[:10_000], frame[10_000:20_000], frame[20_000:]]))  # one message in parts
        assert len(received(socket)["faces"]) == 1
        with contextlib.suppress(ConnectionClosed):
            for _ in range(1000):
                socket.send(b"")
        assert close_of(socket)[0] in (1008, 1006)  # it may not read the reason while it still sends
    with pytest.raises(InvalidStatus) as refused, listening(shared_server, f"{LIVE}?score=1"):
        pass
    assert refused.value.response.status_code == 422
    with (
        pytest.raises(InvalidStatus) as foreign,
        listening(shared_server, LIVE, origin="https://elsewhere.example"),
    ):
        pass
    assert foreign.value.response.status_code == 403
    with listening(shared_server, "/v1/events") as socket:  # has the limits that it had
        socket.send(bytes(1025))
        assert close_of(socket)[0] == 1009


def test_places_are_limited_and_the_process_ends_when_nobody_looks(start_server: StartServer, frame: bytes) -> None:
    server = start_server(LIMNER_LIVE_SOCKETS="1", LIMNER_LIVE_IDLE_S="0.1")
    assert looker(server) is None
    with listening(server, LIVE) as first:
        assert len(asked(first, frame)["faces"]) == 1
        with listening(server, LIVE) as second:
            assert close_of(second) == (1013, "All places for live detection are taken. Try again later.")
        assert asked(first, frame)["frame"] == 2
        assert metric(server, "limner_sockets", stream="live") == 1
    eventually_gone(server)
    with listening(server, LIVE) as again:
        assert len(asked(again, frame)["faces"]) == 1


def test_a_stop_ends_sockets_and_process(start_server: StartServer, frame: bytes) -> None:
    server = start_server()
    with listening(server, LIVE) as socket:
        asked(socket, frame)
        process = running_looker(server)
        os.kill(process, signal.SIGSTOP)  # with a frame in work
        socket.send(frame)
        with ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(server.stop)
            assert close_of(socket)[0] == 1012
            assert stopped.result() == 0
    assert not Path(f"/proc/{process}").exists()


def test_it_can_be_switched_off(start_server: StartServer) -> None:
    server = start_server(LIMNER_LIVE_SOCKETS="0")
    with listening(server, LIVE) as socket:
        assert close_of(socket) == (1013, "Live detection is switched off on this server.")
    assert looker(server) is None


def test_it_is_off_where_jobs_run_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("LIMNER_")]:
        monkeypatch.delenv(name)
    assert Settings().live_sockets == 4
    assert Settings(engine_url="redis://127.0.0.1/0").live_sockets == 0
    assert Settings(engine_url="redis://127.0.0.1/0", live_sockets=2).live_sockets == 2


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for keys."""
    yield from served(key_server(tmp_path_factory.mktemp("keys")))


def status_of(server: Server, path: str, token: str | None = None) -> tuple[int, str]:
    """With which status and problem a handshake is refused."""
    with (
        pytest.raises(InvalidStatus) as refused,
        listening(server, path, additional_headers=with_key(token) if token else {}),
    ):
        pass
    return refused.value.response.status_code, json.loads(refused.value.response.body)["type"].rpartition(":")[2]


def test_a_key_must_be_allowed_to_submit(house: Server, frame: bytes) -> None:
    key = new_key(house, daily_quota=2)
    assert status_of(house, LIVE) == (401, "unauthorized")
    assert status_of(house, LIVE, new_key(house, [Scope.READ])) == (403, "missing-scope")
    with listening(house, LIVE, additional_headers=with_key(key)) as socket:
        for _ in range(4):  # a socket counts as one submission, whatever it sends
            assert len(asked(socket, frame)["faces"]) == 1
    ticket = httpx.post(f"{house.url}/v1/tickets", headers=with_key(key)).json()["ticket"]
    with listening(house, f"{LIVE}?ticket={ticket}") as socket:
        assert len(asked(socket, frame)["faces"]) == 1
    assert status_of(house, f"{LIVE}?ticket={ticket}")[0] == 401
    assert status_of(house, LIVE, key) == (429, "quota-exhausted")
    assert ticket not in house.log.read_text()


def test_a_revoked_key_ends_its_sockets(house: Server, frame: bytes) -> None:
    key, other = new_key(house), new_key(house)
    with (
        listening(house, LIVE, additional_headers=with_key(key)) as socket,
        listening(house, LIVE, additional_headers=with_key(other)) as untouched,
    ):
        asked(socket, frame)
        revoke(house, key)
        assert close_of(socket) == (1008, "The key is not valid any more.")
        assert len(asked(untouched, frame)["faces"]) == 1


def test_the_example_in_the_documents(
    shared_server: Server,
    frame: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (Path(__file__).parents[2] / "docs/live.md").read_text()
    example = re.search(r"^```python\n([^`]*v1/live/detect[^`]*)^```", text, re.MULTILINE)
    assert example is not None
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in (1, 2):
        frames.joinpath(f"{number}.jpg").write_bytes(frame)
    frames.joinpath("3.jpg").write_bytes(b"broken")
    monkeypatch.chdir(tmp_path)
    exec(example[1].replace("ws://127.0.0.1:8282", shared_server.socket_url), {})  # noqa: S102  # our own document
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("1 [{'box': ")
    assert "left_eye" in second
    assert third.startswith("3 {'type': 'urn:limner:problem:")


@pytest.mark.slow
def test_who_reads_nothing_is_dropped(shared_server: Server, frame: bytes) -> None:
    """Such a client answers no pings, so it is closed after 40 s, whatever it sends."""
    head = f"GET {LIVE} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    message = struct.pack("!BBH4x", 0x82, 0x80 | 126, len(frame)) + frame
    with socket.create_connection(("127.0.0.1", shared_server.port), PATIENCE_S) as silent:
        silent.sendall((head + key).encode())
        assert silent.recv(4096).startswith(b"HTTP/1.1 101")
        begun = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while metric(shared_server, "limner_sockets", stream="live") > 0:
                silent.sendall(message)
                assert time.monotonic() - begun < 120
                time.sleep(0.2)
        assert time.monotonic() - begun > 30
    assert metric(shared_server, "limner_sockets", stream="live") == 0
