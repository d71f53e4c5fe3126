"""What requests may look like: as curl, requests, httpx, aiohttp and the clients of Node.js send them."""

import base64
import gzip
import json
import re
import select
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import requests
from websockets.typing import Subprotocol

from tests.journeys.client import PATIENCE_S, Json, client, get, listening, problem, submit, until
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server
from tests.services.tools import node_folder, python_folder

HERE = Path(__file__).parent
WAIT = {"Prefer": f"wait={PATIENCE_S}"}
JPEG = {"Content-Type": "image/jpeg"}
GZIP = {"Content-Encoding": "gzip"}


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory, astronaut_jpeg: bytes) -> Path:
    file = tmp_path_factory.mktemp("photo") / "face.jpg"
    file.write_bytes(astronaut_jpeg)
    return file


def run(*command: str | Path, folder: Path | None = None) -> str:
    """What a program prints."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


def curl(*arguments: str | Path) -> Json:
    answer: Json = json.loads(run("curl", "--silent", "--show-error", "-H", f"Prefer: wait={PATIENCE_S}", *arguments))
    return answer


def parameters(server: Server, job: Json) -> Json:
    """The parameters with which a job ran."""
    assert job.get("status") == "succeeded", job
    told: Json = get(server, job["url"]).json()["parameters"]
    return told


def post(server: Server, path: str, body: bytes, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(server.url + path, content=body, headers={**WAIT, **sent}, timeout=2 * PATIENCE_S)


def as_json(**fields: object) -> bytes:
    return json.dumps(fields).encode()


# --- query parameters -------------------------------------------------------------------------------------------------


def test_a_parameter_in_the_query_is_a_field(shared_server: Server, photo: Path) -> None:
    url = f"{shared_server.url}/v1/detect?mark=blur&margin=0.5"
    of_curl = curl("-F", f"image=@{photo}", url)
    assert [each["name"] for each in of_curl["artifacts"]] == ["marked.jpg"]
    told = parameters(shared_server, of_curl)
    assert (told["mark"], told["margin"]) == ("blur", 0.5)
    of_requests = requests.post(
        shared_server.url + "/v1/detect",
        params={"mark": "blur", "boxes": '[{"x": 5, "y": 5, "width": 50, "height": 50}]'},
        files={"image": photo.read_bytes()},
        headers=WAIT,
        timeout=2 * PATIENCE_S,
    ).json()
    assert parameters(shared_server, of_requests)["boxes"] == [{"x": 5, "y": 5, "width": 50, "height": 50}]


def test_a_parameter_in_query_and_body_is_refused(shared_server: Server, astronaut_jpeg: bytes) -> None:
    encoded = base64.b64encode(astronaut_jpeg).decode()
    with client(shared_server) as session:
        for sent in (
            {"files": {"image": astronaut_jpeg}, "data": {"mark": "box"}},
            {"json": {"image": encoded, "mark": "box"}},
        ):
            told = problem(session.post("/v1/detect?mark=blur", **sent), 422, "invalid-request")  # type: ignore[arg-type]
            assert told["detail"].startswith("mark: ")
        told = problem(session.post("/v1/detect?mark=blur&mark=box", files={"image": b"x"}), 422, "invalid-request")
        assert told["detail"].startswith("mark: ")
        told = problem(session.post("/v1/detect?image=x", json={}), 422, "invalid-request")
        assert "in the body" in told["detail"]
        both = session.post("/v1/detect?image_url=https://example.org/a.jpg", content=b"x", headers=JPEG)
        assert "not both" in problem(both, 422, "invalid-request")["detail"]


def test_an_unknown_name_in_a_query_is_refused(shared_server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(shared_server, astronaut_jpeg, wait=True)
    artifact = job["artifacts"][0]["url"]
    for path in (
        "/v1/jobs?state=failed",
        f"{job['url']}?full=1",
        f"{artifact}?w=5",
        "/v1/operations?x",
        "/v1/events?jobs=1",
    ):
        told = problem(get(shared_server, path), 422, "invalid-request")
        assert told["errors"][0]["field"] in path
    for path in ("/v1/jobs?status=failed&status=queued", "/v1/events?operation=crop&operation=detect"):
        told = problem(get(shared_server, path), 422, "invalid-request")
        assert "twice" in told["detail"], "which one is meant?"
    told = problem(get(shared_server, "/v1/jobs?state=failed"), 422, "invalid-request")
    assert "status" in told["detail"]  # what is meant
    with client(shared_server) as session:
        problem(session.post("/v1/detect?blur=1", files={"image": astronaut_jpeg}), 422, "invalid-request")
        problem(session.post("/image?mark=blur", files={"file": astronaut_jpeg}), 422, "invalid-request")
        problem(session.post(f"{job['url']}/cancel?now=1"), 422, "invalid-request")
        problem(session.delete(f"{job['url']}?sure=1"), 422, "invalid-request")
        assert session.get(job["url"]).status_code == 200  # not erased
    # The page asks for a preview again and again.
    assert "preview" in problem(get(shared_server, f"{job['url']}/preview?version=2"), 404, "not-found")["detail"]
    # Probes and the paths of earlier services have always ignored them.
    assert get(shared_server, "/healthz?probe=1").status_code == 200
    assert get(shared_server, f"/jobs/{job['id']}/processed-image?t=1").status_code == 200


def test_a_socket_with_an_unknown_name_is_refused(shared_server: Server) -> None:
    answer = get(
        shared_server,
        "/v1/events?operations=detect",
        Upgrade="websocket",
        Connection="Upgrade",
        **{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"},
    )
    assert problem(answer, 422, "invalid-request")["errors"][0]["field"] == "operations"


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_a_raw_body_is_the_photo(shared_server: Server, photo: Path, astronaut_jpeg: bytes) -> None:
    url = f"{shared_server.url}/v1/detect?mark=none"
    for kind in ("image/jpeg", "image/*", "application/octet-stream", "IMAGE/PNG; x=y"):
        job = curl("--data-binary", f"@{photo}", "-H", f"Content-Type: {kind}", url)
        assert parameters(shared_server, job)["mark"] == "none"
        assert job["inputs"][0]["size"] == len(astronaut_jpeg)
    problem(post(shared_server, "/v1/detect", b"x" * 40_000_001, **JPEG), 413, "too-large")
    problem(post(shared_server, "/v1/detect", b"no picture", **JPEG), 415, "unsupported-media")
    problem(post(shared_server, "/v1/detect", b"", **JPEG), 415, "unsupported-media")
    problem(post(shared_server, "/v1/detect", b"x", Content_Type="video/mp4"), 415, "unsupported-media")


def test_a_request_without_a_body_has_all_in_its_query(shared_server: Server) -> None:
    answer = httpx.post(f"{shared_server.url}/v1/detect?image_url=http://127.0.0.1/x.jpg", timeout=PATIENCE_S)
    problem(answer, 422, "url-not-allowed")
    missing = httpx.post(f"{shared_server.url}/v1/detect", timeout=PATIENCE_S)
    assert problem(missing, 422, "invalid-request")["field"] == "image"


def _part(name: str, content: bytes, *headers: str) -> bytes:
    lines = [f'--b\r\nContent-Disposition: form-data; name="{name}"', *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


FORM = {"Content_Type": "multipart/form-data; boundary=b"}


def test_a_part_with_a_media_type_is_a_file(shared_server: Server, astronaut_jpeg: bytes) -> None:
    for kind in ("image/jpeg", "application/octet-stream", "application/x-unknown"):
        file = _part("image", astronaut_jpeg, f"Content-Type: {kind}")
        job = post(shared_server, "/v1/detect", file + _part("mark", b"none") + b"--b--\r\n", **FORM).json()
        assert parameters(shared_server, job)["mark"] == "none"
        for path, field in (("/image", "file"), ("/api/v1/images", "file"), ("/image", "image")):
            file = _part(field, astronaut_jpeg, f"content-type:{kind}") + b"--b--\r\n"
            assert post(shared_server, path, file, **FORM).status_code in (200, 201)


def test_a_part_of_text_is_a_field(shared_server: Server, astronaut_jpeg: bytes) -> None:
    """.NET and OkHttp send text/plain, Spring application/json; a browser sends an empty file if none was chosen."""
    body = (
        _part("image", astronaut_jpeg, "Content-Type: image/jpeg")
        + _part("mark", b"blur", "Content-Type: text/plain; charset=utf-8")
        + _part("boxes", b"[]", "Content-Type: application/json")
        + b"--b--\r\n"
    )
    told = parameters(shared_server, post(shared_server, "/v1/detect", body, **FORM).json())
    assert (told["mark"], told["boxes"]) == ("blur", [])
    unchosen = b'--b\r\nContent-Disposition: form-data; name="segmentation_map"; filename=""\r\n'
    unchosen += b"Content-Type: application/octet-stream\r\n\r\n\r\n"
    body = unchosen + _part("image", astronaut_jpeg, "Content-Type: image/jpeg") + b"--b--\r\n"
    assert parameters(shared_server, post(shared_server, "/v1/contours", body, **FORM).json())["scheme"] == "named"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.rstrip("="),
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
        lambda text: f"data:image/jpeg;name=face,1.jpg;charset=utf-8;base64,{text}".replace("face,1", "face"),
        lambda text: f"data:image/jpeg;name={'x' * 500}.jpg;base64,{text}",
        lambda text: f"data:;base64,{text.rstrip('=')}",
        lambda text: f"DATA:image/jpeg;BASE64;charset=utf-8,{text}",
    ],
)
def test_base64_as_it_comes(shared_server: Server, astronaut_jpeg: bytes, change: Callable[[str], str]) -> None:
    padded = astronaut_jpeg + b"\0" * ((1 - len(astronaut_jpeg)) % 3)  # base64 of it needs `==`
    body = as_json(image=change(base64.b64encode(padded).decode()), mark="none")
    job = post(shared_server, "/v1/detect", body, Content_Type="application/json").json()
    assert job["inputs"][0]["size"] == len(padded), job


@pytest.mark.parametrize("text", ["A", "AAAAA", "AA=A", "AAA=AAAA", "AAAA=", "A===", "data:image/jpeg,AAAA"])
def test_what_is_no_base64(shared_server: Server, text: str) -> None:
    answer = post(shared_server, "/v1/detect", as_json(image=text), Content_Type="application/json")
    problem(answer, 422, "invalid-request")


def test_json_may_begin_with_a_byte_order_mark(shared_server: Server, astronaut_jpeg: bytes) -> None:
    body = b"\xef\xbb\xbf" + as_json(image=base64.b64encode(astronaut_jpeg).decode(), mark="none")
    job = post(shared_server, "/v1/detect", body, Content_Type="application/json; charset=utf-8").json()
    assert job["status"] == "succeeded"
    again = post(shared_server, "/api/v1/submit", body.replace(b', "mark": "none"', b""))
    assert again.status_code == 202


def test_null_is_not_given(shared_server: Server, small_jpeg: bytes) -> None:
    """For every field of every operation, also for the fields of a painter that was not chosen."""
    encoded = base64.b64encode(small_jpeg).decode()
    operations = get(shared_server, "/v1/operations").json()["operations"]
    for each in operations:
        fields = [*each["parameters"]["properties"], "image_url", "webhook_url", "label"]
        body = as_json(**{**dict.fromkeys(fields), "image": encoded})
        job = post(shared_server, f"/v1/{each['name']}", body, Content_Type="application/json").json()
        assert job["status"] == "succeeded", (each["name"], job)
    steps = [
        {"operation": "detect", "mark": None, "max_faces": None},
        {"operation": "generate", "painter": "drawn", "style": None, "tones": None},
    ]
    body = as_json(image=encoded, steps=steps)
    assert post(shared_server, "/v1/pipeline", body, Content_Type="application/json").json()["status"] == "succeeded"
    refused = post(shared_server, "/v1/detect", as_json(image=encoded, marks=None), Content_Type="application/json")
    assert problem(refused, 422, "invalid-request")["errors"][0]["field"] == "marks"
    refused = post(shared_server, "/v1/detect", as_json(image=None), Content_Type="application/json")
    assert problem(refused, 422, "invalid-request")["field"] == "image"


# --- gzip -------------------------------------------------------------------------------------------------------------


def test_a_compressed_body(shared_server: Server, astronaut_jpeg: bytes, photo: Path, tmp_path: Path) -> None:
    packed = tmp_path / "face.gz"
    packed.write_bytes(gzip.compress(astronaut_jpeg))
    url = f"{shared_server.url}/v1/detect?mark=none"
    job = curl("--data-binary", f"@{packed}", "-H", "Content-Type: image/jpeg", "-H", "Content-Encoding: gzip", url)
    assert job["inputs"][0]["size"] == len(astronaut_jpeg)
    form = _part("file", astronaut_jpeg, "Content-Type: image/jpeg") + b"--b--\r\n"
    assert post(shared_server, "/image", gzip.compress(form), **FORM, Content_Encoding="x-gzip").status_code == 201


def test_a_body_that_is_not_its_compression(shared_server: Server, astronaut_jpeg: bytes) -> None:
    packed = gzip.compress(astronaut_jpeg)
    for body in (b"plain", b"", packed[:-9], packed + b"more", packed + packed):
        told = problem(post(shared_server, "/v1/detect", body, **JPEG, **GZIP), 422, "invalid-request")
        assert "gzip" in told["detail"]
    for coding in ("br", "deflate", "gzip, gzip"):
        answer = post(shared_server, "/v1/detect", packed, **JPEG, Content_Encoding=coding)
        assert problem(answer, 415, "unsupported-media")["encodings"] == ["gzip"]
        assert answer.headers["accept-encoding"] == "gzip"


def test_a_compressed_body_is_bounded_as_it_is_unpacked(start_server: StartServer) -> None:
    """A gigabyte in a megabyte: refused at the limit, without its memory, while others are answered."""
    server = start_server(LIMNER_WORKERS="1", LIMNER_MAX_UPLOAD_BYTES="20000000")
    packer = zlib.compressobj(9, wbits=31)
    start, block = (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    bomb = start + 63 * block + packer.flush()
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status")

    def peak_mb() -> int:
        found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
        assert found is not None
        return int(found[1]) // 1000

    get(server, "/v1/operations")
    before = peak_mb()
    slowest = 0.0
    ended = threading.Event()

    def watch() -> None:
        nonlocal slowest
        with client(server) as session:
            while not ended.is_set():
                start = time.perf_counter()
                session.get("/healthz")
                slowest = max(slowest, time.perf_counter() - start)
                time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for kind in ({"Content_Type": "application/json"}, JPEG, FORM):
        told = problem(post(server, "/v1/detect", bomb, **kind, **GZIP), 413, "too-large")
        assert told["limit"] < 32_000_000
    ended.set()
    watcher.join()
    assert peak_mb() - before < 100
    assert slowest < 2


def test_what_is_unpacked_counts_for_the_memory_of_uploads(start_server: StartServer) -> None:
    server = start_server(LIMNER_WORKERS="1", LIMNER_UPLOAD_MEMORY_BYTES="25000000")
    body = gzip.compress(bytes(19_000_000), 1)
    answers: list[int] = []

    def slowly() -> None:
        """All but the last bytes, which keep the memory of the rest. Again if another upload was there first."""
        lines = ["POST /v1/detect HTTP/1.1", "Host: localhost", "Content-Type: image/png", "Content-Encoding: gzip"]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n"
        status = 429
        while status == 429:
            with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
                connection.sendall(head.encode() + body[:-8])
                while not release.is_set() and not select.select([connection], [], [], 0.05)[0]:
                    pass
                if release.is_set():
                    connection.sendall(body[-8:])
                status = int(connection.recv(100).split()[1])
        answers.append(status)

    release = threading.Event()
    other = threading.Thread(target=slowly)
    other.start()
    deadline = time.monotonic() + PATIENCE_S
    while (answer := post(server, "/v1/detect", body, **JPEG, **GZIP)).status_code != 429:
        assert time.monotonic() < deadline, answer.text
    problem(answer, 429, "queue-full")
    release.set()
    other.join()
    assert answers == [415]


# --- paths and methods ------------------------------------------------------------------------------------------------


def test_a_slash_at_the_end_is_the_same_path(shared_server: Server, photo: Path, astronaut_jpeg: bytes) -> None:
    job = curl("-F", f"image=@{photo}", f"{shared_server.url}/v1/detect/")
    with client(shared_server) as session:
        for path in ("/v1/jobs", "/v1/operations", "/healthz", "/docs", f"/v1/jobs/{job['id']}", f"/jobs/{job['id']}"):
            assert session.get(path + "/").status_code == 200, path
        assert session.get(job["artifacts"][0]["url"] + "/").content == session.get(job["artifacts"][0]["url"]).content
        assert session.post("/image/", files={"file": astronaut_jpeg}).status_code == 201
        assert session.post("/api/v1/images/", files={"file": astronaut_jpeg}).status_code == 200
        assert set(session.get("/api/v1/images/").json()) == {"count", "next", "previous", "results"}  # its own route
        for path in ("/nothing/", "/v1/jobs//"):
            problem(session.get(path), 404, "not-found")
    with listening(shared_server, f"/v1/events/?after=0&job={job['id']}") as events:
        until(events, "job.succeeded", job["id"])


def test_ids_in_capitals_are_the_same(shared_server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(shared_server, astronaut_jpeg, wait=True, mark="pixelate")
    loud = job["id"].upper()
    with client(shared_server) as session:
        assert session.get(f"/v1/jobs/{loud}").json()["id"] == job["id"]
        assert session.get(f"/jobs/{loud}").json()["id"] == job["id"]
        assert session.get(f"/v1/jobs/{loud}/artifacts/marked.jpg").status_code == 200
        problem(session.get(f"/v1/jobs/{job['id']}/artifacts/MARKED.JPG"), 404, "not-found")
        assert session.get(f"/v1/jobs/archive?id={loud}").headers["content-type"] == "application/zip"
    with listening(shared_server, f"/v1/events?after=0&job={loud}") as events:
        until(events, "job.succeeded", job["id"])


def test_head_is_wherever_get_is(shared_server: Server, astronaut_jpeg: bytes) -> None:
    job = submit(shared_server, astronaut_jpeg, wait=True)
    described = get(shared_server, "/openapi.json").json()["paths"]
    picture = {"signature": "wrong", "operation": "detect", "options": "-", "source": "x"}
    values = {"job_id": job["id"], "name": "marked.jpg", **picture}
    with client(shared_server) as session:
        for path, methods in described.items():
            if "get" not in methods or path == "/v1/events":
                continue
            address = path.format_map({**values, "file_id": job["id"]}).replace("inputs/marked.jpg", "inputs/image")
            full, head = session.get(address), session.head(address)
            assert head.status_code == full.status_code, path
            assert head.headers["content-type"] == full.headers["content-type"]
            assert head.content == b""
        for path in ("/", "/docs", "/redoc", "/openapi.json", "/page/main.js", "/docs/swagger-ui.css"):
            assert session.head(path).status_code == 200, path
        events = session.head("/v1/events")
        assert events.headers["content-type"].startswith("text/event-stream")
        refused = session.put("/v1/jobs")
        problem(refused, 405, "method-not-allowed")
        assert refused.headers["allow"] == "GET, HEAD"
        assert session.put(f"/v1/jobs/{job['id']}").headers["allow"] == "DELETE, GET, HEAD"


# --- events -----------------------------------------------------------------------------------------------------------


def _raw(server: Server, request: str, until_: bytes) -> bytes:
    """The answer to a request as it is on the wire, up to a text."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        received = b""
        while until_ not in received:
            data = connection.recv(65_536)
            assert data, received
            received += data
        return received


