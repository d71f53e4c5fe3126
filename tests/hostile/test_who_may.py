"""Who may use the service: host names, pages of other web sites, and what `image_url` may reach."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import pytest
from starlette.responses import PlainTextResponse
from websockets.exceptions import InvalidStatus

from limner.settings import Settings
from limner.web.access import Access, is_loopback
from limner.web.outgoing import is_own
from tests.conftest import another
from tests.journeys.client import blobs, get, listening, problem, submit
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server

SOCKETS = ("/v1/events", "/faces", "/ws", "/ws/v1/faces")


# --- host names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.1.2.3:8282", "[::1]", "[::1]:8282", "192.168.1.5:80"]
)
def test_loopback_names_and_addresses_are_answered(shared_server: Server, host: str) -> None:
    for path in ("/healthz", "/v1/jobs", "/"):
        assert get(shared_server, path, Host=host).status_code == 200
    with listening(shared_server, additional_headers={"Host": host}):
        pass


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8282", "limner", "localhost.evil.example", "127.0.0.1.evil.example", "[", "", "a b"],
)
def test_a_foreign_name_reads_changes_and_hears_nothing(
    shared_server: Server, astronaut_jpeg: bytes, host: str
) -> None:
    """DNS rebinding: the browser thinks that it is the attacker's own site, so `Origin` agrees with `Host`."""
    job = submit(shared_server, astronaut_jpeg, wait=True)
    own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    for method, path in (
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
        ("GET", "/v1/jobs"),
        ("GET", f"/v1/jobs/{job['id']}/artifacts/marked.jpg"),
        ("GET", "/v1/events?after=0"),
        ("DELETE", f"/v1/jobs/{job['id']}"),
        ("POST", "/v1/detect"),
        ("OPTIONS", "/v1/detect"),
    ):
        problem(httpx.request(method, shared_server.url + path, headers=own), 421, "host-not-allowed")
    assert get(shared_server, f"/v1/jobs/{job['id']}").json()["status"] == "succeeded"
    for path in SOCKETS:
        with (
            pytest.raises(InvalidStatus) as refused,
            listening(shared_server, path, additional_headers={"Host": host}, origin=f"http://{host}"),
        ):
            pass
        assert refused.value.response.status_code == 403


def test_names_can_be_allowed(start_server: StartServer) -> None:
    server = start_server(
        LIMNER_ALLOWED_HOSTS="faces.internal, [2001:db8::1]", LIMNER_PUBLIC_URL="https://faces.example:8443/x/"
    )
    for host in ("faces.internal", "FACES.internal:8282", "faces.example", "faces.example:8443", "localhost"):
        assert get(server, "/v1/jobs", Host=host).status_code == 200
    problem(get(server, "/v1/jobs", Host="evil.example"), 421, "host-not-allowed")
    told = problem(get(server, "/v1/jobs", Host="x.faces.example"), 421, "host-not-allowed")
    assert "LIMNER_ALLOWED_HOSTS" in told["detail"]


def test_any_name_can_be_allowed(start_server: StartServer) -> None:
    assert get(start_server(LIMNER_ALLOWED_HOSTS="*"), "/v1/jobs", Host="any.example").status_code == 200


