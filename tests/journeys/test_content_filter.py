"""The content filter through the service: what is held back is a clear error, and leaves nothing behind."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import as_jpeg
from tests.journeys.client import Json, blobs, finished
from tests.journeys.conftest import StartServer
from tests.journeys.server import Server
from tests.painters.servers import Reply, png, serving
from tests.vision.content_network import models_with_filter

RED = np.full((64, 64, 3), (250, 20, 20), np.uint8)
BLUE = np.full((64, 64, 3), (20, 20, 250), np.uint8)


def generated(server: Server, photo: bytes, **fields: str) -> Json:
    sent = httpx.post(f"{server.url}/v1/generate", files={"image": photo}, data=fields, timeout=30)
    assert sent.status_code == 202, sent.text
    return finished(server, sent.json()["id"])


def test_pictures_of_other_servers_are_held_back(start_server: StartServer, tmp_path: Path) -> None:
    pictures = iter((BLUE, RED, BLUE))
    with serving(lambda _: Reply(png(next(pictures)), headers={"finish-reason": "SUCCESS"})) as other:
        server = start_server(
            LIMNER_MODELS_DIR=str(models_with_filter(tmp_path / "models")),
            LIMNER_CONTENT_FILTER="hosted",
            STABILITY_API_KEY="sk-x",
            STABILITY_BASE_URL=other.url,
        )
        job = generated(server, as_jpeg(BLUE), painter="stability", prompt="x", count="2")
        assert job["status"] == "failed"
        assert job["error"]["type"] == "urn:limner:problem:content-filtered"
        assert job["artifacts"] == []
        assert len(blobs(server)) == 2  # the photo and its thumbnail: of the first, harmless picture nothing is left
        assert generated(server, as_jpeg(BLUE), painter="stability", prompt="x")["status"] == "succeeded"
        red = generated(server, as_jpeg(RED), style="pixel", size="64")
        assert red["status"] == "succeeded"  # made here
        log = server.log.read_text()
        assert "score" not in log
        assert "0.99" not in log


def test_all_pictures_are_held_back_also_those_that_are_cached(start_server: StartServer, tmp_path: Path) -> None:
    models = models_with_filter(tmp_path / "models")
    server = start_server(LIMNER_MODELS_DIR=str(models))
    fields = {"style": "pixel", "size": "64", "seed": "1"}
    assert generated(server, as_jpeg(RED), **fields)["status"] == "succeeded"
    server.variables["limner_content_filter"] = "all"  # case does not matter
    server.restart()
    assert generated(server, as_jpeg(RED), **fields)["error"]["type"] == "urn:limner:problem:content-filtered"
    assert generated(server, as_jpeg(BLUE), **fields)["status"] == "succeeded"
    server.stop()
    (models / "open-nsfw.onnx").unlink()
    with pytest.raises(AssertionError, match="limner models fetch content-filter"):
        server.start()