def test_events_without_names(shared_server: Server, astronaut_jpeg: bytes) -> None:
    submit(shared_server, astronaut_jpeg, wait=True)
    host = "Host: localhost\n\n"
    named = _raw(shared_server, f"GET /v1/events?after=0 HTTP/1.1\n{host}", b"event: job.succeeded")
    assert b"event: job.queued" in named
    plain = _raw(shared_server, f"GET /v1/events?after=0&named=false HTTP/1.1\n{host}", b'"type":"job.succeeded"')
    assert b"event:" not in plain
    assert plain.count(b"\nid: ") >= 2
    first = int(re.findall(rb"\nid: (\d+)", plain)[0])
    resumed = _raw(shared_server, f"GET /v1/events?lastEventId={first} HTTP/1.1\n{host}", b'"type":"job.succeeded"')
    assert int(re.findall(rb"\nid: (\d+)", resumed)[0]) == first + 1


def test_a_client_of_http_1_0_gets_no_chunks(shared_server: Server, astronaut_jpeg: bytes) -> None:
    submit(shared_server, astronaut_jpeg, wait=True)
    answer = _raw(shared_server, "GET /v1/events?after=0 HTTP/1.0\nHost: localhost\n\n", b"job.succeeded")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert body.startswith(b"retry: 2000\n\nid: ")
    newer = _raw(shared_server, "GET /v1/events?after=0 HTTP/1.1\nHost: localhost\n\n", b"job.succeeded")
    assert b"transfer-encoding: chunked" in newer.lower()
    whole = run("curl", "--silent", "--http1.0", f"{shared_server.url}/v1/jobs")
    assert json.loads(whole)["jobs"]


