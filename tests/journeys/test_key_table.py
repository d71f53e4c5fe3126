"""Every route and socket with no key, a wrong, revoked or expired one, one without the scope, and another owner's."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import Mount, Route, WebSocketRoute
from websockets.exceptions import InvalidStatus

from limner import settings
from limner.assembly.application import build
from limner.domain.key import Scope, new_token
from limner.operations import CATALOGUE
from tests.conftest import MODELS, another
from tests.journeys.client import listening, problem
from tests.journeys.keys import ADMIN, OWN, as_caller, key_server, new_key, send, with_key
from tests.journeys.server import Server

ANY = "any key"
OPEN = "open"

# What each route needs, as docs/keys.md says. A new route must be added here, with the scope that it needs.
NEEDS: dict[tuple[str, str], str] = {
    **{("POST", f"/v1/{name}"): "submit" for name in CATALOGUE},
    ("GET", "/v1/operations"): ANY,
    ("GET", "/v1/painters"): ANY,
    ("GET", "/v1/jobs"): "read",
    ("GET", "/v1/jobs/archive"): "read",
    ("GET", "/v1/jobs/{job_id}"): "read",
    ("POST", "/v1/jobs/{job_id}/rerun"): "submit",
    ("POST", "/v1/jobs/{job_id}/cancel"): "submit",
    ("DELETE", "/v1/jobs/{job_id}"): "erase",
    ("GET", "/v1/jobs/{job_id}/preview"): "read",
    **{
        (method, f"/v1/jobs/{{job_id}}/{name}"): "read" for method in ("GET", "HEAD") for name in ("photo", "thumbnail")
    },
    ("GET", "/v1/jobs/{job_id}/inputs/{name}"): "read",
    ("HEAD", "/v1/jobs/{job_id}/inputs/{name}"): "read",
    ("GET", "/v1/jobs/{job_id}/artifacts/{name}"): "read",
    ("HEAD", "/v1/jobs/{job_id}/artifacts/{name}"): "read",
    ("GET", "/v1/jobs/{job_id}/webhooks"): "read",
    ("POST", "/v1/jobs/{job_id}/webhooks/replay"): "submit",
    ("GET", "/v1/events"): "read",
    ("POST", "/v1/tickets"): "read",
    ("POST", "/image"): "submit",
    ("GET", "/jobs/{job_id}"): "read",
    ("GET", "/jobs/{job_id}/processed-image"): "read",
    ("HEAD", "/jobs/{job_id}/processed-image"): "read",
    ("POST", "/api/v1/images"): "submit",
    ("GET", "/api/v1/images/{file_id}"): "read",
    ("HEAD", "/api/v1/images/{file_id}"): "read",
    ("GET", "/api/v1/images/{file_id}/meta"): "read",
    ("GET", "/api/v1/images/"): "read",
    ("GET", "/api/v1/images/{job_id}/"): "read",
    ("POST", "/"): "submit",
    ("POST", "/api/v1/submit"): "submit",
    ("POST", "/api/v1/frontal/crop/submit"): "submit",
    ("GET", "/api/v1/status/{job_id}"): "read",
    ("GET", "/api/v1/frontal/crop/status/{job_id}"): "read",
    ("POST", "/compat/rekognition"): "submit",
    ("POST", "/compat/vision/v1/images:annotate"): "submit",
    ("POST", "/api/v1/detection/detect"): "submit",
    (
        "GET",
        "/v1/image/{signature}/{operation}/{options}/{source}",
    ): OPEN,  # the signature says that it may be asked for
    ("GET", "/metrics"): "metrics",
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    # The page and the description of the API: they hold nothing of anybody.
    ("GET", "/"): OPEN,
    **{("GET", path): OPEN for path in ("/docs", "/redoc", "/openapi.json")},
    ("HEAD", "/openapi.json"): OPEN,
    ("GET", "/page"): OPEN,
    **{("WS", path): "read" for path in ("/v1/events", "/faces", "/ws", "/ws/v1/faces")},
    ("WS", "/v1/live/detect"): "submit",
}
VENDORS = ("/compat/", "/api/v1/detection/")
"""Paths that refuse in the words and with the status of the service whose clients they answer."""
GUARDED = [(method, path, need) for (method, path), need in NEEDS.items() if need != OPEN and method != "WS"]
SOCKETS = [path for method, path in NEEDS if method == "WS"]
OF_A_JOB = [(method, path, need) for method, path, need in GUARDED if "_id}" in path]


def _routes(routes: Any) -> Iterator[tuple[str, str]]:
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from _routes(inner.routes)
        elif isinstance(route, APIWebSocketRoute | WebSocketRoute):
            yield "WS", route.path
        elif isinstance(route, APIRoute | Route):
            yield from ((method, route.path) for method in route.methods or ())
        else:
            assert isinstance(route, Mount), route
            yield "GET", route.path


def test_every_route_is_in_the_table(tmp_path: Path) -> None:
    chosen = settings.load(database_url="memory:", blobs_url=str(tmp_path), models_dir=MODELS, workers=1)
    application = build(chosen)
    try:
        assert set(_routes(application.app.routes)) == set(NEEDS)
    finally:
        application.close()


@dataclass
class House:
    """A server with two owners, and jobs of the first."""

    server: Server
    owner: str
    stranger: str
    ids: dict[str, str]

    def path(self, path: str) -> str:
        """A route's path with ids of the first owner's jobs."""
        job = "contours" if "/status/" in path else "generate" if path.startswith("/api/v1/images/") else "detect"
        name = "image" if "/inputs/" in path else "marked.jpg"
        return path.format(job_id=self.ids[job], file_id=self.ids["file"], name=name)

    def call(self, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
        """The answer; of an event stream only the beginning."""
        with (
            httpx.Client(timeout=60) as client,
            client.stream(method, self.server.url + self.path(path), headers=headers) as answer,
        ):
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                return httpx.Response(answer.status_code, headers=answer.headers)
            answer.read()
            return answer


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, astronaut_jpeg: bytes) -> Iterator[House]:
    server = key_server(tmp_path_factory.mktemp("keys"))
    server.start()
    owner, stranger = new_key(server), new_key(server)
    with as_caller(server, owner) as client:
        ids = {
            "detect": send(client, astronaut_jpeg)["id"],
            "contours": send(client, astronaut_jpeg, path="/v1/contours")["id"],
            "generate": send(client, astronaut_jpeg, path="/v1/generate")["id"],
            "file": client.post("/api/v1/images", files={"file": astronaut_jpeg}).json()["uuid"],
        }
    yield House(server, owner, stranger, ids)
    log = server.log.read_text()
    for token in (owner, stranger, ADMIN):
        assert token not in log
    assert "signature=" not in log
    assert "ticket=" not in log
    server.stop()
    server.check_log()


def _bad_keys(server: Server) -> dict[str, dict[str, str]]:
    now = datetime.now(UTC)
    everything = list(Scope)
    revoked = new_key(server, everything, revoked_at=now)
    expired = new_key(server, everything, expires_at=now - timedelta(seconds=1))
    return {
        "none": {},
        "empty": {"Authorization": "Bearer"},
        "wrong": with_key(new_token()),
        "not a key": with_key("x" * 400),
        "another scheme": {"Authorization": "Basic YTpi"},
        "revoked": with_key(revoked),
        "expired": with_key(expired),
        "revoked in the other header": {"X-API-Key": revoked},
        "revoked beside another's": {"X-API-Key": revoked, **with_key(new_key(server, everything))},
    }


@pytest.fixture(scope="module")
def bad_keys(house: House) -> dict[str, dict[str, str]]:
    return _bad_keys(house.server)


@pytest.mark.parametrize(("method", "path", "need"), GUARDED)
def test_without_a_valid_key(
    house: House, bad_keys: dict[str, dict[str, str]], method: str, path: str, need: str
) -> None:
    for kind, headers in bad_keys.items():
        answer = house.call(method, path, headers)
        if path.startswith(VENDORS):
            assert answer.status_code in (400, 401, 403, 404), (kind, answer.text)
            assert " key" in answer.text, kind
            continue
        assert answer.status_code == 401, (kind, answer.text)
        assert answer.headers["www-authenticate"] == 'Bearer realm="limner"', kind
        if method != "HEAD":
            problem(answer, 401, "unauthorized")


@pytest.mark.parametrize(("method", "path", "need"), [each for each in GUARDED if each[2] != ANY])
def test_without_the_scope(house: House, method: str, path: str, need: str) -> None:
    others = new_key(house.server, [scope for scope in Scope if scope not in (need, Scope.ADMIN)])
    answer = house.call(method, path, with_key(others))
    if path.startswith(VENDORS):
        assert answer.status_code in (400, 403)
        assert f"`{need}`" in answer.text
        return
    assert answer.status_code == 403
    if method != "HEAD":
        assert f"`{need}`" in problem(answer, 403, "missing-scope")["detail"]


@pytest.mark.parametrize(("method", "path", "need"), OF_A_JOB)
def test_another_owner_is_told_that_there_is_no_such_job(house: House, method: str, path: str, need: str) -> None:
    stranger = house.call(method, path, with_key(house.stranger))
    assert stranger.status_code == 404
    unknown = house.server.url + path.format(job_id="gone", file_id="gone", name="gone")
    if method != "HEAD":
        nobody = httpx.request(method, unknown, headers=with_key(house.stranger))
        assert stranger.json() == nobody.json(), "the answer must not tell whether there is one"
    assert house.call("GET", "/v1/jobs/{job_id}", with_key(house.owner)).status_code == 200, "it is still there"


@pytest.mark.parametrize(("method", "path", "need"), [each for each in GUARDED if each[0] != "DELETE"])
def test_with_the_scope(house: House, method: str, path: str, need: str) -> None:
    admits = {"owner": house.owner} if need in OWN or need == ANY else {}
    for who, key in {**admits, "admin": ADMIN}.items():
        for headers in (with_key(key), {"X-API-Key": key}, {"Authorization": f"bearer {key}"}):
            answer = house.call(method, path, headers)
            if path.endswith("/preview"):  # a job that has ended has none
                assert problem(answer, 404, "not-found")["detail"] == "The job has no preview now."
            else:
                assert answer.status_code not in (401, 403, 404, 500), (who, answer.text)


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/docs", "/redoc", "/openapi.json", "/healthz", "/readyz"])
def test_what_is_open_needs_no_key(house: House, path: str) -> None:
    assert httpx.get(house.server.url + path).status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/v1/nothing/", "/page/nothing", "/v1/jobs//", "/v1/jobs%0A", "/docs%0A"])
def test_an_unknown_path_is_unknown_without_a_key_too(house: House, path: str) -> None:
    answer = httpx.get(house.server.url + path)
    assert answer.status_code == 404
    assert 'jobs":' not in answer.text


def test_the_description_names_what_each_route_needs(house: House) -> None:
    described = httpx.get(f"{house.server.url}/openapi.json").json()
    for (method, path), need in NEEDS.items():
        entry = described["paths"].get(path, {}).get(method.lower())
        if entry is not None:
            assert bool(entry.get("security")) == (need != OPEN), path
            for way in entry.get("security", ()):
                assert set(way) <= set(described["components"]["securitySchemes"])


# --- sockets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOCKETS)
def test_a_socket_without_a_valid_key(house: House, bad_keys: dict[str, dict[str, str]], path: str) -> None:
    for kind, headers in bad_keys.items():
        with pytest.raises(InvalidStatus) as refused, listening(house.server, path, additional_headers=headers):
            pass
        assert refused.value.response.status_code == 401, kind
        assert json.loads(refused.value.response.body)["type"] == "urn:limner:problem:unauthorized"


def test_a_socket_at_a_path_with_a_line_feed_is_unknown(house: House) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        listening(house.server, "/v1/events%0A", additional_headers=with_key(house.owner)),
    ):
        pass
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize("path", SOCKETS)
def test_a_socket_without_the_scope(house: House, path: str) -> None:
    others = new_key(house.server, [scope for scope in Scope if scope not in (NEEDS["WS", path], Scope.ADMIN)])
    with pytest.raises(InvalidStatus) as refused, listening(house.server, path, additional_headers=with_key(others)):
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", [path for path in SOCKETS if NEEDS["WS", path] == "read"])
def test_a_socket_tells_only_its_owner(house: House, astronaut_jpeg: bytes, path: str) -> None:
    def of(key: str) -> Any:
        return listening(house.server, path, additional_headers=with_key(key))

    with of(house.owner) as owner, of(house.stranger) as stranger, of(ADMIN) as admin:
        with as_caller(house.server, house.owner) as client:
            mine = send(client, another(astronaut_jpeg, hash(path) % 10_000))["id"]
        with as_caller(house.server, house.stranger) as client:
            theirs = send(client, another(astronaut_jpeg, hash(path) % 10_000))["id"]
        end = {"/v1/events": 3}.get(path, 1)  # queued, running, succeeded

        def told(connection: Any, events: int) -> str:
            return "".join(str(connection.recv(timeout=60)) for _ in range(events))

        everything, own, other = told(admin, 2 * end), told(owner, end), told(stranger, end)
    if path != "/ws/v1/faces":  # those are URLs with ids of files
        assert (mine in own, theirs in own) == (True, False)
        assert (mine in other, theirs in other) == (False, True)
        assert mine in everything
        assert theirs in everything
    assert own != other
    assert own in everything or path == "/v1/events"
