"""Bodies that would cost more than they weigh: in memory, in time of other requests, in what is stored."""

import base64
import io
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic_core import from_json

from limner.domain.errors import InvalidRequestError, LimnerError, TooLargeError
from limner.vision.header import Limits
from limner.web.read_json import MAX_DEPTH, MAX_JSON_BYTES, MAX_VALUES, decode_base64, read_object
from tests.conftest import another, as_jpeg
from tests.journeys.client import get, problem, rows, submit
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server

MB = 1_000_000
SMALL = as_jpeg(np.zeros((10, 10, 3), np.uint8))
PATIENCE_S = 2.0  # on a machine that does other work too; landmarks of one megabyte once stopped the loop for 2.6 s
NAMES = ("image", "segmentation_map")
LIMITS = Limits(max_bytes=3_000_000)


def _text(data: bytes) -> bytes:
    return base64.b64encode(data)


def _bytes(size: int) -> bytes:
    """Bytes without a pattern, the same at each run."""
    return np.random.default_rng(size).bytes(size)


# --- the cost of a request, measured at the process ------------------------------------------------------------------


@dataclass
class Cost:
    """What requests cost a server: its greatest memory above what it had before, and the slowest answer of /healthz."""

    megabytes: float = 0.0
    slowest_s: float = 0.0
    answers: list[httpx.Response] = field(default_factory=list)


def _memory_mb(server: Server) -> float:
    """Resident memory of the web process and its workers."""
    assert server.process is not None
    total = 0
    for process in (server.process.pid, *server.workers()):
        status = Path(f"/proc/{process}/status").read_text()
        total += int(status.partition("VmRSS:")[2].split()[0])
    return total / 1000


def _settled_mb(server: Server) -> float:
    """The memory once it has stopped growing: a worker that still loads its models is no cost of a request."""
    deadline = time.monotonic() + 30
    last, now = -1.0, _memory_mb(server)
    while now > last + 1:
        assert time.monotonic() < deadline
        time.sleep(0.3)
        last, now = now, _memory_mb(server)
    return now


@contextmanager
def _measured(server: Server) -> Iterator[Cost]:
    """Watches the server from the outside while requests run."""
    cost, ending = Cost(), threading.Event()
    before = _settled_mb(server)

    def watch_memory() -> None:
        while not ending.wait(0.02):
            cost.megabytes = max(cost.megabytes, _memory_mb(server) - before)

    def watch_health() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not ending.wait(0.01):
                start = time.perf_counter()
                client.get("/healthz")
                cost.slowest_s = max(cost.slowest_s, time.perf_counter() - start)

    watchers = [threading.Thread(target=each) for each in (watch_memory, watch_health)]
    for watcher in watchers:
        watcher.start()
    try:
        yield cost
    finally:
        ending.set()
        for watcher in watchers:
            watcher.join()


def _post(server: Server, path: str, body: bytes, kind: str = "application/json") -> httpx.Response:
    return httpx.post(server.url + path, content=body, headers={"Content-Type": kind}, timeout=120)


def _field(name: str, value: bytes) -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value + b"\r\n"


