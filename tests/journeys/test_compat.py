"""Drop-in answers: what other products' own client libraries get from Limner, and what else those paths are sent."""

import base64
import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.conftest import another
from tests.journeys.conftest import served
from tests.journeys.keys import ADMIN, key_server
from tests.journeys.photo_server import PhotoServer, serving
from tests.journeys.server import Server

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-vendors/bin/python"
needs_clients = pytest.mark.skipif(not PYTHON.exists(), reason="the clients are not here: scripts/install.sh --vendors")
REKOGNITION = {"X-Amz-Target": "RekognitionService.DetectFaces", "Content-Type": "application/x-amz-json-1.1"}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def photos(astronaut_jpeg: bytes) -> Iterator[PhotoServer]:
    with serving({"/photo.jpg": another(astronaut_jpeg, 3)}) as server:
        yield server


@pytest.fixture(scope="module")
def service(photos: PhotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that asks for keys."""
    fetching = {
        "LIMNER_FETCH_PRIVATE_HOSTS": "127.0.0.1",
        "LIMNER_FETCH_PORTS": f"80,443,{photos.server_address[1]}",
        "LIMNER_MAX_UPLOAD_BYTES": "500000",
    }
    yield from served(key_server(tmp_path_factory.mktemp("service"), LIMNER_WORKERS="1", **fetching))


@pytest.fixture(scope="module")
def ours(service: Server, astronaut_jpeg: bytes) -> Json:
    """What `detect` itself says of the photo."""
    answer = httpx.post(
        f"{service.url}/v1/detect",
        files={"image": astronaut_jpeg},
        data={"landmarks": "mesh", "mark": "none"},
        headers={"Authorization": f"Bearer {ADMIN}", "Prefer": "wait=60"},
        timeout=90,
    )
    result: Json = answer.json()["result"]
    assert len(result["faces"]) == 1
    return result


def grey() -> bytes:
    """A photo without a face."""
    kept = io.BytesIO()
    Image.fromarray(np.full((60, 80, 3), 128, np.uint8)).save(kept, "PNG")
    return kept.getvalue()


def run(vendor: str, service: Server, folder: Path, photo: bytes, other: bytes) -> Json:
    """What a vendor's client gets for two files."""
    (folder / "photo").write_bytes(photo)
    (folder / "other").write_bytes(other)
    done = subprocess.run(
        [
            PYTHON,
            Path(__file__).with_name("vendor_clients.py"),
            vendor,
            service.url,
            ADMIN,
            folder / "photo",
            folder / "other",
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: Json = json.loads(done.stdout)
    return told


@needs_clients
def test_boto3(service: Server, tmp_path: Path, astronaut_jpeg: bytes, ours: Json) -> None:
    told = run("rekognition", service, tmp_path, astronaut_jpeg, b"no picture")
    face, known = told["answer"]["FaceDetails"][0], ours["faces"][0]
    assert set(told["answer"]) == {"FaceDetails"}
    assert set(face) == {"BoundingBox", "Landmarks", "Pose", "Confidence"}, "a field that nobody knows"
    box = known["box_relative"]
    assert face["BoundingBox"] == {
        "Left": box["x"],
        "Top": box["y"],
        "Width": box["width"],
        "Height": box["height"],
    }
    assert face["Confidence"] == pytest.approx(100 * known["score"])
    places = {each["Type"]: each for each in face["Landmarks"]}
    assert places["eyeLeft"]["X"] < places["nose"]["X"] < places["eyeRight"]["X"]
    assert places["nose"]["Y"] == pytest.approx(known["landmarks"]["nose"]["y"] / ours["image"]["height"])
    assert face["Pose"] == {"Roll": known["mesh"]["pose"]["roll"], "Yaw": known["mesh"]["pose"]["yaw"]}
    assert {name: told[name] for name in told if name != "answer"} == {
        "not a photo": "InvalidImageFormatException InvalidImageFormatException",
        "s3": "InvalidS3ObjectException InvalidS3ObjectException",
        "no picture": "InvalidParameterException InvalidParameterException",
        "other operation": "ClientError UnknownOperationException",
        "wrong key": "ClientError UnrecognizedClientException",
    }


@needs_clients
def test_googles_client(service: Server, tmp_path: Path, astronaut_jpeg: bytes, ours: Json) -> None:
    told = run("vision", service, tmp_path, astronaut_jpeg, b"no picture")
    good, wrong, both = told["answer"]
    face, known = good["faceAnnotations"][0], ours["faces"][0]
    assert set(face) == {
        *("boundingPoly", "fdBoundingPoly", "landmarks", "rollAngle", "panAngle", "tiltAngle", "detectionConfidence"),
    }
    box = known["box"]
    corner = face["boundingPoly"]["vertices"][2]
    assert (corner["x"], corner["y"]) == (round(box["x"] + box["width"]), round(box["y"] + box["height"]))
    pose = known["mesh"]["pose"]
    angles = [face[name] for name in ("rollAngle", "panAngle", "tiltAngle")]
    assert angles == pytest.approx([pose["roll"], pose["yaw"], pose["pitch"]], abs=1e-4)
    assert face["detectionConfidence"] == pytest.approx(known["score"])
    assert {each["type"] for each in face["landmarks"]} == {
        *("LEFT_EYE", "RIGHT_EYE", "NOSE_TIP", "MOUTH_LEFT", "MOUTH_RIGHT"),
    }
    assert wrong["error"]["code"] == 3
    assert "faceAnnotations" not in wrong
    assert (both["error"]["code"], len(both["faceAnnotations"])) == (12, 1)
    assert told["helper"] == 1
    assert (told["too many"], told["wrong key"]) == ("BadRequest", "Unauthorized")


@needs_clients
def test_comprefaces_client(service: Server, tmp_path: Path, astronaut_jpeg: bytes, ours: Json) -> None:
    told = run("compreface", service, tmp_path, astronaut_jpeg, grey())
    known = ours["faces"][0]
    assert set(told["answer"]) == {"result"}
    (face,) = told["answer"]["result"]
    assert set(face) == {"box", "landmarks"}
    assert face["box"]["probability"] == known["score"]
    assert face["box"]["x_min"] == round(known["box"]["x"])
    assert face["landmarks"][2] == [round(known["landmarks"]["nose"]["x"]), round(known["landmarks"]["nose"]["y"])]
    assert set(told["plain"]["result"][0]) == {"box"}
    assert len(told["one"]["result"]) == 1
    assert told["no face"] == {"message": "No face is found in the given image", "code": 28}
    assert told["not a photo"]["code"] == 21
    assert told["wrong key"]["code"] == 10


def encoded(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


def rekognition(service: Server, body: object, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {**REKOGNITION, "X-Amz-Security-Token": ADMIN, **headers}
    return httpx.post(f"{service.url}/compat/rekognition", content=content, headers=sent, timeout=90)


def test_rekognitions_errors(service: Server, astronaut_jpeg: bytes) -> None:
    good = {"Image": {"Bytes": encoded(astronaut_jpeg)}}
    assert rekognition(service, good).status_code == 200
    signed = (
        "AWS4-HMAC-SHA256 Credential=any/20260101/eu-west-1/rekognition/aws4_request, SignedHeaders=host, Signature=0"
    )
    for body, headers, code in (
        (b"{", {}, "InvalidParameterException"),
        (b"[]", {}, "InvalidParameterException"),
        ({"Image": "x"}, {}, "InvalidParameterException"),
        ({"Image": {"Bytes": 5}}, {}, "InvalidParameterException"),
        ({"Image": {"Bytes": "%%%"}}, {}, "InvalidParameterException"),
        (b'{"Image": {"Byt\\u0065s": "7"}}', {}, "InvalidParameterException"),
        (
            b'{"Image": {"Byt\\u0065s": "0"}, "Other": {"Bytes": ""}, "Attributes": [1]}',
            {},
            "InvalidParameterException",
        ),
        ({"Image": {"Bytes": encoded(bytes(500_001))}}, {}, "ImageTooLargeException"),
        ({**good, "Attributes": "ALL"}, {}, "InvalidParameterException"),
        (good, {"X-Amz-Target": "RekognitionService.IndexFaces"}, "UnknownOperationException"),
        (good, {"X-Amz-Security-Token": ""}, "UnrecognizedClientException"),
        (good, {"X-Amz-Security-Token": "x", "Authorization": signed}, "UnrecognizedClientException"),
    ):
        answer = rekognition(service, body, **headers)
        assert answer.status_code == 400, (code, answer.text)
        assert answer.headers["content-type"] == "application/x-amz-json-1.1"
        assert answer.json()["__type"] == code, answer.text
        assert answer.json()["Message"]


def vision(service: Server, *requests: object, **headers: str) -> httpx.Response:
    sent = {"X-Goog-Api-Key": ADMIN, **headers}
    url = f"{service.url}/compat/vision/v1/images:annotate?$alt=json;enum-encoding=int"
    return httpx.post(url, json={"requests": list(requests)}, headers=sent, timeout=90)


def test_visions_errors(service: Server, photos: PhotoServer, astronaut_jpeg: bytes) -> None:
    faces = [{"type": "FACE_DETECTION"}]
    for requests, headers, status, name in (
        ([], {}, 400, "INVALID_ARGUMENT"),
        (["x"], {}, 400, "INVALID_ARGUMENT"),
        ([{"image": {"content": "5"}}], {}, 400, "INVALID_ARGUMENT"),
        ([{}], {"X-Goog-Api-Key": "x"}, 401, "UNAUTHENTICATED"),
    ):
        answer = vision(service, *requests, **headers)
        told = answer.json()["error"]
        assert (answer.status_code, told["code"], told["status"]) == (status, status, name)
    answer = vision(
        service,
        {"image": {"source": {"imageUri": f"{photos.url}/photo.jpg"}}, "features": faces},
        {"image": {"source": {"imageUri": "http://10.0.0.1/photo.jpg"}}, "features": faces},
        {"image": {"source": {"gcsImageUri": "gs://bucket/photo.jpg"}}, "features": faces},
        {"image": {"content": encoded(grey())}, "features": faces},
        {"image": {"content": encoded(astronaut_jpeg)}, "features": []},
        {"image": {}, "features": faces},
        {"image": {"content": ""}, "features": [{"type": True}]},
        {"image": {"content": None, "source": {"imageUri": f"{photos.url}/photo.jpg"}}, "features": faces},
        {"image": {"content": encoded(grey())}, "features": [{"type": 1, "maxResults": -1}]},
    )
    assert answer.status_code == 200, answer.text
    fetched, private, bucket, empty, nothing, without, odd, null, most = answer.json()["responses"]
    assert len(fetched["faceAnnotations"]) == 1
    assert empty == {}
    assert len(null["faceAnnotations"]) == 1
    assert most["error"]["message"].startswith("maxResults: ")
    assert [each["error"]["code"] for each in (private, bucket, nothing, without, odd)] == [3, 3, 12, 3, 3]


def test_comprefaces_errors(service: Server, astronaut_jpeg: bytes) -> None:
    url = f"{service.url}/api/v1/detection/detect"
    key = {"x-api-key": ADMIN}
    good = httpx.post(url, json={"file": encoded(astronaut_jpeg)}, headers=key, timeout=90)
    assert len(good.json()["result"]) == 1
    points = {"face_plugins": ["landmarks", "gender"]}
    assert httpx.post(url, files={"file": astronaut_jpeg}, headers=key, params=points, timeout=90).json()["result"][0][
        "landmarks"
    ]
    for code, status, answer in (
        (20, 400, httpx.post(url, files={"file": astronaut_jpeg})),
        (33, 400, httpx.post(url, files={"photo": astronaut_jpeg}, headers=key)),
        (26, 400, httpx.post(url, files={"file": astronaut_jpeg}, headers=key, params={"limit": "many"})),
        (26, 400, httpx.post(url, content=b"x", headers={**key, "Content-Type": "application/json"})),
        (41, 413, httpx.post(url, files={"file": bytes(500_001)}, headers=key)),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert answer.json()["message"]
