"""`image_url`: fetched only from public addresses and within limits, whatever the other server does."""

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.conftest import another
from tests.journeys.client import all_events, blobs, metric, problem
from tests.journeys.server import Server

MAX_BYTES = 500_000


class Elsewhere(ThreadingHTTPServer):
    """Another web server on 127.0.0.1; `paths` records the requested paths."""

    daemon_threads = True

    def __init__(self, photo: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Pages)
        self.photo = photo
        self.paths: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.ending = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignored: clients that disconnect are expected."""


class _Pages(BaseHTTPRequestHandler):
    server: Elsewhere

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        page = getattr(self, f"_{self.path.strip('/').partition('?')[0].replace('-', '_')}", self._missing)
        page()

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def _missing(self) -> None:
        self._answer(404)

    def _photo(self) -> None:
        assert self.headers["Accept-Encoding"] == "identity"
        assert "Cookie" not in self.headers
        self._answer(200, self.server.photo, Content_Type="text/plain")

    def _once(self) -> None:
        self._answer(302, Location="/photo")

    def _loop(self) -> None:
        self._answer(302, Location="/loop")

    def _nowhere(self) -> None:
        self._answer(302)

    def _to(self) -> None:
        self._answer(307, Location=self.path.partition("?")[2])

    def _page(self) -> None:
        self._answer(200, b"<html>not a picture</html>", Content_Type="image/jpeg")

    def _nothing(self) -> None:
        self._answer(204)

    def _error(self) -> None:
        self._answer(500, b"secret internals")

    def _huge(self) -> None:
        self._answer(200, bytes(MAX_BYTES + 1))

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.ending.is_set():
                self.wfile.write(bytes(65536))

    def _slow(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.ending.wait(0.1):
                self.wfile.write(b"x")

    def _silent(self) -> None:
        self.server.ending.wait(20)

    def _short(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"too short")
        self.close_connection = True

    def _garbage(self) -> None:
        self.wfile.write(b"\0\0\0 no HTTP at all\r\n\r\n")
        self.close_connection = True


@pytest.fixture(scope="module")
def elsewhere(astronaut_jpeg: bytes) -> Iterator[Elsewhere]:
    with Elsewhere(another(astronaut_jpeg, 1)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.ending.set()
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def fetching(tmp_path_factory: pytest.TempPathFactory, elsewhere: Elsewhere) -> Iterator[Server]:
    """A server with 127.0.0.1 as its only allowed private host."""
    process = Server(
        tmp_path_factory.mktemp("fetching"),
        LIMNER_FETCH_PRIVATE_HOSTS="127.0.0.1",
        LIMNER_FETCH_PORTS=f"80,443,1,{elsewhere.server_address[1]}",
        LIMNER_FETCH_TIMEOUT_S="1.5",
        LIMNER_MAX_UPLOAD_BYTES=str(MAX_BYTES),
    )
    process.start()
    yield process
    process.stop()
    process.check_log()


def fetch(server: Server, url: object, **fields: str) -> httpx.Response:
    body = {"image_url": url, **fields}
    return httpx.post(f"{server.url}/v1/detect", json=body, headers={"Prefer": "wait=30"}, timeout=60)


def test_a_picture_is_fetched(fetching: Server, elsewhere: Elsewhere) -> None:
    job = fetch(fetching, f"{elsewhere.url}/photo?x=1#fragment").json()
    assert (job["status"], len(job["result"]["faces"])) == ("succeeded", 1)
    form = httpx.post(
        f"{fetching.url}/v1/detect", data={"image_url": f"{elsewhere.url}/once"}, files={"x": (None, "")}, timeout=60
    )
    assert form.status_code == 200, form.text
    assert form.json()["cached"] == "exact"  # the cache key depends on the bytes, not on the URL
    assert elsewhere.paths[-2:] == ["/once", "/photo"]
    assert elsewhere.paths[0] == "/photo?x=1"


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("/loop", 422, "url-fetch-failed"),
        ("/nowhere", 422, "url-fetch-failed"),
        ("/missing", 422, "url-fetch-failed"),
        ("/nothing", 422, "url-fetch-failed"),
        ("/error", 422, "url-fetch-failed"),
        ("/slow", 422, "url-fetch-failed"),
        ("/silent", 422, "url-fetch-failed"),
        ("/short", 422, "url-fetch-failed"),
        ("/garbage", 422, "url-fetch-failed"),
        ("/page", 415, "unsupported-media"),
        ("/huge", 413, "too-large"),
        ("/endless", 413, "too-large"),
        ("/to?http://localhost/photo", 422, "url-not-allowed"),
        ("/to?http://10.0.0.1/", 422, "url-not-allowed"),
        ("/to?//169.254.169.254/latest/meta-data", 422, "url-not-allowed"),
        ("/to?file:///etc/passwd", 422, "url-not-allowed"),
        ("/to?ftp://127.0.0.1/", 422, "url-not-allowed"),
        ("/to?http://[::1", 422, "url-not-allowed"),
        ("/to?//[x]/", 422, "url-not-allowed"),
        ("/to?http://user:pass@127.0.0.1/photo", 422, "url-not-allowed"),
    ],
)
def test_what_the_other_side_tries(fetching: Server, elsewhere: Elsewhere, path: str, status: int, slug: str) -> None:
    told = problem(fetch(fetching, elsewhere.url + path), status, slug)
    assert "secret" not in str(told)
    assert told["retryable"] == (slug == "url-fetch-failed")


@pytest.mark.parametrize("path", ["/missing", "/nothing", "/loop", "/huge", "/to?http://[::1", "/to?http://10.0.0.1/"])
def test_the_field_whose_url_is_wrong_is_named(
    fetching: Server, elsewhere: Elsewhere, path: str, astronaut_jpeg: bytes
) -> None:
    answer = httpx.post(
        f"{fetching.url}/v1/generate",
        data={"style_image_url": elsewhere.url + path},
        files={"image": astronaut_jpeg},
        timeout=60,
    )
    assert answer.json()["detail"].startswith("style_image_url: "), answer.text


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/",
        "http://[::1]/",
        "http://127.1/",
        "http://127.0.0.2:80/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://0.0.0.0/",
        "http://0/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.0.1/",
        "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[::127.0.0.1]/",
        "http://user@127.0.0.1/",
        "http://user:pass@example.com/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:x/",
        "http://[::1",
        "http:///photo",
        "http://",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1/",
        "data:image/png;base64,AAAA",
        "//127.0.0.1/",
        "photo.jpg",
        "javascript:alert(1)",
        "http://127.0.0.1/\r\nX: y",
        "http://127.0.0.1/ ",
        "http://127.0.0.1/ä",
        "http://①②⑦.⓪.⓪.①/",
        "http://127.0.0.1\\@example.com/",
        "http://127.0.0.1/" + "x" * 3000,
    ],
)
def test_private_addresses_are_not_fetched(fetching: Server, url: str) -> None:
    answer = fetch(fetching, url)
    assert answer.status_code == 422
    told = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    kinds = ("url-not-allowed", "url-fetch-failed") if "\\" in url else ("url-not-allowed",)
    assert told["type"].rpartition(":")[2] in kinds, told
    assert len(answer.content) < 1000


def test_a_host_without_an_address(fetching: Server) -> None:
    problem(fetch(fetching, "http://no-such-host.invalid/x.jpg"), 422, "url-fetch-failed")
    problem(fetch(fetching, f"http://{'x' * 70}.example/"), 422, "url-fetch-failed")


def test_a_port_where_nobody_answers(fetching: Server) -> None:
    problem(fetch(fetching, "http://127.0.0.1:1/x.jpg"), 422, "url-fetch-failed")


def test_the_setting_is_needed(shared_server: Server, elsewhere: Elsewhere) -> None:
    before = len(elsewhere.paths)
    for host in ("127.0.0.1", "localhost"):
        port = elsewhere.server_address[1]
        problem(fetch(shared_server, f"http://{host}:{port}/photo"), 422, "url-not-allowed")
    assert len(elsewhere.paths) == before


def test_nothing_is_kept_of_what_was_refused(fetching: Server, elsewhere: Elsewhere) -> None:
    for path in ("/huge", "/page", "/slow"):
        fetch(fetching, elsewhere.url + path)
    assert len(blobs(fetching)) <= 3  # the photo, the picture and the thumbnail of the first story
    assert metric(fetching, "http_requests_total", status="500") == 0
    assert {event["type"] for event in all_events(fetching)} <= {"job.queued", "job.running", "job.succeeded"}


def test_slow_fetches_keep_nobody_from_their_events(fetching: Server, elsewhere: Elsewhere) -> None:
    fetchers = [
        threading.Thread(target=fetch, args=(fetching, f"{elsewhere.url}/silent"), daemon=True) for _ in range(20)
    ]
    for fetcher in fetchers:
        fetcher.start()
    time.sleep(0.2)
    assert fetch(fetching, f"{elsewhere.url}/photo").json()["status"] == "succeeded"
    for fetcher in fetchers:
        fetcher.join()
