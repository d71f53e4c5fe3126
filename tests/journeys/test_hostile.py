"""Invalid and hostile requests: the answer is always a problem, never a 500, and no file is left."""

import base64
import io
import json
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import another, as_jpeg
from tests.journeys.client import blobs, client, get, metric, problem, raw, submit
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server

MAX_BYTES = 1_000_000


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory, astronaut_jpeg: bytes) -> Iterator[Server]:
    """A server with small limits, which must still work after every test of this file."""
    process = Server(
        tmp_path_factory.mktemp("strict"),
        LIMNER_MAX_UPLOAD_BYTES=str(MAX_BYTES),
        LIMNER_MAX_PIXELS="4000000",
        LIMNER_MAX_SIDE="3000",
        LIMNER_UPLOAD_TIMEOUT_S="1",
        LIMNER_UPLOAD_MEMORY_BYTES="20000000",
    )
    process.start()
    yield process
    assert submit(process, astronaut_jpeg, wait=True)["status"] == "succeeded"
    assert metric(process, "http_requests_total", status="500") == 0
    process.stop()
    process.check_log()


@pytest.fixture(autouse=True)
def _nothing_is_left(strict_server: Server) -> Iterator[None]:
    """No test may leave a file. (Files of a job that is erased while it runs are removed a moment later.)"""
    yield
    deadline = time.monotonic() + 30
    while (left := blobs(strict_server)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def detect(server: Server, photo: bytes, **fields: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/detect", files={"image": photo}, data=fields, timeout=60)


def post_json(server: Server, body: object) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    return httpx.post(f"{server.url}/v1/detect", content=content, headers=headers, timeout=60)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- files that are no pictures, or have false headers ---------------------------------------------------------------


def _png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG whose header has this size, regardless of its content."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def _picture(kind: str, size: tuple[int, int] = (200, 100)) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, kind)
    return file.getvalue()


_SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
_NO_PICTURES = {
    "nothing": b"",
    "text": b"this is only called .jpg",
    "SVG": _SVG,
    "HTML": b"<html><img src=x onerror=alert(1)>",
    "PDF": b"%PDF-1.7\n",
    "zeros": bytes(10_000),
    "a few bytes of a JPEG": b"\xff\xd8",
    "MP4": b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
}
_TOO_LARGE = {
    "PNG 65535²": _png(65535, 65535),
    "PNG 2³¹": _png(2**31 - 1, 2**31 - 1),
    "GIF 65535²": b"GIF89a\xff\xff\xff\xff\xf0\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
    "BMP 2³⁰": b"BM" + bytes(8) + struct.pack("<IIiiHHIIIIII", 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
    "WebP 16383²": b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0",
    "a side too long": _picture("PNG", (3001, 1)),
    "pixels too many": _picture("JPEG", (2001, 2000)),
}
_BROKEN = {
    "PNG without pixels": _png(100, 100),
    "PNG without size": _png(0, 0),
    "PNG header alone": b"\x89PNG\r\n\x1a\n",
    "GIF header alone": b"GIF89a",
    "TIFF header alone": b"II*\0\x08\0\0\0",
    "TIFF that points outside": b"II*\0\xff\xff\xff\xff",
    "HEIC header alone": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "AVIF header alone": b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf",
    **{f"{kind} cut short": _picture(kind)[: len(_picture(kind)) // 3] for kind in ("JPEG", "PNG", "WEBP", "TIFF")},
}


@pytest.mark.parametrize("what", _NO_PICTURES)
def test_what_is_no_picture_is_refused_whatever_it_says_it_is(strict_server: Server, what: str) -> None:
    sent = {"image": ("photo.jpg", _NO_PICTURES[what], "image/jpeg")}
    problem(httpx.post(f"{strict_server.url}/v1/detect", files=sent), 415, "unsupported-media")
    problem(post_json(strict_server, {"image": text(_NO_PICTURES[what])}), 415, "unsupported-media")


@pytest.mark.parametrize("what", _TOO_LARGE)
def test_a_picture_over_a_limit_is_refused_by_its_header(strict_server: Server, what: str) -> None:
    problem(detect(strict_server, _TOO_LARGE[what]), 413, "too-large")


@pytest.mark.parametrize("what", _BROKEN)
def test_a_broken_picture_is_refused_at_once_or_fails_its_job(strict_server: Server, what: str) -> None:
    answer = httpx.post(
        f"{strict_server.url}/v1/detect", files={"image": _BROKEN[what]}, headers={"Prefer": "wait=30"}, timeout=60
    )
    if answer.status_code == 200:
        job = answer.json()
        assert (job["status"], job["result"]) == ("failed", None)
        assert job["error"]["type"] == "urn:limner:problem:bad-image"
        assert job["error"]["status"] == 422
        assert httpx.delete(job["url"]).status_code == 204
    else:
        problem(answer, 422, "bad-image")


# --- too much, too slow ----------------------------------------------------------------------------------------------


def test_more_bytes_than_allowed_are_refused_in_every_form(strict_server: Server) -> None:
    big = as_jpeg(np.zeros((10, 10, 3), np.uint8)) + bytes(MAX_BYTES)
    told = problem(detect(strict_server, big), 413, "too-large")
    assert "1,000,000" in told["detail"]
    problem(post_json(strict_server, {"image": text(big)}), 413, "too-large")
    for path in ("/image", "/api/v1/images"):
        problem(httpx.post(strict_server.url + path, files={"file": big}), 413, "too-large")


def test_exactly_as_many_bytes_as_allowed_are_taken(strict_server: Server) -> None:
    photo = as_jpeg(np.zeros((10, 10, 3), np.uint8))
    answer = detect(strict_server, photo + bytes(MAX_BYTES - len(photo)))
    assert answer.status_code == 202
    httpx.delete(answer.json()["url"])


def test_a_body_that_is_far_too_long_is_refused_before_it_is_read(strict_server: Server) -> None:
    for kind in ("application/json", "multipart/form-data; boundary=b"):
        head = (
            f"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            "Content-Length: 100000000000\r\n\r\n"
        )
        answer = raw(strict_server, head.encode() + b"x" * 1000, ends=b"}")
        assert answer.startswith(b"HTTP/1.1 413"), answer[:200]


def test_a_client_that_expects_100_continue_is_refused_before_it_sends(strict_server: Server) -> None:
    head = (
        "POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    assert raw(strict_server, head.encode(), ends=b"}").startswith(b"HTTP/1.1 413")


def test_a_body_without_a_length_is_counted_as_it_comes(strict_server: Server) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(60):
            yield bytes(100_000)

    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{strict_server.url}/v1/detect", content=chunks(), headers=headers)
    problem(answer, 413, "too-large")


def test_a_hundred_megabytes_of_json(strict_server: Server) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"image": "'
        for _ in range(100):
            yield b"A" * 1_000_000
        yield b'"}'

    try:
        answer = httpx.post(
            f"{strict_server.url}/v1/detect", content=chunks(), headers={"Content-Type": "application/json"}
        )
    except httpx.WriteError:
        return  # cut off in the middle: also an answer
    problem(answer, 413, "too-large")


def test_a_slow_upload_is_ended(strict_server: Server) -> None:
    with socket.create_connection(("127.0.0.1", strict_server.port), timeout=30) as slow:
        slow.sendall(
            b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            b"Content-Length: 5000\r\n\r\n--b\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n"
        )
        slow.settimeout(0.1)
        answer = b""
        while not answer.endswith(b"}"):
            try:
                part = slow.recv(65536)
            except TimeoutError:
                slow.sendall(b"x")
                continue
            assert part, answer
            answer += part
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:limner:problem:upload-timeout"


def test_clients_that_leave_in_the_middle_leave_nothing(strict_server: Server, astronaut_jpeg: bytes) -> None:
    body = b"--b\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\n" + astronaut_jpeg + bytes(500_000)
    head = (
        b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: 900000\r\n\r\n"
    )
    for _ in range(60):  # together they hold more than the memory for uploads, if it is not given back
        with socket.create_connection(("127.0.0.1", strict_server.port), timeout=30) as leaver:
            leaver.sendall(head + body)
    deadline = time.monotonic() + 30
    while metric(strict_server, "http_requests_total", handler="/v1/detect", status="422") < 60:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    photo = another(astronaut_jpeg, 1)
    answer = detect(strict_server, photo)
    assert answer.status_code == 202
    httpx.delete(answer.json()["url"])


def test_uploads_share_a_bounded_memory(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_UPLOAD_MEMORY_BYTES="1000000", LIMNER_UPLOAD_TIMEOUT_S="30")
    head = (
        b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as holder:
        holder.sendall(head + bytes(990_000))
        refused = detect(server, astronaut_jpeg)
        deadline = time.monotonic() + 30
        while refused.status_code == 202 and time.monotonic() < deadline:  # until the data has arrived
            refused = detect(server, astronaut_jpeg)
        assert problem(refused, 429, "queue-full")["retryable"] is True
        assert refused.headers["retry-after"]
    while detect(server, astronaut_jpeg).status_code == 429 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert submit(server, astronaut_jpeg, wait=True)["status"] == "succeeded"


# --- forms -----------------------------------------------------------------------------------------------------------


def test_a_form_of_ten_thousand_fields(strict_server: Server, astronaut_jpeg: bytes) -> None:
    fields = {f"field{number}": "x" for number in range(10_000)}
    problem(detect(strict_server, astronaut_jpeg, **fields), 422, "invalid-request")


def test_a_field_of_two_megabytes(strict_server: Server, astronaut_jpeg: bytes) -> None:
    problem(detect(strict_server, astronaut_jpeg, mark="x" * 2_000_000), 413, "too-large")


@pytest.mark.parametrize(
    "fields",
    [
        {"unknown": "1"},
        {"min_score": "abc"},
        {"min_score": "2"},
        {"min_score": "-0.1"},
        {"min_score": "nan"},
        {"min_score": "inf"},
        {"min_score": "1e999"},
        {"min_score": "{"},
        {"min_score": '{"a": 1}'},
        {"min_score": "[0.5]"},
        {"max_faces": "0"},
        {"max_faces": "1.5"},
        {"max_faces": "9" * 5000},
        {"mark": "BOX"},
        {"mark": "\0"},
        {"precise": "perhaps"},
        {"format": "gif"},
        {"x" * 3000: "1"},
        {"sha256": "0" * 64},
        {"__proto__": "1"},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_fields_that_are_wrong_are_named(strict_server: Server, astronaut_jpeg: bytes, fields: dict[str, str]) -> None:
    told = problem(detect(strict_server, astronaut_jpeg, **fields), 422, "invalid-request")
    assert next(iter(fields))[:20] in told["detail"]


def test_a_picture_and_its_url_at_once(strict_server: Server, astronaut_jpeg: bytes) -> None:
    told = problem(detect(strict_server, astronaut_jpeg, image_url="http://example.com"), 422, "invalid-request")
    assert "not both" in told["detail"]


def test_fields_sent_twice(strict_server: Server, astronaut_jpeg: bytes) -> None:
    url = f"{strict_server.url}/v1/detect"
    twice = [("image", astronaut_jpeg), ("image", astronaut_jpeg)]
    problem(httpx.post(url, files=twice), 422, "invalid-request")
    many = [("image", astronaut_jpeg)] * 20
    problem(httpx.post(url, files=many), 422, "invalid-request")
    marks = httpx.post(url, files={"image": astronaut_jpeg}, data={"mark": ["box", "blur"]})
    problem(marks, 422, "invalid-request")


def test_files_where_none_belong(strict_server: Server, astronaut_jpeg: bytes) -> None:
    url = f"{strict_server.url}/v1/detect"
    for files in ({"photo": astronaut_jpeg}, {"image": astronaut_jpeg, "mark": b"box"}, {"": astronaut_jpeg}):
        problem(httpx.post(url, files=files), 422, "invalid-request")
    problem(httpx.post(url, data={"mark": "box"}, files={"x": (None, "1")}), 422, "invalid-request")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "C:\\windows\\x.jpg", "a\0b.jpg", "x" * 3000, "😀.jpg", "; rm -rf /", '"><script>']
)
def test_file_names_do_not_matter(strict_server: Server, astronaut_jpeg: bytes, name: str) -> None:
    files = {"image": (name, another(astronaut_jpeg, 2), "image/jpeg")}
    answer = httpx.post(f"{strict_server.url}/v1/detect", files=files)
    assert answer.status_code == 202, answer.text
    assert name not in answer.text
    httpx.delete(answer.json()["url"])


_FORM = b"--b\r\nContent-Disposition: form-data; name=image; filename=a\r\n\r\nphoto\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", _FORM),
        ("multipart/form-data; boundary=", _FORM),
        ("multipart/form-data; boundary=other", _FORM),
        ("multipart/form-data; boundary=" + "b" * 1000, _FORM),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"\xff" * 1000),
        ("multipart/form-data; boundary=b", _FORM.replace(b"name=image; ", b"")),
        ("multipart/form-data; boundary=b", _FORM.replace(b"Content-Disposition", b"X")),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X-Header: y\r\n" * 10_000 + b"\r\n\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nX: " + b"y" * 500_000 + b"\r\n\r\n\r\n--b--"),
        *(
            (
                f"multipart/form-data; boundary=b; charset={name}",
                _FORM.replace(b"; filename=a", b"").replace(b"photo", text),
            )
            for name, text in (
                ("nonsense", b"photo"),
                ("hex", b"photo"),
                ("zlib", b"photo"),
                ("rot13", b"photo"),
                ("undefined", b"photo"),
                ("utf-7", b"+2AA-"),
                ("unicode_escape", b"\\ud800"),
                ("punycode", b"a-" + b"9" * 100_000),
            )
        ),
        ("application/json", b""),
        ("application/json", b"{"),
        ("application/json", b"\xff\xfe"),
        ("application/json", b"[]"),
        ("application/json", b"null"),
        ("application/json", b'"text"'),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"a":' * 100_000),
        ("application/json", b'{"image": "\\ud800"}'),
        ("application/json", b'{"image": 1}'),
        ("application/json", b'{"image": {"sha256": "x"}}'),
        ("application/json", b'{"image": null}'),
        ("application/json", b"{}"),
        ("application/json", b'{"image": "not base64!"}'),
        ("application/json", b'{"image": "AAA"}'),
        ("application/json", '{"image": "ÄÖÜ="}'.encode()),
        ("application/json", b'{"image": "data:image/jpeg,plain"}'),
        ("application/json", b'{"image": "data:image/jpeg;base64"}'),
        ("application/json", b'{"image": "data:;base64,%41%41%41%41"}'),
        ("application/json", b'{"image_url": 5}'),
        ("application/json", b'{"image_url": ["http://example.com"]}'),
    ],
)
def test_bodies_that_cannot_be_read(strict_server: Server, content_type: str, body: bytes) -> None:
    for path in ("/v1/detect", "/v1/contours"):
        answer = httpx.post(strict_server.url + path, content=body, headers={"Content-Type": content_type})
        if answer.status_code == 415:  # what was read is no picture
            problem(answer, 415, "unsupported-media")
        else:
            problem(answer, 422, "invalid-request")
    if content_type.startswith("multipart"):
        answer = httpx.post(f"{strict_server.url}/image", content=body, headers={"Content-Type": content_type})
        assert answer.status_code in (415, 422)
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    ['"min_score": NaN', '"min_score": Infinity', '"min_score": 1e400', '"max_faces": ' + "9" * 5000, '"mark": []'],
)
def test_numbers_that_json_should_not_have(strict_server: Server, astronaut_jpeg: bytes, body: str) -> None:
    sent = f'{{"image": "{text(astronaut_jpeg)}", {body}}}'.encode()
    problem(post_json(strict_server, sent), 422, "invalid-request")


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "video/mp4", "application/x-www-form-urlencoded", "multipart/mixed"]
)
def test_other_kinds_of_bodies_are_refused(strict_server: Server, astronaut_jpeg: bytes, kind: str) -> None:
    for path in ("/v1/detect", "/image", "/api/v1/images"):
        headers = {"Content-Type": kind} if kind else {}
        answer = httpx.post(strict_server.url + path, content=astronaut_jpeg, headers=headers)
        problem(answer, 415, "unsupported-media")


