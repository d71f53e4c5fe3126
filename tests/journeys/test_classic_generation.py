"""The paths of an earlier picture-generation service, as `docs/classic.md` describes them."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest

from limner.web import page_file
from tests.conftest import as_jpeg
from tests.journeys.client import Json, finished, get, problem, submit
from tests.journeys.conftest import BOTH, StartServer, make_server, served
from tests.journeys.keys import ADMIN, ASKS_FOR_KEYS, as_caller, new_key
from tests.journeys.server import Server
from tests.painters.servers import Reply, gradient, png, serving

LIST = "/api/v1/images/"
QUICK = {"style": "pixel", "size": "64"}


def generate(server: Server, photo: bytes, **fields: str) -> Json:
    return submit(server, photo, wait=True, path="/v1/generate", **QUICK, **fields)


@pytest.fixture(scope="module", params=BOTH)
def house(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server whose hosted painters have no key."""
    yield from served(make_server(tmp_path_factory.mktemp("classic"), request, STABILITY_API_KEY=""))


def test_the_story_of_a_generated_picture(house: Server, astronaut_jpeg: bytes) -> None:
    empty = get(house, LIST).json()
    assert empty == {"count": 0, "next": None, "previous": None, "results": []}
    submit(house, astronaut_jpeg, wait=True)  # no picture of this list
    job = generate(house, astronaut_jpeg)
    faceless = as_jpeg(np.full((64, 64, 3), 128, np.uint8))
    failed = submit(house, faceless, wait=True, path="/v1/generate", area="faces")
    listed = get(house, LIST).json()
    assert (listed["count"], listed["next"], listed["previous"]) == (2, None, None)
    without, made = listed["results"]
    assert (without["id"], without["generated_image"], without["status"]) == (failed["id"], None, "E")
    assert (made["id"], made["status"]) == (job["id"], "C")
    assert made == get(house, f"{LIST}{job['id']}/").json()
    for name in ("original_image", "generated_image"):
        assert made[name].startswith(f"{house.url}/api/v1/images/")
    assert get(house, made["original_image"]).content == astronaut_jpeg
    assert get(house, made["generated_image"]).content == get(house, job["artifacts"][0]["url"]).content
    assert httpx.delete(f"{house.url}/v1/jobs/{job['id']}").status_code == 204
    assert [each["id"] for each in get(house, LIST).json()["results"]] == [failed["id"]]
    for gone in (f"{LIST}{job['id']}/", made["original_image"], made["generated_image"]):
        problem(get(house, gone), 404, "not-found")
    httpx.delete(f"{house.url}/v1/jobs/{failed['id']}")


def test_a_picture_that_is_not_made_yet_runs_and_a_cancelled_one_ended(
    start_server: StartServer, astronaut_jpeg: bytes
) -> None:
    server = start_server(LIMNER_WORKERS="1")
    steps = '[{"operation": "generate", "style": "oil"}, {"operation": "generate", "style": "oil", "name": "b"}]'
    busy = submit(server, astronaut_jpeg, path="/v1/pipeline", steps=steps)
    job = submit(server, astronaut_jpeg, path="/v1/generate", **QUICK)
    (waits,) = get(server, LIST).json()["results"]
    assert (waits["id"], waits["generated_image"], waits["status"]) == (job["id"], None, "R")
    assert get(server, waits["original_image"]).content == astronaut_jpeg
    httpx.post(f"{server.url}/v1/jobs/{job['id']}/cancel")
    assert get(server, f"{LIST}{job['id']}/").json()["status"] == "E"
    httpx.post(f"{server.url}/v1/jobs/{busy['id']}/cancel")


def test_pages_follow_one_another_in_both_directions(house: Server, astronaut_jpeg: bytes) -> None:
    sent = [generate(house, astronaut_jpeg, seed="1")["id"] for _ in range(5)]
    seen: list[str] = []
    url: str | None = f"{house.url}{LIST}?page_size=2"
    pages: list[Json] = []
    while url is not None:
        pages.append(get(house, url).json())
        seen += [each["id"] for each in pages[-1]["results"]]
        url = pages[-1]["next"]
    assert seen == sent[::-1]
    assert [page["count"] for page in pages] == [5, 5, 5]
    assert pages[0]["previous"] is None
    for before, after in pairwise(pages):
        assert get(house, after["previous"]).json() == before
    assert get(house, f"{LIST}?page=1").json()["results"] == [each for page in pages for each in page["results"]]
    problem(get(house, f"{LIST}?page=2"), 404, "not-found")
    problem(get(house, f"{LIST}?page=500&page_size=100"), 404, "not-found")
    for wrong in ("page=0", "page=x", "page=5001", "page_size=0", "page_size=101"):
        problem(get(house, f"{LIST}?{wrong}"), 422, "invalid-request")
    problem(get(house, f"{LIST}no-such-picture/"), 404, "not-found")
    other = submit(house, astronaut_jpeg, wait=True)
    problem(get(house, f"{LIST}{other['id']}/"), 404, "not-found")