def test_subprotocols_are_declined(shared_server: Server, astronaut_jpeg: bytes) -> None:
    """The handshake is completed without one (RFC 6455, 4.2.2), and the client decides whether it goes on."""
    offered = [Subprotocol("graphql-ws"), Subprotocol("v1.json")]
    with listening(shared_server, subprotocols=offered) as events:
        assert events.subprotocol is None
        job = submit(shared_server, astronaut_jpeg, wait=True)
        until(events, "job.succeeded", job["id"])
    shared_server.check_log()


# --- clients of others --------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)  # installs them first, once
def test_clients_of_node(shared_server: Server, photo: Path) -> None:
    folder = node_folder()
    script = folder / "node.mjs"
    script.write_bytes((HERE / "habits/node.mjs").read_bytes())  # beside its node_modules
    told = json.loads(run("node", script, shared_server.url, photo))
    for name, job in told["seen"].items():
        assert parameters(shared_server, job)["mark"] == "none", name
    assert len(told["seen"]) == 8
    assert told["classic"] == 201
    assert told["events"][:2] == ["job.queued", "job.running"]


@pytest.mark.timeout(600)
def test_aiohttp(shared_server: Server, photo: Path) -> None:
    told = json.loads(run(python_folder() / "python", HERE / "habits/with_aiohttp.py", shared_server.url, photo))
    assert [parameters(shared_server, job)["mark"] for job in told.values()] == ["none"] * 3
