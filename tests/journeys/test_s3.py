"""Photos and artifacts in S3: a job's life, ranges, redirects, erasing, and a store that fails meanwhile."""

import time
from collections.abc import Callable

import httpx
import numpy as np
import numpy.typing as npt
import obstore
import pytest
from obstore.store import S3Store
from PIL import Image

from tests.conftest import another, as_jpeg
from tests.journeys.client import finished, get, problem, rows, submit
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server
from tests.services.seaweedfs import SeaweedFS

Keys = Callable[[], set[str]]


@pytest.fixture
def keys(bucket: str) -> Keys:
    """The photos and artifacts in the bucket, read directly."""

    def read() -> set[str]:
        found = {each["path"] for part in obstore.list(store_of(bucket)) for each in part}
        assert all(key.startswith("faces/") for key in found)
        return {key.removeprefix("faces/") for key in found} - {"database-id", "write-test"}

    return read


def store_of(bucket: str) -> S3Store:
    return S3Store(bucket, client_options={"allow_http": True})


@pytest.fixture
def s3_server(start_server: StartServer, bucket: str) -> Server:
    return start_server(LIMNER_BLOBS_URL=f"s3://{bucket}/faces", LIMNER_WORKERS="1")


def large(pixels: npt.NDArray[np.uint8]) -> bytes:
    return as_jpeg(np.asarray(Image.fromarray(pixels).resize((1600, 1600))))


