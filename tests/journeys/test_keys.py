"""Keys in use: owners, the cache, tickets, signed URLs, limits, revocation, and what a server does without any key."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from limner import settings
from limner.assembly.engines import SECRETS
from limner.domain.errors import SettingsError
from limner.domain.key import Scope
from limner.web.keyring import REMEMBERED_S
from tests.conftest import another
from tests.journeys.client import Json, listening, problem, received, rows, server_sent
from tests.journeys.conftest import BOTH_IF_SLOW, make_server, served
from tests.journeys.keys import ADMIN, ASKS_FOR_KEYS, as_caller, key_server, new_key, revoke, send, with_key
from tests.journeys.server import Server

REFUSED_WITHIN_S = 12.0


@pytest.fixture(scope="module", params=BOTH_IF_SLOW)
def house(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that asks for keys."""
    yield from served(make_server(tmp_path_factory.mktemp("keys"), request, **ASKS_FOR_KEYS, LIMNER_URL_SECRETS=""))


@pytest.fixture
def owner(house: Server) -> Iterator[httpx.Client]:
    """A client with a key of its own."""
    with as_caller(house, new_key(house)) as client:
        yield client


@pytest.fixture
def other(house: Server) -> Iterator[httpx.Client]:
    """A client with another key."""
    with as_caller(house, new_key(house)) as client:
        yield client


@pytest.fixture
def admin(house: Server) -> Iterator[httpx.Client]:
    """The client of the administrator."""
    with as_caller(house, ADMIN) as client:
        yield client


# --- owners ---------------------------------------------------------------------------------------------------------


def _listed(client: httpx.Client, **query: str) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page: Json = client.get(
            "/v1/jobs", params={"limit": "2", **query, **({"cursor": cursor} if cursor else {})}
        ).json()
        found += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def test_a_list_has_the_own_jobs_on_all_its_pages(
    owner: httpx.Client, other: httpx.Client, admin: httpx.Client, astronaut_jpeg: bytes
) -> None:
    mine, theirs = [], []
    for number in range(5):
        mine.append(send(owner, another(astronaut_jpeg, number))["id"])
        theirs.append(send(other, another(astronaut_jpeg, number))["id"])
    for query in ({}, {"operation": "detect"}, {"status": "succeeded"}, {"operation": "detect", "status": "succeeded"}):
        assert _listed(owner, **query) == mine[::-1]
        assert _listed(other, **query) == theirs[::-1]
        assert _listed(admin, **query)[:10] == sorted(mine + theirs, reverse=True)
    assert _listed(owner, status="failed") == []


def test_the_cache_and_idempotency_keys_belong_to_one_owner(
    owner: httpx.Client, other: httpx.Client, astronaut_jpeg: bytes
) -> None:
    photo = another(astronaut_jpeg, 4711)
    first = send(owner, photo, **{"Idempotency-Key": "the same"})
    assert first["cached"] is None
    assert send(owner, photo)["cached"] == "exact"
    assert send(owner, photo, **{"Idempotency-Key": "the same"})["id"] == first["id"]
    theirs = send(other, photo, **{"Idempotency-Key": "the same"})
    assert (theirs["cached"], theirs["id"] == first["id"]) == (None, False), "it would tell that the photo was sent"
    assert owner.delete(f"/v1/jobs/{first['id']}").status_code == 204
    assert other.get(theirs["artifacts"][0]["url"]).status_code == 200, (
        "the bytes stay while the other's job names them"
    )


