"""nginx, as `deploy/nginx.conf` sets it up, before a service: nothing is lost, nothing more is reachable."""

import contextlib
import hashlib
import json
import os
import re
import resource
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from limner.domain.errors import every_error
from limner.operations import CATALOGUE
from limner.settings import Settings
from limner.web.read_request import OVERHEAD_BYTES
from tests.conftest import another
from tests.journeys.client import finished, metric, problem, server_sent, submit
from tests.journeys.server import Server
from tests.services.nginx import TEMPLATE, Nginx
from tests.services.process import free_port


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that has nginx send its artifacts."""
    process = Server(tmp_path_factory.mktemp("service"), LIMNER_ACCEL_PREFIX="/_blobs/", LIMNER_WORKERS="1")
    process.start()
    yield process
    process.stop()
    process.check_log()


@pytest.fixture(scope="module")
def nginx(service: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    made = Nginx(tmp_path_factory.mktemp("nginx"), f"127.0.0.1:{service.port}", service.folder / "blobs")
    made.process.start()
    yield made
    made.process.stop()
    errors = [
        line
        for line in (made.log.parent / "error.log").read_text().splitlines()
        if re.search(r"\[(crit|alert|emerg)\]", line) and "RLIMIT_NOFILE" not in line
    ]
    assert errors == []


@pytest.fixture(scope="module")
def job(nginx: Nginx, astronaut_jpeg: bytes) -> dict[str, Any]:
    """A finished job, sent through nginx."""
    answer = httpx.post(
        f"{nginx.url}/v1/detect", files={"image": astronaut_jpeg}, headers={"Prefer": "wait=60"}, timeout=90
    )
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


@pytest.fixture(scope="module")
def artifact(job: dict[str, Any], nginx: Nginx) -> str:
    """The URL of its marked photo, which leads through nginx."""
    url = job["artifacts"][0]["url"]
    assert url.startswith(nginx.url)
    return str(url)


def test_an_artifact_is_sent_by_nginx_with_the_services_headers(artifact: str, service: Server, nginx: Nginx) -> None:
    direct = httpx.get(artifact.replace(str(nginx.port), str(service.port)))
    assert direct.headers["x-accel-redirect"].startswith("/_blobs/")
    assert direct.content == b""
    answer = httpx.get(artifact)
    assert answer.status_code == 200
    assert "x-accel-redirect" not in answer.headers
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert "last-modified" not in answer.headers
    for name in (
        "content-type",
        "cache-control",
        "content-security-policy",
        "cross-origin-resource-policy",
        "x-content-type-options",
        "referrer-policy",
    ):
        assert answer.headers.get_list(name) == direct.headers.get_list(name), name
    head = httpx.head(artifact)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(answer.content)))


def test_parts_and_repeats_of_an_artifact(artifact: str) -> None:
    whole = httpx.get(artifact)
    part = httpx.get(artifact, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.content)}"
    repeat = httpx.get(artifact, headers={"If-None-Match": whole.headers["etag"]})
    assert (repeat.status_code, repeat.content) == (304, b"")
    problem(httpx.get(artifact, headers={"Range": "bytes=99999999-"}), 416, "range-not-satisfiable")


def test_an_erased_artifact_is_gone(nginx: Nginx, astronaut_jpeg: bytes) -> None:
    sent = httpx.post(
        f"{nginx.url}/v1/detect", files={"image": another(astronaut_jpeg, 9)}, headers={"Prefer": "wait=60"}, timeout=90
    ).json()
    url = sent["artifacts"][0]["url"]
    assert httpx.get(url).status_code == 200
    assert httpx.delete(f"{nginx.url}/v1/jobs/{sent['id']}").status_code == 204
    problem(httpx.get(url), 404, "not-found")


def test_the_folder_of_blobs_cannot_be_reached(artifact: str, service: Server, nginx: Nginx) -> None:
    path = httpx.get(artifact.replace(str(nginx.port), str(service.port))).headers["x-accel-redirect"]
    database_id = (service.folder / "blobs/database-id").read_text().strip()
    tricks = [
        path,
        path.replace("/_blobs/", "/_blobs//"),
        path.replace("/_blobs/", "/%5fblobs/"),
        path.replace("/_blobs/", "/v1/../_blobs/"),
        path.replace("/_blobs/", "/v1/%2e%2e/_blobs/"),
        path.replace("/_blobs/", "//_blobs/"),
        "/_blobs",
        "/_blobs/",
        "/_blobs../limner.db",
        "/_blobs/../limner.db",
        "/_blobs/%2e%2e/limner.db",
        "/_blobs/..%2flimner.db",
        "/_blobs/database-id",
        f"/v1/jobs/x/artifacts/..%2f..%2f..%2f..%2f_blobs{path}",
        "/v1/jobs/x/artifacts/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/page/..%2f..%2f..%2fsettings.py",
        "/_problems/503",
        "/metrics",
        "//metrics",
        "/%6detrics",
        "/metrics%0A",
    ]
    for trick in tricks:
        answer = raw_get(nginx, trick)
        assert answer.partition(b"\r\n")[0].split()[1] in (b"404", b"400"), (trick, answer[:200])
        assert b"application/problem+json" in answer, trick
        assert database_id.encode() not in answer
        assert b"limner_jobs" not in answer
    forged = httpx.get(f"{nginx.url}/healthz", headers={"X-Accel-Redirect": path})
    assert forged.json() == {"status": "ok"}


def raw_get(nginx: Nginx, target: str, *headers: str) -> bytes:
    """The answer to a target that is sent as it is; libraries would tidy it."""
    lines = [f"GET {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers, "", ""]
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_a_metric_is_for_inside_only(nginx: Nginx, service: Server) -> None:
    problem(httpx.get(f"{nginx.url}/metrics"), 404, "not-found")
    assert httpx.get(f"{service.url}/metrics").status_code == 200


def test_events_come_at_once(nginx: Nginx, service: Server, astronaut_jpeg: bytes) -> None:
    with (
        httpx.stream("GET", f"{nginx.url}/v1/events", timeout=30) as stream,
        connect(f"ws://127.0.0.1:{nginx.port}/v1/events", proxy=None) as socket,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in stream.headers
        events = server_sent(stream.iter_lines())
        sent = submit(service, another(astronaut_jpeg, 21))
        told = next(events)
        assert (told["type"], told["job"]["id"]) == ("job.queued", sent["id"])
        arrived = time.time()
        assert json.loads(socket.recv(timeout=20))["id"] == told["id"]
        while told["type"] != "job.succeeded":
            told = next(events)
            arrived = time.time()
        ended = finished(service, sent["id"])["finished_at"]
        assert arrived - from_iso(ended) < 1.0, "a buffer would hold it until more follows"


def from_iso(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_an_upload_above_the_limit_is_a_problem(service: Server, tmp_path: Path) -> None:
    small = Nginx(tmp_path / "nginx", f"127.0.0.1:{service.port}", service.folder / "blobs", max_body="1m")
    small.process.start()
    try:
        told = problem(httpx.post(f"{small.url}/v1/detect", files={"image": b"x" * 1_500_000}), 413, "too-large")
        assert told["retryable"] is False
    finally:
        small.process.stop()


def test_the_limit_of_uploads_is_the_services() -> None:
    pictures = max(len(operation.image_fields) for operation in CATALOGUE.values())
    largest = (Settings.model_fields["max_upload_bytes"].default * pictures + OVERHEAD_BYTES) * 4 // 3
    said = re.search(r"NGINX_MAX_BODY +(\d+)m", TEMPLATE.read_text())
    assert said is not None
    assert largest <= int(said[1]) << 20 < 1.2 * largest


def test_what_nginx_says_is_what_the_service_would_say() -> None:
    known = {error.slug: error for error in every_error()}
    bodies = [json.loads(body) for body in re.findall(r"return \d+ '(\{.*\})';", TEMPLATE.read_text())]
    assert len(bodies) == 9
    for body in bodies:
        error = known[body["type"].removeprefix("urn:limner:problem:")]
        assert (body["title"], body["retryable"]) == (error.title, error.retryable)


def test_a_slow_client_holds_no_connection_to_the_service(nginx: Nginx, service: Server, astronaut_jpeg: bytes) -> None:
    before = metric(service, "limner_connections")
    head = (
        "POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(astronaut_jpeg)}\r\n\r\n"
    )
    with contextlib.ExitStack() as held:
        for _ in range(50):
            slow = held.enter_context(socket.create_connection(("127.0.0.1", nginx.port)))
            slow.sendall(head.encode() + astronaut_jpeg[:1000])
        time.sleep(2.2)  # the gauge is a second old at most
        assert metric(service, "limner_connections") <= before + 3
        assert httpx.get(f"{nginx.url}/readyz").status_code == 200


def test_what_strangers_say_of_themselves_is_not_believed(nginx: Nginx, service: Server) -> None:
    forged = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=203.0.113.9;proto=https;host=evil.example",
    }
    page = httpx.get(f"{nginx.url}/v1/jobs", headers=forged).json()
    urls = re.findall(r'"(\w+)://([^/"]+)/v1', json.dumps(page))
    assert urls
    assert set(urls) == {("http", f"127.0.0.1:{nginx.port}")}
    elsewhere = httpx.get(f"{nginx.url}/v1/jobs", headers={"Host": "evil.example"})
    problem(elsewhere, 421, "host-not-allowed")
    chosen = httpx.get(f"{nginx.url}/healthz", headers={"X-Request-ID": "follow-me.1"})
    assert chosen.headers.get_list("x-request-id") == ["follow-me.1"]


def test_no_service_is_a_problem(tmp_path: Path) -> None:
    alone = Nginx(tmp_path / "nginx", f"127.0.0.1:{free_port()}", tmp_path)
    alone.process.start()
    try:
        answer = httpx.get(f"{alone.url}/v1/jobs")
        assert problem(answer, 503, "unavailable")["retryable"] is True
        assert answer.headers["retry-after"] == "2"
    finally:
        alone.process.stop()


def test_a_thousand_idle_sockets(nginx: Nginx, service: Server) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    handshake = (
        b"GET /faces HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with contextlib.ExitStack() as held:
        opened = []
        for _ in range(1000):
            each = held.enter_context(socket.create_connection(("127.0.0.1", nginx.port), timeout=20))
            each.sendall(handshake)
            opened.append(each)
        assert all(each.recv(4096).startswith(b"HTTP/1.1 101") for each in opened)
        assert metric(service, "limner_sockets", stream="faces") == 1000
        assert httpx.get(f"{nginx.url}/readyz", timeout=20).status_code == 200


def test_json_is_compressed_and_pictures_are_not(nginx: Nginx, artifact: str) -> None:
    schema = httpx.get(f"{nginx.url}/openapi.json")
    assert schema.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in httpx.get(artifact).headers


def test_the_log_has_what_was_asked_for_without_its_query(nginx: Nginx, artifact: str) -> None:
    for url in (f"{nginx.url}/v1/jobs?cursor=very-secret", f"{nginx.url}/metrics", f"{artifact}?signature=very-secret"):
        httpx.get(url)
    lines = [json.loads(line) for line in nginx.log.read_text().splitlines()]
    paths = {line["path"] for line in lines}
    assert {"/v1/jobs", "/metrics", httpx.URL(artifact).path} <= paths, "not where nginx sends it itself"
    assert "very-secret" not in nginx.log.read_text()


def test_the_documents_command_fills_in_the_whole_template() -> None:
    text = (TEMPLATE.parents[1] / "docs/deploy.md").read_text()
    command = re.search(r"^export NGINX_.*?^envsubst (.*?) <deploy/nginx.conf", text, re.MULTILINE | re.DOTALL)
    assert command is not None
    script = command[0].replace(f"envsubst {command[1]} <deploy/nginx.conf", f"echo {command[1]}")
    told = subprocess.run(["sh", "-c", script], env={"PATH": os.environ["PATH"]}, capture_output=True, check=True)
    assert set(told.stdout.decode().split()) == {
        name.replace("{", "").replace("}", "") for name in re.findall(r"\$\{NGINX_\w+\}", TEMPLATE.read_text())
    }


def test_tls(service: Server, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    secure = Nginx(tmp_path / "nginx", f"127.0.0.1:{service.port}", service.folder / "blobs", tls=(certificate, key))
    secure.process.start()
    try:
        trusted = ssl.create_default_context(cafile=str(certificate))
        answer = httpx.get(f"{secure.url}/v1/jobs", verify=trusted)
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        assert set(re.findall(r'"(\w+)://[^/"]+/v1', answer.text)) <= {"https"}
        with connect(f"wss://127.0.0.1:{secure.port}/v1/events", ssl=trusted, proxy=None) as sock:
            sock.ping().wait(10)
    finally:
        secure.process.stop()


def test_a_service_that_has_moved_is_found(service: Server, tmp_path: Path) -> None:
    """Restarted containers get new addresses, so nginx must ask for the name again."""
    with NameServer() as names:
        moved = Nginx(
            tmp_path / "nginx", f"limner-web.test:{service.port}", service.folder / "blobs", resolver=names.address
        )
        names.answer = "127.0.0.99"  # nobody is there
        moved.process.start()
        try:
            problem(httpx.get(f"{moved.url}/healthz", timeout=30), 503, "unavailable")
            names.answer = "127.0.0.1"
            deadline = time.monotonic() + 15
            while httpx.get(f"{moved.url}/healthz", timeout=30).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            names.lost = 1
            deadline = time.monotonic() + 30
            while names.lost:  # until nginx asks again
                assert time.monotonic() < deadline
                time.sleep(0.2)
                assert httpx.get(f"{moved.url}/healthz", timeout=30).status_code == 200, "it asks a second time"
        finally:
            moved.process.stop()


class NameServer:
    """Answers every question for an IPv4 address with `answer`, to be asked again after a second (RFC 1035)."""

    def __init__(self) -> None:
        self.answer = "127.0.0.1"
        self.lost = 0  # so many of the next questions get no answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "NameServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            asked, client = self._socket.recvfrom(1500)
            if not asked:
                return
            if self.lost:
                self.lost -= 1
                continue
            question = asked[12 : asked.index(b"\0", 12) + 5]
            record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04" + socket.inet_aton(self.answer)
            self._socket.sendto(asked[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + question + record, client)