def test_a_key_sees_its_own_pictures_by_signed_urls(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    server = Server(tmp_path, **ASKS_FOR_KEYS)
    for _ in served(server):
        problem(get(server, LIST), 401, "unauthorized")
        problem(httpx.post(server.url, files={"image": astronaut_jpeg}), 401, "unauthorized")
        callers = [as_caller(server, token) for token in (new_key(server), new_key(server), ADMIN)]
        mine, theirs = (
            [
                each.post("/v1/generate", files={"image": astronaut_jpeg}, data=QUICK, headers={"Prefer": "wait=60"})
                for _ in range(3)
            ]
            for each in callers[:2]
        )
        ids = [[answer.json()["id"] for answer in answers][::-1] for answers in (mine, theirs)]
        for caller, own in zip(callers, [*ids, sorted(ids[0] + ids[1], reverse=True)], strict=True):
            page = caller.get(LIST, params={"page_size": 2}).json()
            assert page["count"] == len(own)
            seen = page["results"] + caller.get(page["next"]).json()["results"]
            assert [each["id"] for each in seen] == own[:4]
            picture = seen[0]["generated_image"]
            assert "signature" in parse_qs(urlsplit(picture).query)
            assert get(server, picture).status_code == 200
            problem(get(server, picture.partition("?")[0]), 401, "unauthorized")
        problem(callers[0].get(f"{LIST}{ids[1][0]}/"), 404, "not-found")
        for caller in callers:
            caller.close()


# --- the form -------------------------------------------------------------------------------------------------------

PAGE = (page_file.FOLDER / "index.html").read_text()


def send_form(server: Server, photo: bytes, **fields: str) -> httpx.Response:
    return httpx.post(server.url, files={"image": ("me.jpg", photo)}, data=fields, timeout=60)


def told(answer: httpx.Response, status: int) -> str:
    """What the page says to a person."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    found = re.search(r'<p class="problem-box" role="alert">(.*?)</p>\n', answer.text)
    assert found is not None
    before, after = PAGE.split("<!-- a message -->")
    assert answer.text == f"{before}{found[0][:-1]}{after}"
    return found[1]


def test_the_form_starts_a_job_and_answers_with_the_page(
    start_server: StartServer, tmp_path: Path, astronaut_jpeg: bytes
) -> None:
    with serving(lambda _: Reply(png(gradient()), headers={"finish-reason": "SUCCESS"})) as stability:
        server = start_server(STABILITY_API_KEY="sk-x", STABILITY_BASE_URL=stability.url)
        answer = send_form(server, astronaut_jpeg, models="stability-ai")
        page = get(server, "/")
        assert (answer.status_code, answer.content) == (200, page.content)
        assert answer.headers["content-security-policy"] == page.headers["content-security-policy"]
        (job,) = get(server, "/v1/jobs?operation=generate").json()["jobs"]
        finished(server, job["id"])
        (request,) = stability.requests
        assert request.path.startswith("/v1/generation/")


@pytest.mark.parametrize("models", ["stability-ai", "offline-model", "pix2pix", "<script>", None])
def test_a_painter_that_is_not_ready_is_told_on_the_page(
    house: Server, astronaut_jpeg: bytes, models: str | None
) -> None:
    before = get(house, "/v1/jobs").json()
    message = told(send_form(house, astronaut_jpeg, **({} if models is None else {"models": models})), 422)
    assert ("STABILITY_API_KEY" in message) == (models == "stability-ai")
    assert "<" not in message
    assert get(house, "/v1/jobs").json() == before


def test_bad_forms_are_told_on_the_page(house: Server) -> None:
    assert "image: A picture is required" in told(httpx.post(house.url, files={"models": (None, "other")}), 422)
    twice = [("image", ("a.jpg", b"one")), ("image", ("b.jpg", b"two")), ("models", (None, "other"))]
    assert "image: The field was sent twice" in told(httpx.post(house.url, files=twice), 422)  # type: ignore[arg-type]
    assert "is not a JPEG" in told(send_form(house, b"<b>no picture</b>", models="stability-ai"), 415)
    told(httpx.post(house.url, data={"models": "other"}), 415)
    told(httpx.post(house.url, content=b"x" * 100, headers={"Content-Type": "multipart/form-data; boundary=x"}), 422)
    told(send_form(house, b"x" * 41_000_000), 413)
    foreign = httpx.post(house.url, data={}, headers={"Origin": "https://evil.example"})
    problem(foreign, 403, "forbidden")
    problem(httpx.post(house.url, data={}, headers={"Host": "evil.example"}), 421, "host-not-allowed")