def test_identical_work_at_the_same_time_is_shared_by_one_owner_only(
    house: Server, owner: httpx.Client, other: httpx.Client, astronaut_jpeg: bytes
) -> None:
    photo = another(astronaut_jpeg, 4712)

    def submit(client: httpx.Client) -> None:
        assert client.post("/v1/contours", files={"image": photo}).status_code in (200, 202)

    threads = [threading.Thread(target=submit, args=(client,)) for client in (owner, other) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = rows(
        house, "SELECT a.id FROM jobs a JOIN jobs b ON a.leader_id = b.id WHERE a.key_id IS DISTINCT FROM b.key_id"
    )
    assert found == []


def test_an_administrator_sees_and_erases_every_job(
    owner: httpx.Client, admin: httpx.Client, astronaut_jpeg: bytes
) -> None:
    job = send(owner, another(astronaut_jpeg, 5))
    assert admin.get(f"/v1/jobs/{job['id']}").json()["id"] == job["id"]
    assert admin.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert owner.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_replayed_events_are_those_of_the_own_jobs_also_after_an_erasure(
    owner: httpx.Client, other: httpx.Client, astronaut_jpeg: bytes
) -> None:
    mine, theirs = send(owner, another(astronaut_jpeg, 6))["id"], send(other, another(astronaut_jpeg, 6))["id"]
    for client, job in ((owner, mine), (other, theirs)):
        assert client.delete(f"/v1/jobs/{job}").status_code == 204
    for client, job in ((owner, mine), (other, theirs)):  # the first events of one would be seen by the other
        for query in ({}, {"operation": "detect"}, {"job": job}):
            seen = _replayed(client, 3, **query)
            assert [event["job"] for event in seen] == [{"id": job, "operation": "detect"}] * 3
    assert _replayed(other, 1, patience_s=2, job=mine) == []


def _replayed(client: httpx.Client, count: int, *, patience_s: float = 60, **query: str) -> list[Json]:
    """The first `count` events, or those that come in good time."""
    seen: list[Json] = []
    with (
        contextlib.suppress(httpx.ReadTimeout),
        client.stream(
            "GET", "/v1/events", params={"after": "0", **query}, timeout=2 if "job" in query else 60
        ) as answer,
    ):
        for event in server_sent(answer.iter_lines()):
            seen.append(event)
            if len(seen) == count:
                break
    return seen


# --- signed URLs ----------------------------------------------------------------------------------------------------


def test_pictures_are_shown_by_their_signed_urls_alone(owner: httpx.Client, astronaut_jpeg: bytes) -> None:
    job = send(owner, another(astronaut_jpeg, 7))
    uploaded = owner.post("/api/v1/images", files={"file": another(astronaut_jpeg, 7)}).json()
    classic = owner.get(f"/jobs/{job['id']}").json()
    for url in (job["artifacts"][0]["url"], uploaded["url"], classic["processed_url"]):
        for method in ("GET", "HEAD"):
            shown = httpx.request(method, url)
            assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg"), url
        found = re.fullmatch(r"private, max-age=(\d+), immutable", shown.headers["cache-control"])
        assert found is not None
        assert 3500 < int(found[1]) <= 3600 + 900, "no longer than the URL is valid"
    assert httpx.get(job["url"]).status_code == 401, "only pictures are signed"


def test_a_signature_holds_for_one_path_and_one_end(
    owner: httpx.Client, other: httpx.Client, astronaut_jpeg: bytes
) -> None:
    job, second = send(owner, another(astronaut_jpeg, 8)), send(owner, another(astronaut_jpeg, 9))
    url = job["artifacts"][0]["url"]
    query = {name: value[0] for name, value in parse_qs(urlsplit(url).query).items()}
    path = url.partition("?")[0]
    changed = {
        "another end": (path, query | {"expires": str(int(query["expires"]) + 1)}),
        "no end": (path, {"signature": query["signature"]}),
        "no number": (path, query | {"expires": "later"}),
        "another job": (second["artifacts"][0]["url"].partition("?")[0], query),
        "another name": (path + "x", query),
        "one letter": (path, query | {"signature": query["signature"][:-2] + "__"}),
        "not text": (path, query | {"signature": "\udcff"}),
        "longer": (path, query | {"signature": query["signature"] + "A"}),
    }
    for kind, (wrong, parameters) in changed.items():
        encoded = "&".join(f"{name}={value}" for name, value in parameters.items()).encode("utf-8", "replace").decode()
        assert problem(httpx.get(f"{wrong}?{encoded}"), 403, "bad-signature"), kind
    assert httpx.delete(f"{job['url']}?{urlsplit(url).query}").status_code == 401
    assert other.get(url).status_code == 404, "who sends a key is asked as its owner"
    assert owner.delete(f"/v1/jobs/{job['id']}").status_code == 204
    problem(httpx.get(url), 404, "not-found")


def test_urls_of_events_are_signed_too(house: Server, astronaut_jpeg: bytes) -> None:
    key = new_key(house)
    with listening(house, additional_headers=with_key(key)) as events, as_caller(house, key) as client:
        send(client, another(astronaut_jpeg, 10))
        told = [received(events) for _ in range(3)][-1]
    assert httpx.get(told["job"]["artifacts"][0]["url"]).status_code == 200


def test_the_secret_is_kept_and_another_one_ends_its_urls(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = key_server(tmp_path)
    server.start()
    with as_caller(server, new_key(server)) as client:
        url = send(client, astronaut_jpeg)["artifacts"][0]["url"]
    try:
        stored = rows(server, "SELECT value FROM facts WHERE name = 'url_secret'")[0][0]
        server.variables["LIMNER_URL_SECRETS"] = f"{'n' * 32},{stored}"
        server.restart()
        assert httpx.get(url).status_code == 200, "the second secret is still accepted"
        server.variables["LIMNER_URL_SECRETS"] = "n" * 32
        server.restart()
        problem(httpx.get(url), 403, "bad-signature")
    finally:
        server.stop()
    server.check_log()


# --- tickets --------------------------------------------------------------------------------------------------------


def _ticket(client: httpx.Client) -> str:
    answer = client.post("/v1/tickets")
    assert answer.status_code == 200
    made: Json = answer.json()
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert 50 < left.total_seconds() <= 61
    assert answer.headers["cache-control"] == "no-store"
    return str(made["ticket"])


@pytest.mark.parametrize("path", ["/v1/events", "/faces", "/ws", "/ws/v1/faces"])
def test_a_ticket_opens_one_socket(house: Server, owner: httpx.Client, astronaut_jpeg: bytes, path: str) -> None:
    ticket = _ticket(owner)
    with listening(house, f"{path}?ticket={ticket}") as socket:
        send(owner, another(astronaut_jpeg, 11))
        assert socket.recv(timeout=30)
    with pytest.raises(InvalidStatus) as again, listening(house, f"{path}?ticket={ticket}"):
        pass
    assert again.value.response.status_code == 401
    assert "used already" in json.loads(again.value.response.body)["detail"]
    assert ticket not in house.log.read_text()


def test_a_ticket_opens_one_stream_of_server_sent_events_and_nothing_else(house: Server, owner: httpx.Client) -> None:
    ticket = _ticket(owner)
    for path in ("/v1/jobs", "/v1/operations", "/metrics"):
        assert httpx.get(f"{house.url}{path}?ticket={ticket}").status_code == 401
    for status in (200, 401):
        with httpx.stream("GET", f"{house.url}/v1/events?ticket={ticket}") as answer:
            assert answer.status_code == status


@pytest.mark.parametrize("wrong", ["", "x", "...", "a.b.c.d", "admin.9999999999.abc.AAAA", "%ff.%00", "." * 2000])
def test_a_made_up_ticket_is_refused(house: Server, wrong: str) -> None:
    problem(httpx.get(f"{house.url}/v1/events?ticket={wrong}"), 401, "unauthorized")


def test_a_ticket_of_one_purpose_is_no_signature_of_another(house: Server, owner: httpx.Client) -> None:
    text, _, signature = _ticket(owner).rpartition(".")
    answer = httpx.get(f"{house.url}/v1/jobs/x/artifacts/y?expires={text}&signature={signature}")
    problem(answer, 403, "bad-signature")


def test_a_ticket_of_a_revoked_key_is_refused(house: Server) -> None:
    key = new_key(house)
    with as_caller(house, key) as client:
        ticket = _ticket(client)
    revoke(house, key)
    problem(httpx.get(f"{house.url}/v1/events?ticket={ticket}"), 401, "unauthorized")


# --- revocation -----------------------------------------------------------------------------------------------------


def test_a_revoked_key_ends_within_seconds_and_so_do_its_streams(house: Server, astronaut_jpeg: bytes) -> None:
    key, stays = new_key(house), new_key(house)
    with (
        listening(house, additional_headers=with_key(key)) as socket,
        listening(house, additional_headers=with_key(stays)) as witness,
        as_caller(house, key) as client,
        client.stream("GET", "/v1/events") as stream,
    ):
        assert client.get("/v1/jobs").status_code == 200
        revoke(house, key)
        begun = time.monotonic()
        while client.get("/v1/jobs").status_code == 200:
            assert time.monotonic() - begun < REFUSED_WITHIN_S / 2
            time.sleep(0.2)
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=REFUSED_WITHIN_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        assert list(stream.iter_lines()) == ["retry: 2000", ""], "it has ended"
        assert time.monotonic() - begun < REFUSED_WITHIN_S
        with as_caller(house, stays) as other:
            send(other, another(astronaut_jpeg, 12))
        assert received(witness)["type"] == "job.queued"


# --- limits ---------------------------------------------------------------------------------------------------------


def test_a_key_has_a_rate(house: Server) -> None:
    with as_caller(house, new_key(house, rate_per_minute=3)) as client:
        while 60 - time.time() % 60 < 5:  # all of it in one minute of the clock
            time.sleep(0.2)
        for left in (2, 1, 0):
            answer = client.get("/v1/jobs/unknown")
            assert answer.status_code == 404
            assert answer.headers["ratelimit-policy"] == '"minute";q=3;w=60'
            assert re.fullmatch(rf'"minute";r={left};t=\d+', answer.headers["ratelimit"])
        refused = client.get("/v1/jobs")
        assert problem(refused, 429, "rate-limited")["retryable"] is True
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit-policy"] == '"minute";q=3;w=60'
        assert refused.headers["ratelimit"].startswith('"minute";r=0;t=')
    with as_caller(house, new_key(house)) as client:
        free = client.get("/v1/jobs")
        assert free.status_code == 200
        assert "ratelimit" not in free.headers


def test_a_key_has_a_quota_of_submissions(house: Server, astronaut_jpeg: bytes) -> None:
    with as_caller(house, new_key(house, daily_quota=2, rate_per_minute=1000)) as client:
        for left in (1, 0):
            answer = client.post("/image", files={"file": another(astronaut_jpeg, 13)})
            assert answer.status_code == 201
            assert answer.headers["ratelimit-policy"] == '"minute";q=1000;w=60, "day";q=2;w=86400'
            assert f'"day";r={left};t=' in answer.headers["ratelimit"]
        refused = client.post("/v1/detect", files={"image": another(astronaut_jpeg, 14)})
        problem(refused, 429, "quota-exhausted")
        assert 0 < int(refused.headers["retry-after"]) <= 86_400
        assert client.get("/v1/jobs").status_code == 200, "reading is not counted"
        jobs = client.get("/v1/jobs").json()["jobs"]
        assert len(jobs) == 2
        for path in ("cancel", "webhooks/replay"):
            answer = client.post(f"{jobs[0]['url']}/{path}")
            assert answer.status_code in (200, 409, 422), "it submits nothing"
            assert answer.headers["ratelimit-policy"] == '"minute";q=1000;w=60'


def test_who_tries_wrong_keys_must_wait_and_others_at_the_address_go_on(tmp_path: Path) -> None:
    server = key_server(tmp_path, LIMNER_PROXY_ADDRESSES="")
    server.start()
    try:
        good = new_key(server)
        assert httpx.get(f"{server.url}/v1/jobs", headers=with_key(good)).status_code == 200
        while 60 - time.time() % 60 < 20:  # all of it in one minute of the clock
            time.sleep(0.2)
        statuses = [
            httpx.get(f"{server.url}/v1/jobs", headers=with_key(f"lim_{number}")).status_code for number in range(25)
        ]
        assert statuses == [401] * 20 + [429] * 5
        answer = httpx.get(f"{server.url}/v1/jobs", headers=with_key(new_key(server)))
        problem(answer, 429, "rate-limited")
        assert 0 < int(answer.headers["retry-after"]) <= 60
        time.sleep(REMEMBERED_S)  # now it must be looked up again
        assert httpx.get(f"{server.url}/v1/jobs", headers=with_key(good)).status_code == 200
        assert httpx.get(f"{server.url}/v1/jobs", headers=with_key(ADMIN)).status_code == 200
        assert httpx.get(f"{server.url}/").status_code == 200
    finally:
        server.stop()
    server.check_log()


# --- with and without keys ------------------------------------------------------------------------------------------


def test_the_use_of_a_key_is_noted_once(house: Server) -> None:
    key = new_key(house, [Scope.READ])
    for _ in range(3):
        assert httpx.get(f"{house.url}/v1/jobs", headers=with_key(key)).status_code == 200
    deadline = time.monotonic() + 10
    query = "SELECT last_used_at FROM keys WHERE prefix = ?"
    while rows(house, query, key[:10])[0][0] is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    noted = rows(house, query, key[:10])
    assert httpx.get(f"{house.url}/v1/jobs", headers=with_key(key)).status_code == 200
    assert rows(house, query, key[:10]) == noted


def test_the_log_names_the_key_of_a_request_by_its_id(house: Server, owner: httpx.Client) -> None:
    answer = owner.get("/v1/jobs/unknown")
    line = _logged(house, answer)
    prefix = owner.headers["authorization"].removeprefix("Bearer ")[:10]
    assert [(line["key"],)] == rows(house, "SELECT id FROM keys WHERE prefix = ?", prefix)
    open_to_all = httpx.get(f"{house.url}/openapi.json")
    assert "key" not in _logged(house, open_to_all)


def _logged(server: Server, answer: httpx.Response) -> Json:
    """The line of the log about a request, which is written after its answer."""
    deadline = time.monotonic() + 10
    while not (found := [line for line in server.log_lines() if line.get("request") == answer.headers["x-request-id"]]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found[0]


def test_no_key_is_stored(house: Server, owner: httpx.Client) -> None:
    key = owner.headers["authorization"].removeprefix("Bearer ")
    for file in house.folder.glob("limner.db*"):
        assert key.encode() not in file.read_bytes()
        assert ADMIN.encode() not in file.read_bytes()


def test_metrics_can_be_opened_and_a_key_may_have_only_them(tmp_path: Path, house: Server) -> None:
    scraper = new_key(house, [Scope.METRICS])
    assert "limner_jobs" in httpx.get(f"{house.url}/metrics", headers=with_key(scraper)).text
    assert httpx.get(f"{house.url}/v1/jobs", headers=with_key(scraper)).status_code == 403
    server = key_server(tmp_path, LIMNER_OPEN_METRICS="true")
    server.start()
    try:
        assert httpx.get(f"{server.url}/metrics").status_code == 200
        assert httpx.get(f"{server.url}/v1/jobs").status_code == 401
    finally:
        server.stop()


def test_without_keys_all_is_open_and_nothing_is_signed(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        with as_caller(server, "lim_anything") as client:  # it is for a proxy in front, perhaps
            job = send(client, astronaut_jpeg)
            assert client.post("/v1/tickets").json() == {"ticket": None, "expires_at": None}
        assert "?" not in job["artifacts"][0]["url"]
        assert httpx.get(job["artifacts"][0]["url"]).headers["cache-control"] == "private, max-age=31536000, immutable"
        assert rows(server, "SELECT key_id FROM jobs") == [(None,)]
        assert rows(server, "SELECT name FROM facts WHERE name = 'url_secret'") == []
        assert "securitySchemes" not in httpx.get(f"{server.url}/openapi.json").json()["components"]
        server.variables["LIMNER_REQUIRE_KEYS"] = "on"
        server.restart()
        with as_caller(server, new_key(server)) as client:
            assert client.get(f"/v1/jobs/{job['id']}").status_code == 404, "it has no owner"
        with as_caller(server, new_key(server, [Scope.ADMIN])) as client:
            assert client.get(f"/v1/jobs/{job['id']}").status_code == 200
    finally:
        server.stop()
    assert "there is none yet" in server.log.read_text()
    server.check_log()


# --- bound elsewhere --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_that_others_can_reach_asks_for_keys(tmp_path: Path, host: str) -> None:
    server = Server(tmp_path, host=host)
    server.start()
    try:
        problem(httpx.get(f"{server.url}/v1/jobs"), 401, "unauthorized")
        assert httpx.get(f"{server.url}/v1/jobs", headers=with_key(new_key(server))).status_code == 200
        (line,) = [line for line in server.log_lines() if "API keys are required" in line["message"]]
        assert line["level"] == "WARNING"
    finally:
        server.stop()
    server.check_log()


def test_a_setting_opens_it(tmp_path: Path) -> None:
    server = Server(tmp_path, host="0.0.0.0", LIMNER_REQUIRE_KEYS="off")
    server.start()
    try:
        assert httpx.get(f"{server.url}/v1/jobs").status_code == 200
    finally:
        server.stop()
    assert "everyone who can connect" in server.log.read_text()


@pytest.mark.parametrize(
    ("host", "chosen", "required"),
    [
        ("127.0.0.1", "auto", False),
        ("127.0.0.2", "auto", False),
        ("::1", "auto", False),
        ("localhost", "auto", False),
        ("0.0.0.0", "auto", True),
        ("::", "auto", True),
        ("192.168.1.2", "auto", True),
        ("faces.internal", "auto", True),
        ("", "auto", True),
        ("127.0.0.1", "on", True),
        ("0.0.0.0", "off", False),
    ],
)
def test_when_keys_are_required(host: str, chosen: str, required: bool) -> None:
    assert settings.load(host=host, require_keys=chosen).keys_required() == required


def test_a_temporary_database_that_others_can_reach_needs_the_administrators_key(tmp_path: Path) -> None:
    server = Server(tmp_path, host="0.0.0.0", LIMNER_DATABASE_URL="memory:")
    with pytest.raises(AssertionError, match="Set LIMNER_ADMIN_KEY"):
        server.start()
    server = Server(tmp_path, host="0.0.0.0", LIMNER_DATABASE_URL="memory:", LIMNER_ADMIN_KEY=ADMIN)
    server.start()
    try:
        assert httpx.get(f"{server.url}/v1/jobs").status_code == 401
        assert httpx.get(f"{server.url}/v1/jobs", headers=with_key(ADMIN)).status_code == 200
    finally:
        server.stop()


@pytest.mark.parametrize("secret", ["short", "x" * 31, "with a space " * 4, "ü" * 40, ""])
@pytest.mark.parametrize("name", ["LIMNER_ADMIN_KEY", "LIMNER_URL_SECRETS"])
def test_a_weak_secret_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, secret: str) -> None:
    monkeypatch.setenv(name, secret)
    if name == "LIMNER_URL_SECRETS" and not secret:
        assert settings.load().url_secrets == ()
        return
    with pytest.raises(SettingsError, match=f"{name}.*at least 32 characters") as refused:
        settings.load()
    assert not secret or secret not in str(refused.value)


@pytest.mark.parametrize("house", ["embedded"], indirect=True)
def test_workers_get_no_secret(house: Server) -> None:
    assert house.workers()
    for worker in house.workers():
        environment = Path(f"/proc/{worker}/environ").read_bytes()
        assert b"LIMNER_DATABASE_URL=" in environment
        assert ADMIN.encode() not in environment
    secrets = {name for name, field in settings.Settings.model_fields.items() if "Secret" in str(field.annotation)}
    assert secrets == SECRETS
    assert ADMIN not in repr(settings.load(admin_key=ADMIN))