_PHOTO = b'"image": "' + _text(SMALL) + b'"'
_FILE = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + SMALL + b"\r\n"
BODIES: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "a megabyte of empty landmarks": (
        lambda: b"{" + _PHOTO + b', "landmarks": [' + b",".join([b"{}"] * 330_000) + b"]}",
        413,
        "too-large",
    ),
    "50 MB of empty landmarks": (
        lambda: b"{" + _PHOTO + b', "landmarks": [' + b",".join([b"{}"] * 16_000_000) + b"]}",
        413,
        "too-large",
    ),
    "landmarks within the number of values": (
        lambda: b"{" + _PHOTO + b', "landmarks": [' + b",".join([b"{}"] * 24_000) + b"]}",
        422,
        "invalid-request",
    ),
    "50 MB of numbers": (
        lambda: b"{" + _PHOTO + b', "dash": [' + b",".join([b"1"] * 25_000_000) + b"]}",
        413,
        "too-large",
    ),
    "50 MB of spaces": (lambda: b"{" + _PHOTO + b" " * (50 * MB) + b"}", 413, "too-large"),
    "50 MB of quotes": (lambda: b'"' * (50 * MB), 413, "too-large"),
    "50 MB of backslashes": (lambda: b'{"style": "' + b"\\" * (50 * MB) + b'"}', 413, "too-large"),
    "50 MB of escaped quotes": (lambda: b'{"style": "' + b'\\"' * (25 * MB) + b'"}', 413, "too-large"),
    "a picture of escaped quotes": (lambda: b'{"image": "' + b'\\"' * (25 * MB) + b'"}', 422, "invalid-request"),
    "a picture of spaces": (lambda: b'{"image": "' + b"A " * (25 * MB) + b'"}', 415, "unsupported-media"),
    "a picture of escapes": (lambda: b'{"image": "' + b"\\n" * (25 * MB) + b'"}', 415, "unsupported-media"),
    "a deep structure": (lambda: b'{"regions": ' + b'{"a":' * 200_000 + b"1" + b"}" * 200_001, 422, "invalid-request"),
    "50 MB of label meanings": (
        lambda: b"{" + _PHOTO + b', "label_meanings": {"1": "' + b"x" * (50 * MB) + b'"}}',
        413,
        "too-large",
    ),
    "900 kB of a label's meaning": (
        lambda: b"{" + _PHOTO + b', "label_meanings": {"1": "' + b"x" * 900_000 + b'"}}',
        422,
        "invalid-request",
    ),
    "900 kB of a fill's name": (
        lambda: b"{" + _PHOTO + b', "fills": {"' + b"x" * 900_000 + b'": "red"}}',
        422,
        "invalid-request",
    ),
    "wrong members of a map": (
        lambda: b"{" + _PHOTO + b', "fills": ' + json.dumps({str(n): 1 for n in range(40_000)}).encode() + b"}",
        422,
        "invalid-request",
    ),
    "unknown fields": (
        lambda: b"{" + _PHOTO + b", " + json.dumps({f"x{n}": 1 for n in range(40_000)}).encode()[1:],
        422,
        "invalid-request",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_costs_little_and_keeps_nobody_waiting(shared_server: Server, name: str) -> None:
    make, status, slug = BODIES[name]
    body = make()
    _post(shared_server, "/v1/contours", b"{" + _PHOTO + b', "dash": 1}')  # what is loaded at the first request
    with _measured(shared_server) as cost:
        answer = _post(shared_server, "/v1/contours", body)
        classic = _post(shared_server, "/api/v1/submit", body)
    problem(answer, status, slug)
    assert classic.status_code < 500
    print(f"{name}: {cost.megabytes:.0f} MB, /healthz {cost.slowest_s * 1000:.0f} ms")
    assert cost.megabytes < 2.5 * len(body) / MB + 60
    assert cost.slowest_s < PATIENCE_S
    if classic.is_success:
        httpx.delete(f"{shared_server.url}/v1/jobs/{classic.json()['id']}")


@pytest.mark.parametrize("fields", [1, 40])
def test_a_forms_fields_share_one_budget(shared_server: Server, fields: int) -> None:
    values = b"[" + b",".join([b"{}"] * 300_000) + b"]"
    body = b"".join(_field(f"landmarks{number}" if number else "landmarks", values) for number in range(fields))
    with _measured(shared_server) as cost:
        answer = _post(shared_server, "/v1/contours", body + _FILE + b"--b--\r\n", "multipart/form-data; boundary=b")
    problem(answer, 413, "too-large")
    print(f"{fields} fields: {cost.megabytes:.0f} MB, /healthz {cost.slowest_s * 1000:.0f} ms")
    assert cost.megabytes < 2 * len(body) / MB + 60
    assert cost.slowest_s < PATIENCE_S


def test_large_pictures_leave_the_event_loop_free(shared_server: Server) -> None:
    """Eight clients at once send 40 MB in base64, and as many as a form, none of it a picture."""
    rubbish = _bytes(39_900_000)
    as_json = b'{"image": "' + _text(rubbish) + b'"}'
    as_form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + rubbish + b"\r\n--b--\r\n"
    with _measured(shared_server) as cost:

        def send() -> None:
            cost.answers.append(_post(shared_server, "/v1/detect", as_json))
            cost.answers.append(_post(shared_server, "/v1/detect", as_form, "multipart/form-data; boundary=b"))

        clients = [threading.Thread(target=send) for _ in range(8)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
    for answer in cost.answers:
        problem(answer, 415, "unsupported-media")
    print(f"8 × 40 MB: {cost.megabytes:.0f} MB, /healthz {cost.slowest_s * 1000:.0f} ms")
    assert cost.megabytes < 8 * 40 * 3
    assert cost.slowest_s < PATIENCE_S


def _processor_time_ns(process: int) -> tuple[int, int]:
    """Of the thread that has the event loop, and of all threads."""
    spent = {
        int(each.name): int(each.joinpath("schedstat").read_text().split()[0])  # see proc(5)
        for each in Path(f"/proc/{process}/task").iterdir()
    }
    return spent[process], sum(spent.values())


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="reads the processor time of threads from /proc")
@pytest.mark.parametrize("what", ["a large picture", "many values"])
def test_the_event_loop_does_not_parse(shared_server: Server, what: str) -> None:
    """Seen in processor time, because a body as large as it may be takes too little time for others to notice."""
    values = b"{" + _PHOTO + b', "landmarks": [' + b",".join([b"{}"] * 24_000) + b"]}"
    body, status = {
        "a large picture": (b'{"image": "' + _text(_bytes(39_900_000)) + b'"}', 415),
        "many values": (values, 422),
    }[what]
    assert _post(shared_server, "/v1/contours", body).status_code == status
    assert shared_server.process is not None
    before = _processor_time_ns(shared_server.process.pid)
    for _ in range(10):
        _post(shared_server, "/v1/contours", body)
    after = _processor_time_ns(shared_server.process.pid)
    loop, total = (end - start for start, end in zip(before, after, strict=True))
    print(f"{what}: {loop / 1e6:.0f} ms of {total / 1e6:.0f} ms are the event loop's")
    assert loop < total / 2


def test_a_picture_is_not_counted_against_the_json(shared_server: Server) -> None:
    """A picture near its limit and JSON near its own are taken together; either alone cannot use the other's room."""
    photo = SMALL + bytes(39_000_000)
    padding = b" " * (MAX_JSON_BYTES - 1000)
    answer = _post(shared_server, "/v1/detect", b'{"image": "' + _text(photo) + b'"' + padding + b"}")
    assert answer.status_code == 202, answer.text
    httpx.delete(answer.json()["url"])
    told = problem(_post(shared_server, "/v1/detect", b"{" + _PHOTO + padding + b" " * 2000 + b"}"), 413, "too-large")
    assert told["limit"] == MAX_JSON_BYTES
    larger = b'{"image": "' + _text(photo + bytes(2 * MB)) + b'"}'
    assert problem(_post(shared_server, "/v1/detect", larger), 413, "too-large")["limit"] == 40_000_000


def test_the_largest_parameters_that_make_sense_are_taken(shared_server: Server, astronaut_jpeg: bytes) -> None:
    regions = {f"{number:064}": list(range(478)) for number in range(64)}
    body = {
        "image": _text(another(astronaut_jpeg, 5)).decode(),
        "segmentation_map": _text(another(astronaut_jpeg, 5)).decode(),
        "scheme": "own",
        "regions": regions,
        "fills": dict.fromkeys(regions, "#A16AA9"),
        "label_meanings": dict.fromkeys(range(256), "x" * 64),
    }
    answer = _post(shared_server, "/v1/contours", json.dumps(body, indent=1).encode())
    assert answer.status_code == 202, answer.text
    httpx.delete(answer.json()["url"])


def test_a_list_of_jobs_shows_no_parameters_and_a_job_has_them(shared_server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(shared_server, another(astronaut_jpeg, 6), path="/v1/contours", fill="red")
    listed = {each["id"]: each for each in get(shared_server, "/v1/jobs").json()["jobs"]}[job["id"]]
    assert set(job) - set(listed) == {"parameters", "queue", "result"}
    assert json.loads(rows(shared_server, "SELECT params FROM jobs WHERE id = ?", job["id"])[0][0])["fill"] == "red"


# --- what is cut out of JSON is what a parser would have found -------------------------------------------------------

_TEXT = st.text(max_size=8)
_VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | _TEXT
    | st.sampled_from(['"', "\\", '\\"', "image", '":']),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT | st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(
    members=st.dictionaries(_TEXT | st.sampled_from(["image_url", 'im"age', "\\"]), _VALUE, max_size=4),
    pictures=st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=40), max_size=2),
    seed=st.randoms(use_true_random=False),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    slashes=st.booleans(),
)
def test_pictures_and_members_come_apart(
    members: dict[str, Any],
    pictures: dict[str, bytes],
    seed: random.Random,
    indent: int | None,
    ascii_only: bool,
    slashes: bool,
) -> None:
    members = {name: value for name, value in members.items() if name not in NAMES}
    whole = [*members.items(), *((name, _text(data).decode()) for name, data in pictures.items())]
    seed.shuffle(whole)
    body = json.dumps(dict(whole), indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if slashes and not any("/" in json.dumps(value) or "\\" in json.dumps(value) for value in members.items()):
        body = body.replace(b"/", b"\\/")  # as PHP writes it
    try:
        expected = from_json(body)
    except ValueError:
        with pytest.raises(InvalidRequestError):
            read_object(body, NAMES, LIMITS)
        return
    values, found = read_object(body, NAMES, LIMITS)
    assert found == pictures
    assert values == {name: value for name, value in expected.items() if name not in pictures}


@given(st.binary(max_size=200) | st.text('{}[]":,\\ \nimage0aA=/', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        values, found = read_object(body, NAMES, LIMITS)
    except LimnerError:
        return
    expected = from_json(body)
    assert values == {name: value for name, value in expected.items() if name not in NAMES}
    assert set(found) == {name for name in NAMES if expected.get(name) is not None}


@pytest.mark.parametrize(
    "body",
    [
        b'{"image": "AAAA", "image": "AAAA"}',
        b'{"image": "AAAA", "im\\u0061ge": "AAAA"}',
        b'{"image": "AAAA", "image": null}',
        b'{"image": null, "image": "AAAA", "image": 1}',
    ],
)
def test_a_picture_sent_twice_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="image"):
        read_object(body, NAMES, LIMITS)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 786_430, 786_432, 786_433, 2_999_999, 3_000_000])