# --- paths, headers, the protocol itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "job_id",
    ["x", "..%2f..%2fetc%2fpasswd", "%00", "a%00b", "%0aforged", "x" * 10_000, "%ff%fe", "%F0%9F%98%80", "'--"],
)
def test_unknown_job_ids(strict_server: Server, job_id: str) -> None:
    with client(strict_server) as session:
        for method, path in (
            ("GET", "/v1/jobs/{}"),
            ("DELETE", "/v1/jobs/{}"),
            ("POST", "/v1/jobs/{}/cancel"),
            ("GET", "/v1/jobs/{}/artifacts/marked.jpg"),
            ("GET", "/jobs/{}"),
            ("GET", "/jobs/{}/processed-image"),
            ("GET", "/api/v1/images/{}"),
            ("GET", "/api/v1/images/{}/meta"),
            ("GET", "/api/v1/status/{}"),
            ("GET", "/api/v1/frontal/crop/status/{}"),
        ):
            problem(session.request(method, path.format(job_id)), 404, "not-found")


def test_unknown_paths_and_methods(strict_server: Server) -> None:
    problem(get(strict_server, "/v1/nonsense"), 404, "not-found")
    problem(get(strict_server, "/page/../../pyproject.toml"), 404, "not-found")
    problem(get(strict_server, "/page/%2e%2e/%2e%2e/pyproject.toml"), 404, "not-found")
    answer = httpx.put(f"{strict_server.url}/v1/jobs")
    problem(answer, 405, "method-not-allowed")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("value", ["-1", "abc", "1.5", "9" * 30, "9" * 5000, " ", "1,2"])
