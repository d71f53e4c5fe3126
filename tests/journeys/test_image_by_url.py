"""`GET /v1/image/…`: the picture itself for an `<img src>`, signed, made once, kept by caches."""

import io
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from limner.cli import main
from limner.web.signed_url import signature_of, write
from tests.conftest import another, as_jpeg
from tests.journeys.client import finished, get, metric, problem, raw, submit
from tests.journeys.conftest import served
from tests.journeys.keys import ADMIN, as_caller, key_server
from tests.journeys.photo_server import PhotoServer, serving
from tests.journeys.server import Server
from tests.services.nginx import Nginx

KEY, OLD_KEY = "a key that signs pictures".replace(" ", "-").ljust(40, "k"), "o" * 40
WAIT_S = 20


@pytest.fixture(scope="module")
def photos(astronaut_jpeg: bytes) -> Iterator[PhotoServer]:
    """A web server with photos, with and without a face, and other things."""
    grey = np.full((200, 300, 3), 128, np.uint8)
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    plain = io.BytesIO()
    Image.fromarray(grey).save(plain, "JPEG", exif=exif)
    hidden = Image.open(io.BytesIO(astronaut_jpeg)).convert("RGBA")
    hidden.putalpha(Image.linear_gradient("L").resize(hidden.size).point(lambda row: 255 if row > 200 else 0))
    transparent = io.BytesIO()
    hidden.save(transparent, "PNG")
    pages = {f"/{name}.jpg": another(astronaut_jpeg, number) for number, name in enumerate("abcdefgh", 1)}
    with serving(
        {
            **pages,
            "/empty.jpg": plain.getvalue(),
            "/hidden.png": transparent.getvalue(),
            "/page": b"<html>no picture</html>",
        }
    ) as server:
        yield server


def settings(photos: PhotoServer) -> dict[str, str]:
    """Settings of a service that fetches from that server."""
    return {
        "LIMNER_IMAGE_KEYS": f"{KEY},{OLD_KEY}",
        "LIMNER_IMAGE_WAIT_S": str(WAIT_S),
        "LIMNER_FETCH_PRIVATE_HOSTS": "127.0.0.1",
        "LIMNER_FETCH_PORTS": str(photos.server_address[1]),
        "LIMNER_WORKERS": "1",
    }