@pytest.mark.parametrize("style", ["plain", "lines", "escaped lines", "slashes", "unicode", "data URL"])
def test_base64_in_every_style(size: int, style: str) -> None:
    data = _bytes(size)
    text = _text(data)
    if "lines" in style:
        text = base64.encodebytes(data)
    escaped = {
        "escaped lines": lambda: text.replace(b"\n", b"\\r\\n"),
        "slashes": lambda: text.replace(b"/", b"\\/"),
        "unicode": lambda: text.replace(b"+", b"\\u002B").replace(b"/", b"\\u002f"),
        "data URL": lambda: b"data:image\\/png;base64," + text,
    }.get(style)
    assert decode_base64(escaped() if escaped else text, "image", LIMITS, escaped=escaped is not None) == data


@pytest.mark.parametrize(
    "text",
    [b"A", b"AAAAA", b"AA==AAAA", b"AA==AA", b"AA=A", b"=AAA", b"A===", b"!!!!", b"AA\xc3\x84="],
)
@pytest.mark.parametrize("before", [0, 1 << 20])
def test_what_is_no_base64_is_refused(text: bytes, before: int) -> None:
    with pytest.raises(InvalidRequestError):
        decode_base64(b"A" * before + text, "image", LIMITS)


def test_base64_over_the_limit_is_refused() -> None:
    with pytest.raises(TooLargeError):
        decode_base64(_text(bytes(3_000_001)), "image", LIMITS)