def test_event_ids_that_cannot_be(strict_server: Server, value: str) -> None:
    if value.strip():
        problem(get(strict_server, "/v1/events", **{"Last-Event-ID": value}), 422, "invalid-request")
    problem(get(strict_server, f"/v1/events?after={value}"), 422, "invalid-request")


@pytest.mark.parametrize(
    "headers",
    [
        {"Prefer": "wait=-1"},
        {"Prefer": "wait="},
        {"Prefer": ",".join(["wait=abc"] * 1000)},
        {"Prefer": "wait=" + "9" * 5000},
        {"Range": "bytes=0-" + "9" * 5000},
        {"If-None-Match": "," * 5000},
        {"X-Request-ID": "x" * 5000},
        {"X-Request-ID": "line\\nforged"},
        {"Accept": "nonsense"},
        {"Host": "["},
        {"Host": "a b"},
        {"Host": "x" * 5000},
        {"Host": "evil.example:99999"},
        {"Cookie": "x" * 5000},
        {"Origin": "null"},
    ],
    ids=lambda headers: str(headers)[:40],
)
def test_headers_that_make_no_sense_do_no_harm(
    strict_server: Server, astronaut_jpeg: bytes, headers: dict[str, str]
) -> None:
    answer = httpx.post(
        f"{strict_server.url}/v1/detect", files={"image": another(astronaut_jpeg, 3)}, headers=headers, timeout=30
    )
    assert answer.status_code in (200, 202, 400, 403, 421, 422), answer.text
    if answer.is_success:
        url = f"{strict_server.url}/v1/jobs/{answer.json()['id']}"
        assert httpx.get(f"{url}/artifacts/marked.jpg", headers=headers).status_code < 500
        assert httpx.delete(url).status_code == 204


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 1000,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS to a plain port
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_invalid_http(strict_server: Server, data: bytes) -> None:
    answer = raw(strict_server, data, timeout_s=5, close=True)
    assert not answer.startswith(b"HTTP/1.1 5"), answer[:200]
    assert get(strict_server, "/healthz").status_code == 200