@pytest.fixture(scope="module")
def service(photos: PhotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It asks for keys: pictures by URL need none."""
    yield from served(key_server(tmp_path_factory.mktemp("service"), **settings(photos)))


@pytest.fixture(scope="module")
def local(photos: PhotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It asks for no keys, answers unsigned URLs, and lets nobody wait for long."""
    variables = {**settings(photos), "LIMNER_IMAGE_WAIT_S": "0.2", "LIMNER_IMAGE_UNSAFE": "true"}
    yield from served(Server(tmp_path_factory.mktemp("local"), **variables))


def patiently(server: Server, url: str) -> httpx.Response:
    """The answer of a server that lets nobody wait for long."""
    deadline = time.monotonic() + 60
    while (answer := get(server, url)).status_code == 504:
        assert time.monotonic() < deadline
    return answer


@pytest.fixture
def admin(service: Server) -> Iterator[httpx.Client]:
    """A client with the administrator's key."""
    with as_caller(service, ADMIN) as client:
        yield client


def path(source: str, operation: str = "detect", *, key: str = KEY, **options: str) -> str:
    """A signed path."""
    text = write(operation, options, source)
    return f"/v1/image/{signature_of(key, text)}{text}"


def opened(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def test_a_picture_for_an_img(service: Server, photos: PhotoServer, astronaut_jpeg: bytes) -> None:
    answer = get(service, path(f"{photos.url}/a.jpg", mark="solid", colour="#00ff00", format="png"))
    picture = opened(answer)
    assert (picture.format, picture.size) == ("PNG", Image.open(io.BytesIO(astronaut_jpeg)).size)
    assert (0, 255, 0) in picture.convert("RGB").get_flattened_data()
    assert answer.headers["cache-control"] == "public, max-age=3600"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "set-cookie" not in answer.headers


def test_caches_ask_again_without_a_new_job(service: Server, photos: PhotoServer) -> None:
    url = path(f"{photos.url}/b.jpg", mark="blur")
    first = get(service, url)
    tag = first.headers["etag"]
    jobs = metric_of_keys(service, "limner_jobs_submitted_total")
    again = get(service, url, **{"If-None-Match": tag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert again.headers["cache-control"] == first.headers["cache-control"]
    head = httpx.head(service.url + url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(first.content))
    part = get(service, url, Range="bytes=0-9")
    assert (part.status_code, part.content) == (206, first.content[:10])
    assert photos.asked["/b.jpg"] == 1
    assert metric_of_keys(service, "limner_jobs_submitted_total") == jobs


def metric_of_keys(server: Server, name: str) -> float:
    """The sum of a metric, of a service that asks for keys."""
    text = get(server, "/metrics", Authorization=f"Bearer {ADMIN}").text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name}{{"))


def test_many_who_ask_at_once_wait_for_one_job(service: Server, photos: PhotoServer) -> None:
    jobs = metric_of_keys(service, "limner_jobs_submitted_total")
    url = path(f"{photos.url}/c.jpg")
    photos.held.add("/c.jpg")
    try:
        with ThreadPoolExecutor(12) as pool:
            asked = [pool.submit(get, service, url) for _ in range(12)]
            cut = socket.create_connection(("127.0.0.1", service.port))
            cut.sendall(f"GET {url} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            while photos.asked["/c.jpg"] == 0:
                time.sleep(0.01)
            cut.close()  # whoever leaves takes nothing from the others
            photos.go_on.set()
            answers = [each.result() for each in asked]
    finally:
        photos.held.clear()
        photos.go_on.clear()
    assert {each.status_code for each in answers} == {200}
    assert len({each.content for each in answers}) == 1
    assert photos.asked["/c.jpg"] == 1
    assert metric_of_keys(service, "limner_jobs_submitted_total") == jobs + 1


def test_every_operation_of_one_picture(service: Server, photos: PhotoServer) -> None:
    source = f"{photos.url}/d.jpg"
    crop = opened(get(service, path(source, "crop", width="120", height="90", format="webp")))
    assert (crop.size, crop.format) == ((120, 90), "WEBP")
    drawn = get(service, path(source, "generate", style="ink", size="200"))
    assert max(opened(drawn).size) == 200
    svg = get(service, path(source, "contours", style="light"))
    assert svg.headers["content-type"].startswith("image/svg+xml")
    assert b"<svg" in svg.content[:1000]
    assert "sandbox" in svg.headers["content-security-policy"]
    assert svg.headers["x-content-type-options"] == "nosniff"


def test_a_photo_without_a_face_is_served_as_it_is_and_anew(service: Server, photos: PhotoServer) -> None:
    answer = get(service, path(f"{photos.url}/empty.jpg", mark="blur"))
    picture = opened(answer)
    assert (picture.size, picture.format, len(picture.getexif())) == ((300, 200), "JPEG", 0)
    assert answer.content != photos.pages["/empty.jpg"]
    assert opened(get(service, path(f"{photos.url}/empty.jpg", "crop"))).size == (200, 200)
    told = problem(get(service, path(f"{photos.url}/empty.jpg", "contours")), 422, "no-face-found")
    assert told["retryable"] is False


@pytest.mark.parametrize("mark", ["blur", "pixelate", "solid"])
def test_what_is_transparent_hides_no_face(service: Server, photos: PhotoServer, mark: str) -> None:
    picture = np.array(opened(get(service, path(f"{photos.url}/hidden.png", mark=mark, format="png"))))
    assert picture.shape == (512, 512, 4)
    assert not picture[picture[..., 3] == 0].any()


@pytest.mark.parametrize(
    ("page", "status", "slug", "kept"),
    [
        ("/nothing", 404, "source-not-found", "public, max-age=60"),
        ("/gone", 404, "source-not-found", "public, max-age=60"),
        ("/error", 502, "source-failed", "no-store"),
        ("/page", 415, "unsupported-media", "public, max-age=60"),
    ],
)
def test_a_source_without_a_photo(
    service: Server, photos: PhotoServer, page: str, status: int, slug: str, kept: str
) -> None:
    answer = get(service, path(photos.url + page))
    problem(answer, status, slug)
    assert answer.headers["cache-control"] == kept


def test_other_errors(service: Server, photos: PhotoServer) -> None:
    source = f"{photos.url}/a.jpg"
    problem(get(service, path("http://127.0.0.1:1/x")), 422, "url-not-allowed")
    problem(get(service, path("https://10.0.0.1:80/x")), 422, "url-not-allowed")
    problem(get(service, path(source, mark="none")), 422, "invalid-request")
    problem(get(service, path(source, mark="blu")), 422, "invalid-request")
    problem(get(service, path(source, "samples")), 404, "not-found")
    problem(get(service, path("01936f2e-1111-7222-8333-0123456789ab")), 404, "source-not-found")
    assert photos.asked["/a.jpg"] <= 1, "a photo is fetched although the options are wrong"
    for method in ("POST", "PUT", "DELETE"):
        assert httpx.request(method, service.url + path(source)).status_code == 405


def test_what_is_not_signed_is_not_answered(service: Server, photos: PhotoServer) -> None:
    good = path(f"{photos.url}/a.jpg", mark="blur")
    signature, text = good.removeprefix("/v1/image/").split("/", 1)
    assert opened(get(service, good)).size
    assert opened(get(service, path(f"{photos.url}/a.jpg", mark="blur", key=OLD_KEY))).size
    asked = photos.asked.copy()
    for wrong in (
        f"/v1/image/unsafe/{text}",
        f"/v1/image/{signature[:-1]}/{text}",
        f"/v1/image/{signature}/{text.replace('blur', 'box')}",
        f"/v1/image/{signature}/{text.replace('blur', '%62lur')}",
        path(f"{photos.url}/a.jpg", key="x" * 40),
    ):
        refused = get(service, wrong)
        problem(refused, 403, "bad-signature")
        assert refused.headers["cache-control"] == "no-store"
    for wrong in (
        f"{good}/",
        good.replace("/detect", "//detect"),
        good.replace("/detect", "/./detect"),
        good.replace("/detect/", "/detect%2F"),
        good.replace("/v1/image", "/v1/x/../image"),
        good.replace("/v1/image", "/v1/im%61ge"),
    ):
        answer = raw(service, f"GET {wrong} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 404 "), (wrong, answer[:200])
    assert get(service, f"{good}?mark=box").status_code == 422
    assert photos.asked == asked


def test_the_photo_of_a_job(service: Server, admin: httpx.Client, astronaut_jpeg: bytes) -> None:
    job = admin.post("/v1/detect", files={"image": another(astronaut_jpeg, 77)}, headers={"Prefer": "wait=60"}).json()
    url = path(job["id"], "crop", width="64", height="64")
    assert opened(get(service, url)).size == (64, 64)
    assert admin.delete(f"/v1/jobs/{job['id']}").status_code == 204
    problem(get(service, url), 404, "source-not-found")


def test_a_picture_whose_job_was_erased_is_made_anew(service: Server, admin: httpx.Client, photos: PhotoServer) -> None:
    url = path(f"{photos.url}/e.jpg")
    first = get(service, url)
    newest = admin.get("/v1/jobs?limit=1").json()["jobs"][0]
    assert admin.delete(f"/v1/jobs/{newest['id']}").status_code == 204
    again = get(service, url)
    assert (again.status_code, again.content) == (200, first.content)
    assert photos.asked["/e.jpg"] == 2


def test_who_waits_too_long_comes_again(photos: PhotoServer, local: Server) -> None:
    url = path(f"{photos.url}/f.jpg")
    jobs = metric(local, "limner_jobs_submitted_total")
    photos.held.add("/f.jpg")
    try:
        answer = get(local, url)
        problem(answer, 504, "still-running")
        assert (answer.headers["cache-control"], answer.headers["retry-after"]) == ("no-store", "2")
    finally:
        photos.go_on.set()
        photos.held.clear()
    assert patiently(local, url).status_code == 200
    photos.go_on.clear()
    assert photos.asked["/f.jpg"] == 1
    assert metric(local, "limner_jobs_submitted_total") == jobs + 1


def test_unsigned_urls_on_this_machine_alone(
    photos: PhotoServer, local: Server, astronaut_jpeg: bytes, tmp_path: Path
) -> None:
    job = finished(local, submit(local, astronaut_jpeg)["id"])
    url = f"/v1/image/unsafe/crop/width=64,height=64/{job['id']}"
    assert opened(patiently(local, url)).size == (64, 64)
    encoded = f"/v1/image/unsafe/detect/-/{quote(photos.url + '/g.jpg', safe='')}"
    assert opened(patiently(local, encoded)).size
    for headers in (
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Forwarded-Port": "443"},
        {"X-Real-IP": "127.0.0.1"},
        {"CF-Connecting-IP": "127.0.0.1"},
        {"Via": "1.1 proxy"},
        {"Host": "192.0.2.1:8282"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        problem(get(local, url, **headers), 403, "bad-signature")
    as_nginx_asks = f"GET {url} HTTP/1.0\r\nHost: 127.0.0.1:{local.port}\r\nConnection: close\r\n\r\n"
    assert b" 403 " in raw(local, as_nginx_asks.encode())[:20]
    nginx = Nginx(tmp_path / "nginx", f"127.0.0.1:{local.port}", local.folder / "blobs", keeps_images=True)
    nginx.process.start()
    try:
        assert httpx.get(nginx.url + url).status_code == 403
    finally:
        nginx.process.stop()


@pytest.mark.parametrize(
    "variables",
    [
        {"LIMNER_HOST": "0.0.0.0", "LIMNER_REQUIRE_KEYS": "off"},
        {"LIMNER_REQUIRE_KEYS": "on", "LIMNER_ADMIN_KEY": ADMIN},
        {"LIMNER_PUBLIC_URL": "https://faces.example"},
    ],
)
def test_unsigned_urls_are_refused_at_the_start_where_others_can_connect(variables: dict[str, str]) -> None:
    from limner.domain.errors import SettingsError
    from limner.settings import load
    from limner.together import check_together

    given = {name.removeprefix("LIMNER_").lower(): value for name, value in variables.items()}
    with pytest.raises(SettingsError, match="LIMNER_IMAGE_UNSAFE"):
        check_together(load(image_unsafe=True, **given))


def test_nginx_keeps_the_pictures_as_the_documents_say(service: Server, photos: PhotoServer, tmp_path: Path) -> None:
    nginx = Nginx(tmp_path / "nginx", f"127.0.0.1:{service.port}", service.folder / "blobs", keeps_images=True)
    nginx.process.start()
    try:
        source = f"{photos.url}/h.jpg"
        for url in (path(source, mark="pixelate"), encoded(source, "mark=pixelate,margin=0.2")):
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda _, url=url: httpx.get(nginx.url + url, timeout=60), range(4)))
            assert {each.status_code for each in answers} == {200}
            assert sorted(each.headers["x-cache-status"] for each in answers) == ["HIT", "HIT", "HIT", "MISS"]
            again = httpx.get(nginx.url + url, headers={"If-None-Match": answers[0].headers["etag"]})
            assert (again.status_code, again.headers["x-cache-status"]) == (304, "HIT")
        good = path(source, mark="pixelate")
        for wrong in (
            good.replace("pixelate", "box"),
            good.replace("/detect", "//detect"),
            good.replace("/detect", "/x/../detect"),
            good.replace("pixelate", "%70ixelate"),
        ):
            answer = through(nginx, wrong)
            assert answer.split()[1] in (b"403", b"404"), (wrong, answer[:200])
        assert httpx.get(f"{nginx.url}{good}?x=1").status_code == 422
    finally:
        nginx.process.stop()


def encoded(source: str, options: str) -> str:
    """A signed path with the source percent-encoded."""
    text = f"/detect/{options}/{quote(source, safe='')}"
    return f"/v1/image/{signature_of(KEY, text)}{text}"


def through(nginx: Nginx, path: str) -> bytes:
    """The answer to a path that no client library would send as it is."""
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def test_the_command_signs(service: Server, photos: PhotoServer) -> None:
    ours = {"LIMNER_IMAGE_KEYS": f"{KEY},{OLD_KEY}", "LIMNER_FETCH_PORTS": str(photos.server_address[1])}

    def sign(*arguments: str, environment: dict[str, str] = ours) -> Result:
        return CliRunner(env=environment).invoke(main, ["sign", *arguments])

    source = f"{photos.url}/a.jpg"
    done = sign("detect", source, "-o", "mark=solid", "-o", "colour=#123", "--base", service.url, "--expires", "1h")
    assert done.exit_code == 0, done.output
    answer = get(service, done.stdout.strip())
    assert opened(answer).size
    assert 3500 <= int(answer.headers["cache-control"].rpartition("=")[2]) <= 3600
    assert sign("crop", source).stdout.startswith("http://127.0.0.1:8282/v1/image/")
    for wrong in (
        ("detect", source, "-o", "mark=none"),
        ("detect", source, "-o", "mark=blu"),
        ("samples", source),
        ("crop", "photo.jpg"),
        ("crop", "ftp://example.org/y"),
    ):
        refused = sign(*wrong)
        assert (refused.exit_code, refused.stdout) == (1, ""), wrong
        assert refused.stderr.startswith("Error: ")
    assert sign("detect", source, "-o", "mark").exit_code == 2
    assert "LIMNER_IMAGE_KEYS" in sign("crop", source, environment={}).stderr


def test_a_picture_like_any_job_is_in_the_exact_cache(
    service: Server, admin: httpx.Client, photos: PhotoServer
) -> None:
    photos.pages["/same-1.jpg"] = photos.pages["/same-2.jpg"] = as_jpeg(np.full((64, 64, 3), 7, np.uint8))
    for name in ("same-1", "same-2"):
        assert opened(get(service, path(f"{photos.url}/{name}.jpg", "crop", width="32"))).size == (32, 32)
    newest, before = admin.get("/v1/jobs?limit=2").json()["jobs"]
    assert (newest["cached"], before["cached"]) == ("exact", None)