def test_the_bounds_are_where_they_are_said_to_be() -> None:
    def of(text: str) -> None:
        read_object(text.encode(), NAMES, LIMITS)

    of('{"a":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}")
    with pytest.raises(InvalidRequestError, match="nested deeper"):
        of('{"a":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}")
    of('{"a":[' + ",".join(["1"] * (MAX_VALUES - 1)) + "]}")
    with pytest.raises(TooLargeError, match="values"):
        of('{"a":[' + ",".join(["1"] * MAX_VALUES) + "]}")
    of('{"a":"' + "x" * (MAX_JSON_BYTES - 8) + '"}')
    with pytest.raises(TooLargeError, match="bytes"):
        of('{"a":"' + "x" * (MAX_JSON_BYTES - 7) + '"}')


# --- the log ---------------------------------------------------------------------------------------------------------

_MARKER = "secret-of-the-photographer"


def _marked_photos(astronaut: Any) -> dict[str, bytes]:
    """The same photo with the marker in all places that Pillow reads, in several formats."""
    picture = Image.fromarray(astronaut)
    exif = Image.Exif()
    exif.update({0x010E: _MARKER, 0x010F: _MARKER, 0x013B: _MARKER, 0x8298: _MARKER})
    exif.get_ifd(0x8769)[0x9286] = _MARKER.encode()
    files = {}
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        file = io.BytesIO()
        picture.save(file, kind, exif=exif)
        assert _MARKER.encode() in file.getvalue()
        files[kind] = file.getvalue()
    return files


@pytest.mark.parametrize("style", ["json", "rich"])
def test_a_debug_log_holds_nothing_of_the_pictures(start_server: StartServer, astronaut: Any, style: str) -> None:
    server = start_server(LIMNER_LOG_LEVEL="debug", LIMNER_LOG_FORMAT=style)
    for photo in _marked_photos(astronaut).values():
        for path in ("/v1/detect", "/v1/contours"):
            assert submit(server, photo, path=path, wait=True)["status"] == "succeeded"
    httpx.post(f"{server.url}/v1/detect", json={"image_url": f"http://{_MARKER}.invalid/{_MARKER}"}, timeout=30)
    log = server.log.read_text()
    assert "job submitted" in log  # our own lines of that level are there
    assert _MARKER not in log
    assert "PIL" not in log