def test_a_jobs_life(s3_server: Server, keys: Keys, astronaut: npt.NDArray[np.uint8]) -> None:
    server, photo = s3_server, large(astronaut)
    job = submit(server, photo, wait=True, format="png")
    assert job["status"] == "succeeded"
    artifact = job["artifacts"][0]
    assert artifact["size"] > 1_000_000, "it is sent in more than one part"
    whole = get(server, artifact["url"])
    assert (whole.status_code, len(whole.content)) == (200, artifact["size"])
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["etag"].strip('"') in keys()
    assert "last-modified" not in whole.headers
    head = httpx.head(artifact["url"])
    assert (head.headers["content-length"], head.headers["accept-ranges"]) == (str(artifact["size"]), "bytes")
    tag = whole.headers["etag"]
    size = artifact["size"]
    for given, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=5-1500000", 5, 1_500_001),
        ("bytes=-7", size - 7, size),
        (f"bytes={size - 3}-", size - 3, size),
    ):
        part = get(server, artifact["url"], Range=given)
        assert (part.status_code, part.content) == (206, whole.content[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    assert get(server, artifact["url"], **{"Range": "bytes=0-0", "If-Range": tag}).status_code == 206
    assert get(server, artifact["url"], **{"Range": "bytes=0-0", "If-Range": '"other"'}).content == whole.content
    several = get(server, artifact["url"], Range="bytes=0-1,5-6")
    assert several.status_code == 206
    assert b"\r\n\r\n" + whole.content[5:7] + b"\r\n" in several.content
    told = problem(get(server, artifact["url"], Range=f"bytes={size}-"), 416, "range-not-satisfiable")
    assert told["detail"]
    again = get(server, artifact["url"], **{"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    cached = submit(server, photo, wait=True, format="png")
    assert cached["cached"] == "exact"
    assert len(keys()) == 3  # photo, picture, thumbnail
    assert httpx.delete(f"{server.url}/v1/jobs/{job['id']}").status_code == 204
    assert len(keys()) == 3, "the other job uses them"
    assert httpx.delete(f"{server.url}/v1/jobs/{cached['id']}").status_code == 204
    problem(get(server, artifact["url"]), 404, "not-found")
    assert keys() == set()


@pytest.mark.parametrize("slip", ["vanished", "truncated", "damaged"])
def test_an_artifact_that_is_no_longer_whole_is_made_anew(
    s3_server: Server, bucket: str, astronaut_jpeg: bytes, slip: str
) -> None:
    server = s3_server
    job = submit(server, astronaut_jpeg, wait=True)
    server.restart()  # it remembers no bytes
    ((sha256,),) = rows(server, "SELECT sha256 FROM files WHERE role = 'artifact'")
    store, key = store_of(bucket), f"faces/{sha256}"
    whole = bytes(obstore.get(store, key).bytes())
    if slip == "vanished":
        obstore.delete(store, key)
    else:
        obstore.put(store, key, whole[:1000] if slip == "truncated" else whole[:-1] + b"!")
    told = problem(get(server, job["artifacts"][0]["url"]), 404, "not-found")
    assert "missing or damaged" in told["detail"]
    anew = submit(server, astronaut_jpeg, wait=True)
    assert (anew["status"], anew["cached"]) == ("succeeded", None)
    for each in (job, anew):
        assert get(server, each["artifacts"][0]["url"]).content == whole


def test_presigned_urls(start_server: StartServer, bucket: str, keys: Keys, astronaut_jpeg: bytes) -> None:
    server = start_server(LIMNER_BLOBS_URL=f"s3://{bucket}/faces", LIMNER_ARTIFACT_URLS="presigned", LIMNER_WORKERS="1")
    job = submit(server, astronaut_jpeg, wait=True)
    url = job["artifacts"][0]["url"]
    answer = get(server, url)
    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (307, b"", "no-store")
    assert "etag" not in answer.headers
    place = answer.headers["location"]
    got = httpx.get(place)
    assert (got.status_code, got.headers["content-type"]) == (200, "image/jpeg")
    assert len(got.content) == job["artifacts"][0]["size"]
    assert httpx.get(place, headers={"Range": "bytes=0-9"}).content == got.content[:10]
    head = httpx.head(url, follow_redirects=True)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(got.content)))
    (sha256,) = [sha256 for (sha256,) in rows(server, "SELECT sha256 FROM files WHERE role = 'artifact'")]
    assert get(server, url, **{"If-None-Match": f'"{sha256}"'}).status_code == 304
    policy = get(server, "/").headers["content-security-policy"]
    assert f"img-src 'self' blob: data: {place.partition('/test-')[0]};" in policy
    assert httpx.delete(f"{server.url}/v1/jobs/{job['id']}").status_code == 204
    problem(get(server, url), 404, "not-found")
    assert httpx.get(place).status_code == 404
    assert keys() == set()


def test_a_store_that_is_away_for_a_while_loses_nothing(
    start_server: StartServer,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    astronaut_jpeg: bytes,
) -> None:
    store = SeaweedFS(tmp_path_factory.mktemp("own"))
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    store.process.start()
    try:
        server = start_server(LIMNER_BLOBS_URL=f"s3://{store.new_bucket()}", LIMNER_WORKERS="1")
        first = submit(server, astronaut_jpeg, wait=True)
        accepted = [submit(server, another(astronaut_jpeg, number))["id"] for number in range(8)]
        store.process.kill()
        photo = another(astronaut_jpeg, 99)
        problem(httpx.post(f"{server.url}/v1/detect", files={"image": photo}, timeout=60), 503, "unavailable")
        told = problem(httpx.delete(f"{server.url}/v1/jobs/{first['id']}", timeout=60), 503, "unavailable")
        assert "nothing was erased" in told["detail"]
        assert problem(get(server, "/readyz"), 503, "unavailable")
        assert get(server, f"/v1/jobs/{first['id']}").status_code == 200
        store.process.start()
        assert {finished(server, job_id)["status"] for job_id in accepted} == {"succeeded"}
        deadline = time.monotonic() + 30
        while get(server, "/readyz").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert submit(server, photo, wait=True)["status"] == "succeeded"
        assert httpx.delete(f"{server.url}/v1/jobs/{first['id']}").status_code == 204
        assert store.secret_key not in server.log.read_text()
    finally:
        store.process.kill()