@pytest.mark.parametrize("listens_on", ["0.0.0.0", "::", "192.168.1.5"])
def test_a_server_for_the_network_answers_to_names_without_a_dot(listens_on: str) -> None:
    """`http://limner:8282` is how containers call each other; a stranger's name server can give no such name."""

    async def answers(*hosts: str) -> list[int]:
        guarded = Access(PlainTextResponse("ok"), settings=Settings(host=listens_on))
        transport = httpx.ASGITransport(guarded)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return [(await client.get("/", headers={"Host": host})).status_code for host in hosts]

    assert set(asyncio.run(answers("limner:8282", "my-server", "10.1.2.3:8282", "localhost"))) == {200}
    assert set(asyncio.run(answers("evil.example", "[", "a b", "a/b", ""))) == {421}


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_what_listens_for_this_machine_alone(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback


# --- pages of other web sites ----------------------------------------------------------------------------------------

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page_changes_nothing(shared_server: Server, astronaut_jpeg: bytes, headers: dict[str, str]) -> None:
    job = submit(shared_server, astronaut_jpeg, wait=True)
    before = len(get(shared_server, "/v1/jobs").json()["jobs"]), len(blobs(shared_server))
    url = shared_server.url
    for path, field in (
        ("/v1/detect", "image"),
        ("/v1/contours", "image"),
        ("/image", "file"),
        ("/api/v1/images", "file"),
    ):
        sent = {field: another(astronaut_jpeg, 99)}
        refused = httpx.post(url + path, files=sent, headers=headers)
        problem(refused, 403, "forbidden")
        assert "access-control-allow-origin" not in refused.headers
    for path in ("/api/v1/submit", "/api/v1/frontal/crop/submit"):
        problem(
            httpx.post(url + path, content=b"{}", headers={"Content-Type": "text/plain", **headers}), 403, "forbidden"
        )
    problem(httpx.post(f"{url}/v1/jobs/{job['id']}/cancel", headers=headers), 403, "forbidden")
    problem(httpx.delete(f"{url}/v1/jobs/{job['id']}", headers=headers), 403, "forbidden")
    problem(httpx.put(f"{url}/v1/jobs", headers=headers), 403, "forbidden")
    assert (len(get(shared_server, "/v1/jobs").json()["jobs"]), len(blobs(shared_server))) == before
    # What changes nothing is answered, but no foreign page can read it.
    read = get(shared_server, "/v1/jobs", **headers)
    assert read.status_code == 200
    assert "access-control-allow-origin" not in read.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},  # curl, an SDK
        {"Origin": "{own}"},
        {"Origin": "{own}", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://faces.example", "Sec-Fetch-Site": "same-origin"},  # a proxy that passes its own Host on
    ],
    ids=str,
)
def test_its_own_page_and_programs_may(shared_server: Server, astronaut_jpeg: bytes, headers: dict[str, str]) -> None:
    headers = {name: value.format(own=shared_server.url) for name, value in headers.items()}
    answer = httpx.post(f"{shared_server.url}/v1/detect", files={"image": astronaut_jpeg}, headers=headers)
    assert answer.is_success
    assert httpx.delete(answer.json()["url"], headers=headers).status_code == 204


def test_an_allowed_origin_may(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_ALLOWED_ORIGINS="https://a.example", LIMNER_PUBLIC_URL="https://faces.example")
    for origin in ("https://a.example", "https://faces.example"):
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        answer = httpx.post(f"{server.url}/v1/detect", files={"image": astronaut_jpeg}, headers=headers)
        assert answer.is_success
        job_url = f"{server.url}/v1/jobs/{answer.json()['id']}"
        assert httpx.delete(job_url, headers=headers).status_code == 204
    headers = {"Origin": "https://a.example"}
    assert get(server, "/v1/jobs", **headers).headers["access-control-allow-origin"] == "https://a.example"
    problem(httpx.delete(job_url, headers={"Origin": "https://b.example"}), 403, "forbidden")


def test_every_origin_may_where_all_are_allowed(start_server: StartServer, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_ALLOWED_ORIGINS="*")
    headers = {"Origin": "https://any.example", "Sec-Fetch-Site": "cross-site"}
    answer = httpx.post(f"{server.url}/v1/detect", files={"image": astronaut_jpeg}, headers=headers)
    assert answer.is_success
    assert answer.headers["access-control-allow-origin"] == "*"
    problem(get(server, "/v1/jobs", Host="evil.example", **headers), 421, "host-not-allowed")


# --- what `image_url` may reach --------------------------------------------------------------------------------------


