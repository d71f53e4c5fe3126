"""Live sockets that send more than anybody can look at: others are answered, and the memory does not grow."""

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from limner.domain.errors import UnsupportedMediaError
from limner.vision.header import LIVE_LIMITS
from limner.vision.live import MAX_SCANS, FrameDetector
from tests.conftest import as_jpeg
from tests.hostile.test_connections import MB, UPGRADE, _close_all, all_at_once, attacked, eventually, opened, pour
from tests.journeys.client import listening, metric, received
from tests.journeys.server import Server

__all__ = ["_close_all"]  # a fixture

LIVE = b"GET /v1/live/detect HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def _message(content: bytes) -> bytes:
    return struct.pack("!BBQ4x", 0x82, 0x80 | 127, len(content)) + content


def test_a_flood_of_frames_keeps_nobody_waiting(shared_server: Server, astronaut: npt.NDArray[np.uint8]) -> None:
    """Three of the four places send the largest frames as fast as the server takes them; the fourth is answered."""
    noise = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), np.uint8)
    heavy = as_jpeg(noise, quality=40)
    assert len(heavy) < LIVE_LIMITS.max_bytes
    frame = as_jpeg(astronaut)
    with listening(shared_server, "/v1/live/detect") as honest:
        honest.send(frame)
        assert len(received(honest)["faces"]) == 1
        with attacked(shared_server, memory_mb=60):

            def attack() -> int:
                one = opened(shared_server, LIVE + UPGRADE + b"\r\n")
                assert one.recv(4096).startswith(b"HTTP/1.1 101")
                took = pour(one, _message(heavy), limit=200 * MB, seconds=5)
                one.close()
                return took

            sent = all_at_once(3, attack)
        print(f"{sum(sent) / MB:.0f} MB")
        honest.send(frame)
        assert len(received(honest)["faces"]) == 1
    assert sum(sent) > 3 * MB
    assert metric(shared_server, "limner_live_frames_total", outcome="dropped") > 0
    eventually(lambda: metric(shared_server, "limner_sockets", stream="live") == 0)


def test_a_picture_of_many_scans_is_not_looked_at(astronaut: npt.NDArray[np.uint8], models_dir: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(astronaut).save(file, "JPEG", progressive=True)
    progressive = file.getvalue()
    detector = FrameDetector(models_dir)
    assert len(detector.detect(progressive)[1]) == 1
    last = progressive.rindex(b"\xff\xda")
    with pytest.raises(UnsupportedMediaError, match="scans"):
        detector.detect(progressive[:-2] + progressive[last:-2] * MAX_SCANS + b"\xff\xd9")