def test_wrong_content_lengths(strict_server: Server, astronaut_jpeg: bytes) -> None:
    head = (
        b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    body = json.dumps({"image": text(astronaut_jpeg)}).encode()
    shorter = raw(strict_server, head % (len(body) // 2) + body, timeout_s=5, close=True)
    assert shorter.startswith(b"HTTP/1.1 4")
    longer = raw(strict_server, head % (len(body) * 2) + body, timeout_s=5, close=True)
    assert longer == b"" or longer.startswith(b"HTTP/1.1 4")


def test_a_log_line_cannot_be_forged(start_server: StartServer) -> None:
    server = start_server(LIMNER_LOG_FORMAT="rich")
    get(server, "/v1/jobs/x%0aERROR%20forged", **{"X-Request-ID": "ERROR forged"})
    get(server, "/ERROR%20forged")
    assert "forged" not in server.log.read_text()


def test_what_a_person_sends_is_not_in_the_log(server: Server, astronaut_jpeg: bytes) -> None:
    files = {"image": ("my-secret-name.jpg", astronaut_jpeg, "image/jpeg")}
    httpx.post(f"{server.url}/v1/detect", files=files, headers={"Prefer": "wait=30"}, timeout=60)
    httpx.post(f"{server.url}/v1/detect", json={"image_url": "http://my-secret-host.invalid/my-secret-path"})
    log = server.log.read_text()
    assert "my-secret" not in log
    assert "left_eye" not in log


def test_memory_is_released(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server()
    for _ in range(3):
        submit(server, astronaut_jpeg, wait=True, mark="none")

    def resident_mb() -> int:
        assert server.process is not None
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024

    before = resident_mb()
    rubbish = bytes(19_000_000)
    for _ in range(25):
        problem(detect(server, rubbish), 415, "unsupported-media")
    assert resident_mb() < before + 150  # of 475 MB that were sent