def _fetch(server: Server, url: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/detect", json={"image_url": url}, timeout=60)


@contextlib.contextmanager
def _ports() -> Iterator[dict[str, int]]:
    """Ports of 127.0.0.1: closed, silent, one that leaves at once and one that speaks no HTTP."""
    ending = threading.Event()
    with contextlib.ExitStack() as stack:

        def listen() -> socket.socket:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(0.1)
            return listener

        def serve(listener: socket.socket, greeting: bytes) -> None:
            while not ending.is_set():
                with contextlib.suppress(TimeoutError), listener.accept()[0] as connection:
                    connection.sendall(greeting)

        closed = socket.create_server(("127.0.0.1", 0))
        closed_port = closed.getsockname()[1]
        closed.close()
        silent, leaving, other = listen(), listen(), listen()
        threads = [
            threading.Thread(target=serve, args=(leaving, b"")),
            threading.Thread(target=serve, args=(other, b"220 mail.example ESMTP\r\n")),
        ]
        for thread in threads:
            thread.start()
        names = {"silent": silent, "leaving": leaving, "other": other}
        yield {"closed": closed_port, **{name: each.getsockname()[1] for name, each in names.items()}}
        ending.set()
        for thread in threads:
            thread.join()


def test_it_is_no_port_scanner(start_server: StartServer) -> None:
    with _ports() as ports:
        server = start_server(LIMNER_FETCH_PRIVATE_HOSTS="127.0.0.1", LIMNER_FETCH_TIMEOUT_S="1")
        odd = [problem(_fetch(server, f"http://127.0.0.1:{port}/"), 422, "url-not-allowed") for port in ports.values()]
        assert all(told == odd[0] for told in odd)
        assert "80, 443" in odd[0]["detail"]
        server.stop()
        server = start_server(
            LIMNER_FETCH_PRIVATE_HOSTS="127.0.0.1",
            LIMNER_FETCH_TIMEOUT_S="1",
            LIMNER_FETCH_PORTS=",".join(map(str, ports.values())),
        )
        allowed = [
            problem(_fetch(server, f"http://127.0.0.1:{port}/"), 422, "url-fetch-failed") for port in ports.values()
        ]
        assert all(told == allowed[0] for told in allowed), allowed
        problem(_fetch(server, "http://127.0.0.1/"), 422, "url-not-allowed")  # 80 is not among them now
        problem(_fetch(server, "https://127.0.0.1/"), 422, "url-not-allowed")


def test_this_machine_is_recognised_by_each_of_its_addresses() -> None:
    for address in {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), 80)} | {"127.0.0.1"}:
        assert is_own(address)
    assert not is_own("203.0.113.1")
    assert not is_own("2001:db8::1")


_OWN_PUBLIC_ADDRESS = """
import asyncio, subprocess, sys
for command in ("link set lo up", "addr add 11.22.33.44/32 dev lo", "addr add 2a00::5/128 dev lo"):
    subprocess.run(["ip", *command.split()], check=True)
from limner.domain.errors import UrlNotAllowedError
from limner.web.fetch_url import fetch
from limner.web.outgoing import is_own, is_public
for address in ("11.22.33.44", "2a00::5"):
    assert is_public(address) and is_own(address), address
assert not is_own("11.22.33.45")
for url in ("http://11.22.33.44/", "http://[2a00::5]/"):
    try:
        asyncio.run(fetch(url, max_bytes=10, timeout_s=5))
    except UrlNotAllowedError:
        continue
    sys.exit(f"{url} was fetched")
"""


def test_the_machines_own_public_address_is_refused() -> None:
    apart = ["unshare", "--map-root-user", "--net"]  # a network of its own, whose addresses we may choose
    try:
        subprocess.run([*apart, "ip", "link"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no network namespace here")
    command = [*apart, sys.executable, "-c", _OWN_PUBLIC_ADDRESS]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
